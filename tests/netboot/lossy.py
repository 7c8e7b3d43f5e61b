"""A UDP proxy that loses, copies, delays and reorders datagrams, the same way for the same seed.

It stands between any TFTP client and a server. The client sees another port for each port that the server answers
from, as it would without the proxy; with ``nat`` it sees the one it asked alone, as behind address translation that
lets in answers from that port and no other.
"""

import heapq
import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Address = tuple[str, int]
_NAMES = {1: "rrq", 3: "data", 4: "ack", 5: "error", 6: "oack"}


@dataclass
class Weather:
    """Chances, each of one datagram: to be lost, to come twice, to be held back for up to ``most_late`` seconds."""

    loss: float = 0.0
    copies: float = 0.0
    late: float = 0.0
    most_late: float = 0.03
    spared: int = 0  # of a client's datagrams on either way this many pass at once and unharmed

    def fates(self, rng: random.Random, number: int) -> list[float]:
        """The delay of each copy of the way's datagram of this number, from 0."""
        if number < self.spared:
            return [0.0]
        lost, copied = rng.random() < self.loss, rng.random() < self.copies
        delays = [rng.uniform(0.0, self.most_late) if rng.random() < self.late else 0.0 for _ in range(1 + copied)]
        return [] if lost else delays


@dataclass
class _Client:
    """One client port: what we send to the server from, and what each of the server's ports looks like to it."""

    address: Address
    upstream: socket.socket
    out: random.Random
    back: random.Random
    passed: Counter[str] = field(default_factory=Counter)
    faces: dict[int, socket.socket] = field(default_factory=dict)


class Proxy:
    """See the module. ``seen`` counts what came in (``data back``), ``lost`` what got no further."""

    def __init__(self, server: Address, weather: Weather, seed: int, *, nat: bool = False) -> None:
        self.seen: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._server, self._weather, self._seed, self._nat = server, weather, seed, nat
        self._selector = selectors.DefaultSelector()
        self._door = self._open(None)
        self._clients: dict[Address, _Client] = {}
        self._held: list[tuple[float, int, socket.socket, bytes, Address]] = []
        self._serial = 0
        self._stop = False

    @property
    def address(self) -> Address:
        host, port = self._door.getsockname()[:2]
        return host, port

    def stop(self) -> None:
        self._stop = True

    def serve(self) -> None:
        """Pass on until `stop` is called."""
        try:
            while not self._stop:
                pause = 0.05 if not self._held else min(0.05, max(0.0, self._held[0][0] - time.monotonic()))
                for key, _ in self._selector.select(pause):
                    self._drain(key.fileobj, key.data)  # type: ignore[arg-type]
                while self._held and self._held[0][0] <= time.monotonic():
                    _, _, sock, raw, to = heapq.heappop(self._held)
                    _send(sock, raw, to)
        finally:
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
            self._selector.close()

    def _open(self, data: tuple[_Client, int | None] | None) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, data)
        return sock

    def _drain(self, sock: socket.socket, data: tuple[_Client, int | None] | None) -> None:
        with suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                raw, sender = sock.recvfrom(70000)
                if data is None:
                    client = self._clients.get(sender) or self._meet(sender)
                    self._forward(client.upstream, raw, self._server, client, "out")
                elif data[1] is None:
                    self._to_client(data[0], raw, sender)
                else:
                    client, port = data[0], data[1]
                    self._forward(client.upstream, raw, (self._server[0], port), client, "out")

    def _meet(self, address: Address) -> _Client:
        number = f"{self._seed}/{len(self._clients)}"
        rngs = random.Random(f"{number}/out"), random.Random(f"{number}/back")
        client = _Client(address, self._door, *rngs)
        client.upstream = self._open((client, None))
        self._clients[address] = client
        return client

    def _to_client(self, client: _Client, raw: bytes, sender: Address) -> None:
        if sender[1] == self._server[1]:
            face = self._door
        elif self._nat:
            self.lost["translated"] += 1
            return
        elif (known := client.faces.get(sender[1])) is not None:
            face = known
        else:
            face = client.faces[sender[1]] = self._open((client, sender[1]))
        self._forward(face, raw, client.address, client, "back")

    def _forward(self, sock: socket.socket, raw: bytes, to: Address, client: _Client, way: str) -> None:
        kind = f"{_NAMES.get(struct.unpack('!H', raw[:2])[0], 'other')} {way}" if len(raw) > 1 else "other"
        self.seen[kind] += 1
        fates = self._weather.fates(client.out if way == "out" else client.back, client.passed[way])
        client.passed[way] += 1
        if not fates:
            self.lost[kind] += 1
        for delay in fates:
            if delay:
                self._serial += 1
                heapq.heappush(self._held, (time.monotonic() + delay, self._serial, sock, raw, to))
            else:
                _send(sock, raw, to)


def _send(sock: socket.socket, raw: bytes, to: Address) -> None:
    with suppress(OSError):  # a port that is closed, a buffer that is full: lost
        sock.sendto(raw, to)


@contextmanager
def lossy(server: Address, weather: Weather, seed: int, *, nat: bool = False) -> Iterator[Proxy]:
    """A proxy to this server, in a thread of its own."""
    proxy = Proxy(server, weather, seed, nat=nat)
    thread = threading.Thread(target=proxy.serve, name="lossy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(20)
    assert not thread.is_alive()
