"""What machines report: the installer's events and the handoff's result."""

import time
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.lifecycle import ENDED, TABLE, BuildState, Phase, Trigger
from provisioner.core.tokens import Purpose, uid_of
from provisioner.errors import DatabaseUnavailable, InvalidInput, ProvisionerError, StorageFull, TokenRefused
from provisioner.services import identities, lastgood, looks, spool
from provisioner.services.lives import (
    LOG_BYTES,
    MESSAGE_CHARACTERS,
    Late,
    advance,
    has_room,
    lock,
    note,
    raise_flag,
    set_build,
)
from provisioner.services.looks import BuildSeen, Held
from provisioner.services.site import Site
from provisioner.store.engine import session_on, together, write
from provisioner.store.models import Attempt, Build, Event, now

log = structlog.get_logger()
_REFUSED = "this token reports nothing here"
_STEP_CHARACTERS = 64


@dataclass(frozen=True)
class Report:
    """An event as the installer posts it; ``step`` ends with ``built`` or ``failed``."""

    step: str
    message: str = ""
    log: str = ""


@dataclass(frozen=True)
class Receipt:
    """What the machine is told: the build's state after its report, or `spooled` while nobody can say."""

    state: str
    repeated: bool = False


def event(site: Site, presented: str, source: str, report: Report) -> Receipt:
    """Take an installer's event. `built` switches netboot off in the same transaction.

    While the database cannot be asked the event is kept on disk and applied later; its receipt says `spooled`.
    Raises TokenRefused for a token that is not genuine, superseded, or whose build ended (the repetition of the report
    that ended it is acknowledged: replies get lost); InvalidInput for a step that is not a word; StorageFull.
    """
    step = report.step.strip()
    if not step or len(step) > _STEP_CHARACTERS or not all(char.isalnum() or char in "-_." for char in step):
        raise InvalidInput("an event needs a step", where="step", hint="post step=WORD and message=TEXT")
    return _take(site, presented, Purpose.EVENT, _Said("event", "", source, step, report.message, report.log))


def configured(
    site: Site, presented: str, source: str, *, ok: bool, message: str, log: str = "", exit_code: int | None = None
) -> Receipt:
    """Take the handoff's result: a good first run makes the machine `configured`, another fails the build.

    The tool decides which exit status is good, and whether this build's identity must have been issued. Raises
    TokenRefused, StorageFull; a repetition of the report that ended the build is acknowledged.
    """
    step = ("ok" if ok else "failed") if exit_code is None else f"{'ok' if ok else 'failed'}:{exit_code}"
    return _take(site, presented, Purpose.HANDOFF, _Said("handoff", "", source, step, message, log))


def catch_up(site: Site) -> None:
    """Apply what waits in the spool, in its order, each report once.

    Nothing new is decided before: a machine must not get the installer again because its `built` still waits. Raises
    DatabaseUnavailable where the reports cannot be applied yet.
    """
    with spool.alone(site):
        for uid in spool.attempts(site):
            found, ended = spool.waiting(site, uid), False
            try:
                with write(site.engine) as session:
                    for each in found:
                        ended = _apply_spooled(session, site, each) or ended
            except (DatabaseUnavailable, StorageFull):
                raise
            except ProvisionerError as error:
                # One attempt's reports (of a machine that was removed, say) must not hold up all others.
                log.error("spooled reports were set aside", uid=uid, error=str(error))  # noqa: TRY400
                spool.set_aside(site, uid)
                continue
            if ended:
                lastgood.forget(site, uid)
            spool.done(site, uid, found)
            if found:
                log.info("spooled reports applied", uid=uid, reports=len(found))


@dataclass(frozen=True)
class _Said:
    """A report on its way: ``kind`` is ``event`` or ``handoff``, whose step is ``ok`` or ``failed``, mostly with
    ``:EXIT_STATUS`` behind it."""

    kind: str
    uid: str
    source: str
    step: str
    message: str
    log: str
    late: Late | None = None

    @property
    def at(self) -> datetime | None:
        """When it was said, if that was not just now."""
        return None if self.late is None else self.late.at


def _take(site: Site, presented: str, purpose: Purpose, said: _Said) -> Receipt:
    uid = uid_of(site.keys.token_key, presented, purpose)
    if uid is None:
        raise TokenRefused(_REFUSED)
    said = replace(said, uid=uid)
    try:
        if spool.pending(site):
            catch_up(site)
        receipt, ended = together(site.engine, lambda connection: _apply(connection, site, said))
    except (DatabaseUnavailable, StorageFull):
        _spool(site, said)
        return Receipt("spooled")
    if ended:
        lastgood.forget(site, uid)
    if receipt is None:
        raise TokenRefused(_REFUSED)
    return receipt


def _spool(site: Site, said: _Said) -> None:
    spool.put(
        site,
        spool.Report(
            said.kind, said.uid, time.time(), said.source, said.step, said.message[:MESSAGE_CHARACTERS], said.log
        ),
    )
    if said.kind == "handoff" or said.step in {"built", "failed"}:
        # What this report ends, ends: the answer may not be fetched any more either.
        lastgood.forget(site, said.uid)


def _apply_spooled(session: Session, site: Site, waiting: spool.Waiting) -> bool:
    if session.scalar(select(Event.id).where(Event.spool_id == waiting.name)) is not None:
        return False  # we were killed between the commit and the removal of the file
    report = waiting.report
    at = datetime.fromtimestamp(report.at, UTC)
    late = Late(at, waiting.name)
    said = _Said(report.kind, report.uid, report.source, report.step, report.message, report.log, late)
    return _apply(session.connection(), site, said)[1]


