"""What an answer means, and what stands in the way of one, as the errors that a command shows."""

import http.client
import json
import ssl
from http import HTTPStatus
from typing import Any

from provisioner import errors
from provisioner.cli.client.server import CA, FINGERPRINT, TOKEN, URL, Server
from provisioner.errors import NotFound, NotLoggedIn, NotProvisioner, ProvisionerError, Unreachable, Untrusted

_FRAME = frozenset({"type", "title", "status", "pointer", "code", "detail", "hint", "where"})
_NO_SUCH_ROUTE = "The requested URL was not found"


def answer(server: Server, response: http.client.HTTPResponse, content: bytes) -> Any:
    """The answer's JSON, None where it has no content. Raises the server's error, or NotProvisioner."""
    status = response.status
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        place = response.headers.get("Location", "nowhere")[:200]
        raise NotProvisioner(
            f"{server.url} redirects to {place}; the credential is not sent there",
            where=URL,
            hint=f"if you trust it, set {URL} to that place",
        )
    if status == HTTPStatus.NO_CONTENT:
        return None
    kind = response.headers.get_content_type()
    try:
        data = json.loads(content) if kind == "application/json" or kind.endswith("+json") else None
    except (ValueError, RecursionError):
        data = None
    if status < HTTPStatus.MULTIPLE_CHOICES and data is not None:
        return data
    if not isinstance(data, dict) or not {"code", "detail"} <= set(data):
        raise NotProvisioner(
            f"{server.url} does not answer as Provisioner does ({status} {response.reason}, {kind})",
            where=URL,
            hint=f"{URL} is the server's admin plane, such as https://HOST:8443; is another program there, or a proxy?",
        )
    raise problem(server, status, data)


def problem(server: Server, status: int, data: dict[str, Any]) -> ProvisionerError:
    """The error that a problem+json tells, the same as if it had happened here."""
    said = {key: str(data.get(key) or "") for key in ("code", "detail", "hint", "where")}
    if status == HTTPStatus.NOT_FOUND and said["detail"].startswith(_NO_SUCH_ROUTE):
        return NotProvisioner(
            f"{server.url} does not know this request",
            where=URL,
            hint=f"{URL} is the server's admin plane, such as https://HOST:8443; or it runs another version",
        )
    if status == HTTPStatus.UNAUTHORIZED:
        hint = f"check {TOKEN}: mistyped, expired or revoked; an administrator makes one: `provisioner token add NAME`"
        return NotLoggedIn(f"{server.url} does not take this token", where=TOKEN, hint=hint)
    kind = _TREE.get(said["code"]) or _by_status(status)
    # The place is said beside the message here.
    error = kind(said["detail"].removeprefix(f"{said['where']}: "), hint=said["hint"], where=said["where"])
    error.details = {key: value for key, value in data.items() if key not in _FRAME}
    return error


def _all(root: type[ProvisionerError]) -> dict[str, type[ProvisionerError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _all(child)
    return found


_TREE = _all(errors.ProvisionerError)


def _by_status(status: int) -> type[ProvisionerError]:
    """For a code that this version does not know."""
    kinds: dict[int, type[ProvisionerError]] = {
        404: NotFound,
        409: errors.Conflict,
        412: errors.Stale,
        429: errors.TooMany,
        503: errors.Unavailable,
    }
    return kinds.get(status, errors.InvalidInput if status < HTTPStatus.INTERNAL_SERVER_ERROR else ProvisionerError)


def no_connection(server: Server, error: Exception) -> ProvisionerError:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(
            f"the certificate of {server.url} cannot be trusted: {error.verify_message}",
            where=CA if server.ca else URL,
            hint=f"is it the server's own? set {FINGERPRINT} to the SHA-256 that `provisioner init` printed there; "
            f"else {CA} to a PEM file with its authority",
        )
    if isinstance(error, ssl.SSLError):
        return Unreachable(
            f"{server.url} does not speak TLS: {error.reason or error}", where=URL, hint="with `tls: off` it is http://"
        )
    return Unreachable(
        f"{server.url} cannot be reached: {_reason(error)}",
        where=URL,
        hint="check host and port (8443 unless set otherwise), the network, and that `provisioner serve` runs there",
    )


def no_answer(server: Server, error: Exception, *, changes: bool) -> ProvisionerError:
    """Why a request got no answer; a change may have happened all the same."""
    words = f"{server.url} gave no answer: {_reason(error)}"
    if not server.tls and isinstance(error, http.client.HTTPException | ConnectionError):
        hint = "does it speak TLS, as is usual? then write https://"
    else:
        hint = "see the server's log, and `provisioner check` there"
    if changes:
        hint += "; the change may have been made: look before you repeat it"
    return Unreachable(words, where=URL, hint=hint)


def other_certificate(server: Server, shown: bytes) -> ProvisionerError:
    """A server that is not the one whose fingerprint was pinned."""
    return Untrusted(
        f"{server.url} shows another certificate, SHA-256 {shown.hex(':').upper()}",
        where=FINGERPRINT,
        hint="nothing was sent to it. If its certificate was replaced, compare with what `provisioner init` prints "
        f"on the server, then set {FINGERPRINT}; else somebody stands in between",
    )


def unusable_ca(server: Server, error: Exception) -> ProvisionerError:
    """A file of certificates that is none."""
    return errors.InvalidSettings(
        f"{server.ca} holds no certificates: {_reason(error)}", where=CA, hint="name a PEM file"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no sign of it within the time limit"
    if isinstance(error, http.client.IncompleteRead):
        return "its answer broke off"
    return str(getattr(error, "strerror", "") or error or type(error).__name__)
