"""What an attempt may do with its tokens: fetch its sealed files, unwrap its secrets, report."""

import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.orm import Session

from provisioner.core.lifecycle import Phase, Trigger
from provisioner.core.markers import fill, fill_secrets, secrets_in
from provisioner.core.tokens import Purpose, token, uid_of
from provisioner.errors import DatabaseUnavailable, NotFound, ProvisionerError, SecretGone, StorageFull, TokenRefused
from provisioner.services import lastgood, looks, reports, spool
from provisioner.services.arming import build_secret_row, sealed_handoff
from provisioner.services.lives import advance, note, raise_flag
from provisioner.services.looks import BUILD, SECRET, AttemptSeen, Held
from provisioner.services.site import Site
from provisioner.store.engine import glance, together
from provisioner.store.models import Attempt, SealedFile, now

SAME_UNWRAP_SECONDS = 60
_NONCE_CHARACTERS = 64
_BY_FETCH = "answer"
"""The nonce of a secret that went out inside the answer: who fetches that cannot choose one."""
_REFUSED = "this token opens nothing here"
_SECRET = select(SECRET).where(SECRET.c.build_id == bindparam("build"), SECRET.c.name == bindparam("secret"))
_TAKE = update(SECRET).where(SECRET.c.id == bindparam("secret"))


@dataclass(frozen=True)
class Fetched:
    """A sealed file, filled for this attempt."""

    name: str
    text: str


def fetch(site: Site, presented: str, name: str, source: str, *, peek: bool = False) -> Fetched:
    """A sealed file for the machine that holds this answer token. ``peek`` (HTTP HEAD) takes no secret.

    An answer with secrets in it (Ignition, ESXi) is an unwrap: it goes out once in each attempt, to the same source
    again within a minute.

    Raises TokenRefused for a token that is not genuine, superseded, past `built` or its hours, or used from an address
    the attempt is not bound to (that is flagged); NotFound for a file that this build does not have; for an answer with
    secrets also what `unwrap` raises, and DatabaseUnavailable, since no secret goes out without its record.
    """
    uid = uid_of(site.keys.token_key, presented, Purpose.ANSWER)
    if uid is None:
        raise TokenRefused(_REFUSED)
    try:
        if spool.pending(site):
            reports.catch_up(site)
        with glance(site.engine) as connection:
            held = looks.held(connection, uid, name)
        if held is None:
            raise TokenRefused(_REFUSED)
        attempt = held.attempt
        _check_answer(site, attempt, held.build.phase)
        sealed = looks.text_of(held.file, name)
        wanted = secrets_in(sealed)
        if source not in attempt.addresses and (peek or not wanted):
            _stolen(site, uid, source, f"the {name} file")
        text = fill(sealed, marker_values(site, attempt))
    except (DatabaseUnavailable, StorageFull):
        return _without_database(site, uid, name, source)
    if wanted and not peek:
        text = fill_secrets(text, _unwrap_all(site, uid, wanted, _BY_FETCH, source))
    _fetched(site, uid, held, name, source)
    return Fetched(name, text)


def unwrap(site: Site, presented: str, name: str, nonce: str, source: str) -> str:
    """The secret in clear, once in each attempt; the same source and nonce within a minute get it again.

    A token of an attempt that is for the handoff alone opens this build's secrets for the handoff.

    Raises TokenRefused, NotFound, KeyUnusable, or SecretGone: then somebody else asked too, the machine is flagged and
    the build stopped.
    """
    key = site.keys.token_key
    uid, again = uid_of(key, presented, Purpose.ANSWER), uid_of(key, presented, Purpose.HANDOFF)
    if (uid is None and again is None) or not nonce or len(nonce) > _NONCE_CHARACTERS:
        raise TokenRefused(_REFUSED)
    if spool.pending(site):
        reports.catch_up(site)
    return _unwrap_all(site, uid or again or "", (name,), nonce, source, round_of=uid is None)[name]


def _unwrap_all(
    site: Site, uid: str, names: Sequence[str], nonce: str, source: str, *, round_of: bool = False
) -> dict[str, str]:
    """The secrets by name, taken in one transaction; or the error of the first that is refused is raised."""

    def job(connection: Connection) -> dict[str, str] | ProvisionerError:
        # What a refusal leaves in the database is committed: it is returned, not raised.
        held = looks.held(connection, uid)
        if held is None:
            raise TokenRefused(_REFUSED)
        taken: dict[str, str] = {}
        for name in names:
            secret = connection.execute(_SECRET, {"build": held.build.id, "secret": name}).one_or_none()
            try:
                if round_of:
                    _check_round(connection, held, name)
                else:
                    _check_answer(site, held.attempt, held.build.phase)
            except TokenRefused as error:
                return error
            outcome = _unwrap(connection, site, held, secret, nonce, source)
            if isinstance(outcome, ProvisionerError):
                return outcome
            taken[name] = outcome
        return taken

    outcome = together(site.engine, job)
    if isinstance(outcome, SecretGone):
        lastgood.forget(site, uid)
    if isinstance(outcome, ProvisionerError):
        raise outcome
    return outcome


