"""What machines report: the installer's events and the handoff's result."""

import time
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.lifecycle import ENDED, TABLE, BuildState, Phase, Trigger
from provisioner.core.tokens import Purpose, uid_of
from provisioner.errors import DatabaseUnavailable, InvalidInput, ProvisionerError, StorageFull, TokenRefused
from provisioner.services import identities, lastgood, spool
from provisioner.services.lives import (
    LOG_BYTES,
    MESSAGE_CHARACTERS,
    add_event,
    apply_trigger,
    flag,
    has_room,
    lock,
    phase,
)
from provisioner.services.site import Site
from provisioner.store.engine import write
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
    at: datetime | None = None
    spool_id: str | None = None


def _take(site: Site, presented: str, purpose: Purpose, said: _Said) -> Receipt:
    uid = uid_of(site.keys.token_key, presented, purpose)
    if uid is None:
        raise TokenRefused(_REFUSED)
    said = replace(said, uid=uid)
    try:
        if spool.pending(site):
            catch_up(site)
        with write(site.engine) as session:
            receipt, ended = _apply(session, site, said)
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
    said = _Said(report.kind, report.uid, report.source, report.step, report.message, report.log, at, waiting.name)
    return _apply(session, site, said)[1]


def _apply(session: Session, site: Site, said: _Said) -> tuple[Receipt | None, bool]:
    """What the machine is told, or None for a refusal; and whether the installation is over."""
    attempt, build = held(session, said.uid)
    if said.kind == "event":
        receipt = _apply_event(session, build, attempt, said)
    else:
        receipt = _apply_result(session, site, build, attempt, said)
    return receipt, phase(build) not in {Phase.BOOTING, Phase.INSTALLING}


def _apply_event(session: Session, build: Build, attempt: Attempt, said: _Said) -> Receipt | None:
    before = phase(build)
    accepted = not attempt.superseded and before not in ENDED
    repeated = not attempt.superseded and before in ENDED and _repeats(said.step, build)
    if accepted:
        _progress(session, build, attempt, said)
    if accepted or (repeated and _noted(session, build, said)):
        _event(session, build, attempt, said, said.step, said.message)
    elif not repeated and _noted(session, build, said):
        _event(session, build, attempt, said, "refused-event", f"{said.step}: {said.message}")
    if not accepted and not repeated:
        return None
    return Receipt(build.state, repeated or (said.step == "built" and before is Phase.BUILT))


def _apply_result(session: Session, site: Site, build: Build, attempt: Attempt, said: _Said) -> Receipt | None:
    ok, message = _judged(session, build, said)
    trigger = Trigger.CONFIGURED if ok else Trigger.FAILED
    before = phase(build)
    repeated = before is (Phase.CONFIGURED if ok else Phase.FAILED_HANDOFF)
    accepted = (
        not attempt.superseded
        and trigger in TABLE[before].moves
        and not (before is not Phase.BUILT and not ok)
        and not _too_late(site, build, said.at or now())
    )
    kind = ("configured" if ok else "handoff-failed") if accepted or repeated else "refused-report"
    if accepted or _noted(session, build, said):
        _event(session, build, attempt, said, kind, message)
    if accepted:
        apply_trigger(session, build, trigger, "" if ok else f"handoff: {message}", said.at)
    return Receipt(build.state, repeated) if accepted or repeated else None


def _judged(session: Session, build: Build, said: _Said) -> tuple[bool, str]:
    """Whether the first run was good, and the message."""
    word, _, code = said.step.partition(":")
    row = identities.current(session, build.id)
    good = word == "ok"
    if row is None:
        return good, said.message
    if good and code.lstrip("-").isdigit() and int(code) not in handoff.tool(row.tool).good_exits:
        return False, said.message
    if good and handoff.tool(row.tool).pushes and phase(build) is Phase.BUILT:
        return False, f"{row.tool} was not run from here, and the machine cannot say that it was"
    if good and row.issues and row.state != "issued":
        return False, f"{row.tool} reports a good run, but {row.identity} was never issued for this build"
    return good, said.message


def _noted(session: Session, build: Build, said: _Said) -> bool:
    # A spooled report always leaves its row, which is how a second application is noticed.
    return said.spool_id is not None or has_room(session, build)


def _event(session: Session, build: Build, attempt: Attempt, said: _Said, kind: str, message: str) -> None:
    row = add_event(session, build, kind, message, attempt=attempt, source=said.source, log=said.log)
    row.spool_id = said.spool_id
    if said.at is not None:
        row.at = said.at


def _progress(session: Session, build: Build, attempt: Attempt, said: _Said) -> None:
    step, at = said.step, said.at
    if said.source not in attempt.addresses:
        flag(session, build, f"event {step} came from {said.source}", source=said.source, attempt=attempt)
    if step == "built":
        apply_trigger(session, build, Trigger.BUILT, at=at)
    elif step == "failed":
        apply_trigger(session, build, Trigger.FAILED, said.message or "the installer reported a failure", at)
    else:
        apply_trigger(session, build, Trigger.PROGRESS, at=at)
        if step == "disk":
            if not build.disk_touched:
                # Who let the build go on before this did not know that there is something to wipe now.
                build.released = min(build.released, attempt.number)
            build.disk_touched = True
        elif step == "reboot":
            build.reboot_announced = True


def _repeats(step: str, build: Build) -> bool:
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


def _too_late(site: Site, build: Build, at: datetime) -> bool:
    limit = timedelta(hours=site.settings.handoff_hours)
    return build.built_at is not None and at - build.built_at > limit


def log_of(event: Event) -> str:
    """The log that came with an event."""
    return zlib.decompress(event.log).decode(errors="replace") if event.log else ""


def clip_log(text: str) -> str:
    """The last 64 KiB of an installer's log."""
    return text.encode()[-LOG_BYTES:].decode(errors="replace")
