"""When to send again: measured round trips, and one heap of alarms for all sessions."""

import heapq
import math
import random
from collections.abc import Iterable, Iterator

_REBUILD_AT = 1000


class RoundTrip:
    """How long to wait for an ACK, from the round trips seen so far (RFC 6298 without its one-second floor).

    A ``timeout`` that the client asked for (RFC 2349) is kept to the second instead. Jitter keeps machines that were
    powered on together from staying in step.
    """

    __slots__ = ("_cap", "_first", "_fixed", "_least", "_smooth", "_spread", "_wait")

    def __init__(self, *, first: float, least: float, cap: float, fixed: float | None = None) -> None:
        self._first = first
        self._wait = first
        self._least = least
        self._cap = cap
        self._fixed = fixed
        self._smooth = 0.0
        self._spread = 0.0

    def seen(self, seconds: float) -> None:
        """A datagram that was sent only once has been acknowledged after this time (Karn's rule is the caller's)."""
        if self._smooth == 0.0:
            self._smooth = seconds
            self._spread = seconds / 2
        else:
            self._spread += (abs(seconds - self._smooth) - self._spread) / 4
            self._smooth += (seconds - self._smooth) / 8
        self._wait = min(max(self._smooth + 4 * self._spread, self._least), self._first)

    @property
    def smooth(self) -> float:
        """The usual round trip; 0 while none was measured."""
        return self._smooth

    def wait(self, attempt: int) -> float:
        """Seconds to wait after sending for the ``attempt``-th time again (0: the first sending)."""
        if self._fixed is not None:
            return self._fixed
        if attempt == 0:
            return self._wait
        return min(self._cap, self._wait * 2.0**attempt) * random.uniform(0.9, 1.0)  # noqa: S311 - not a secret


class Alarm:
    """Something that wants to be woken at ``due``. Only `Timers` touches ``armed``."""

    __slots__ = ("armed", "due")

    def __init__(self) -> None:
        self.due = math.inf
        self.armed = math.inf


class Timers:
    """A heap with at most a few entries an alarm.

    An alarm that is put off, as at each ACK, costs nothing: its old entry finds out when it comes up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._serial = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, alarm: Alarm) -> None:
        """See to it that the alarm comes up at its ``due``, or not long after."""
        if alarm.due >= alarm.armed:
            return
        alarm.armed = alarm.due
        self._serial += 1
        heapq.heappush(self._heap, (alarm.due, self._serial, alarm))

    def cancel(self, alarm: Alarm) -> None:
        """The alarm never comes up again, and does not stay in memory long."""
        alarm.due = math.inf
        if alarm.armed == math.inf:
            return
        alarm.armed = math.inf
        self._cancelled += 1
        if self._cancelled > _REBUILD_AT and self._cancelled > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry[2].armed == entry[0]]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def pause(self, now: float) -> float | None:
        """Seconds until the next entry; None when there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def expired(self, now: float) -> Iterable[Alarm]:
        """Each alarm whose ``due`` has come; arm it again if it shall come up again."""
        return self._expired(now) if self._heap and self._heap[0][0] <= now else ()

    def _expired(self, now: float) -> Iterator[Alarm]:
        while self._heap and self._heap[0][0] <= now:
            when, _, alarm = heapq.heappop(self._heap)
            if alarm.armed != when:
                self._cancelled = max(0, self._cancelled - 1)
                continue
            alarm.armed = math.inf
            if alarm.due <= now:
                yield alarm
            else:
                self.arm(alarm)