def _unwrap(
    connection: Connection, site: Site, held: Held, secret: Any, nonce: str, source: str
) -> str | ProvisionerError:
    """The value, or the error to raise once what it left in the database is committed."""
    build, attempt = held.build, held.attempt
    taken = secret is not None and secret.taken_attempt == attempt.id
    if source not in attempt.addresses and not taken:
        raise_flag(connection, build, f"an unwrap was tried from {source}, which is not this machine", source=source)
        return TokenRefused(_REFUSED)
    if secret is None:
        return NotFound("this build has no such secret")
    if taken and not _same_unwrap(secret, nonce, source):
        message = f"secret {secret.name} was asked for again, from {source}: possible interception"
        raise_flag(connection, build, message, source=source, attempt=attempt)
        advance(connection, build, held.machine_state, Trigger.STOP, message)
        return SecretGone("this secret was taken already")
    value = site.keys.open(secret.ciphertext, build_secret_row(build.id, secret.name))
    if not taken:
        took = {"taken_attempt": attempt.id, "taken_at": now(), "taken_source": source, "taken_nonce": nonce}
        connection.execute(_TAKE, {"secret": secret.id, **took})
        note(connection, build, "secret", f"{secret.name} unwrapped", attempt=attempt, source=source)
    return value


def _same_unwrap(secret: Any, nonce: str, source: str) -> bool:
    """Replies get lost: the same question from the same place shortly after is the same unwrap."""
    return (
        secret.taken_at is not None
        and now() - secret.taken_at < timedelta(seconds=SAME_UNWRAP_SECONDS)
        and secret.taken_source == source
        and hmac.compare_digest(secret.taken_nonce.encode(), nonce.encode())
    )


def sealed_text(session: Session, build_id: int, name: str) -> str:
    """A sealed file of the build, markers unfilled. Raises NotFound."""
    content = session.scalar(select(SealedFile.content).where(SealedFile.build_id == build_id, SealedFile.name == name))
    if content is None:
        raise NotFound(f"this build has no file {name!r}")
    return zlib.decompress(content).decode()


def marker_values(site: Site, attempt: Attempt | AttemptSeen | lastgood.Kept) -> dict[str, str]:
    """What the markers stand for in this attempt."""
    key, uid = site.keys.token_key, attempt.uid
    return {
        "boot_url": attempt.boot_url,
        "media_url": attempt.media_url,
        "answer_token": token(key, uid, Purpose.ANSWER),
        "event_token": token(key, uid, Purpose.EVENT),
        "handoff_token": token(key, uid, Purpose.HANDOFF),
    }


def _check_answer(site: Site, attempt: AttemptSeen, build: Phase) -> None:
    young = now() - attempt.opened_at < timedelta(hours=site.settings.answer_hours)
    if attempt.superseded or not young or build not in {Phase.BOOTING, Phase.INSTALLING}:
        raise TokenRefused(_REFUSED)


def _check_round(connection: Connection, held: Held, name: str) -> None:
    attempt, build = held.attempt, held.build
    sealed = connection.execute(select(BUILD.c.sealed).where(BUILD.c.id == build.id)).scalar_one()
    of_handoff = name in sealed_handoff(sealed)[1].secrets
    if attempt.superseded or not attempt.handoff_only or not of_handoff or build.phase is not Phase.BUILT:
        raise TokenRefused(_REFUSED)


def _stolen(site: Site, uid: str, source: str, what: str) -> None:
    def job(connection: Connection) -> None:
        held = looks.held(connection, uid)
        if held is not None:
            message = f"{what} was asked for from {source}, which is not this machine: the token leaked"
            raise_flag(connection, held.build, message, source=source, attempt=held.attempt)

    together(site.engine, job)
    raise TokenRefused(_REFUSED)


def _fetched(site: Site, uid: str, seen: Held, name: str, source: str) -> None:
    """Note the fetch; the answer goes out even if that cannot be written."""

    def job(connection: Connection) -> None:
        # A build that installs already takes nothing from another fetch; any other may have moved on meanwhile.
        held = seen if seen.build.phase is Phase.INSTALLING else looks.held(connection, uid)
        if held is None:
            raise TokenRefused(_REFUSED)
        if held.build.phase is Phase.BOOTING:
            advance(connection, held.build, held.machine_state, Trigger.PROGRESS)
        kind = "answer" if name in {"answer", "user-data"} else name
        note(connection, held.build, kind, f"{name} fetched", attempt=held.attempt, source=source)

    try:
        together(site.engine, job)
    except (DatabaseUnavailable, StorageFull):
        return


def _without_database(site: Site, uid: str, name: str, source: str) -> Fetched:
    kept = lastgood.recall(site, uid)
    if kept is None or source not in kept.addresses or name not in kept.files:
        raise TokenRefused(_REFUSED)
    if secrets_in(kept.files[name]):
        raise DatabaseUnavailable("this answer has secrets in it, which need the database", hint="ask again")
    return Fetched(name, fill(kept.files[name], marker_values(site, kept)))
