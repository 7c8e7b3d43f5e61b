"""How much may go to those who have acknowledged nothing: token buckets, in datagrams.

Whoever forges a source address has us send to a victim, so what goes to sources that acknowledge nothing is bounded:
for each source and for all together. An acknowledgement shows that somebody is there who wants it. It gives the tokens
back, and for some minutes that source has a much larger bucket of its own; so a rack that boots, even one behind one
NAT address, does not notice.
"""

from collections import OrderedDict

from provisioner.netboot.tftp.contract import Limits

MOST_SOURCES = 10_000
"""Sources that are remembered; beyond them the one that was quiet longest is forgotten, and the common cap holds."""

REAL_SECONDS = 300.0
REAL_FACTOR = 10


class Bucket:
    """Tokens that come back with time, ``rate`` a second up to ``burst``."""

    __slots__ = ("_at", "_burst", "_rate", "left", "real_until")

    def __init__(self, rate: float, burst: float, now: float, *, real_until: float = 0.0) -> None:
        self._rate = rate
        self._burst = burst
        self._at = now
        self.left = burst
        self.real_until = real_until  # 0: its source never acknowledged anything

    def refill(self, now: float) -> None:
        """Add what came back since the last call."""
        self.add(max(0.0, now - self._at) * self._rate)
        self._at = now

    def add(self, tokens: float) -> None:
        self.left = min(self._burst, self.left + tokens)

    @property
    def low(self) -> bool:
        """Whether less than half is left."""
        return self.left < self._burst / 2


class Allowance:
    """What each source, and all of them together, may still be sent without an acknowledgement."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._rate, self._burst = limits.source_rate, limits.source_burst
        self._all = Bucket(limits.rate, limits.burst, now)
        self._sources: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sources)

    def take(self, source: str, wanted: int, now: float) -> int:
        """How many of ``wanted`` datagrams may be sent: one when tokens run low, none when there are none."""
        own = self._of(source, now)
        own.refill(now)
        if own.real_until:
            granted = min(1 if own.low else wanted, int(own.left))
        else:
            self._all.refill(now)
            granted = min(1 if own.low or self._all.low else wanted, int(own.left), int(self._all.left))
            self._all.left -= granted
        own.left -= granted
        return granted

    def give_back(self, source: str, tokens: int) -> None:
        """These were not sent after all."""
        own = self._sources.get(source)
        if own is None or not own.real_until:
            self._all.add(tokens)
        if own is not None:
            own.add(tokens)

    def acknowledged(self, source: str, tokens: int, now: float) -> None:
        """The source is real, and took these."""
        self.give_back(source, tokens)
        own = self._sources.get(source)
        if own is not None and own.real_until:
            own.real_until = now + REAL_SECONDS
        else:
            rate, burst = self._rate * REAL_FACTOR, self._burst * REAL_FACTOR
            self._remember(source, Bucket(rate, burst, now, real_until=now + REAL_SECONDS))

    def _of(self, source: str, now: float) -> Bucket:
        own = self._sources.get(source)
        if own is None or 0.0 < own.real_until <= now:
            return self._remember(source, Bucket(self._rate, self._burst, now))
        self._sources.move_to_end(source)
        return own

    def _remember(self, source: str, bucket: Bucket) -> Bucket:
        if source not in self._sources and len(self._sources) >= MOST_SOURCES:
            self._sources.popitem(last=False)
        self._sources[source] = bucket
        self._sources.move_to_end(source)
        return bucket
