"""Revisions: every change of an administered object, written in the transaction of the change."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, func, select
from sqlalchemy.orm import Session

from provisioner.store.engine import for_update
from provisioner.store.models import Counter, Revision, now

_TIP = "revision"
_GENESIS = "0" * 64


@dataclass(frozen=True)
class Actor:
    """Who changes something: a name, where from, the request's id, and the reason given."""

    who: str
    origin: str
    request: str = ""
    reason: str = ""


def record(
    session: Session,
    actor: Actor,
    *,
    kind: str,
    object_id: int,
    name: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> Revision | None:
    """Write the revision of one change; nothing when before and after are equal.

    ``before`` None means added, ``after`` None removed. Both are snapshots with secrets masked.
    """
    if before == after:
        return None
    tip = tip_of(session)
    revision = Revision(
        at=now(),
        actor=actor.who,
        origin=actor.origin,
        request=actor.request,
        reason=actor.reason,
        kind=kind,
        object_id=object_id,
        name=name,
        action="add" if before is None else "remove" if after is None else "edit",
        before=before,
        after=after,
        previous_hash=tip.text,
        hash="",
    )
    revision.hash = digest(revision)
    tip.value, tip.text = tip.value + 1, revision.hash
    session.add(revision)
    return revision


def tip_of(session: Session) -> Counter:
    """The end of the chain, held for this transaction: how many revisions there are, and the hash of the last."""
    tip = session.get(Counter, _TIP, **for_update(session))
    if tip is None:
        tip = Counter(name=_TIP, value=0, text=_GENESIS)
        session.add(tip)
    return tip


def count(session: Session) -> int:
    """How many revisions there are: while this is the same, no administered object was changed."""
    return session.scalar(select(Counter.value).where(Counter.name == _TIP)) or 0


def digest(revision: Revision) -> str:
    """The SHA-256 over all of a revision's content and the hash of the one before."""
    content = [
        revision.at.isoformat(),
        revision.actor,
        revision.origin,
        revision.request,
        revision.reason,
        revision.kind,
        revision.object_id,
        revision.name,
        revision.action,
        revision.before,
        revision.after,
        revision.previous_hash,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def broken_links(session: Session) -> list[str]:
    """What is wrong with the chain, in words; empty when every row is as it was written and in its place."""
    problems, previous, last = [], _GENESIS, 0
    for revision in session.scalars(select(Revision).order_by(Revision.id).execution_options(yield_per=500)):
        if revision.previous_hash != previous:
            problems.append(f"before revision {revision.id} a row was removed or moved")
        if digest(revision) != revision.hash:
            problems.append(f"revision {revision.id} was edited")
        previous, last = revision.hash, revision.id
    tip = session.get(Counter, _TIP)
    if tip is None and last:
        problems.append("the tip of the chain was removed: whether revisions are missing at its end cannot be said")
    elif tip is not None and tip.text != previous:
        problems.append(f"revisions after {last} were removed")
    return problems


@dataclass(frozen=True)
class Life:
    """One object from its first revision to its last; SQLite gives the number of a removed row to another one."""

    kind: str
    object_id: int
    first: int
    last: int | None
    """The last revision before another object took over the number; None when none did."""

    def holds(self) -> ColumnElement[bool]:
        """Whether a revision is one of this life."""
        theirs = and_(Revision.kind == self.kind, Revision.object_id == self.object_id, Revision.id >= self.first)
        return theirs if self.last is None else and_(theirs, Revision.id <= self.last)


def lives(session: Session, kind: str | None, name: str) -> list[Life]:
    """The objects that ever had the name, under whatever name before and after; of one kind or of any."""
    kinds = [kind] if kind is not None else session.scalars(select(Revision.kind).distinct()).all()
    named = select(Revision.kind, Revision.object_id, Revision.id)
    hits = session.execute(named.where(Revision.kind.in_(kinds), Revision.name == name)).all()
    found: dict[Life, None] = {}
    for each in dict.fromkeys((hit.kind, hit.object_id) for hit in hits):
        added = session.scalars(
            select(Revision.id).filter_by(kind=each[0], object_id=each[1], action="add").order_by(Revision.id)
        ).all()
        begins = [0, *added]
        ends = [*(begin - 1 for begin in added), None]
        for life in (Life(*each, *span) for span in zip(begins, ends, strict=True)):
            if any((hit.kind, hit.object_id) == each and _within(hit.id, life) for hit in hits):
                found[life] = None
    return list(found)


def _within(number: int, life: Life) -> bool:
    return life.first <= number and (life.last is None or number <= life.last)


def moment_of(session: Session, at: datetime) -> int:
    """The newest revision that was there at that moment, 0 if none was: what was so then is what these tell.

    A number and no time, since a clock may be set back.
    """
    newest = select(Revision.id).where(Revision.at <= at).order_by(Revision.at.desc(), Revision.id.desc()).limit(1)
    return session.scalar(newest) or 0


def state_of(session: Session, kind: str, object_id: int, until: int) -> Revision | None:
    """The last revision of an object up to the revision ``until``; None for one that was not there (any more)."""
    query = select(Revision).filter_by(kind=kind, object_id=object_id).where(Revision.id <= until)
    last = session.scalars(query.order_by(Revision.id.desc()).limit(1)).one_or_none()
    return None if last is None or last.after is None else last


def named_then(session: Session, kind: str, name: str, until: int) -> Revision | None:
    """The state of the object that had the name then; None if none had."""
    query = select(Revision.object_id).where(Revision.id <= until).filter_by(kind=kind, name=name)
    for object_id in session.scalars(query.distinct()):
        state = state_of(session, kind, object_id, until)
        if state is not None and state.name == name:
            return state
    return None


def with_mac_then(session: Session, mac: str, until: int) -> Revision | None:
    """The state of the machine that had the MAC address, in normal form, then; None if none had."""
    holds = cast(Revision.after, Text).like(f'%"{mac}"%')
    query = select(Revision.object_id).where(Revision.kind == "machine", Revision.id <= until, holds)
    for object_id in session.scalars(query.distinct()):
        state = state_of(session, "machine", object_id, until)
        if state is not None and any(nic["mac"] == mac for nic in (state.after or {})["interfaces"]):
            return state
    return None


def all_then(session: Session, kind: str, until: int) -> Sequence[Revision]:
    """The states of all objects of a kind then."""
    newest = select(func.max(Revision.id)).where(Revision.kind == kind, Revision.id <= until)
    query = select(Revision).where(Revision.id.in_(newest.group_by(Revision.object_id)), Revision.action != "remove")
    return session.scalars(query).all()
