"""A few daemon threads with a bounded queue.

`concurrent.futures` waits at exit for threads that hang; these are left behind.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from provisioner.netboot.tftp.rationed import RationedLog

_log = RationedLog(__name__)


class Pool:
    """Runs jobs in the order they came, at most ``threads`` at once, with at most ``waiting`` in the queue.

    One thread alone offers jobs and closes.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        # Written in C: a storm's requests pass through here, and a Condition of Python's takes five times as long.
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._waiting = waiting
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Start the threads; once."""
        for thread in self._threads:
            thread.start()

    def offer(self, job: Callable[[], None]) -> bool:
        """Queue a job; False, at once, when the queue is full or closed."""
        if self._closed or self._jobs.qsize() >= self._waiting:
            return False
        self._jobs.put(job)
        return True

    def close(self, *, finish: bool, seconds: float) -> None:
        """Take no more jobs; do those that wait if ``finish``; give the threads this long to end, then leave them."""
        self._closed = True
        if not finish:
            with suppress(Empty):
                while True:
                    self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)  # behind the last job
        until = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread must outlive any job
                _log.warning("tftp job failed", with_traceback=True, thread=threading.current_thread().name)
