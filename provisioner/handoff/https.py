"""One request to a tool's server: verified, bounded in time and size, following no redirect."""

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provisioner.errors import HandoffUnreachable

_SECONDS = 30.0
_ANSWER_BYTES = 4 << 20


@dataclass(frozen=True)
class Trust:
    """Whom to believe and who we are. Nothing is ever sent over an unverified connection."""

    ca: Path | None = None
    """A file of certificates that the server's is checked against; None: the well-known ones."""
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def said(self) -> str:
        """The beginning of the body, on one line, for an error message."""
        return " ".join(self.body[:300].decode(errors="replace").split())


def ask(
    method: str,
    url: str,
    trust: Trust,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
) -> Reply:
    """Send one request to an ``https`` URL. Raises HandoffUnreachable: no answer, or a certificate we do not trust."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise HandoffUnreachable(f"{url[:200]} is not an https URL", hint="tools' servers are asked over HTTPS alone")
    where = f"{parts.hostname}:{parts.port or 443}"
    try:
        context = ssl.create_default_context(cafile=str(trust.ca) if trust.ca else None)
        # Python 3.13 asks for extensions that certificates of a server's own making often lack; who they are trusted by
        # is the same.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if trust.certificate is not None:
            context.load_cert_chain(str(trust.certificate), str(trust.key) if trust.key else None)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=context)
        try:
            target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(_ANSWER_BYTES))
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        raise HandoffUnreachable(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            hint="nothing was sent; check the CA certificate that the profile's handoff names",
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HandoffUnreachable(f"{where} gives no answer: {error}") from error
