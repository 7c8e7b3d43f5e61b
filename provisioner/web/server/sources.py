"""Connections by the address that they come from: one address must not have every place there is (S73)."""

import ipaddress
import time
from collections.abc import Iterable
from typing import Any

import structlog

from provisioner.web.server.connection import Connection

log = structlog.get_logger()
_PREFIX = 64
"""Of IPv6: whoever has one address there has as many as it likes (RFC 4291, 2.5.1)."""
_TELL_SECONDS = 60.0
_MOST_KEYS = 10_000
"""Addresses whose network is remembered: each connection asks three times, and reading one costs more than the rest."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Sources:
    """The connections of one process; ``most`` from one address, as many as there are from ``exempt`` networks."""

    def __init__(self, most: int, exempt: Iterable[str] = ()) -> None:
        self._most = most
        self._exempt = [ipaddress.ip_network(each, strict=False) for each in exempt]
        self._there: dict[Network, dict[Connection, None]] = {}
        self._keys: dict[str, Network | None] = {}
        self._refused, self._told = 0, -_TELL_SECONDS

    def full(self, peer: Any) -> list[Connection] | None:
        """Those that are there from the peer's address if no more may come, the oldest first; else None."""
        key = self._key(peer)
        there = self._there.get(key, {}) if key is not None else {}
        return list(there) if len(there) >= self._most else None

    def add(self, conn: Connection) -> None:
        """It is there from now on."""
        key = self._key(conn.peer)
        if key is not None:
            self._there.setdefault(key, {})[conn] = None

    def remove(self, conn: Connection) -> None:
        """It is gone."""
        key = self._key(conn.peer)
        there = self._there.get(key) if key is not None else None
        if there is not None:
            there.pop(conn, None)
            if not there:
                del self._there[key]  # type: ignore[arg-type]

    def of(self, conn: Connection) -> Network | None:
        """Whose connection it is; None for one that stands for many."""
        return self._key(conn.peer)

    def refuse(self, peer: Any) -> None:
        """Count a connection that is not taken; the log hears of it once in a while."""
        self._refused += 1
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            hint = "raise connections_per_address if many machines are behind it"
            log.warning("too many connections from one address", peer=str(peer[0]), refused=self._refused, hint=hint)

    def _key(self, peer: Any) -> Network | None:
        """Whose connections are counted together; None if nobody counts them."""
        host = peer[0]
        if host not in self._keys:
            if len(self._keys) >= _MOST_KEYS:
                self._keys.clear()
            self._keys[host] = self._read(host)
        return self._keys[host]

    def _read(self, host: str) -> Network | None:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._exempt):
            return None
        return ipaddress.ip_network((address, _PREFIX if address.version == 6 else 32), strict=False)
