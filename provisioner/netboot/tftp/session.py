"""One transfer: what was sent, what was acknowledged, and what to send next.

Blocks are counted on past 65535; only on the wire do they go round to 0. An OACK is block 0: before the ACK of an
OACK ``_acked`` is -1, so that it needs no states of its own.
"""

import errno
import math
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from provisioner.netboot.tftp.content import Reader
from provisioner.netboot.tftp.contract import Limits, Request, Transfer
from provisioner.netboot.tftp.options import Terms
from provisioner.netboot.tftp.pace import Alarm, RoundTrip
from provisioner.netboot.tftp.packets import (
    ACK,
    ERROR,
    SERVER_ERROR,
    ack_of,
    data_header,
    encode_error,
    encode_oack,
)
from provisioner.netboot.tftp.sockets import send_segments

_LEAST_RESENDS = 2
"""Before a client is given up, however long the ``timeout`` that it asked for."""

_MOST_SEGMENTS = 64
_MOST_AT_ONCE = 65000
"""What Linux takes in one segmented send: that many datagrams, and no more bytes than one IP packet has."""

_NO_OFFLOAD = {errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE}


@dataclass(frozen=True)
class Asked:
    """A request as the server keeps it: ``options`` with the client's spelling, by which a repeat is recognised."""

    request: Request
    options: dict[str, str]


class Session(Alarm):
    """A transfer on its own connected socket. The caller drives it, and ends it once ``outcome`` is set.

    ``due`` is when `expire` wants to be called. ``answered`` turns true with the first acknowledgement; ``lingering``
    when none came and nothing more is sent.
    """

    __slots__ = (
        "_acked",
        "_attempts",
        "_clean",
        "_doubled",
        "_expected",
        "_limits",
        "_oack",
        "_offload",
        "_progress_at",
        "_reader",
        "_repeated",
        "_resends",
        "_round_trip",
        "_sent",
        "_sent_at",
        "_sent_bytes",
        "_started",
        "_terms",
        "_total",
        "_unanswered",
        "answered",
        "asked",
        "lingering",
        "outcome",
        "socket",
    )

    def __init__(
        self, asked: Asked, sock: socket.socket, reader: Reader, terms: Terms, limits: Limits, *, unacknowledged: int
    ) -> None:
        super().__init__()
        self.asked = asked
        self.socket = sock
        self.answered = False
        self.lingering = False
        self.outcome: str | None = None
        self._reader = reader
        self._terms = terms
        self._limits = limits
        self._unanswered = unacknowledged  # datagrams that may yet be sent to somebody who never acknowledged one
        self._round_trip = RoundTrip(
            first=limits.first_resend, least=limits.least_resend, cap=limits.resend_cap, fixed=terms.timeout
        )
        self._oack = encode_oack(terms.oack) if terms.oack else b""
        self._acked = -1 if terms.oack else 0
        self._sent = self._acked
        self._total = reader.size // terms.blksize + 1
        self._expected = b""
        self._attempts = 0
        self._clean = True  # nothing in flight was sent twice
        self._doubled = False  # the client may have had these blocks before, and acknowledge both copies
        self._repeated = False  # a repeated ACK no longer shows a loss in this window
        self._offload = terms.windowsize > 1
        self._started = self._sent_at = self._progress_at = time.monotonic()
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

    def receive(self, now: float) -> None:
        """Read one datagram from the socket and act on it."""
        try:
            data = self.socket.recv(64)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            self._gone("aborted")
            return
        except OSError:
            return  # no route, no neighbour: it may come back, and the alarm decides
        if data == self._expected:
            self._advance(self._sent, now)
        elif len(data) >= 4 and data[:2] == ACK:
            self._acknowledged(int.from_bytes(data[2:4], "big"), now)
        elif len(data) >= 4 and data[:2] == ERROR:
            self.outcome = "probe" if self._probed() else "aborted"

    def expire(self, now: float) -> None:
        """``due`` has passed. What lies in the socket counts first: it was we who were slow, then."""
        before = self._acked
        self.receive(now)
        if self.outcome is not None or self._acked != before or self.due > now:
            return
        if not self.answered and self._unanswered <= 0:
            self._linger(now)
        elif self._attempts >= _LEAST_RESENDS and now - self._progress_at >= self._limits.patience:
            self._gone("timeout")
        else:
            self._unanswered -= 1
            self._attempts += 1
            self._send_again(now)

    def _linger(self, now: float) -> None:
        """Send nothing more to somebody who never acknowledged; an ACK may yet come, if only ACKs got lost."""
        if self.lingering:
            self._gone("timeout")
        self.lingering = True
        self.due = now + self._limits.linger

    def fail(self) -> None:
        """Tell the client that the fault is ours."""
        with suppress(OSError):
            self.socket.send(encode_error(SERVER_ERROR))
        self.outcome = "error"

    def close(self) -> None:
        """Give back the socket and the content."""
        self.socket.close()
        self._reader.close()

    def report(self, outcome: str) -> Transfer:
        """The transfer as it stands."""
        return Transfer(
            name=self.asked.request.name,
            client=self.asked.request.client,
            size=self._reader.size,
            sent_bytes=self._sent_bytes,
            blksize=self._terms.blksize,
            windowsize=self._terms.windowsize,
            seconds=time.monotonic() - self._started,
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
        return 0.0 < self._round_trip.smooth <= now - self._sent_at

    def _advance(self, block: int, now: float) -> None:
        if self._clean:
            self._round_trip.seen(now - self._sent_at)
        partial = block < self._sent
        # An ACK's repeats tell nothing new of a loss that is being mended, nor of a window that was sent twice: some
        # clients acknowledge each copy.
        self._repeated = partial or not self._clean
        self._acked = block
        self._attempts = 0
        self._progress_at = now
        self.answered = True
        if block >= self._total:
            self.outcome = "complete"
            self.due = math.inf
            return
        self._clean = not partial
        if partial and not self._doubled:
            # From the middle of a window: the next block got lost, and the client threw the rest away (RFC 7440, 4).
            self._resends += self._sent - block
            self._sent = block
        elif not partial:
            self._doubled = False
        self._send(now)

    def _gone(self, outcome: str) -> None:
        """Nothing more will come. If everything was sent, only the last ACK was lost, as it often is."""
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
        last = 0 if first == 0 else min(self._acked + self._terms.windowsize, self._total)
        self._sent = last
        self._expected = ack_of(last)
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

    def _transmit(self, first: int, last: int) -> None:
        if first == 0:
            self.socket.send(self._oack)
            return
        size = self._terms.blksize
        blocks = [(data_header(block), self._reader.read((block - 1) * size, size)) for block in range(first, last + 1)]
        self._sent_bytes += sum(len(data) for _, data in blocks)
        if self._offload and 1 < len(blocks) <= _MOST_SEGMENTS and len(blocks) * (size + 4) < _MOST_AT_ONCE:
            try:
                send_segments(self.socket, [part for block in blocks for part in block], size + 4)
            except OSError as error:
                if error.errno not in _NO_OFFLOAD:
                    raise
                self._offload = False
            else:
                return
        for block in blocks:
            self.socket.send(b"".join(block))
