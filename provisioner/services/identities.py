"""The stored identities of builds at tools' servers, and the effects that follow from a build's life.

Callers hold the write transaction; nothing here reaches out. The worker carries the effects out (see `outbox`).
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.lifecycle import ENDED, Phase, Trigger
from provisioner.errors import BuildNotPossible
from provisioner.services.keys import Keys
from provisioner.store.handoffs import Handoff, Outbox
from provisioner.store.models import Build, Machine, now

_AT_SERVER = ("enrolled", "issued")


def current(session: Session, build_id: int) -> Handoff | None:
    """The latest round of the build's handoff; None where no tool is asked for."""
    query = select(Handoff).where(Handoff.build_id == build_id).order_by(Handoff.round.desc()).limit(1)
    return session.scalars(query).one_or_none()


def add(
    session: Session, keys: Keys, build: Build, prepared: handoff.Prepared, tool: str, made: handoff.Credentials
) -> Handoff:
    """The next round of the build's handoff.

    Raises BuildNotPossible if another machine has this identity at the same tool.
    """
    _refuse_shared(session, build, prepared, tool)
    last = current(session, build.id)
    chosen = handoff.tool(tool)
    row = Handoff(
        build_id=build.id,
        machine_id=build.machine_id,
        round=last.round + 1 if last is not None else 1,
        tool=tool,
        identity=prepared.identity,
        settings=dict(prepared.settings),
        public=dict(made.public),
        enrols=chosen.enrols,
        issues=chosen.issues,
    )
    session.add(row)
    session.flush()
    if made.kept:
        row.kept = keys.seal(json.dumps(dict(made.kept)), _kept_row(row))
    return row


def _refuse_shared(session: Session, build: Build, prepared: handoff.Prepared, tool: str) -> None:
    if not prepared.identity:
        return
    query = (
        select(Machine.name)
        .join(Handoff, Handoff.machine_id == Machine.id)
        .where(Handoff.tool == tool, Handoff.identity == prepared.identity, Handoff.state != "revoked")
        .where(Machine.id != build.machine_id)
        .limit(1)
    )
    other = session.scalar(query)
    if other is not None:
        raise BuildNotPossible(
            f"{prepared.identity} is the {tool} identity of {other}",
            where="handoff",
            hint="two machines with one identity would take it from each other; leave it to be the machine's own name",
        )


def kept(keys: Keys, row: Handoff) -> Mapping[str, str]:
    """The secrets of this round that stay with us. Raises KeyUnusable."""
    if row.kept is None:
        return {}
    opened: dict[str, str] = json.loads(keys.open(row.kept, _kept_row(row)))
    return opened


def _kept_row(row: Handoff) -> str:
    return f"handoff:{row.id}"


def follow(
    session: Session, build_id: int, machine_id: int | None, trigger: Trigger, before: Phase, after: Phase
) -> None:
    """Queue what a build's step in its life means for the identities of its machine.

    It may mean something for a first attempt and where the build ends, and for no other step.
    """
    if trigger is Trigger.ATTEMPT and before is Phase.ARMED:
        _begin(session, build_id, machine_id)
    elif after in ENDED and before not in ENDED:
        row = current(session, build_id)
        # Stopped, since somebody else has a secret of it: whatever was issued is no good, installed or not.
        stays = after in {Phase.CONFIGURED, Phase.FAILED_HANDOFF} and trigger is not Trigger.STOP
        if row is not None and not stays:
            revoke(session, row)
        if row is not None:
            row.kept = None


def _begin(session: Session, build_id: int, machine_id: int | None) -> None:
    """The old system is about to go: so are its identities, and then this build's may come.

    Not earlier: a build that is armed and cancelled leaves a machine that runs, and that still needs who it is.
    """
    earlier = select(Handoff).where(Handoff.machine_id == machine_id, Handoff.state.in_(_AT_SERVER))
    for row in session.scalars(earlier.where(Handoff.build_id != build_id).order_by(Handoff.id)):
        revoke(session, row)
    row_now = current(session, build_id)
    if row_now is not None:
        enrol(session, row_now)


def enrol(session: Session, row: Handoff) -> None:
    """Queue that the tool's server is made ready for this identity."""
    if row.enrols:
        queue(session, row, "enrol")
    else:
        row.state = "enrolled"


def revoke(session: Session, row: Handoff) -> None:
    """Queue that the identity is taken away, unless it never reached the tool's server or that waits already."""
    if not row.enrols:
        row.state, row.revoked_at = "revoked", now()
        return
    waiting = select(Outbox.id).where(Outbox.handoff_id == row.id, Outbox.due_at.is_not(None))
    if row.state in _AT_SERVER or session.scalar(waiting.where(Outbox.kind == "enrol").limit(1)) is not None:
        if session.scalar(waiting.where(Outbox.kind == "revoke").limit(1)) is None:
            queue(session, row, "revoke")
    elif row.state == "prepared":
        row.state, row.revoked_at = "revoked", now()


def revoke_all(session: Session, machine: Machine) -> None:
    """Queue that every identity of a machine that is removed is taken away."""
    rows = session.scalars(select(Handoff).where(Handoff.machine_id == machine.id, Handoff.state != "revoked"))
    for row in rows.all():
        revoke(session, row)


def queue(session: Session, row: Handoff, kind: str) -> None:
    """Put an effect in the outbox, due at once, behind those of the same machine."""
    session.add(Outbox(kind=kind, handoff_id=row.id, machine_id=row.machine_id, due_at=now()))


def issue(row: Handoff, fingerprint: str = "") -> None:
    """Note that the identity is the machine's; what we kept to get it that far is forgotten."""
    row.state, row.issued_at, row.fingerprint, row.kept = "issued", now(), fingerprint, None


def view(row: Handoff | None) -> dict[str, Any] | None:
    """What people see of a round; None where there is none."""
    if row is None:
        return None
    return {
        "tool": row.tool,
        "identity": row.identity,
        "state": row.state,
        "round": row.round,
        "issued_at": row.issued_at.isoformat(timespec="milliseconds") if row.issued_at else None,
        "revoked_at": row.revoked_at.isoformat(timespec="milliseconds") if row.revoked_at else None,
    }
