"""What Puppet's CA asks before it signs: is this request the one that a build's machine was told to make?"""

import hmac
import secrets
from enum import StrEnum
from hashlib import sha256
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.lifecycle import Phase
from provisioner.errors import KeyUnusable
from provisioner.handoff import puppet_csr
from provisioner.handoff.puppet import SECRET, Puppet, sealed_extensions
from provisioner.handoff.puppet_probe import PREFIX
from provisioner.services import identities
from provisioner.services.lives import add_event, flag, has_room, lock, phase, printable
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.handoffs import Handoff
from provisioner.store.models import Build, Counter

log = structlog.get_logger()
_ALIVE = frozenset({Phase.BOOTING, Phase.INSTALLING, Phase.BUILT})
_HEARD = "puppet-probe"
_MAC_DIGITS = 16


class Verdict(StrEnum):
    """What the CA is told. Who asks learns no reason: that is in our log and in the build's events."""

    SIGN = "sign"
    LATER = "later"
    """The request is the right one; the CA's old certificate of that name is being revoked still."""
    REFUSE = "refuse"


def autosign(site: Site, certname: str, pem: str, source: str) -> Verdict:
    """Whether the CA may sign this request, which it may once: then the identity is issued, in the same transaction.

    ``source`` is the address that asks, the CA's. Raises DatabaseUnavailable, StorageFull.
    """
    if certname.startswith(PREFIX):
        _hear(site, certname.removeprefix(PREFIX))
        return Verdict.REFUSE
    with write(site.engine) as session:
        row = _newest(session, certname)
        if row is None:
            verdict, reason = Verdict.REFUSE, "no build's machine has this name"
        else:
            build = lock(session, row.build)
            session.refresh(row)
            verdict, reason = _judge(session, site, row, build, pem)
            if verdict is Verdict.REFUSE and has_room(session, build):
                flag(session, build, f"puppet asked to sign {certname}: refused, {reason}", source=source)
    if verdict is not Verdict.SIGN:
        told = {"certname": printable(certname)[:253], "reason": printable(reason), "source": source}
        log.warning("puppet certificate not signed", verdict=str(verdict), **told)
    return verdict


def _newest(session: Session, certname: str) -> Handoff | None:
    query = select(Handoff).where(Handoff.tool == Puppet.name, Handoff.identity == certname)
    return session.scalars(query.order_by(Handoff.id.desc()).limit(1)).one_or_none()


def _judge(session: Session, site: Site, row: Handoff, build: Build, pem: str) -> tuple[Verdict, str]:
    """The verdict, and why; signing is written down here, with the key that it is for."""
    try:
        request = puppet_csr.read(pem.encode())
        challenge = identities.kept(site.keys, row).get(SECRET)
        if not challenge:
            return Verdict.REFUSE, _against_state(session, row, build) or "its challenge is not kept any more"
        reason = puppet_csr.refusal(request, row.identity, challenge, sealed_extensions(row.settings))
    except puppet_csr.Unacceptable as error:
        reason = str(error)
    except KeyUnusable as error:
        reason = f"our own record of the challenge cannot be opened: {error.message}"
    if reason:
        return Verdict.REFUSE, reason
    reason = _against_state(session, row, build)
    if reason:
        return Verdict.REFUSE, reason
    if row.state == "prepared":
        return Verdict.LATER, "whatever the CA had under this name is not revoked yet"
    identities.issue(row, request.fingerprint)
    message = f"{row.identity} at {row.tool}, for the key with SHA-256 {request.fingerprint}"
    add_event(session, build, "identity-issued", message)
    return Verdict.SIGN, ""


def _against_state(session: Session, row: Handoff, build: Build) -> str:
    """Why nothing may be signed for this build at this moment; "" where it may."""
    newest = identities.current(session, build.id)
    if build.machine_id is None:
        return "the machine was removed"
    if phase(build) not in _ALIVE:
        return f"build {build.number} is {build.state}"
    if newest is None or newest.id != row.id:
        return "another round of the handoff has begun"
    if row.state == "issued":
        return f"it was issued already, for the key with SHA-256 {row.fingerprint}"
    return "" if row.state in {"prepared", "enrolled"} else f"the identity is {row.state}"


class Echo:
    """Marks that a probe sends through a CA, to see whether the CA asks us; nobody else can make one."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def mark(self) -> str:
        """A new mark."""
        nonce = secrets.token_hex(8)
        return f"{nonce}{_mac(self._site, nonce)}"

    def heard(self, mark: str) -> bool:
        """Whether it is the one that came back last. Raises DatabaseUnavailable."""
        with read(self._site.engine) as session:
            row = session.get(Counter, _HEARD)
            return row is not None and row.text == mark


def _mac(site: Site, nonce: str) -> str:
    return hmac.new(site.keys.token_key, b"puppet probe:" + nonce.encode(), sha256).hexdigest()[:_MAC_DIGITS]


def _hear(site: Site, mark: str) -> None:
    nonce, mac = mark[:-_MAC_DIGITS], mark[-_MAC_DIGITS:]
    if not hmac.compare_digest(mac.encode(), _mac(site, nonce).encode()):
        log.warning("a probe of puppet's policy that is not ours", mark=printable(mark)[:80])
        return
    with write(site.engine) as session:
        row = session.get(Counter, _HEARD)
        if row is None:
            row = Counter(name=_HEARD)
            session.add(row)
        row.text = mark


def answer(site: Site, certname: str, pem: str, source: str) -> dict[str, Any]:
    """What the API says: the verdict and nothing else."""
    return {"verdict": str(autosign(site, certname, pem, source))}
