"""Which downloads go at full speed when there are many: some at a time, the others a little until it is their turn.

When a thousand machines share a link fairly, all of them are done at the very end; one after the other half of them are
done at half the time, and the last no later. Nobody is refused and nothing is cut: who waits has its head and the
beginning of its file, and a little more each second, so that no firmware or installer takes the server for dead (GRUB
gives up after half a minute without a head, librepo and curl below 1,000 bytes a second).
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Conn = TypeVar("Conn", bound=Hashable)
LARGE = 4 << 20
"""Bytes that are still to be sent of what counts as a download: less is gone before it could be put off."""
LITTLE = 16 << 10
"""Bytes a second for who waits."""
TURN_SECONDS = 20.0
"""After so long a download makes room for one that waits: its machine may be a slow one, and the link idle."""


class Places(Generic[Conn]):
    """At most ``most`` downloads at a time, a quarter of them from one address; 0 for any number.

    ``of`` is the address of a connection, None for a proxy that stands for many. ``go`` is called for who may go on.
    All calls come from one thread.
    """

    def __init__(
        self,
        most: int,
        of: Callable[[Conn], Hashable],
        go: Callable[[Conn], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._each = most, max(1, most // 4)
        self._of, self._go, self._clock = of, go, clock
        self._there: dict[Conn, float] = {}
        self._waiting: dict[Conn, None] = {}
        self._by_source: Counter[Hashable] = Counter()

    def enter(self, conn: Conn, left: int) -> bool:
        """Whether a connection with so many bytes to send may go on; else it waits until it is told to ``go``."""
        if self._most == 0 or left < LARGE:
            return True
        if conn not in self._there:
            if self._waiting or not self._room(conn):
                self._waiting[conn] = None
                self._fill()
                return conn in self._there
            self._take(conn)
        return True

    def leave(self, conn: Conn) -> None:
        """It is sent, or gone."""
        self._waiting.pop(conn, None)
        if self._there.pop(conn, None) is not None:
            self._gone(conn)
            self._fill()

    def waiting(self) -> list[Conn]:
        """Those that get only a little."""
        return list(self._waiting)

    def turn(self) -> list[Conn]:
        """Those that had their turn and wait again, behind all others."""
        before = self._clock() - TURN_SECONDS
        over = [conn for conn, since in self._there.items() if since < before][: len(self._waiting)]
        for conn in over:
            del self._there[conn]
            self._gone(conn)
            self._waiting[conn] = None
        self._fill()
        return [conn for conn in over if conn in self._waiting]

    def _room(self, conn: Conn) -> bool:
        source = self._of(conn)
        return len(self._there) < self._most and (source is None or self._by_source[source] < self._each)

    def _take(self, conn: Conn) -> None:
        self._there[conn] = self._clock()
        source = self._of(conn)
        if source is not None:
            self._by_source[source] += 1

    def _gone(self, conn: Conn) -> None:
        source = self._of(conn)
        if source is not None:
            self._by_source[source] -= 1
            if not self._by_source[source]:
                del self._by_source[source]

    def _fill(self) -> None:
        """Let those go on for whom there is room, the longest waiting first."""
        for conn in list(self._waiting):
            if len(self._there) >= self._most:
                return
            if self._room(conn):
                del self._waiting[conn]
                self._take(conn)
                self._go(conn)
