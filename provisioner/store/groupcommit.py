"""Group commit: what the threads of a process want to write at the same moment becomes one transaction.

A commit costs a sync of the disk whether it holds one row or fifty. The thread that comes first leads: it runs its own
job and all that wait, commits once, wakes their threads, and leaves what came meanwhile to the next. So nobody waits
for others to come, and there is no thread of its own that could be missing after a fork.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection

from provisioner.errors import DatabaseUnavailable, StorageFull

T = TypeVar("T")
MOST_JOBS = 64
LONGEST_SECONDS = 0.25
"""Beyond it what still waits is left to the next transaction: nobody holds the write lock for long."""


class _Waiting:
    """A job, and the thread that waits for it."""

    __slots__ = ("error", "job", "leads", "over", "result", "woken")

    def __init__(self, job: Callable[[Connection], Any]) -> None:
        self.job = job
        self.woken = threading.Lock()
        self.woken.acquire()
        self.leads = self.over = False
        self.result: Any = None
        self.error: BaseException | None = None


class Group:
    """The jobs of one process for one database."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False

    def run(
        self,
        job: Callable[[Connection], T],
        transaction: Callable[[], AbstractContextManager[Connection]],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> T:
        """Run the job in a transaction, with those of others; what it returns is committed. Raises what it raised.

        A failure of the database fails every job of the transaction; any other error is that of its job alone.
        """
        mine = _Waiting(job)
        with self._lock:
            self._waiting.append(mine)
            mine.leads, self._led = not self._led, True
        if not mine.leads:
            mine.woken.acquire()
        if not mine.over:
            self._lead(transaction, translated)
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def _lead(
        self,
        transaction: Callable[[], AbstractContextManager[Connection]],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        taken: list[_Waiting] = []
        try:
            self._commit(taken, transaction, translated)
        except BaseException as error:  # noqa: BLE001 - each thread raises it; a waiting one must never be left behind
            if not taken:
                self._take_all(taken)  # the database cannot be asked, and they have waited for it too
            for each in taken:
                each.result, each.error = None, error
        finally:
            self._hand_over(taken)

    def _commit(
        self,
        taken: list[_Waiting],
        transaction: Callable[[], AbstractContextManager[Connection]],
        translated: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Nearly always no job fails, so none gets a savepoint; when one does, all begin again, each with its own."""
        with transaction() as connection:
            if self._plainly(taken, connection):
                return
            connection.get_transaction().rollback()  # type: ignore[union-attr]
        with transaction() as connection:
            for each in taken:
                self._apart(each, connection, translated)

    def _plainly(self, taken: list[_Waiting], connection: Connection) -> bool:
        until = self._clock() + LONGEST_SECONDS
        while len(taken) < MOST_JOBS and (not taken or self._clock() < until):
            with self._lock:
                if not self._waiting:
                    break
                taken.append(self._waiting.popleft())
            try:
                taken[-1].result = taken[-1].job(connection)
            except Exception:  # noqa: BLE001 - it is run again, and then raises what it raises
                return False
        return True

    def _apart(
        self, each: _Waiting, connection: Connection, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        try:
            with translated(), connection.begin_nested():
                each.result, each.error = each.job(connection), None
        except (DatabaseUnavailable, StorageFull):
            raise
        except Exception as error:  # noqa: BLE001 - its thread raises it
            each.result, each.error = None, error

    def _take_all(self, taken: list[_Waiting]) -> None:
        with self._lock:
            taken.extend(self._waiting)
            self._waiting.clear()

    def _hand_over(self, taken: list[_Waiting]) -> None:
        with self._lock:
            self._led = bool(self._waiting)
            heir = self._waiting[0] if self._waiting else None
        for each in taken:
            each.over = True
            each.woken.release()
        if heir is not None:
            heir.woken.release()
