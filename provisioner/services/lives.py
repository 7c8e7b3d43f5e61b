"""The stored life of a build: its phase, its triggers, its events. Callers hold the write transaction.

Administrators' acts come with objects of a session; what machines do comes a thousand at a time, with plain rows
(`services.looks`) and a statement for each thing that is written. Both decide by the same functions.
"""

import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from provisioner.core.lifecycle import (
    ENDED,
    BuildState,
    MachineState,
    Phase,
    Trigger,
    machine_state_after,
    move,
    phase_of,
)
from provisioner.services import identities
from provisioner.services.looks import BUILD, MACHINE, AttemptSeen, BuildSeen
from provisioner.store.engine import for_update, session_on
from provisioner.store.models import Attempt, Build, Event, Machine, now

LOG_BYTES = 64 * 1024
_EVENTS_PER_BUILD = 2000
MESSAGE_CHARACTERS = 4000
_EVENT = cast("Table", Event.__table__)
_ADD_EVENT = insert(_EVENT)
_SET_BUILD = update(BUILD).where(BUILD.c.id == bindparam("build"))
_SET_MACHINE = update(MACHINE).where(MACHINE.c.id == bindparam("machine"))
_COUNT = select(func.count()).select_from(_EVENT).where(_EVENT.c.build_id == bindparam("build"))


def latest_build(session: Session, machine: Machine) -> Build | None:
    """The machine's newest build, or None."""
    return session.scalars(
        select(Build).where(Build.machine_id == machine.id).order_by(Build.number.desc()).limit(1)
    ).one_or_none()


def lock(session: Session, build: Build) -> Build:
    """The build's row held for this transaction; what other transactions did meanwhile is seen."""
    session.refresh(build, **for_update(session))
    return build


def phase(build: Build) -> Phase:
    """The build's phase."""
    return phase_of(BuildState(build.state), was_built=build.built_at is not None)


def apply_trigger(
    session: Session, build: Build, trigger: Trigger, outcome: str = "", at: datetime | None = None
) -> None:
    """Move the build and its machine on. Raises IllegalTransition.

    `built` switches netboot off in this same transaction, since the next boot is decided from these two states.
    """
    before = phase(build)
    after, values = _moved(before, build.built_at, trigger, outcome, at or now())
    for name, value in values.items():
        setattr(build, name, value)
    identities.follow(session, build.id, build.machine_id, trigger, before, after)
    machine = build.machine
    if machine is not None and machine.state != MachineState.RETIRED and latest_build(session, machine) is build:
        machine.state = machine_state_after(after, before)


def advance(
    connection: Connection,
    build: BuildSeen,
    machine_state: str,
    trigger: Trigger,
    outcome: str = "",
    at: datetime | None = None,
) -> BuildSeen:
    """As `apply_trigger`, for a build that was looked at in this transaction. Gives it as it is then.

    Raises IllegalTransition.
    """
    before = build.phase
    after, values = _moved(before, build.built_at, trigger, outcome, at or now())
    changed = {name: value for name, value in values.items() if getattr(build, name, None) != value}
    if changed:
        set_build(connection, build, **changed)
    if trigger is Trigger.ATTEMPT or (after in ENDED and before not in ENDED):
        with session_on(connection) as session:
            identities.follow(session, build.id, build.machine_id, trigger, before, after)
    state = machine_state_after(after, before)
    if build.latest and machine_state not in {state, MachineState.RETIRED}:
        connection.execute(_SET_MACHINE, {"machine": build.machine_id, "state": state.value})
    return replace(build, **{name: value for name, value in changed.items() if name in BuildSeen.__match_args__})


def set_build(connection: Connection, build: BuildSeen, **values: Any) -> None:
    """Write these columns of the build."""
    connection.execute(_SET_BUILD, {"build": build.id, **values})


def _moved(
    before: Phase, built_at: datetime | None, trigger: Trigger, outcome: str, moment: datetime
) -> tuple[Phase, dict[str, Any]]:
    """The phase after the trigger, and what that writes into the build."""
    after = move(before, trigger)
    values: dict[str, Any] = {"state": after.state.value}
    if after in {Phase.BUILT, Phase.CONFIGURED} and built_at is None:
        values["built_at"] = moment
    if trigger is Trigger.RETRY_HANDOFF:
        values |= {"ended_at": None, "outcome": "", "built_at": moment}  # the handoff's time begins anew
    if after in ENDED and before not in ENDED:
        values |= {"ended_at": moment, "outcome": printable(outcome)[:MESSAGE_CHARACTERS]}
    return after, values


def add_event(
    session: Session,
    build: Build,
    kind: str,
    message: str = "",
    *,
    attempt: Attempt | None = None,
    source: str = "",
    flagged: bool = False,
    log: str = "",
) -> Event:
    """Note what happened; texts from machines are cut to their limits and made printable."""
    event = Event(
        **_told(build.machine_id, build.id, attempt.number if attempt else None, kind, message, source, log),
        flagged=flagged,
    )
    session.add(event)
    return event


@dataclass(frozen=True)
class Late:
    """A report that waited in the spool: when it was said, and the name that it had there."""

    at: datetime
    spool_id: str


def note(
    connection: Connection,
    build: BuildSeen,
    kind: str,
    message: str = "",
    *,
    attempt: AttemptSeen | None = None,
    source: str = "",
    log: str = "",
    late: Late | None = None,
) -> None:
    """As `add_event`, in one statement."""
    told = _told(build.machine_id, build.id, attempt.number if attempt else None, kind, message, source, log)
    at, spool_id = (late.at, late.spool_id) if late is not None else (now(), None)
    connection.execute(_ADD_EVENT, told | {"flagged": False, "at": at, "spool_id": spool_id})


def _told(
    machine_id: int | None, build_id: int, attempt: int | None, kind: str, message: str, source: str, log: str
) -> dict[str, Any]:
    return {
        "machine_id": machine_id,
        "build_id": build_id,
        "attempt": attempt,
        "kind": kind[:64],
        "message": printable(message)[:MESSAGE_CHARACTERS],
        "source": source,
        "log": zlib.compress(log.encode(errors="replace")[-LOG_BYTES:]) if log else None,
    }


def has_room(where: Session | Connection, build: Build | BuildSeen) -> bool:
    """Whether a report that changes nothing is still noted: who holds an old token must not fill the database."""
    return (where.execute(_COUNT, {"build": build.id}).scalar() or 0) < _EVENTS_PER_BUILD


def printable(text: str) -> str:
    """The text on one line, with control characters shown as escapes, so that no log or terminal obeys it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def flag(session: Session, build: Build, message: str, *, source: str, attempt: Attempt | None = None) -> None:
    """Note something that somebody should look at, on the build and on the machine."""
    add_event(session, build, "flag", message, attempt=attempt, source=source, flagged=True)
    if build.machine is not None:
        build.machine.flag = printable(message)[:MESSAGE_CHARACTERS]


def raise_flag(
    connection: Connection, build: BuildSeen, message: str, *, source: str, attempt: AttemptSeen | None = None
) -> None:
    """As `flag`."""
    told = _told(build.machine_id, build.id, attempt.number if attempt else None, "flag", message, source, "")
    connection.execute(_ADD_EVENT, told | {"flagged": True, "at": now(), "spool_id": None})
    if build.machine_id is not None:
        said = printable(message)[:MESSAGE_CHARACTERS]
        connection.execute(_SET_MACHINE, {"machine": build.machine_id, "flag": said})
