"""A few daemon threads with a bounded queue.

`concurrent.futures` waits at exit for threads that hang; these are left behind.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from provisioner.netboot.tftp.rationed import RationedLog

_log = RationedLog(__name__)


class Pool:
    """Runs jobs in the order they came, at most ``threads`` at once, with at most ``waiting`` in the queue."""

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._waiting = waiting
        self._closed = False
        self._change = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        """Start the threads; once."""
        for thread in self._threads:
            thread.start()

    def offer(self, job: Callable[[], None]) -> bool:
        """Queue a job; False, at once, when the queue is full or closed."""
        with self._change:
            if self._closed or len(self._jobs) >= self._waiting:
                return False
            self._jobs.append(job)
            self._change.notify()
        return True

    def close(self, *, finish: bool, seconds: float) -> None:
        """Take no more jobs; do those that wait if ``finish``; give the threads this long to end, then leave them."""
        with self._change:
            self._closed = True
            if not finish:
                self._jobs.clear()
            self._change.notify_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._jobs and not self._closed:
                    self._change.wait()
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:  # noqa: BLE001 - the thread must outlive any job
                _log.warning("tftp job failed", with_traceback=True, thread=threading.current_thread().name)
