"""Passwords: argon2id with a salt each, and no more of its work at once than the host can bear.

Hashes that other systems made are verified as what they are until their user logs in, and are then made anew. That
would tell by time who has one; so each comparison does the work of every kind of hash that is stored at that moment,
be it for nothing.
"""

import base64
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from provisioner.core import crypthashes
from provisioner.errors import InvalidInput, TooMany
from provisioner.services import libcrypt

# RFC 9106's second choice: 64 MiB and a tenth of a second each.
_HASHER = PasswordHasher()
# The admin plane's threads are few: those who wait for their turn here must not hold all of them.
_AT_ONCE, _ADMITTED = 2, 6
_turns = threading.BoundedSemaphore(_AT_ONCE)
_places = threading.BoundedSemaphore(_ADMITTED)


def made() -> str:
    """A password nobody knows: 120 bit, of letters, digits, hyphens and underscores."""
    return secrets.token_urlsafe(15)


def hashed(password: str) -> str:
    """The hash to store, with a salt of its own."""
    return _HASHER.hash(password)


@contextmanager
def place() -> Iterator[None]:
    """One of the few places of those who log in at this moment, in this process. Raises TooMany when all are taken."""
    if not _places.acquire(blocking=False):
        raise TooMany("many log in at this moment", retry_after=1)
    try:
        yield
    finally:
        _places.release()


def imported(value: object) -> str:
    """A hash that another system made, to be stored until its user logs in. Raises InvalidInput, without the hash."""
    stored = crypthashes.imported(value)
    begins = crypthashes.work(stored) or ""
    if not crypthashes.is_argon2(begins) and not libcrypt.can(begins):
        raise InvalidInput(
            f"this host's crypt library does not know hashes that begin with {begins[:3]}",
            where="password_hash",
            hint="set a password instead: `provisioner user password NAME`",
        )
    return stored


def right(stored: str | None, password: str, among: Collection[str] = ()) -> bool:
    """Whether it is the password of the hash. None, for a user that does not exist, costs the same and is never right.

    ``among`` are the hashes that users have (:func:`outdated` ones will do): see this module's text.
    """
    own = None if stored is None else _begins(stored)
    found = False
    with _turns:
        for begins in sorted({_in_force(), *filter(None, map(_begins, among)), *filter(None, [own])}):
            if stored is not None and begins == own:
                found = _verifies(stored, password)
            else:
                _spend(begins, password)
    return found


def outdated(stored: str) -> bool:
    """Whether the hash was made otherwise than new ones are."""
    return not stored.startswith(_in_force())


def _begins(stored: str) -> str | None:
    """Kind and cost; None for what is no hash."""
    return _in_force() if not outdated(stored) else crypthashes.work(stored)


def _in_force() -> str:
    return f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}$"


def _verifies(stored: str, password: str) -> bool:
    if not crypthashes.is_argon2(stored):
        return libcrypt.verifies(stored, password)
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _spend(begins: str, password: str) -> None:
    """The work of such a hash, for nothing."""
    if not crypthashes.is_argon2(begins):
        libcrypt.spend(begins, password)
        return
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (_HASHER.salt_len, _HASHER.hash_len)
    )
    # No password has it: its digest is chance.
    _verifies(f"{begins}{salt}${digest}", password)
