"""Clients that take their time, many at once: they open and say nothing, drip a request, or never read an answer."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conftest import wait_for

HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000))
BODY = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\n" + b" " * 1000
CHUNKS = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000
UPLOAD = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 40000000\r\n\r\n" + b" " * 1000


@dataclass
class Client:
    """One slow client: what it sends at once, and what it drips."""

    sock: socket.socket
    kind: str
    at_once: bytes = b""
    drips: bytes = b""
    reads: bool = True
    sent: int = 0
    heard: bytes = b""
    ended: bool = False


@dataclass
class Crowd:
    """Slow clients, kept going by a thread."""

    clients: list[Client] = field(default_factory=list)
    paused: bool = False
    _over: threading.Event = field(default_factory=threading.Event)

    def join(self, address: tuple[str, int], kind: str, *, tls: bool = False, **said: bytes | bool) -> Client:
        """One more, connected; by TLS it takes any certificate."""
        sock = socket.create_connection(address, timeout=30)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            sock = context.wrap_socket(sock)
        client = Client(sock, kind, **said)  # type: ignore[arg-type]
        if not client.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(client.at_once)
        sock.setblocking(False)
        self.clients.append(client)
        return client

    def there(self) -> int:
        """How many the server has not ended."""
        return sum(not each.ended for each in self.clients)

    def run(self) -> None:
        """Drip, and hear what comes, until it is over."""
        while not self._over.wait(0.05):
            for each in self.clients:
                if not each.ended:
                    self._step(each)

    def _step(self, client: Client) -> None:
        try:
            if client.sent < len(client.drips) and not self.paused:
                client.sent += client.sock.send(client.drips[client.sent : client.sent + 1])
            if client.reads:
                data = client.sock.recv(65536)
                client.heard += data
                client.ended = not data
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            client.ended = True


@contextmanager
def crowd() -> Iterator[Crowd]:
    """A crowd that goes home at the end."""
    slow = Crowd()
    thread = threading.Thread(target=slow.run)
    thread.start()
    try:
        yield slow
    finally:
        slow._over.set()
        thread.join()
        for each in slow.clients:
            each.sock.close()


def honest(ask: Callable[[], bool], times: int = 20) -> None:
    """Ask so often, each answered."""
    for _ in range(times):
        assert ask()


def connected(port: int, at_least: int) -> None:
    """Wait until the kernel says that so many connections to the port are established at the server's side."""

    def count() -> bool:
        wanted = f":{port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(wanted) and row[3] == "01" for row in rows) >= at_least

    wait_for(count, 30, f"{at_least} connections to port {port}")
