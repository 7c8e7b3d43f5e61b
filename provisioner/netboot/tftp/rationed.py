"""Log lines that strangers can cause, a few at a time: a flood must not fill the disk."""

import time

import structlog


class RationedLog:
    """Writes at most ``lines`` lines in ``seconds``; the next line after that tells how many were left out."""

    def __init__(self, name: str, *, lines: int = 20, seconds: float = 10.0) -> None:
        self._log = structlog.get_logger(name)
        self._lines = lines
        self._seconds = seconds
        self._since = 0.0
        self._written = 0
        self._left_out = 0

    def warning(self, event: str, *, with_traceback: bool = False, **values: object) -> None:
        """Log the event, unless this period's lines are used up."""
        now = time.monotonic()
        if now - self._since >= self._seconds:
            self._since = now
            self._written = 0
        if self._written >= self._lines:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            values["left_out_before"] = self._left_out
            self._left_out = 0
        self._log.warning(event, exc_info=with_traceback, **values)
