"""Requests on their way to content: the caller's function runs in a few threads, and may hang.

Everything here but `Resolver._run` happens in the server's thread.
"""

import errno
import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from provisioner.errors import NotFound, Refused
from provisioner.netboot.tftp.content import Reader, reader_of
from provisioner.netboot.tftp.contract import Limits, Resolve
from provisioner.netboot.tftp.pace import Alarm
from provisioner.netboot.tftp.packets import FORBIDDEN, NOT_FOUND, SERVER_ERROR, Refusal
from provisioner.netboot.tftp.pool import Pool
from provisioner.netboot.tftp.rationed import RationedLog
from provisioner.netboot.tftp.session import Asked
from provisioner.netboot.tftp.sockets import Arrival

SLOW_AFTER = 1.0
MOST_SLOW_PER_CLIENT = 2
_MOST_FINISHED = 32
"""Answers that wait for the server, most with an open file: in a flood its threads would run far ahead of it."""

NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of a process or host that has no descriptors or memory left: they pass, so the client is to ask again."""


class Pending(Alarm):
    """A request whose content is being looked for. ``cancelled``: nobody waits for the result any more.

    ``allowed`` are the datagrams that may be sent for it before the client acknowledges one.
    """

    __slots__ = ("allowed", "arrival", "asked", "asked_at", "cancelled", "slow", "started")

    def __init__(self, asked: Asked, arrival: Arrival, now: float, allowed: int) -> None:
        super().__init__()
        self.asked = asked
        self.arrival = arrival
        self.asked_at = now
        self.allowed = allowed
        self.due = now + SLOW_AFTER
        self.started = False
        self.slow = False
        self.cancelled = False


@dataclass(frozen=True)
class Failure:
    """No content: what to tell the client, and the outcome to report."""

    refusal: Refusal
    outcome: str


class NoRoom:
    """No content, for want of descriptors or memory."""


Answer = Reader | Failure | NoRoom | None


class Resolver:
    """Looks for content. ``wake`` is called from a worker thread whenever `finished` has something new."""

    def __init__(self, resolve: Resolve, limits: Limits, wake: Callable[[], None], log: RationedLog) -> None:
        self._resolve = resolve
        self._limits = limits
        self._wake = wake
        self._log = log
        self._pool = Pool("tftp-resolve", threads=limits.resolvers, waiting=limits.waiting)
        self._finished: deque[tuple[Pending, Answer]] = deque()
        self._room = threading.Event()
        self._slow: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        self._pool.start()

    def submit(self, pending: Pending) -> bool:
        """Begin; False when no thread will have time, or this client already keeps its share of them waiting."""
        if self._slow[pending.asked.request.client] >= MOST_SLOW_PER_CLIENT:
            return False
        return self._pool.offer(lambda: self._run(pending))

    def overdue(self, pending: Pending, now: float) -> bool:
        """Called when the pending request's alarm goes off; True when its client should be told to give up."""
        if pending.started and not pending.slow:
            pending.slow = True
            self._slow[pending.asked.request.client] += 1
        until = pending.asked_at + self._limits.resolve_seconds
        pending.due = math.inf if now >= until else min(now + SLOW_AFTER, until)
        return now >= until

    def finished(self) -> list[tuple[Pending, Answer]]:
        """What has been found since the last call; the readers now belong to the caller."""
        done: list[tuple[Pending, Answer]] = []
        while self._finished:
            pending, answer = self._finished.popleft()
            if pending.slow:
                self._forget_slow(pending.asked.request.client)
            done.append((pending, answer))
        self._room.set()
        return done

    def close(self) -> None:
        """Begin nothing more. A thread that hangs is left behind; what it finds is closed when it comes back."""
        with self._lock:
            self._closed = True
        self._room.set()
        self._pool.close(finish=False, seconds=0.5)
        for _, answer in self.finished():
            discard(answer)

    def _forget_slow(self, client: str) -> None:
        self._slow[client] -= 1
        if self._slow[client] <= 0:
            del self._slow[client]

    def _run(self, pending: Pending) -> None:
        while len(self._finished) >= _MOST_FINISHED and not self._closed:
            self._room.clear()
            if len(self._finished) >= _MOST_FINISHED and not self._closed:  # else it was set too early to be heard
                self._room.wait()
        pending.started = True
        answer = None if pending.cancelled else self._look(pending)
        with self._lock:
            if not self._closed:
                self._finished.append((pending, answer))
                answer = None
        discard(answer)
        self._wake()

    def _look(self, pending: Pending) -> Answer:
        request = pending.asked.request
        try:
            content = self._resolve(request)
            return Failure(NOT_FOUND, "not-found") if content is None else reader_of(content)
        except NotFound:
            return Failure(NOT_FOUND, "not-found")
        except Refused:
            return Failure(FORBIDDEN, "refused")
        except Exception as error:  # noqa: BLE001 - whatever goes wrong concerns this client alone
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                return NoRoom()
            self._log.warning("tftp request failed", with_traceback=True, name=request.name, client=request.client)
            return Failure(SERVER_ERROR, "error")


def discard(answer: Answer) -> None:
    """Close the content, if it is any, of an answer that nobody wants."""
    if answer is not None and not isinstance(answer, (Failure, NoRoom)):
        answer.close()
