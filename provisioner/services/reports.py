"""What machines report: the installer's events and the handoff's result."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.lifecycle import ENDED, TABLE, BuildState, Phase, Trigger
from provisioner.core.tokens import Purpose, uid_of
from provisioner.errors import InvalidInput, TokenRefused
from provisioner.services import lastgood
from provisioner.services.lives import LOG_BYTES, add_event, apply_trigger, flag, has_room, lock, phase
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Attempt, Build, now

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
    """What the machine is told: the build's state after its report."""

    state: str
    repeated: bool = False


def event(site: Site, presented: str, source: str, report: Report) -> Receipt:
    """Take an installer's event. `built` switches netboot off in the same transaction.

    Raises TokenRefused for a token that is not genuine, superseded, or whose build ended (the repetition of the report
    that ended it is acknowledged: replies get lost); InvalidInput for a step that is not a word.
    """
    step = report.step.strip()
    if not step or len(step) > _STEP_CHARACTERS or not all(char.isalnum() or char in "-_." for char in step):
        raise InvalidInput("an event needs a step", where="step", hint="post step=WORD and message=TEXT")
    uid = uid_of(site.keys.token_key, presented, Purpose.EVENT)
    if uid is None:
        raise TokenRefused(_REFUSED)
    with write(site.engine) as session:
        attempt, build = _held(session, uid)
        before = phase(build)
        accepted = not attempt.superseded and before not in ENDED
        repeated = not attempt.superseded and before in ENDED and _repeats(step, build)
        if accepted:
            _apply_event(session, build, attempt, step, report, source)
        if accepted or (repeated and has_room(session, build)):
            add_event(session, build, step, report.message, attempt=attempt, source=source, log=report.log)
        elif not repeated and has_room(session, build):
            add_event(session, build, "refused-event", f"{step}: {report.message}", attempt=attempt, source=source)
        state, after, attempt_uid = build.state, phase(build), attempt.uid
    if after not in {Phase.BOOTING, Phase.INSTALLING}:
        lastgood.forget(site, attempt_uid)
    if not accepted and not repeated:
        raise TokenRefused(_REFUSED)
    return Receipt(state, repeated or (step == "built" and before is Phase.BUILT))


def configured(site: Site, presented: str, source: str, *, ok: bool, message: str, log: str = "") -> Receipt:
    """Take the handoff's result: a good first run makes the machine `configured`, another fails the build.

    Raises TokenRefused; a repetition of the report that ended the build is acknowledged.
    """
    uid = uid_of(site.keys.token_key, presented, Purpose.HANDOFF)
    if uid is None:
        raise TokenRefused(_REFUSED)
    trigger = Trigger.CONFIGURED if ok else Trigger.FAILED
    with write(site.engine) as session:
        attempt, build = _held(session, uid)
        before = phase(build)
        repeated = before is (Phase.CONFIGURED if ok else Phase.FAILED_HANDOFF)
        accepted = (
            not attempt.superseded
            and trigger in TABLE[before].moves
            and not (before is not Phase.BUILT and not ok)
            and not _too_late(site, build)
        )
        kind = ("configured" if ok else "handoff-failed") if accepted or repeated else "refused-report"
        if accepted or has_room(session, build):
            add_event(session, build, kind, message, attempt=attempt, source=source, log=log)
        if accepted:
            apply_trigger(session, build, trigger, "" if ok else f"handoff: {message}")
        state = build.state
    if not accepted and not repeated:
        raise TokenRefused(_REFUSED)
    lastgood.forget(site, uid)
    return Receipt(state, repeated)


def _apply_event(session: Session, build: Build, attempt: Attempt, step: str, report: Report, source: str) -> None:
    if source not in attempt.addresses:
        flag(session, build, f"event {step} came from {source}", source=source, attempt=attempt)
    if step == "built":
        apply_trigger(session, build, Trigger.BUILT)
    elif step == "failed":
        apply_trigger(session, build, Trigger.FAILED, report.message or "the installer reported a failure")
    else:
        apply_trigger(session, build, Trigger.PROGRESS)
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


def _held(session: Session, uid: str) -> tuple[Attempt, Build]:
    attempt = session.scalars(select(Attempt).where(Attempt.uid == uid)).one_or_none()
    if attempt is None or attempt.build.machine_id is None:
        raise TokenRefused(_REFUSED)
    build = lock(session, attempt.build)
    session.refresh(attempt)
    return attempt, build


def _too_late(site: Site, build: Build) -> bool:
    limit = timedelta(hours=site.settings.handoff_hours)
    return build.built_at is not None and now() - build.built_at > limit


def clip_log(text: str) -> str:
    """The last 64 KiB of an installer's log."""
    return text.encode()[-LOG_BYTES:].decode(errors="replace")
