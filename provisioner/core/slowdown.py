"""How long to wait after failures: some are free, then one second, doubled with each failure."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

WINDOW = timedelta(minutes=15)
"""Failures count until there was none for so long."""


@dataclass(frozen=True)
class Limit:
    """How many failures are free, and the longest wait in seconds once they are used up."""

    free: int
    longest: int = 300


@dataclass(frozen=True)
class Failures:
    """How often something failed lately, and when last."""

    count: int
    last_at: datetime

    def seconds(self, limit: Limit, at: datetime) -> int:
        """How long to wait from this moment, in whole seconds; 0 is not at all. Never more than ``longest``."""
        if self.stale(at) or self.count < limit.free:
            return 0
        # The exponent is bounded: counts grow for as long as somebody goes on.
        whole = min(1 << min(self.count - limit.free, 16), limit.longest)
        # A clock that was set back would else mean a wait for as long.
        return max(0, min(math.ceil((self.last_at + timedelta(seconds=whole) - at).total_seconds()), whole))

    def stale(self, at: datetime) -> bool:
        """Whether it is so long ago that it counts for nothing."""
        return at - self.last_at >= WINDOW


def origin(source: str) -> str:
    """Under what the failures of an address are counted: an IPv6 host has a whole /64 to choose addresses from."""
    try:
        address = ip_address(source)
    except ValueError:
        return source[:39]
    return str(address) if address.version == 4 else str(ip_network((address, 64), strict=False).network_address)
