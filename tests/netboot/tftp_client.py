"""A small TFTP client that can misbehave, and a server to try it on, all over real sockets on loopback."""

import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pytest

from provisioner.netboot.tftp import Content, Limits, Request, Resolve, TftpServer, Transfer

PATIENCE = 60.0

CALM = Limits(
    first_resend=60.0, least_resend=60.0, resend_cap=60.0, source_rate=1e9, source_burst=1e9, rate=1e9, burst=1e9
)
"""Loopback loses nothing, so a server that sends again only shows that the machine is busy: by default it does not.

Nor does it cap what it sends: most tests are many clients at one address.
"""

RRQ, WRQ, DATA, ACK, ERROR, OACK = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Packet:
    """What came back, taken apart. ``number`` is a block's or an error's."""

    opcode: int
    number: int
    data: bytes
    options: dict[str, str]
    sender: tuple[str, int]
    raw: bytes


def request(opcode: int, name: bytes | str, options: Mapping[str, object] | None = None, mode: str = "octet") -> bytes:
    """An RRQ or WRQ with these options, in this order and spelling."""
    parts = [name.encode() if isinstance(name, str) else name, mode.encode()]
    for option, value in (options or {}).items():
        parts += [option.encode(), str(value).encode()]
    return struct.pack("!H", opcode) + b"".join(part + b"\0" for part in parts)


def unpack(raw: bytes, sender: tuple[str, int]) -> Packet:
    """Take a server's datagram apart; strictly, so that a malformed one fails the test."""
    (opcode,) = struct.unpack("!H", raw[:2])
    if opcode == OACK:
        *fields, last = raw[2:].split(b"\0")
        assert last == b"", raw
        assert len(fields) % 2 == 0, raw
        texts = [text.decode("ascii") for text in fields]
        return Packet(opcode, 0, b"", dict(zip(texts[::2], texts[1::2], strict=True)), sender, raw)
    (number,) = struct.unpack("!H", raw[2:4])
    if opcode == ERROR:
        assert raw.endswith(b"\0"), raw
        return Packet(opcode, number, raw[4:-1], {}, sender, raw)
    assert opcode == DATA, raw
    return Packet(opcode, number, raw[4:], {}, sender, raw)


class Client:
    """One client port. ``ask`` goes to the listening port, ``ack`` to whoever sent last."""

    def __init__(self, server: tuple[str, int], source: str = "", port: int = 0) -> None:
        self.server = server
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((source or ("::1" if family == socket.AF_INET6 else "127.0.0.1"), port))
        self.peer: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    def send(self, raw: bytes, to: tuple[str, int] | None = None) -> None:
        self.socket.sendto(raw, to or self.server)

    def ask(self, name: bytes | str, options: Mapping[str, object] | None = None, mode: str = "octet") -> None:
        self.send(request(RRQ, name, options, mode))

    def ack(self, block: int) -> None:
        assert self.peer is not None
        self.send(struct.pack("!HH", ACK, block & 0xFFFF), self.peer)

    def error(self, code: int, text: bytes = b"") -> None:
        assert self.peer is not None
        self.send(struct.pack("!HH", ERROR, code) + text + b"\0", self.peer)

    def receive(self, seconds: float = PATIENCE) -> Packet:
        """The next datagram; raises TimeoutError."""
        self.socket.settimeout(seconds)
        raw, sender = self.socket.recvfrom(70000)
        self.peer = sender
        return unpack(raw, sender[:2])

    def waiting(self) -> list[Packet]:
        """All that has already arrived."""
        packets = []
        self.socket.setblocking(False)
        while True:
            try:
                raw, sender = self.socket.recvfrom(70000)
            except BlockingIOError:
                return packets
            packets.append(unpack(raw, sender[:2]))

    def drain(self) -> None:
        """Throw away all that has already arrived, well-formed or not."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(1)

    def rest(self, *, blksize: int = 512, window: int = 1, first: Packet | None = None, acknowledged: int = 0) -> bytes:
        """Receive the transfer to its end, as a well-behaved client without losses does."""
        content = bytearray()
        block = acknowledged
        unacknowledged = 0
        packet = first
        while True:
            packet = packet or self.receive()
            assert packet.opcode == DATA, packet
            assert packet.number == (block + 1) & 0xFFFF, (packet.number, block)
            assert len(packet.data) <= blksize
            content += packet.data
            block += 1
            unacknowledged += 1
            if len(packet.data) < blksize or unacknowledged == window:
                self.ack(block)
                unacknowledged = 0
            if len(packet.data) < blksize:
                return bytes(content)
            packet = None


def fetch(server: tuple[str, int], name: str, options: Mapping[str, object] | None = None, source: str = "") -> bytes:
    """A whole transfer; what an OACK says is honoured."""
    with Client(server, source) as client:
        client.ask(name, options)
        first = client.receive()
        if first.opcode != OACK:
            return client.rest(first=first)
        agreed = {option.lower(): int(value) for option, value in first.options.items()}
        client.ack(0)
        return client.rest(blksize=agreed.get("blksize", 512), window=agreed.get("windowsize", 1))


def fetch_patiently(
    server: tuple[str, int], name: str, options: Mapping[str, object], *, pause: float = 0.2, seconds: float = 120.0
) -> bytes:
    """A whole transfer by a simple client as firmware has it, whatever gets lost on the way.

    It acknowledges what is in order, tells what it has at each block that is not, repeats itself after ``pause``, and
    where twenty repeats in a row hear nothing, it begins anew from another port. Raises TimeoutError.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with Client(server) as client, suppress(TimeoutError):
            return _fetch_once(client, name, options, pause)
    raise TimeoutError(f"{name}: not fetched in {seconds} s")


