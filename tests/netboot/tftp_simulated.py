"""One session and one client on a network of their own, with a clock of its own: nothing waits, everything counts."""

import heapq
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from provisioner.netboot.tftp import Limits, Request
from provisioner.netboot.tftp.blocks import Blocks, Chunks
from provisioner.netboot.tftp.content import BytesReader
from provisioner.netboot.tftp.options import negotiate
from provisioner.netboot.tftp.session import Asked, Session

DATA, ACK, OACK = 3, 4, 6
_UNTIL = 3600.0
ONE_WAY = 0.001


@dataclass
class Way:
    """What happens to datagrams in one direction; the same for the same seed. Delays are in seconds."""

    seed: int
    loss: float = 0.0
    copies: float = 0.0
    late: float = 0.0
    most_late: float = 0.03
    drop: Callable[[bytes, int], bool] = lambda raw, count: False
    hold: Callable[[bytes, int], float] = lambda raw, count: 0.0
    lost: int = 0
    copied: int = 0
    delayed: int = 0
    seen: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def delays(self, raw: bytes) -> list[float]:
        """How long each copy of this datagram takes; none when it is lost."""
        self.seen += 1
        if self._random.random() < self.loss or self.drop(raw, self.seen):
            self.lost += 1
            return []
        copies = 1
        if self._random.random() < self.copies:
            self.copied += 1
            copies = 2
        return [ONE_WAY + self.hold(raw, self.seen) + self._delay() for _ in range(copies)]

    def _delay(self) -> float:
        if self._random.random() >= self.late:
            return 0.0
        self.delayed += 1
        return self._random.uniform(0.0, self.most_late)


@dataclass
class Played:
    """How it went: the content as the client has it, and each DATA number sent, with when."""

    content: bytes
    sent: list[int]
    times: list[float]
    outcome: str | None
    out: Way
    back: Way
    resends: int


class Play:
    """A transfer of ``content`` under these options; ``back`` is the way of DATA, ``out`` that of ACKs.

    The client acknowledges what is in order (RFC 7440: the last block of a window, and the last good one at a gap),
    and repeats itself after ``patience`` seconds. A ``chatty`` one answers each copy and each block behind a gap.
    """

    def __init__(
        self,
        content: bytes,
        options: dict[str, str],
        out: Way,
        back: Way,
        *,
        patience: float = 1.0,
        chatty: bool = True,
        segments: bool = True,
        **limits: float,
    ) -> None:
        self.out, self.back, self.patience, self.chatty = out, back, patience, chatty
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._inbox: list[bytes] = []
        bounds = Limits(**limits)  # type: ignore[arg-type]
        terms = negotiate(options, len(content), blksize=1468, windowsize=bounds.windowsize)
        asked = Asked(Request("x", "192.0.2.1", 1, "192.0.2.2", options), options)
        self.blksize, self.window = terms.blksize, terms.windowsize
        self.segments = segments and terms.windowsize > 1
        blocks = Blocks(BytesReader(content), terms.blksize, terms.windowsize, Chunks(bounds.cache_bytes))
        self.session = Session(asked, self, blocks, terms, bounds, allowed=bounds.unacknowledged, now=0.0)
        self.sent: list[int] = []
        self.times: list[float] = []
        self.got = bytearray()
        self.block = self.since_ack = 0
        self.heard = self.finished = self.gap = False
        self._last_said = 0.0

    # The session's port

    def send(self, data: bytes, /) -> int:
        stride = self.blksize + 4
        if self.segments and len(data) > stride and data[1] == DATA:
            for at in range(0, len(data), stride):
                self._send(data[at : at + stride])
        else:
            self._send(data)
        return len(data)

    def _send(self, data: bytes) -> None:
        if struct.unpack("!H", data[:2])[0] == DATA:
            self.sent.append(struct.unpack("!H", data[2:4])[0])
            self.times.append(self.now)
        for delay in self.back.delays(data):
            self._at(self.now + delay, lambda: self._hear(data))

    def recv(self, _size: int, /) -> bytes:
        if not self._inbox:
            raise BlockingIOError
        return self._inbox.pop(0)

    def close(self) -> None:
        """Nothing to close."""

    # The world

    def _at(self, when: float, do: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (when, self._serial, do))

    def run(self) -> Played:
        """Play it to its end: the session's outcome."""
        self._step(self.session.start)
        self._at(self.patience, self._repeat)
        while self._events and self.session.outcome is None:
            when, _, do = heapq.heappop(self._events)
            assert when < _UNTIL, "it never ends"
            self.now = when
            do()
        resends = self.session.report("", self.now).resends
        return Played(bytes(self.got), self.sent, self.times, self.session.outcome, self.out, self.back, resends)

    def _step(self, step: Callable[[float], None]) -> None:
        step(self.now)
        due = self.session.due
        if self.session.outcome is None:
            self._at(max(due, self.now), lambda: self._alarm(due))

    def _alarm(self, due: float) -> None:
        if self.session.due == due and self.session.outcome is None:
            self._step(self.session.expire)

    # The client

    def _say(self) -> None:
        self._last_said = self.now
        raw = struct.pack("!HH", ACK, self.block & 0xFFFF)
        for delay in self.out.delays(raw):
            self._at(self.now + delay, lambda: self._arrive(raw))

    def _arrive(self, raw: bytes) -> None:
        if self.session.outcome is None:
            self._inbox.append(raw)
            self._step(self.session.receive)

    def _repeat(self) -> None:
        if self.finished:
            return
        if self.heard and self.now - self._last_said >= self.patience:
            self._say()
        self._at(self.now + self.patience / 4, self._repeat)

    def _hear(self, data: bytes) -> None:
        opcode, number = struct.unpack("!HH", data[:4])
        if opcode == OACK:
            self.heard = True
            if self.block == 0:
                self._say()
            return
        self.heard = True
        if self.finished or number != (self.block + 1) & 0xFFFF:
            ahead = (number - self.block) & 0xFFFF
            if self.chatty or self.finished or ahead == 0 or (ahead < 0x8000 and not self.gap):
                self.since_ack = 0
                self._say()
            self.gap = self.gap or 0 < ahead < 0x8000
            return
        self.gap = False
        self.got += data[4:]
        self.block += 1
        self.since_ack += 1
        self.finished = len(data) - 4 < self.blksize
        if self.finished or self.since_ack == self.window:
            self.since_ack = 0
            self._say()
