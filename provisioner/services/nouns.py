"""Lists of everything but machines: one table says what each list shows, its orders and its filters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, and_, func, or_, select, true
from sqlalchemy.orm import Session, selectinload

from provisioner.core.lifecycle import Phase
from provisioner.errors import InvalidInput
from provisioner.services import builds, objects, people, quarantine, templates, tokens, webhooks
from provisioner.services.arming import find_build
from provisioner.services.paging import Column, Order, asked, contains, fetch, refuse_unknown
from provisioner.services.site import Site
from provisioner.store import search
from provisioner.store.engine import read
from provisioner.store.models import Build, Discovery, Distro, Image, Profile, Subnet, Template
from provisioner.store.people import ApiToken, User
from provisioner.store.webhooks import Webhook

Filter: TypeAlias = Callable[[Session, Any], ColumnElement[bool]]
Views: TypeAlias = Callable[[Session, Sequence[Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class _List:
    """What a noun's list is made of."""

    model: type[Any]
    orders: Mapping[str, tuple[Column, ...]]
    sort: str
    found_by: Callable[[str], ColumnElement[bool]]
    views: Views
    options: tuple[Any, ...] = ()
    filters: Mapping[str, Filter] = field(default_factory=dict)


def page(
    site: Site,
    noun: str,
    *,
    limit: int = 50,
    cursor: str | None = None,
    sort: str | None = None,
    both: bool = False,
    **filters: Any,
) -> dict[str, Any]:
    """A page of a noun; see `listing.page`."""
    if noun not in LISTS:
        raise InvalidInput(f"there is no list of {noun[:40]!r}", where="noun", hint=f"one of {', '.join(LISTS)}")
    listed = LISTS[noun]
    refuse_unknown(noun, filters, ("q", *listed.filters))
    wanted = asked(noun, limit, cursor, sort or listed.sort, filters, tuple(listed.orders), both=both)
    order = Order(listed.orders[wanted.sort.removeprefix("-")], wanted.sort.startswith("-"))
    with read(site.engine) as session:
        query = select(listed.model).options(*listed.options)
        for name, value in wanted.filters.items():
            query = query.where(listed.found_by(value) if name == "q" else listed.filters[name](session, value))
        return fetch(session, query, order, wanted, partial(listed.views, session))


def _each(view: Callable[[Any], dict[str, Any]]) -> Views:
    return lambda _session, found: [view(each) for each in found]


def _webhooks(session: Session, found: Sequence[Webhook]) -> list[dict[str, Any]]:
    return [webhooks.view(session, each) for each in found]


def _waiting(text: str) -> ColumnElement[bool]:
    """A machine in quarantine by a part of what it said, or of its MAC in any spelling."""
    bare = func.replace(Discovery.mac, ":", "")
    found_by = (Discovery.serial, Discovery.uuid, Discovery.source)
    return and_(
        true(),
        *(
            or_(contains(found_by, word), *(bare.contains(each, autoescape=True) for each in search.spellings(word)))
            for word in text.lower().split()
        ),
    )


def _of_machine(session: Session, name: str) -> ColumnElement[bool]:
    build = find_build(session, name)
    if build.machine_id is None:
        return Build.machine_id.is_(None) & (Build.machine_name == build.machine_name)
    return Build.machine_id == build.machine_id


def _in_state(_session: Session, state: str) -> ColumnElement[bool]:
    possible = list(dict.fromkeys(phase.state.value for phase in Phase))
    if state not in possible:
        raise InvalidInput(f"{state!r} is no state of a build", where="state", hint=f"one of {', '.join(possible)}")
    return Build.state == state


_SEEN = _each(objects.view)


def _list(model: Any, *also: Column, views: Views = _SEEN, options: tuple[Any, ...] = ()) -> _List:
    """The list of an administered object: by its name, when it was added or changed, or one of the columns."""
    orders: dict[str, tuple[Column, ...]] = {
        "name": (model.name,),
        "created_at": (model.created_at, model.id),
        "updated_at": (model.updated_at, model.id),
    }
    orders |= {column.key: (column, model.id) for column in also}
    return _List(model, orders, "name", partial(contains, (model.name, *also)), views, options)


LISTS: Mapping[str, _List] = {
    "subnets": _list(Subnet, Subnet.cidr),
    "profiles": _list(Profile, options=(selectinload(Profile.parent),)),
    "templates": _list(Template, views=_each(templates.item)),
    "distros": _list(Distro, Distro.os),
    "images": _list(Image, Image.os),
    "users": _list(User, User.role, views=_each(people.view)),
    "tokens": _list(ApiToken, views=_each(tokens.view), options=(selectinload(ApiToken.user),)),
    "webhooks": _list(Webhook, views=_webhooks),
    "builds": _List(
        Build,
        {"id": (Build.id,), "machine": (Build.machine_name, Build.id)},
        "-id",
        partial(contains, (Build.machine_name,)),
        builds.views,
        (selectinload(Build.attempts), selectinload(Build.machine)),
        {"machine": _of_machine, "state": _in_state},
    ),
    "discoveries": _List(
        Discovery,
        {"mac": (Discovery.mac,), "last_seen": (Discovery.last_seen, Discovery.id), "id": (Discovery.id,)},
        "-last_seen",
        _waiting,
        _each(quarantine.view),
    ),
}
