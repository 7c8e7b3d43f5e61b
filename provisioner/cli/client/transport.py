"""HTTP as the API speaks it: one connection that is kept open, verified before the credential is sent on it.

Redirects are not followed: the credential goes to the server that the environment names and to no other. Proxies of the
environment are not used.
"""

import hashlib
import hmac
import http.client
import json
import select
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from provisioner import __version__
from provisioner.cli.client import failures
from provisioner.cli.client.protocol import MOST
from provisioner.cli.client.server import Server
from provisioner.core.parameters import check_plain
from provisioner.errors import ProvisionerError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
BATCH_SECONDS = 900.0
FETCH_SECONDS = 3600.0
"""For what makes the server fetch files first."""
_LARGEST = 256 << 20
_PIECE = 1 << 16
_SAFE = frozenset({"GET", "HEAD"})


class _Pinned(http.client.HTTPSConnection):
    """TLS to the one certificate with this fingerprint, whoever signed it."""

    def __init__(self, server: Server) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__(server.host, server.port, timeout=CONNECT_SECONDS, context=context)
        self._server = server

    def connect(self) -> None:
        super().connect()
        shown = hashlib.sha256(self.sock.getpeercert(binary_form=True) or b"").digest()
        if not hmac.compare_digest(shown, self._server.fingerprint):
            self.close()
            raise failures.other_certificate(self._server, shown)


def new_connection(server: Server) -> http.client.HTTPConnection:
    """A connection, not opened yet. Raises Untrusted for an authority that cannot be read."""
    if not server.tls:
        return http.client.HTTPConnection(server.host, server.port, timeout=CONNECT_SECONDS)
    if server.fingerprint:
        return _Pinned(server)
    try:
        context = ssl.create_default_context(cafile=server.ca)
    except OSError as error:
        raise failures.unusable_ca(server, error) from error
    return http.client.HTTPSConnection(server.host, server.port, timeout=CONNECT_SECONDS, context=context)


@dataclass
class Wire:
    """The connection to a server, opened when it is first needed and again when the server closed it."""

    server: Server
    _open: http.client.HTTPConnection | None = None

    def exchange(
        self, method: str, path: str, headers: Mapping[str, bytes], body: bytes | None, seconds: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request and its answer. Raises Unreachable, Untrusted."""
        if self._open is not None and _closed(self._open):
            self.close()
        reused = self._open is not None
        try:
            return self._once(method, path, headers, body, seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            lost = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
            if not (reused and lost and method in _SAFE):
                raise failures.no_answer(self.server, error, changes=method not in _SAFE) from error
        try:
            return self._once(method, path, headers, body, seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise failures.no_answer(self.server, error, changes=False) from error

    def connect(self) -> http.client.HTTPConnection:
        """The connection, opened unless it is open; nothing is sent. Raises Unreachable, Untrusted."""
        if self._open is None:
            opening = new_connection(self.server)
            try:
                opening.connect()
            except (OSError, http.client.HTTPException) as error:
                opening.close()
                raise failures.no_connection(self.server, error) from error
            self._open = opening
        return self._open

    def _once(
        self, method: str, path: str, headers: Mapping[str, bytes], body: bytes | None, seconds: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self.connect()
        connection.sock.settimeout(seconds)
        connection.putrequest(method, self.server.prefix + path)
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None or method not in _SAFE:
            connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body)
        response = connection.getresponse()
        content = _read(response, time.monotonic() + seconds)
        if response.will_close:
            self.close()
        return response, content

    def close(self) -> None:
        """End the connection."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the server closed the connection while it was idle: a change must not be sent into nowhere."""
    # Whatever can be read before a request was sent is an end of file, or nothing that belongs to us.
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST:
            raise http.client.HTTPException(f"the answer is larger than {_LARGEST >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # read1() does not notice the end by itself, and the connection would not take another request.
    response.close()
    return b"".join(pieces)


@dataclass(frozen=True)
class Api:
    """The API: requests of JSON, answers of JSON, errors as ours."""

    wire: Wire
    headers: Mapping[str, bytes] = field(default_factory=dict)
    reached: list[dict[str, Any]] | None = None
    """Of a rehearsal: what each of its changes would do to machines."""

    @classmethod
    def at(cls, server: Server, reason: str = "") -> "Api":
        """The API of a server; ``reason`` goes into the history with every change."""
        headers = {
            "Authorization": f"Bearer {server.token}".encode("ascii"),
            "Accept": b"application/json",
            "User-Agent": f"provisioner/{__version__}".encode("ascii"),
        }
        if reason:
            # On one line, as a header must be; the server reads it as UTF-8.
            headers["X-Reason"] = " ".join(reason.split()).encode(errors="replace")
        return cls(Wire(server), headers)

    def rehearsing(self) -> "Api":
        """The same connection; the server takes every change back."""
        return replace(self, headers={**self.headers, "X-Dry-Run": b"true"}, reached=[])

    def get(self, path: str, **query: Any) -> Any:
        """The object at the path, below ``/api/v1``; parameters of None are left out."""
        return self.ask("GET", path, query=query)

    def change(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        expect: str | None = "",
        seconds: float = ANSWER_SECONDS,
    ) -> Any:
        """A change; ``expect`` is the revision that it is made for, None whatever it is by now, "" for no object."""
        return self.ask(method, path, body=body, expect=expect, seconds=seconds)

    def pages(self, path: str, rows: str = "items", **query: Any) -> Iterator[list[dict[str, Any]]]:
        """A list, page by page; ``rows`` is what it calls them."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=MOST, cursor=cursor, **query)
            yield page[rows]
            cursor = page["next"]
            if cursor is None:
                return

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        expect: str | None = "",
        seconds: float = ANSWER_SECONDS,
    ) -> Any:
        """One request. Raises the error that the server answers with, or says what stands in the way."""
        headers = dict(self.headers)
        if body is not None:
            headers["Content-Type"] = b"application/json"
        if expect != "":
            headers["If-Match"] = b"*" if expect is None else f'"{expect}"'.encode()
        given = {key: _text(value) for key, value in (query or {}).items() if value is not None}
        whole = f"{path}?{urlencode(given)}" if given else path
        if self.reached is not None:
            seconds = max(seconds, BATCH_SECONDS)  # every machine may be rendered
        response, content = self.wire.exchange(method, whole, headers, None if body is None else _json(body), seconds)
        try:
            answer = failures.answer(self.wire.server, response, content)
        except ProvisionerError as error:
            told = error.details.pop("radius", None)
            if self.reached is not None and told is not None:
                self.reached.append(told)
            raise
        if self.reached is not None and isinstance(answer, dict):
            told = answer.pop("radius", None)
            self.reached.extend([] if told is None else [told])
        return answer


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(body: Mapping[str, Any]) -> bytes:
    for name, value in body.items():
        check_plain(value, name)
    return json.dumps(body, allow_nan=False).encode()
