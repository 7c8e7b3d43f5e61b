"""HTTP as firmware, curl and wget speak it: one connection a request, from the machine's own address.

On plain sockets of the event loop: a thousand machines must leave the processor to the server.
"""

import asyncio
import hashlib
import socket
from dataclasses import dataclass
from urllib.parse import quote_plus, urlsplit

_CHUNK = 1 << 17
_LONGEST_HEAD = 64 << 10
_LONGEST_TEXT = 4 << 20


class HttpError(OSError):
    """No answer: refused, reset, cut short, or too late."""


@dataclass(frozen=True)
class Reply:
    """An answer. Of a file that was only hashed ``body`` is empty."""

    status: int
    body: bytes
    size: int
    sha256: str = ""

    @property
    def ok(self) -> bool:
        """Whether the server took it (2xx)."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


async def get(source: str, url: str, *, agent: str, seconds: float, hashed: bool = False) -> Reply:
    """GET; ``hashed`` keeps only size and SHA-256 of the body. Raises HttpError."""
    return await _ask(source, "GET", url, b"", agent, seconds, hashed=hashed)


async def post(source: str, url: str, form: dict[str, str], *, agent: str, seconds: float) -> Reply:
    """POST a form. Raises HttpError."""
    body = "&".join(f"{key}={quote_plus(value)}" for key, value in form.items()).encode()
    return await _ask(source, "POST", url, body, agent, seconds, hashed=False)


async def _ask(source: str, method: str, url: str, body: bytes, agent: str, seconds: float, *, hashed: bool) -> Reply:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise HttpError(f"{url} is not an http URL")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: {agent}\r\nConnection: close\r\n"
    if method == "POST":
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
    try:
        async with asyncio.timeout(seconds):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                # So that a listener may still take the port on all addresses while we use it on one.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                connection.bind((source, 0))
                await asyncio.get_running_loop().sock_connect(connection, (parts.hostname, parts.port or 80))
                await asyncio.get_running_loop().sock_sendall(connection, f"{head}\r\n".encode() + body)
                return await _reply(connection, hashed=hashed)
    except TimeoutError as error:
        raise HttpError(f"no answer within {seconds:g} s") from error
    except HttpError:
        raise
    except OSError as error:
        raise HttpError(error.strerror or str(error)) from error


async def _reply(connection: socket.socket, *, hashed: bool) -> Reply:
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = await loop.sock_recv(connection, _LONGEST_HEAD)
        if not chunk or len(head) > _LONGEST_HEAD:
            raise HttpError("the connection ended before the answer")
        head += chunk
    head, _, begun = head.partition(b"\r\n\r\n")
    status, length = _head(head)
    if not hashed and length > _LONGEST_TEXT:
        raise HttpError(f"{length} bytes where a text was expected")
    digest = hashlib.sha256(begun)
    kept, size = [begun], len(begun)
    while size < length:
        chunk = await loop.sock_recv(connection, _CHUNK)
        if not chunk:
            raise HttpError(f"the connection ended after {size} of {length} bytes")
        size += len(chunk)
        if hashed:
            digest.update(chunk)
        else:
            kept.append(chunk)
    return Reply(status, b"" if hashed else b"".join(kept), size, digest.hexdigest() if hashed else "")


def _head(head: bytes) -> tuple[int, int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        status = int(first.split(" ")[1])
        length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    except (IndexError, ValueError, StopIteration) as error:
        raise HttpError(f"not an answer with a length: {first[:80]!r}") from error
    return status, length
