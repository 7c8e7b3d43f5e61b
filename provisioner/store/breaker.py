"""Spares callers the wait for a database that has just not answered."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from provisioner.errors import DatabaseUnavailable


class Breaker:
    """After a failure everybody is refused at once, but for one caller every ``seconds``, who tries.

    Without it each machine that boots would wait for the same lock or connection in a thread of its own, until no
    thread is left for those that need no database at all.
    """

    def __init__(self, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = threading.Lock()
        self._failed_at: float | None = None
        self._trying = False

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Around each use of the database. Raises DatabaseUnavailable at once where trying is not worth it."""
        self._enter()
        try:
            yield
        except DatabaseUnavailable:
            self._leave(self._clock())
            raise
        except BaseException:
            self._leave(None)
            raise
        self._leave(None)

    @property
    def tripped(self) -> bool:
        """Whether the last use failed."""
        return self._failed_at is not None

    def _enter(self) -> None:
        with self._lock:
            if self._failed_at is None:
                return
            if self._trying or self._clock() - self._failed_at < self._seconds:
                raise DatabaseUnavailable("the database cannot be asked: it did not answer a moment ago")
            self._trying = True

    def _leave(self, failed_at: float | None) -> None:
        with self._lock:
            self._failed_at, self._trying = failed_at, False
