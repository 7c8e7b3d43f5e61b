"""The three tokens of an attempt, derived from a key that is not in the database.

A token is the attempt's uid (22 characters, not secret) and 32 characters that prove knowledge of the key for this
uid and purpose (192 bits of HMAC-SHA256). So none is stored, a stolen database holds none, and a sealed file can be
filled with the same token each time it is fetched.
"""

import base64
import hashlib
import hmac
import re
import secrets
from enum import StrEnum

_UID_LENGTH = 22
_SHAPE = re.compile(r"^[A-Za-z0-9_-]{54}$")


class Purpose(StrEnum):
    """What a token is good for."""

    ANSWER = "answer"  # until `built`
    EVENT = "event"  # until the build ends
    HANDOFF = "handoff"  # until `configured`, or its limit


def new_uid() -> str:
    """A fresh uid of an attempt: 128 random bits as 22 characters."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")


def token(key: bytes, uid: str, purpose: Purpose) -> str:
    """The token of this attempt for this purpose."""
    proof = hmac.new(key, f"{purpose}:{uid}".encode(), hashlib.sha256).digest()[:24]
    return uid + base64.urlsafe_b64encode(proof).decode()


def uid_of(key: bytes, presented: str, purpose: Purpose) -> str | None:
    """The uid in a genuine token of this purpose, else None; compared in constant time."""
    if not _SHAPE.match(presented):
        return None
    uid = presented[:_UID_LENGTH]
    return uid if hmac.compare_digest(token(key, uid, purpose), presented) else None
