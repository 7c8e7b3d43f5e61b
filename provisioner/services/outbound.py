"""One POST to an address that somebody configured: where it may go, how long it may take, what is kept of the answer.

The name is resolved once, every address it has is checked, and the connection goes to one of those: an answer of DNS
that changes in between changes nothing. No proxy of the environment is used and no redirect is followed. Of the answer
only its status is kept; its body is read up to a limit and thrown away.
"""

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.webhooks import Network, Target, inert, is_allowed, refusal

SECONDS = 10.0
"""What one delivery may take, from the question to DNS to the end of the answer."""
_ANSWER_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_MOST_ADDRESSES = 4


@dataclass(frozen=True)
class Outcome:
    """What came of a POST: a status, or why there is none."""

    status: int | None = None
    error: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def answered(self) -> bool:
        """Whether a receiver is there at all."""
        return self.status is not None


def post(
    target: Target,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allowed: Sequence[Network] = (),
    ca_file: Path | None = None,
    seconds: float = SECONDS,
) -> Outcome:
    """Send the body; never raises for what the other side or the network does."""
    try:
        return _post(target, headers, body, _Deadline(seconds), allowed, ca_file)
    except _Refused as error:
        return Outcome(error=str(error))
    except TimeoutError:
        return Outcome(error=f"no whole answer within {seconds:g} s")
    except ssl.SSLCertVerificationError as error:
        return Outcome(error=_cut(f"its certificate is not trusted: {error.verify_message}"))
    except ssl.SSLError as error:
        return Outcome(error=_cut(f"TLS failed: {error.reason or 'the connection ended'}"))
    except http.client.HTTPException:
        # The error's text may quote the answer, which is nobody's business here.
        return Outcome(error="what answered does not speak HTTP")
    except OSError as error:
        return Outcome(error=_cut(error.strerror or "the connection failed"))


class _Refused(Exception):
    """The address may not be asked, or there is none."""


def _cut(text: str) -> str:
    return inert(text, 200) or ""


class _Deadline:
    """One limit for many steps: a peer that sends a byte a second resets the time-out of a socket for ever."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds left. Raises TimeoutError."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _post(
    target: Target,
    headers: Mapping[str, str],
    body: bytes,
    deadline: _Deadline,
    allowed: Sequence[Network],
    ca_file: Path | None,
) -> Outcome:
    context = ssl.create_default_context() if target.scheme == "https" else None
    if context is not None and ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError):
            raise _Refused(f"the setting webhook_ca_file names no certificates: {ca_file}") from None
    peer = _connect(_checked(target, deadline, allowed), target.port, deadline)
    try:
        if context is not None:
            peer.settimeout(deadline.left())
            peer = context.wrap_socket(peer, server_hostname=target.host)
        return _exchange(_Limited(peer, deadline), target, headers, body)
    finally:
        peer.close()


def _exchange(limited: "_Limited", target: Target, headers: Mapping[str, str], body: bytes) -> Outcome:
    connection = http.client.HTTPConnection(target.host, target.port)
    # http.client wants of a socket what this offers.
    connection.sock = limited
    connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
    sent = {"Host": target.authority, "Connection": "close", "Content-Length": str(len(body)), **headers}
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    answer.read(_ANSWER_BYTES)
    if 200 <= answer.status < 300:
        return Outcome(answer.status)
    moved = ": redirects are not followed, configure the URL that it leads to" if 300 <= answer.status < 400 else ""
    return Outcome(answer.status, f"answered {answer.status}{moved}")


def _checked(target: Target, deadline: _Deadline, allowed: Sequence[Network]) -> list[str]:
    """The addresses of the host. Raises _Refused if one of them may not be asked."""
    found = _resolve(target.host, deadline)
    for address in found:
        why = refusal(address, allowed)
        if not why and _is_ours(address) and not is_allowed(address, allowed):
            why = "this host itself"
        if why:
            raise _Refused(f"{target.host} is {address}: {why}; the setting webhook_networks can allow it")
    return found[:_MOST_ADDRESSES]


def _resolve(host: str, deadline: _Deadline) -> list[str]:
    """All addresses of a name, each once. The resolver has no time-out of its own: it is waited for from outside."""
    answers: list[list[str]] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            answers.append([])
        else:
            answers.append(list(dict.fromkeys(str(row[4][0]) for row in rows)))

    asking = threading.Thread(target=ask, name="resolve", daemon=True)
    asking.start()
    asking.join(deadline.left())
    if not answers:
        raise TimeoutError
    if not answers[0]:
        raise _Refused(f"{host[:120]} has no address")
    return answers[0]


def _is_ours(address: str) -> bool:
    """Whether an address is this host's: then it is its own source. No packet is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False  # no route: connecting will say so
        return str(probe.getsockname()[0]) == address


def _connect(addresses: Sequence[str], port: int, deadline: _Deadline) -> socket.socket:
    """A connection to the first address that takes one."""
    trouble: OSError | None = None
    for number, address in enumerate(addresses):
        # The last one may use all that is left; those before leave some of it to the others.
        left = deadline.left() / (len(addresses) - number)
        try:
            peer = socket.create_connection((address, port), timeout=left)
        except OSError as error:
            trouble = error
        else:
            # Head and body go separately; the second must not wait for the first to be acknowledged.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return peer
    raise trouble or OSError("no address")


class _Limited:
    """A socket for http.client whose every step is within the deadline, and whose answer is within a limit."""

    def __init__(self, peer: socket.socket, deadline: _Deadline) -> None:
        self._peer, self._deadline = peer, deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._peer.settimeout(self._deadline.left())
            rest = rest[self._peer.send(rest) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._peer, self._deadline))

    def close(self) -> None:
        """The caller closes the socket."""


class _Answer(io.RawIOBase):
    """The bytes that come back."""

    def __init__(self, peer: socket.socket, deadline: _Deadline) -> None:
        self._peer, self._deadline, self._left = peer, deadline, _READ_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        if self._left <= 0:
            raise http.client.HTTPException
        self._peer.settimeout(self._deadline.left())
        count = self._peer.recv_into(buffer)
        self._left -= count
        return count
