"""Revisions: every change of an administered object, written in the transaction of the change."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
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
    tip = session.get(Counter, _TIP, **for_update(session))
    if tip is None:
        tip = Counter(name=_TIP, value=0, text=_GENESIS)
        session.add(tip)
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
