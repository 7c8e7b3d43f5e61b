"""Lists, a page at a time: what is listed, in which orders, by which filters and searches.

A page of machines costs the same among 100,000 as among 100. For that each filter is first asked for the machines that
it holds for: if they are few, those are sorted; else machines are walked in their order and each is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, text
from sqlalchemy.orm import Session, selectinload

from provisioner.core.lifecycle import MachineState
from provisioner.errors import InvalidInput, TooLarge
from provisioner.services import nouns, objects, records
from provisioner.services.machines import view
from provisioner.services.paging import Asked, Column, Order, asked, begins, fetch, paged, refuse_unknown
from provisioner.services.site import Site
from provisioner.store import search
from provisioner.store.engine import read
from provisioner.store.models import Interface, Machine, MachineSecret, MachineTag, Profile, Subnet

_FEW = 500
"""So many machines are sorted at once; of more, a page is found faster by walking them in order."""
_FILTERS = ("q", "state", "profile", "subnet", "tag", "protected", "flagged")
_ORDERS: Mapping[str, tuple[Column, ...]] = {
    "name": (Machine.name,),
    "state": (Machine.state, Machine.name),
    "profile": (),  # see _by_profile
    "created_at": (Machine.created_at, Machine.id),
    "updated_at": (Machine.updated_at, Machine.id),
}
_SHOWN = (
    selectinload(Machine.interfaces).selectinload(Interface.subnet).load_only(Subnet.name),
    selectinload(Machine.profile).load_only(Profile.name),
    selectinload(Machine.secrets).load_only(MachineSecret.name, MachineSecret.set_at),
    selectinload(Machine.tags),
)


def machines(
    site: Site,
    *,
    limit: int = 50,
    cursor: str | None = None,
    sort: str | None = None,
    both: bool = False,
    **filters: Any,
) -> dict[str, Any]:
    """A page of machines: ``items`` (see `machines.view`), and ``next``, the cursor of the page after it, or None.

    With ``both``, ``previous`` too, the cursor of the page before it.

    ``sort`` is name, state, profile, created_at or updated_at, backwards with ``-`` before it. Filters are q (every
    word must be a part of its name, serial number, UUID, inventory id, addresses or MACs, those in any spelling),
    state, profile, subnet, tag, protected and flagged; None or an empty text filters nothing. A machine that stays is
    on one page exactly, whatever is added and removed while somebody pages. Raises InvalidInput, UnknownReference for
    a profile or subnet that there is not, and TooLarge for a limit above 500.
    """
    refuse_unknown("machines", filters, _FILTERS)
    page = asked("machines", limit, cursor, sort or "name", filters, tuple(_ORDERS), both=both)
    with read(site.engine) as session:
        wanted = list(_conditions(session, page.filters))
        query = select(Machine).options(*_SHOWN)
        few = _few(session, wanted)
        if few is not None:
            query = query.where(Machine.id.in_(few), *(each.holds for each in wanted))
        else:
            query = query.where(*_walked(wanted, page.sort.removeprefix("-")))
        if page.sort.removeprefix("-") == "profile":
            return _by_profile(
                session, query, page, Machine.profile_id if few is None else search.Unindexed(Machine.profile_id)
            )
        order = Order(_ORDERS[page.sort.removeprefix("-")], page.sort.startswith("-"))
        return fetch(session, query, order, page, _views)


def count(site: Site, most: int | None = None, **filters: Any) -> int:
    """How many machines the filters of `machines` choose; raises as that does.

    With ``most``, one more than that stands for all beyond: counting those of a frequent word looks at each of them.
    """
    with read(site.engine) as session:
        if most is None:
            return session.scalar(_chosen(session, func.count(), filters)) or 0
        some = _chosen(session, Machine.id, filters).limit(most + 1).subquery()
        return session.scalar(select(func.count()).select_from(some)) or 0


def names(site: Site, most: int, **filters: Any) -> list[str]:
    """The names of the machines that the filters of `machines` choose, in order. Raises TooLarge for more than most."""
    with read(site.engine) as session:
        found = list(session.scalars(_chosen(session, Machine.name, filters).order_by(Machine.name).limit(most + 1)))
        if len(found) > most:
            total = session.scalar(_chosen(session, func.count(), filters))
            raise TooLarge(f"{total} machines are more than {most} at a time", hint="narrow the filter, do it in parts")
        return found


def _chosen(session: Session, what: Any, filters: Mapping[str, Any]) -> Select[Any]:
    """A query of the machines that the filters choose, without an order."""
    refuse_unknown("machines", filters, _FILTERS)
    wanted = list(_conditions(session, asked("machines", 1, None, "name", filters, tuple(_ORDERS)).filters))
    few = _few(session, wanted)
    query = select(what).select_from(Machine)
    return query.where(*(each.holds for each in wanted), *([] if few is None else [Machine.id.in_(few)]))


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
    """A page of any noun (``machines``, ``subnets``, ..., ``history``): ``items`` and ``next``, as for machines.

    Raises InvalidInput for a noun, an order or a filter that there is not, with those that there are.
    """
    if noun == "machines":
        return machines(site, limit=limit, cursor=cursor, sort=sort, both=both, **filters)
    if noun == "history":
        return records.page(site, limit=limit, cursor=cursor, sort=sort, both=both, **filters)
    return nouns.page(site, noun, limit=limit, cursor=cursor, sort=sort, both=both, **filters)


def every(site: Site, noun: str = "machines", **asked_for: Any) -> Iterator[dict[str, Any]]:
    """All rows of a list, read page by page: memory stays small, and no transaction is open in between."""
    cursor: str | None = None
    while True:
        got = page(site, noun, limit=500, cursor=cursor, **asked_for)
        yield from got["items"]
        cursor = got["next"]
        if cursor is None:
            return


def _views(found: Sequence[Machine]) -> list[dict[str, Any]]:
    return [view(each) for each in found]


@dataclass(frozen=True)
class _Condition:
    """A filter: whether it holds for a machine, and the ids that it may hold for by an index."""

    holds: ColumnElement[bool]
    rows: tuple[Select[Any], ...] = ()
    by_name: ColumnElement[bool] | None = None
    """The same, where an index holds its machines in the order of their names."""


def _conditions(session: Session, filters: Mapping[str, Any]) -> Iterator[_Condition]:
    if "q" in filters:
        for found in search.conditions(session, filters["q"]):
            yield _Condition(found.holds, found.rows, found.by_name)
    if "state" in filters:
        yield _equal(Machine.state, _state(filters["state"]))
    if "profile" in filters:
        yield _equal(Machine.profile_id, objects.refer(session, Profile, filters["profile"], "profile").id)
    if "subnet" in filters:
        subnet = objects.refer(session, Subnet, filters["subnet"], "subnet")
        yield _related(Interface.machine_id, Interface.subnet_id == subnet.id)
    if "tag" in filters:
        yield _related(MachineTag.machine_id, MachineTag.tag == filters["tag"].lower())
    if "protected" in filters:
        yield _equal(Machine.protected, _flag(filters["protected"], "protected"))
    if "flagged" in filters:
        yield _flagged(_flag(filters["flagged"], "flagged"))


def _equal(column: Column, value: Any) -> _Condition:
    return _Condition(search.Unindexed(column) == value, (select(Machine.id).where(column == value),), column == value)


def _related(key: Column, holds: ColumnElement[bool]) -> _Condition:
    return _Condition(exists().where(key == Machine.id, holds).correlate(Machine), (select(key).where(holds),))


def _flagged(wanted: bool) -> _Condition:
    if not wanted:
        return _Condition(Machine.flag == "")
    # In words that SQLite recognises as those of the partial index; it looks at no bound values for that.
    indexed = text("machine.flag <> ''")
    return _Condition(search.Unindexed(Machine.flag) != "", (select(Machine.id).where(indexed),), and_(indexed))


def _state(state: str) -> str:
    if state not in set(MachineState):
        raise InvalidInput(f"{state!r} is no state", where="state", hint=f"one of {', '.join(MachineState)}")
    return state


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{value!r} is neither true nor false", where=where, hint="say true or false")
    return value


def _few(session: Session, wanted: Sequence[_Condition]) -> list[int] | None:
    """The machines that all conditions may hold for, if an index finds that they are few."""
    few: set[int] | None = None
    for each in wanted:
        for rows in each.rows:
            ids = set(session.scalars(rows.limit(_FEW + 1)))
            if len(ids) <= _FEW:
                few = ids if few is None else few & ids
                break
    return None if few is None else sorted(few)


def _walked(wanted: Sequence[_Condition], sort: str) -> list[ColumnElement[bool]]:
    """The conditions for a walk in order: at most one by an index, and that only if the index has this order."""
    walked: list[ColumnElement[bool]] = []
    taken = sort != "name"
    for each in wanted:
        if each.by_name is not None and not taken:
            walked.append(each.by_name)
            taken = True
        else:
            walked.append(each.holds)
    return walked


def _by_profile(session: Session, query: Select[Machine], page: Asked, having: Any) -> dict[str, Any]:
    """By the profile's name, then the machine's; those without a profile come last, and first backwards.

    One profile after the other, since no index holds columns of two tables. ``having`` is the machine's profile_id.
    """
    order = Order((Machine.name,), page.sort.startswith("-") is not page.back)
    ended = page.decode(2)
    after = None if ended is None else order.decoded(ended[1:])
    found: list[Machine] = []
    for number, name in _profiles(session, query, None if ended is None else ended[:1], down=order.down):
        part = query.where(having.is_(None) if number is None else having == number)
        if ended is not None and after is not None and name == ended[0]:
            part = part.where(order.beyond(after))
        found += session.scalars(part.order_by(*order.by()).limit(page.limit + 1 - len(found)))
        if len(found) > page.limit:
            break
    if begins(found, page):
        return _by_profile(session, query, page.first, having)
    return paged(found, page, lambda each: [each.profile.name if each.profile else None, each.name], _views)


def _profiles(
    session: Session, query: Select[Machine], begin: Sequence[Any] | None, *, down: bool
) -> list[tuple[int | None, str | None]]:
    """The ids and names of the profiles in which the query finds machines, in order, and None for those without."""
    order = Order((Profile.name,), down)
    inside = exists().where(Machine.profile_id == Profile.id)
    if query.whereclause is not None:
        inside = inside.where(query.whereclause)
    used = select(Profile.id, Profile.name).where(inside.correlate(Profile)).order_by(*order.by())
    named: list[tuple[int | None, str | None]] = []
    if begin is None or begin[0] is not None or down:
        if begin is not None and begin[0] is not None:
            used = used.where(or_(Profile.name == order.decoded(begin)[0], order.beyond(order.decoded(begin))))
        named = [(each.id, each.name) for each in session.execute(used)]
    without: list[tuple[int | None, str | None]] = [(None, None)]
    if down:
        return named if begin is not None and begin[0] is not None else without + named
    return named + without
