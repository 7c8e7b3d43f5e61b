"""The handoff of an installed machine: rounds, results, and the time that it may take."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner import handoff
from provisioner.core.lifecycle import Phase, Trigger
from provisioner.core.markers import fill
from provisioner.core.tokens import Purpose, new_uid, uid_of
from provisioner.errors import IllegalTransition, InputsChanged, InvalidInput, TokenRefused
from provisioner.services import attempts, identities, reports
from provisioner.services.arming import (
    build_secret_row,
    build_snapshot,
    find_build,
    new_credentials,
    record_build,
    sealed_handoff,
)
from provisioner.services.lives import add_event, apply_trigger, flag, has_room, lock, phase
from provisioner.services.reports import Receipt
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.handoffs import Handoff
from provisioner.store.models import Attempt, Build, Event, Secret, now

_REFUSED = "this token reports nothing here"
_LAST_LINES = 5


def retry(site: Site, actor: Actor, name: str | int) -> dict[str, Any]:
    """Hand the machine over once more, with new secrets and a new attempt for that step alone; nothing is installed.

    The machine fetches its new handoff script by itself, or at its next boot. Raises IllegalTransition unless the
    handoff failed.
    """
    with read(site.engine) as session:
        build = find_build(session, name)
        _refuse_unless_failed(build)
        number, credentials = build.id, new_credentials(site, build, build.number)
    with write(site.engine) as session:
        build = lock(session, session.get_one(Build, number))
        _refuse_unless_failed(build)
        before = build_snapshot(build)
        apply_trigger(session, build, Trigger.RETRY_HANDOFF)
        _open_round(session, site, build, credentials)
        add_event(session, build, "retry-handoff", f"by {actor.who}", source=actor.origin)
        record_build(session, actor, build, before)
        return {"id": build.id}


def _refuse_unless_failed(build: Build) -> None:
    if phase(build) is not Phase.FAILED_HANDOFF or build.machine is None:
        raise IllegalTransition(
            f"build {build.number} of {build.machine_name} is {build.state}; only a failed handoff can be retried",
            hint=f"see `provisioner build show {build.machine_name}`",
        )


def _open_round(session: Session, site: Site, build: Build, made: handoff.Credentials) -> None:
    last = build.attempts[-1] if build.attempts else None
    if last is None:
        raise InputsChanged(f"build {build.number} of {build.machine_name} has no attempt")
    for earlier in build.attempts:
        earlier.superseded = True
    session.add(
        Attempt(
            build_id=build.id,
            number=last.number + 1,
            uid=new_uid(),
            handoff_only=True,
            mac=last.mac,
            source=last.source,
            addresses=list(last.addresses),
            boot_url=last.boot_url,
            media_url=last.media_url,
        )
    )
    tool, prepared = sealed_handoff(build.sealed)
    for secret in session.scalars(select(Secret).where(Secret.build_id == build.id, Secret.name.in_(prepared.secrets))):
        secret.ciphertext = site.keys.seal(made.secrets[secret.name], build_secret_row(build.id, secret.name))
        secret.taken_attempt = secret.taken_at = None
        secret.taken_source = secret.taken_nonce = ""
    if tool != handoff.NONE:
        old = identities.current(session, build.id)
        if old is not None:
            identities.revoke(session, old)
        identities.enrol(session, identities.add(session, site.keys, build, prepared, tool, made))


def again(site: Site, presented: str, source: str) -> str:
    """The script of another round, for the machine that holds the token of the round before; empty while there is none.

    Raises TokenRefused for a token that is not genuine, a build whose handoff is over, or another address than the
    machine's (that is flagged).
    """
    uid = _uid(site, presented)
    with write(site.engine) as session:
        attempt, build = reports.held(session, uid)
        newest = max(build.attempts, key=lambda each: each.number)
        waits = phase(build) in {Phase.FAILED_HANDOFF, Phase.BUILT}
        if waits and source not in newest.addresses:
            message = f"the next handoff script was asked for from {source}, which is not this machine"
            flag(session, build, message, source=source, attempt=attempt)
            waits = False
        elif waits and (not newest.handoff_only or newest.id == attempt.id or phase(build) is not Phase.BUILT):
            return ""
        text = fill(attempts.sealed_text(session, build.id, "handoff"), attempts.marker_values(site, newest))
        if waits:
            add_event(session, build, "handoff", "the script of another round fetched", attempt=newest, source=source)
    if not waits:
        raise TokenRefused(_REFUSED)
    return text


def running(site: Site, presented: str, source: str, message: str, log: str) -> Receipt:
    """What the tool says while it runs on the machine. Raises TokenRefused unless the build waits for its handoff."""
    uid = _uid(site, presented)
    with write(site.engine) as session:
        attempt, build = reports.held(session, uid)
        if attempt.superseded or phase(build) is not Phase.BUILT:
            raise TokenRefused(_REFUSED)
        if has_room(session, build):
            add_event(session, build, "handoff-log", message, attempt=attempt, source=source, log=log)
        return Receipt(build.state)


def ready(site: Site, presented: str, source: str, address: str, host_keys: Sequence[str]) -> Receipt:
    """A machine says that it can be configured from here, and asks again and again how that goes.

    Its address and host keys are recorded once, and then it is configured. Raises TokenRefused, InvalidInput.
    """
    uid = _uid(site, presented)
    good = sorted({" ".join(key.split()[:2]) for key in host_keys if len(key.split()) >= 2})[:16]
    with write(site.engine) as session:
        attempt, build = reports.held(session, uid)
        row = identities.current(session, build.id)
        is_theirs = row is not None and handoff.tool(row.tool).pushes and not attempt.superseded
        if row is None or not is_theirs or source not in attempt.addresses:
            raise TokenRefused(_REFUSED)
        if phase(build) in {Phase.BOOTING, Phase.INSTALLING}:
            apply_trigger(session, build, Trigger.BUILT)  # the report of `built` was lost: an installed system asks
        if row.reached is None and phase(build) is Phase.BUILT:
            if not good:
                raise InvalidInput(
                    "no SSH host keys came with the report", where="host_keys", hint="TYPE BASE64, a line each"
                )
            told = address if address in attempt.addresses else source
            row.reached = {"address": told, "host_keys": good}
            identities.queue(session, row, "push")
            add_event(
                session, build, "handoff-ready", f"waits at {told} to be configured", attempt=attempt, source=source
            )
        return Receipt(build.state)


def report(site: Site, actor: Actor, build_id: int, *, ok: bool, message: str = "", log: str = "") -> dict[str, Any]:
    """The tool's own server says how a machine's first run went, where the machine cannot.

    Raises NotFound, and IllegalTransition unless the build waits for its handoff.
    """
    with write(site.engine) as session:
        build = lock(session, find_build(session, build_id))
        if phase(build) is not Phase.BUILT:
            raise IllegalTransition(
                f"build {build.number} of {build.machine_name} is {build.state}: it does not wait for its handoff",
                hint=f"see `provisioner build show {build.machine_name}`",
            )
        before = build_snapshot(build)
        conclude(session, build, good=ok, message=message or f"reported by {actor.who}", log=log, source=actor.origin)
        record_build(session, actor, build, before)
        return {"id": build.id}


def conclude(session: Session, build: Build, *, good: bool, message: str, log: str = "", source: str = "") -> None:
    """Write down how the handoff went, unless that is known already. The build's row is held."""
    if phase(build) is not Phase.BUILT:
        return
    add_event(session, build, "configured" if good else "handoff-failed", message, source=source, log=log)
    apply_trigger(session, build, Trigger.CONFIGURED if good else Trigger.FAILED, "" if good else f"handoff: {message}")