def _apply(connection: Connection, site: Site, said: _Said) -> tuple[Receipt | None, bool]:
    """What the machine is told, or None for a refusal; and whether the installation is over."""
    found = looks.held(connection, said.uid)
    if found is None:
        raise TokenRefused(_REFUSED)
    if said.kind == "event":
        receipt, build = _apply_event(connection, found, said)
    else:
        receipt, build = _apply_result(connection, site, found, said)
    return receipt, build.phase not in {Phase.BOOTING, Phase.INSTALLING}


def _apply_event(connection: Connection, found: Held, said: _Said) -> tuple[Receipt | None, BuildSeen]:
    build, superseded = found.build, found.attempt.superseded
    before = build.phase
    accepted = not superseded and before not in ENDED
    repeated = not superseded and before in ENDED and _repeats(said.step, build)
    if accepted:
        build = _progress(connection, found, said)
    if accepted or (repeated and _noted(connection, build, said)):
        _event(connection, found, said, said.step, said.message)
    elif not repeated and _noted(connection, build, said):
        _event(connection, found, said, "refused-event", f"{said.step}: {said.message}")
    if not accepted and not repeated:
        return None, build
    return Receipt(build.state, repeated or (said.step == "built" and before is Phase.BUILT)), build


def _apply_result(connection: Connection, site: Site, found: Held, said: _Said) -> tuple[Receipt | None, BuildSeen]:
    build = found.build
    with session_on(connection) as session:
        ok, message = _judged(session, build, said)
    trigger = Trigger.CONFIGURED if ok else Trigger.FAILED
    before = build.phase
    repeated = before is (Phase.CONFIGURED if ok else Phase.FAILED_HANDOFF)
    accepted = (
        not found.attempt.superseded
        and trigger in TABLE[before].moves
        and not (before is not Phase.BUILT and not ok)
        and not _too_late(site, build, said.at or now())
    )
    kind = ("configured" if ok else "handoff-failed") if accepted or repeated else "refused-report"
    if accepted or _noted(connection, build, said):
        _event(connection, found, said, kind, message)
    if accepted:
        outcome = "" if ok else f"handoff: {message}"
        build = advance(connection, build, found.machine_state, trigger, outcome, said.at)
    return Receipt(build.state, repeated) if accepted or repeated else None, build


def _judged(session: Session, build: BuildSeen, said: _Said) -> tuple[bool, str]:
    """Whether the first run was good, and the message."""
    word, _, code = said.step.partition(":")
    row = identities.current(session, build.id)
    good = word == "ok"
    if row is None:
        return good, said.message
    if good and code.lstrip("-").isdigit() and int(code) not in handoff.tool(row.tool).good_exits:
        return False, said.message
    if good and handoff.tool(row.tool).pushes and build.phase is Phase.BUILT:
        return False, f"{row.tool} was not run from here, and the machine cannot say that it was"
    if good and row.issues and row.state != "issued":
        return False, f"{row.tool} reports a good run, but {row.identity} was never issued for this build"
    return good, said.message


def _noted(connection: Connection, build: BuildSeen, said: _Said) -> bool:
    # A spooled report always leaves its row, which is how a second application is noticed.
    return said.late is not None or has_room(connection, build)


def _event(connection: Connection, found: Held, said: _Said, kind: str, message: str) -> None:
    note(
        connection,
        found.build,
        kind,
        message,
        attempt=found.attempt,
        source=said.source,
        log=said.log,
        late=said.late,
    )


def _progress(connection: Connection, found: Held, said: _Said) -> BuildSeen:
    build, attempt, state = found.build, found.attempt, found.machine_state
    step, at = said.step, said.at
    if said.source not in attempt.addresses:
        raise_flag(connection, build, f"event {step} came from {said.source}", source=said.source, attempt=attempt)
    if step == "built":
        return advance(connection, build, state, Trigger.BUILT, at=at)
    if step == "failed":
        outcome = said.message or "the installer reported a failure"
        return advance(connection, build, state, Trigger.FAILED, outcome, at)
    build = advance(connection, build, state, Trigger.PROGRESS, at=at)
    if step == "disk" and not build.disk_touched:
        # Who let the build go on before this did not know that there is something to wipe now.
        set_build(connection, build, disk_touched=True, released=min(build.released, attempt.number))
    elif step == "reboot":
        set_build(connection, build, reboot_announced=True)
    return build


def _repeats(step: str, build: BuildSeen) -> bool:
    """Whether the report only says again what ended the build, or what it had reached before."""
    if step == "built":
        return build.built_at is not None
    return step == "failed" and build.state == BuildState.FAILED


def held(session: Session, uid: str) -> tuple[Attempt, Build]:
    """The attempt of this uid and its build, whose row is held. Raises TokenRefused."""
    attempt = session.scalars(select(Attempt).where(Attempt.uid == uid)).one_or_none()
    if attempt is None or attempt.build.machine_id is None:
        raise TokenRefused(_REFUSED)
    build = lock(session, attempt.build)
    session.refresh(attempt)
    return attempt, build


def _too_late(site: Site, build: BuildSeen, at: datetime) -> bool:
    limit = timedelta(hours=site.settings.handoff_hours)
    return build.built_at is not None and at - build.built_at > limit


def log_of(event: Event) -> str:
    """The log that came with an event."""
    return zlib.decompress(event.log).decode(errors="replace") if event.log else ""


def clip_log(text: str) -> str:
    """The last 64 KiB of an installer's log."""
    return text.encode()[-LOG_BYTES:].decode(errors="replace")
