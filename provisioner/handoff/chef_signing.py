"""Requests to a Chef server, signed as it wants them: authentication protocol 1.3 (RSA, SHA-256).

Published in Chef's documentation of the server's API (https://docs.chef.io/api_chef_server, "Authentication headers")
and by the reference implementation, mixlib-authentication.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from provisioner.errors import CredentialMissing

API_VERSION = "1"
"""Of the server's API (``X-Ops-Server-API-Version``): Chef Infra Server 12.4 and later."""
_CLIENT_VERSION = "18.0.0"
_LINE = 60


@dataclass(frozen=True)
class Requester:
    """A user or client of the server. Its key is in no text of it."""

    name: str
    key: RSAPrivateKey = field(repr=False)


def requester(name: str, pem: str, where: str) -> Requester:
    """Who signs with a private key in PEM form, which stands ``where``. Raises CredentialMissing unless it is RSA."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialMissing(
            f"the key of {name} is not an RSA private key in PEM form without a passphrase",
            where=where,
            hint="it begins with -----BEGIN RSA PRIVATE KEY-----; `chef-server-ctl add-user-key` makes another",
        )
    return Requester(name, key)


def canonical_path(path: str) -> str:
    """The path as it is signed: no repeated slash, none at the end."""
    found = re.sub("/+", "/", path)
    return found.rstrip("/") or "/"


def content_hash(body: bytes) -> str:
    """``X-Ops-Content-Hash``."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def text_to_sign(method: str, path: str, body: bytes, user: str, timestamp: str) -> str:
    """What protocol 1.3 signs of a request. ``timestamp`` is UTC, to the second: ``2026-01-31T12:00:00Z``."""
    return "\n".join(
        (
            f"Method:{method.upper()}",
            f"Path:{canonical_path(path)}",
            f"X-Ops-Content-Hash:{content_hash(body)}",
            "X-Ops-Sign:version=1.3",
            f"X-Ops-Timestamp:{timestamp}",
            f"X-Ops-UserId:{user}",
            f"X-Ops-Server-API-Version:{API_VERSION}",
        )
    )


def signature_headers(signature: bytes) -> dict[str, str]:
    """A signature in headers of 60 characters each, counted from one."""
    text = base64.b64encode(signature).decode()
    lines = (text[start : start + _LINE] for start in range(0, len(text), _LINE))
    return {f"X-Ops-Authorization-{number}": line for number, line in enumerate(lines, 1)}


def signed_headers(
    who: Requester, method: str, path: str, body: bytes = b"", *, at: datetime | None = None
) -> Mapping[str, str]:
    """All headers of a signed request for a path without its query; good for 15 minutes before and after ``at``."""
    timestamp = (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = who.key.sign(text_to_sign(method, path, body, who.name, timestamp).encode(), PKCS1v15(), SHA256())
    return {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "X-Chef-Version": _CLIENT_VERSION,
        "X-Ops-Server-API-Version": API_VERSION,
        "X-Ops-Sign": "algorithm=sha256;version=1.3;",
        "X-Ops-Userid": who.name,
        "X-Ops-Timestamp": timestamp,
        "X-Ops-Content-Hash": content_hash(body),
        **signature_headers(signature),
    }