def _fetch_once(client: Client, name: str, options: Mapping[str, object], pause: float) -> bytes:
    content = bytearray()
    block, since_ack, blksize, window = 0, 0, 512, 1
    agreed = False
    silent = 0
    client.ask(name, options)
    while True:
        try:
            packet = client.receive(pause)
        except TimeoutError:
            silent += 1
            if silent == 20:
                raise
            if agreed:
                client.ack(block)
            else:
                client.ask(name, options)
            continue
        silent = 0
        assert packet.opcode in {OACK, DATA}, packet
        if packet.opcode == OACK:
            blksize = int(packet.options.get("blksize", 512))
            window = int(packet.options.get("windowsize", 1))
            agreed = True
            if block == 0:
                client.ack(0)
        elif packet.number == (block + 1) & 0xFFFF:
            agreed = True
            content += packet.data
            block, since_ack = block + 1, since_ack + 1
            final = len(packet.data) < blksize
            if final or since_ack >= window:
                since_ack = 0
                client.ack(block)
            if final:
                return bytes(content)
        elif agreed:
            since_ack = 0
            client.ack(block)


def need(program: str) -> str:
    """The program's path; without it the test is skipped."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@dataclass
class Running:
    """A server in a thread of this process, and how its transfers ended."""

    server: TftpServer
    thread: threading.Thread
    transfers: list[Transfer]

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address

    def barrier(self) -> None:
        """Come back when every datagram sent before has been dealt with: the listening port is served in order."""
        with Client((self.loopback, self.address[1])) as client:
            client.send(request(WRQ, "barrier"))
            assert client.receive().opcode == ERROR

    @property
    def loopback(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address[0], self.address[0])

    def ended(self, count: int = 1) -> list[Transfer]:
        """The transfers, once there are so many."""
        poll(lambda: len(self.transfers) >= count)
        return list(self.transfers)


def poll(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Come back when the condition holds; fail when it does not come to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def from_dict(files: Mapping[str, Content]) -> Resolve:
    """A resolver that knows just these."""

    def resolve(asked: Request) -> Content | None:
        return files.get(asked.name)

    return resolve


@contextmanager
def running(
    resolve: Resolve,
    *,
    bind: str = "127.0.0.1:0",
    admitted: Callable[[str], bool] | None = None,
    limits: Limits | None = None,
    single_port: bool = False,
) -> Iterator[Running]:
    """A server, which is still alive at the end and then stops in good order."""
    transfers: list[Transfer] = []
    server = TftpServer(
        bind, resolve, admitted=admitted, on_end=transfers.append, limits=limits or CALM, single_port=single_port
    )
    thread = threading.Thread(target=server.serve, name="tftp")
    thread.start()
    try:
        yield Running(server, thread, transfers)
        assert thread.is_alive(), "the server ended by itself"
        assert server.counters["loop_errors"] == 0
    finally:
        server.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()
