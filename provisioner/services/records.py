"""The history, as people read it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from provisioner.core.asof import as_of
from provisioner.core.differences import differences, fields
from provisioner.errors import InvalidInput, NotFound
from provisioner.services.objects import KIND
from provisioner.services.paging import Order, asked, contains, fetch, refuse_unknown
from provisioner.services.site import Site
from provisioner.store import history
from provisioner.store.engine import read
from provisioner.store.models import Revision

KINDS = (*KIND.values(), "build")
_FILTERS = ("q", "object", "kind", "actor", "since", "until")


def page(
    site: Site,
    *,
    limit: int = 50,
    cursor: str | None = None,
    sort: str | None = None,
    both: bool = False,
    **filters: Any,
) -> dict[str, Any]:
    """A page of revisions, the newest first (``sort`` id: the oldest first): ``items`` and ``next``.

    Filters: ``object``, a name or ``KIND/NAME`` (also a name it no longer has: renames are followed, and a machine's
    bare name includes its builds); ``kind``; ``actor``; ``since`` and ``until``, dates or moments, the dates of UTC.
    ``q`` is a part of the name. Raises InvalidInput.
    """
    refuse_unknown("history", filters, _FILTERS)
    wanted = asked("history", limit, cursor, sort or "-id", filters, ("id",), both=both)
    with read(site.engine) as session:
        query = select(Revision)
        for name, value in wanted.filters.items():
            query = query.where(_condition(session, name, value))
        order = Order((Revision.id,), wanted.sort.startswith("-"))
        return fetch(session, query, order, wanted, lambda found: [_view(each) for each in found])


def listing(site: Site, name: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """The newest revisions, or those of one object, as `page` finds it; each with the fields ``changed``."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        got = page(site, limit=min(limit - len(found), 500), cursor=cursor, object=name)
        found += [each | {"changed": fields(each["changes"])} for each in got["items"]]
        cursor = got["next"]
        if cursor is None:
            break
    return found


def show(site: Site, number: int) -> dict[str, Any]:
    """One revision. Raises NotFound."""
    with read(site.engine) as session:
        revision = session.get(Revision, number)
        if revision is None:
            raise NotFound(f"there is no revision {number}", hint="see `provisioner history list`")
        return _view(revision)


def verify(site: Site) -> list[str]:
    """What is wrong with the chain of revisions, in words; empty when nothing is."""
    with read(site.engine) as session:
        return history.broken_links(session)


def _condition(session: Session, name: str, value: Any) -> ColumnElement[bool]:
    if name == "object":
        return _of_object(session, value)
    if name == "kind":
        if value not in KINDS:
            raise InvalidInput(f"{value!r} is no kind of object", where="kind", hint=f"one of {', '.join(KINDS)}")
        return and_(Revision.kind == value)
    if name == "actor":
        return and_(Revision.actor == value)
    if name == "q":
        return contains((Revision.name,), value)
    at = value if isinstance(value, datetime) else as_of(value, UTC, where=name, end_of_day=name == "until")
    return and_(Revision.at >= at if name == "since" else Revision.at <= at)


def _of_object(session: Session, text: str) -> ColumnElement[bool]:
    head, slash, rest = text.partition("/")
    kind = head if slash and rest and head in KINDS else None
    lives = history.lives(session, kind, rest if kind else text)
    holds = [life.holds() for life in lives]
    if kind is None:
        # A machine's builds are called by the name that it had when they were armed.
        names = {text} if not lives else _names(session, [life for life in lives if life.kind == "machine"])
        holds += [
            and_(Revision.kind == "build", Revision.name.startswith(f"{name}/", autoescape=True))
            for name in sorted(names)
        ]
    return or_(*holds) if holds else Revision.id < 0


def _names(session: Session, lives: Sequence[history.Life]) -> set[str]:
    if not lives:
        return set()
    return set(session.scalars(select(Revision.name).where(or_(*(life.holds() for life in lives))).distinct()))


def _view(revision: Revision) -> dict[str, Any]:
    before, after = revision.before or {}, revision.after or {}
    changes = differences(before, after) if revision.action == "edit" else []
    return {
        "id": revision.id,
        "at": revision.at.isoformat(timespec="milliseconds"),
        "actor": revision.actor,
        "origin": revision.origin,
        "request": revision.request,
        "kind": revision.kind,
        "name": revision.name,
        "action": revision.action,
        "changes": changes,
        "reason": revision.reason,
        "before": revision.before,
        "after": revision.after,
    }
