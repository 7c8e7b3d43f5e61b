"""Credentials of people and programs: a kind, an id by which it is found, and a secret.

The id is no secret and may stand in logs and lists. The secret has 256 bit from the system's source; what is kept of it
is its SHA-256, which needs no salt: nobody guesses 256 bit.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a credential is, as its text begins; so one that leaked is recognised by scanners and by people."""

    TOKEN = "pvt"  # noqa: S105 - how one begins, not one
    SESSION = "pvs"


_UID_BYTES, _SECRET_BYTES = 8, 32
_SHAPE = re.compile(r"(pvt|pvs)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True)
class Credential:
    """A credential in clear, as it is made or presented; it is never stored and never logged."""

    kind: Kind
    uid: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The form that is handed out: ``pvt_UID_SECRET``."""
        return f"{self.kind}_{self.uid}_{self.secret}"

    @property
    def digest(self) -> str:
        """What is stored of the secret."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def proves(self, stored: str | None) -> bool:
        """Whether its secret is the one that was stored; compared in constant time. None is proved by nothing."""
        return hmac.compare_digest(self.digest, stored or "") and bool(stored)


def mint(kind: Kind) -> Credential:
    """A credential that nobody has."""
    return Credential(kind, secrets.token_hex(_UID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def parse(text: object) -> Credential | None:
    """What somebody presents, or None when it is not even shaped like a credential."""
    found = _SHAPE.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else Credential(Kind(found[1]), found[2], found[3])
