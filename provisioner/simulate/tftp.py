"""TFTP as firmware speaks it (RFC 1350, 2347 to 2349, 7440): one port, options, acknowledgements, repeats."""

import asyncio
import hashlib
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

_RRQ, _DATA, _ACK, _ERROR, _OACK = 1, 3, 4, 5, 6
_FIRST_REPEAT = 1.0
_LONGEST_REPEAT = 8.0
_MOST_REPEATS = 5
_MOST_PER_WAKE = 64

ROM: Mapping[str, int] = {"tsize": 0, "blksize": 1456}
"""What a BIOS machine's PXE ROM asks for."""
EDK2: Mapping[str, int] = {"tsize": 0, "blksize": 1468, "windowsize": 4}
"""What EDK2 asks for; the first time it wants the size only, and ends that with an ERROR packet."""


class TftpError(OSError):
    """No file: an ERROR packet, silence, or a transfer that does not add up."""


@dataclass(frozen=True)
class Fetched:
    """A file that arrived whole."""

    size: int
    sha256: str
    resends: int
    blksize: int
    windowsize: int


async def fetch(source: str, server: tuple[str, int], name: str, *, edk2: bool, seconds: float = 60.0) -> Fetched:
    """Fetch the file as this firmware does. Raises TftpError after an ERROR, or ``seconds`` without an end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.setblocking(False)
        try:
            port.bind((source, 0))
            async with asyncio.timeout(seconds):
                size = -1
                if edk2:
                    size = await _run(_Transfer(port, server, name, EDK2, probe=True))
                options = {key: value for key, value in EDK2.items() if key != "tsize"} if edk2 else ROM
                transfer = _Transfer(port, server, name, options)
                await _run(transfer)
        except TimeoutError as error:
            raise TftpError(f"{name}: not there after {seconds:g} s") from error
        except TftpError:
            raise
        except OSError as error:
            raise TftpError(f"{name}: {error.strerror}") from error
    promised = transfer.agreed.get("tsize", size)
    if promised not in {-1, transfer.size}:
        raise TftpError(f"{name}: {promised} bytes were promised, {transfer.size} arrived")
    return Fetched(transfer.size, transfer.digest.hexdigest(), transfer.resends, transfer.blksize, transfer.window)


async def _run(transfer: "_Transfer") -> int:
    """The transfer to its end; the size that the server told, or -1."""
    loop = asyncio.get_running_loop()
    loop.add_reader(transfer.port.fileno(), transfer.readable)
    try:
        transfer.begin(loop)
        await transfer.done
    finally:
        loop.remove_reader(transfer.port.fileno())
        transfer.rest()
    return transfer.agreed.get("tsize", -1)


class _Transfer:
    """One request and what follows; driven by the socket and one timer."""

    def __init__(
        self,
        port: socket.socket,
        server: tuple[str, int],
        name: str,
        options: Mapping[str, int],
        *,
        probe: bool = False,
    ) -> None:
        self.port, self.name, self.probe = port, name, probe
        self.digest, self.size, self.resends = hashlib.sha256(), 0, 0
        self.blksize, self.window = 512, 1
        self.agreed: dict[str, int] = {}
        words = [name, "octet", *(str(word) for pair in options.items() for word in pair)]
        self._asked = set(options)
        self._request = struct.pack("!H", _RRQ) + b"".join(word.encode() + b"\0" for word in words)
        self._server = server
        self._tid: tuple[str, int] | None = None
        self._block = self._unacknowledged = 0
        self._gap = False
        self._pause, self._repeats = _FIRST_REPEAT, 0
        self._heard = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None]

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send the request."""
        self.done = loop.create_future()
        self._send(self._request)
        self._timer = loop.call_later(self._pause, self._repeat)

    def rest(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def readable(self) -> None:
        """Take what has arrived, a window's worth at most, so that other machines come in between."""
        try:
            for _ in range(_MOST_PER_WAKE):
                packet, peer = self.port.recvfrom(65535)
                if self.done.done():
                    return
                if self._tid in {None, peer}:
                    self._take(packet, peer)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _take(self, packet: bytes, peer: tuple[str, int]) -> None:
        kind, number = struct.unpack_from("!HH", packet.ljust(4, b"\0"))
        if kind == _ERROR:
            self._fail(f"error {number}: {packet[4:-1].decode(errors='replace')}")
        elif kind == _OACK and self._block == 0:
            self._tid = peer
            self._agree(packet)
        elif kind == _DATA:
            self._tid = peer
            self._data(number, packet[4:])

    def _agree(self, packet: bytes) -> None:
        words = packet[2:].decode("latin-1").split("\0")[:-1]
        self.agreed = {key.lower(): int(value) for key, value in zip(words[::2], words[1::2], strict=True)}
        if not set(self.agreed) <= self._asked:
            self._fail(f"options that nobody asked for: {self.agreed}")
            return
        if self.probe:
            self._send(struct.pack("!HH", _ERROR, 8) + b"User aborted the transfer\0")
            self.done.set_result(None)
            return
        self.blksize, self.window = self.agreed.get("blksize", 512), self.agreed.get("windowsize", 1)
        self._acknowledge()

    def _data(self, number: int, data: bytes) -> None:
        if number != (self._block + 1) & 0xFFFF:
            # Once a gap: an answer to every stray packet would double the traffic (the sorcerer's apprentice).
            if not self._gap:
                self._gap = True
                self._acknowledge()
            return
        self._gap = False
        self._block += 1
        self._unacknowledged += 1
        self.size += len(data)
        self.digest.update(data)
        self._heard, self._pause, self._repeats = time.monotonic(), _FIRST_REPEAT, 0
        last = len(data) < self.blksize
        if last or self._unacknowledged >= self.window:
            self._acknowledge()
        if last:
            self.done.set_result(None)

    def _acknowledge(self) -> None:
        self._unacknowledged = 0
        self._send(struct.pack("!HH", _ACK, self._block & 0xFFFF))

    def _repeat(self) -> None:
        """Silence: say the last word again, ever more rarely."""
        if self.done.done():
            return
        waited = time.monotonic() - self._heard
        if waited >= self._pause:
            if self._repeats >= _MOST_REPEATS:
                self._fail(f"silence after {self.size} bytes")
                return
            self.resends, self._repeats = self.resends + 1, self._repeats + 1
            self._pause = min(self._pause * 2, _LONGEST_REPEAT)
            self._heard = time.monotonic()
            if self._tid is None:
                self._send(self._request)
            else:
                self._acknowledge()
            waited = 0.0
        self._timer = self.done.get_loop().call_later(self._pause - waited, self._repeat)

    def _send(self, packet: bytes) -> None:
        try:
            self.port.sendto(packet, self._tid or self._server)
        except BlockingIOError:
            return  # as if it were lost

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(TftpError(f"{self.name}: {why}"))
