"""The stored life of a build: its phase, its triggers, its events. Callers hold the write transaction."""

import zlib
from datetime import datetime

from sqlalchemy import func, select
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
from provisioner.store.engine import for_update
from provisioner.store.models import Attempt, Build, Event, Machine, now

LOG_BYTES = 64 * 1024
_EVENTS_PER_BUILD = 2000
MESSAGE_CHARACTERS = 4000


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
    moment = at or now()
    before = phase(build)
    after = move(before, trigger)
    build.state = after.state
    if after in {Phase.BUILT, Phase.CONFIGURED} and build.built_at is None:
        build.built_at = moment
    if trigger is Trigger.RETRY_HANDOFF:
        build.ended_at, build.outcome = None, ""
        build.built_at = moment  # the handoff's time begins anew
    if after in ENDED and before not in ENDED:
        build.ended_at, build.outcome = moment, printable(outcome)[:MESSAGE_CHARACTERS]
    identities.follow(session, build, trigger, before, after)
    machine = build.machine
    if machine is not None and machine.state != MachineState.RETIRED and latest_build(session, machine) is build:
        machine.state = machine_state_after(after, before)


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
        machine_id=build.machine_id,
        build_id=build.id,
        attempt=attempt.number if attempt else None,
        kind=kind[:64],
        message=printable(message)[:MESSAGE_CHARACTERS],
        source=source,
        flagged=flagged,
        log=zlib.compress(log.encode(errors="replace")[-LOG_BYTES:]) if log else None,
    )
    session.add(event)
    return event


def has_room(session: Session, build: Build) -> bool:
    """Whether a report that changes nothing is still noted: who holds an old token must not fill the database."""
    count = session.scalar(select(func.count()).select_from(Event).where(Event.build_id == build.id)) or 0
    return count < _EVENTS_PER_BUILD


def printable(text: str) -> str:
    """The text on one line, with control characters shown as escapes, so that no log or terminal obeys it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def flag(session: Session, build: Build, message: str, *, source: str, attempt: Attempt | None = None) -> None:
    """Note something that somebody should look at, on the build and on the machine."""
    add_event(session, build, "flag", message, attempt=attempt, source=source, flagged=True)
    if build.machine is not None:
        build.machine.flag = printable(message)[:MESSAGE_CHARACTERS]
