"""One transfer: what was sent, what was acknowledged, and what to send next.

Blocks are counted on past 65535; only on the wire do they go round to 0. An OACK is block 0: before the ACK of an
OACK ``_acked`` is -1, so that it needs no states of its own.
"""

import errno
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import length_hint

from provisioner.netboot.tftp.blocks import Blocks, Step
from provisioner.netboot.tftp.contract import Limits, Request, Transfer
from provisioner.netboot.tftp.options import Terms
from provisioner.netboot.tftp.pace import Alarm, RoundTrip
from provisioner.netboot.tftp.packets import (
    ACK,
    ERROR,
    SERVER_ERROR,
    ack_of,
    encode_error,
    encode_oack,
)
from provisioner.netboot.tftp.sockets import Port

_CERTAIN = 3
"""Repeats of an ACK that are more than a network that duplicates makes of one."""

_LEAST_RESENDS = 2
"""Before a client is given up, however long the ``timeout`` that it asked for."""

_ACK_BYTES = 4
"""What is read of a client's datagram: the rest of a longer one means nothing, and the kernel throws it away."""

_NOTHING: Iterator[Step] = iter(())
_NO_OFFLOAD = {errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE}


@dataclass(frozen=True)
class Asked:
    """A request as the server keeps it: ``options`` with the client's spelling, by which a repeat is recognised."""

    request: Request
    options: Mapping[str, str]


