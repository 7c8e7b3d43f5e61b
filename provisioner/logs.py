"""Structured logs: one escaped line an event, on standard error."""

import contextlib
import logging
import sys
from typing import Literal, TextIO, cast

import structlog

from provisioner.settings import Settings

_LONGEST_VALUE = 2000


def configure(settings: Settings, child: str = "") -> None:
    """Set up logging for this process; ``child`` is named in every line."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    style: Literal["json", "console"] = "console" if settings.log_format == "console" else "json"
    if settings.log_format == "auto" and sys.stderr.isatty():
        style = "console"
    renderer = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    if child:
        structlog.contextvars.bind_contextvars(child=child)
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, format="%(name)s: %(message)s")


class _Unfailing:
    """A stream whose errors are nobody's: a log on a full disk must not stop a boot."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _harmless(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Values from the network on one line, without control characters, and cut (S61)."""
    return {key: _one_line(value) if isinstance(value, str) else value for key, value in event.items()}


def _one_line(value: str) -> str:
    cut = value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "..."
    if cut.isprintable():
        return cut
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
