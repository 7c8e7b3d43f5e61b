"""Passwords: argon2id with a salt each, and no more of its work at once than the host can bear."""

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from provisioner.errors import TooMany

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


def right(stored: str | None, password: str) -> bool:
    """Whether it is the password of the hash. None, for a user that does not exist, costs the same and is never right.

    A hash made with other parameters costs what they say, until its user logs in; see :func:`outdated`.
    """
    with _turns:
        try:
            return _HASHER.verify(stored or _nobodys(), password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False


def outdated(stored: str) -> bool:
    """Whether the hash was made with other parameters than those in force."""
    return _HASHER.check_needs_rehash(stored)


def _nobodys() -> str:
    """A hash with the parameters in force that no password has: its digest is chance."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (_HASHER.salt_len, _HASHER.hash_len)
    )
    cost = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v=19${cost}${salt}${digest}"