class Session(Alarm):
    """A transfer on a port of its own, or a shared one. The caller drives it, and ends it once ``outcome`` is set.

    ``due`` is when `expire` wants to be called. ``answered`` turns true with the first acknowledgement; ``lingering``
    when none came and nothing more is sent. ``allowed`` are the datagrams that may be sent to somebody who never
    acknowledged one. Times (``now``) are on the caller's clock, in seconds.
    """

    __slots__ = (
        "_acked",
        "_attempts",
        "_blocks",
        "_clean",
        "_copies",
        "_doubled",
        "_expected",
        "_limits",
        "_oack",
        "_offload",
        "_progress_at",
        "_recv",
        "_repeated",
        "_resends",
        "_resent_to",
        "_round_trip",
        "_say",
        "_sent",
        "_sent_at",
        "_sent_bytes",
        "_slid",
        "_started",
        "_strip",
        "_strip_left",
        "_terms",
        "_total",
        "_unanswered",
        "_wary",
        "_window",
        "allowed",
        "answered",
        "asked",
        "lingering",
        "outcome",
        "port",
    )

    def __init__(
        self, asked: Asked, port: Port, blocks: Blocks, terms: Terms, limits: Limits, *, allowed: int, now: float
    ) -> None:
        super().__init__()
        self.asked = asked
        self.port = port
        self.allowed = allowed
        self.answered = False
        self.lingering = False
        self.outcome: str | None = None
        self._recv, self._say = port.recv, port.send
        self._blocks = blocks
        self._terms = terms
        self._window = terms.windowsize
        self._limits = limits
        self._unanswered = allowed
        self._round_trip = RoundTrip(
            first=limits.first_resend, least=limits.least_resend, cap=limits.resend_cap, fixed=terms.timeout
        )
        self._oack = encode_oack(terms.oack) if terms.oack else b""
        self._acked = -1 if terms.oack else 0
        self._sent = self._acked
        self._total = blocks.total
        self._expected = b""
        self._attempts = 0
        self._clean = True  # nothing in flight was sent twice
        self._doubled = False  # the client may have had these blocks before, and acknowledge both copies
        self._repeated = False  # a repeated ACK no longer shows a loss in this window
        self._resent_to = -1  # the last block before an ACK from the middle of a window made us go back
        self._wary = False  # such an ACK was misleading before
        self._slid = False  # the last one was not believed
        self._copies = 0  # of that ACK since
        self._strip = _NOTHING  # while nothing of the above is in play: what goes out at the ACKs that come next
        self._strip_left = 0
        self._offload = port.segments
        self._started = self._sent_at = self._progress_at = now
        self._sent_bytes = 0
        self._resends = 0

    # What the caller tells it

    def start(self, now: float) -> None:
        """Send the OACK, or DATA 1."""
        self._unanswered -= 1
        self._send(now)

    def again(self, now: float) -> None:
        """The client repeated its request before it acknowledged anything: repeat the answer."""
        if self._unanswered > 0:
            self._unanswered -= 1
            self._send_again(now)

    def receive(self, now: float) -> bool:
        """Read one datagram from the port and act on it.

        False when the transfer merely went on: it neither ends, nor ``due`` comes sooner, nor is this the first
        acknowledgement. Nearly all datagrams are the ACK that is expected. Then the next step lies ready, and nothing
        is done but to send it; what else there is to know `_settle` finds out afterwards. This way is as short as it
        can be made.
        """
        try:
            data = self._recv(_ACK_BYTES)
            if data == self._expected:
                for packets, expected in self._strip:
                    self._expected = expected
                    self._sent_at = now
                    self._say(packets)
                    return False
        except BlockingIOError:
            return False
        except ConnectionRefusedError:
            self._gone("aborted")
            return True
        except OSError:
            return False  # no route, no neighbour: it may come back, and the alarm decides
        self.take(data, now)
        return True

    def take(self, data: bytes, now: float) -> None:
        """Act on a datagram of the client's."""
        self._settle()
        if data == self._expected:
            self._advance(self._sent, now)
        elif len(data) >= 4 and data[:2] == ACK:
            self._acknowledged(int.from_bytes(data[2:4], "big"), now)
        elif len(data) >= 4 and data[:2] == ERROR:
            self.outcome = "probe" if self._probed() else "aborted"

    def _settle(self) -> None:
        """Catch up on the steps that were taken in the short way."""
        left = length_hint(self._strip)
        steps = self._strip_left - left
        if not steps:
            return
        self._strip_left = left
        before = self._sent
        self._sent = min(before + steps * self._window, self._total)
        self._acked = before + (steps - 1) * self._window
        self._sent_bytes += self._blocks.content_of(before + 1, self._sent)
        self._progress_at = self._sent_at
        self.due = self._sent_at + self._round_trip.wait(0)

    def expire(self, now: float) -> None:
        """``due`` has passed, if the short way did not put it off.

        What lies in the socket counts first: it was we who were slow, then.
        """
        self._settle()
        if self.due > now:
            return
        before = self._acked
        self.receive(now)
        self._settle()
        if self.outcome is not None or self._acked != before or self.due > now:
            return
        if not self.answered and self._unanswered <= 0:
            self._linger(now)
        elif self._attempts >= _LEAST_RESENDS and now - self._progress_at >= self._limits.patience:
            self._gone("timeout")
        else:
            self._unanswered -= 1
            self._attempts += 1
            self._wary = False
            self._send_again(now)

    def _linger(self, now: float) -> None:
        """Send nothing more to somebody who never acknowledged; an ACK may yet come, if only ACKs got lost."""
        if self.lingering:
            self._gone("timeout")
        self.lingering = True
        self.due = now + self._limits.linger

    def quiet(self, now: float) -> float:
        """Seconds since the transfer last got on."""
        self._settle()
        return now - self._progress_at

    def fail(self) -> None:
        """Tell the client that the fault is ours."""
        with suppress(OSError):
            self.port.send(encode_error(SERVER_ERROR))
        self.outcome = "error"

    def close(self) -> None:
        """Give back the port and the content."""
        self.port.close()
        self._blocks.close()

    def report(self, outcome: str, now: float) -> Transfer:
        """The transfer as it stands."""
        self._settle()
        return Transfer(
            name=self.asked.request.name,
            client=self.asked.request.client,
            size=self._blocks.size,
            sent_bytes=self._sent_bytes,
            blksize=self._terms.blksize,
            windowsize=self._terms.windowsize,
            seconds=now - self._started,
            resends=self._resends,
            outcome=outcome,
        )

    # Acknowledgements

    def _acknowledged(self, block: int, now: float) -> None:
        ahead = (block - self._acked) & 0xFFFF
        if 0 < ahead <= self._sent - self._acked:
            self._advance(self._acked + ahead, now)
        elif ahead == 0 and self._shows_loss(now):
            self._repeated = True
            self._send_again(now)

    def _shows_loss(self, now: float) -> bool:
        """Whether a repeated ACK means that the window's first block was lost (RFC 7440, section 4).

        Never in lockstep: answering duplicates there doubles all the traffic that follows (RFC 1123, 4.2.3.1). In a
        window once at most, and not sooner than an answer can be back: else it is a copy of the ACK before.
        """
        if self._terms.windowsize == 1 or self._acked < 0 or self._repeated:
            return False
        if self._slid:
            self._copies += 1
            return self._copies >= _CERTAIN
        return 0.0 < self._round_trip.smooth <= now - self._sent_at

    def _advance(self, block: int, now: float) -> None:
        if self._clean:
            self._round_trip.seen(now - self._sent_at)
        partial = block < self._sent
        if self._acked < self._resent_to and (block == self._resent_to or self._too_soon(now)):
            self._wary = True  # going back was wrong: the client had those blocks
        # An ACK's repeats tell nothing new of a loss that is being mended, nor of a window that was sent twice: some
        # clients acknowledge each copy.
        self._repeated = partial or not self._clean
        self._slid = False
        self._acked = block
        self._attempts = 0
        self._progress_at = now
        self.answered = True
        if block >= self._total:
            self.outcome = "complete"
            self.due = math.inf
            return
        self._clean = not partial
        if partial:
            self._within(block)
        else:
            self._doubled = False
        self._send(now)
        if self._clean and block >= self._resent_to and (self._window == 1 or self._offload):
            self._lay_ready()

    def _within(self, block: int) -> None:
        """An ACK from the middle of a window: go back to it, or on.

        Usually the next block got lost, and the client threw the rest away (RFC 7440, section 4). But there are
        networks that deliver datagrams twice, and clients that acknowledge each copy. To go back then sends everything
        twice, of which the client acknowledges each copy, and so on to the end. So who was found to have had the
        blocks is believed to lack one only after repeating itself more often than copies do.
        """
        if block == self._resent_to:
            return  # each copy of what was sent twice is acknowledged with this number
        if self._wary:
            self._slid, self._repeated, self._copies = True, False, 0
        elif not self._doubled:
            self._resends += self._sent - block
            self._resent_to = self._sent
            self._sent = block

    def _too_soon(self, now: float) -> bool:
        """Whether an ACK comes too soon to be for what was sent last."""
        return now - self._sent_at < self._round_trip.smooth / 2

    def _gone(self, outcome: str) -> None:
        """Nothing more will come. If everything was sent, only the last ACK was lost, as it often is."""
        self._settle()
        delivered = self.answered and self._sent >= self._total
        self.outcome = "complete" if delivered else outcome

    def _probed(self) -> bool:
        """Whether the client had what it wanted: EDK2 asks for the size, and answers the OACK with ERROR 8."""
        return self._acked < 0 and any(name.lower() == "tsize" for name in self._terms.oack)

    # Sending

    def _send_again(self, now: float) -> None:
        self._clean = False
        self._doubled = True
        self._resends += max(1, self._sent - self._acked)
        self._sent = self._acked
        self._send(now)

    def _send(self, now: float) -> None:
        first = self._sent + 1
        last = min(self._acked + self._window, self._total) if first else 0
        self._sent = last
        self._expected = ack_of(last)
        self._strip, self._strip_left = _NOTHING, 0
        self._sent_at = now
        self.due = now + self._round_trip.wait(self._attempts)
        try:
            self._transmit(first, last)
        except BlockingIOError:
            pass  # the socket's buffer is full: as good as lost on the way
        except ConnectionRefusedError:
            self._gone("aborted")
        except OSError as error:
            if error.errno not in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOBUFS, errno.EMSGSIZE, errno.EPERM}:
                raise

    def _lay_ready(self) -> None:
        steps = self._blocks.steps_after(self._sent)
        self._strip, self._strip_left = iter(steps), len(steps)

    def _transmit(self, first: int, last: int) -> None:
        if first == 0:
            self.port.send(self._oack)
            return
        if first > last:
            return  # the end was sent before; an ACK from the middle of it brings nothing more
        self._sent_bytes += self._blocks.content_of(first, last)
        packets = self._blocks.packets(first, last)
        if first == last or self._offload:
            try:
                self.port.send(packets)
            except OSError as error:
                if first == last or error.errno not in _NO_OFFLOAD:
                    raise
                self._offload = False
            else:
                return
        stride = self._blocks.stride
        for start in range(0, len(packets), stride):
            self.port.send(packets[start : start + stride])