def limit(build: Build) -> timedelta | None:
    """How long after `built` this build's handoff may report; None where no tool is asked for."""
    tool, prepared = sealed_handoff(build.sealed)
    if tool == handoff.NONE:
        return None
    return timedelta(seconds=int(prepared.settings.get("timeout", handoff.DEFAULT_TIMEOUT)))


def overdue(site: Site, at: datetime | None = None) -> int:
    """Fail every build whose handoff did not confirm within its limit, with what the tool said last; how many."""
    moment = at or now()
    # Not DISTINCT over a join: PostgreSQL cannot compare JSON.
    waiting = select(Build).where(Build.state == Phase.BUILT.state, Build.id.in_(select(Handoff.build_id)))
    with read(site.engine) as session:
        late = [build.id for build in session.scalars(waiting) if _is_late(build, moment)]
    for build_id in late:
        with write(site.engine) as session:
            build = lock(session, session.get_one(Build, build_id))
            if phase(build) is Phase.BUILT and _is_late(build, moment):
                conclude(session, build, good=False, message=_why_late(session, build))
    return len(late)


def _is_late(build: Build, moment: datetime) -> bool:
    longest = limit(build)
    return longest is not None and build.built_at is not None and moment - build.built_at > longest


def _why_late(session: Session, build: Build) -> str:
    seconds = int((limit(build) or timedelta()).total_seconds())
    tool, _ = sealed_handoff(build.sealed)
    said = list(_last_words(session, build))
    ended = f"; it said last: {' | '.join(said)}" if said else "; nothing was heard of it"
    return f"{tool} did not confirm within {seconds} s{ended}"


def _last_words(session: Session, build: Build) -> Iterator[str]:
    query = (
        select(Event)
        .where(Event.build_id == build.id, Event.kind == "handoff-log", Event.at >= build.built_at)
        .order_by(Event.id.desc())
        .limit(1)
    )
    last = session.scalars(query).one_or_none()
    if last is not None:
        yield from [line for line in reports.log_of(last).splitlines() if line.strip()][-_LAST_LINES:]


def _uid(site: Site, presented: str) -> str:
    uid = uid_of(site.keys.token_key, presented, Purpose.HANDOFF)
    if uid is None:
        raise TokenRefused(_REFUSED)
    return uid
