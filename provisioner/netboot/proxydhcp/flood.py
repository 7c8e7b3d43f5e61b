"""How many answers a second: a flood of datagrams must not become a flood of answers, log lines or events."""

from collections.abc import Hashable

PER_SOURCE = 10
"""Firmware asks once or twice a second at most."""
TOGETHER = 1000
"""Racks that power on together are a few hundred."""


class Cap:
    """Counts within one second for each source and for all together; bounded memory."""

    def __init__(self, per_source: int = PER_SOURCE, together: int = TOGETHER) -> None:
        self._per_source = per_source
        self._together = together
        self._second = -1
        self._counts: dict[Hashable, int] = {}
        self._all = 0

    def admits(self, source: Hashable, now: float) -> bool:
        """Whether one more of this source is let through at ``now`` (seconds of any clock that only goes forward)."""
        if int(now) != self._second:
            self._second, self._counts, self._all = int(now), {}, 0
        count = self._counts.get(source, 0)
        if count >= self._per_source or self._all >= self._together:
            return False
        self._counts[source] = count + 1
        self._all += 1
        return True


class Once:
    """Lets the same thing through again only after ``seconds``; remembers at most ``most`` things."""

    def __init__(self, seconds: float, most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._seen: dict[Hashable, float] = {}

    def admits(self, thing: Hashable, now: float) -> bool:
        """Whether it was not let through within the last ``seconds``."""
        last = self._seen.pop(thing, None)
        if last is not None and now - last < self._seconds:
            self._seen[thing] = last
            return False
        while len(self._seen) >= self._most:
            del self._seen[next(iter(self._seen))]
        self._seen[thing] = now
        return True
