"""Option negotiation (RFC 2347, 2348, 2349, 7440): a pure function."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_BLKSIZE = 512
MIN_BLKSIZE = 8
MAX_BLKSIZE = 65464
MAX_TIMEOUT = 255
MAX_WINDOWSIZE = 65535
MAX_IN_FLIGHT = 128 * 1024
"""Bytes that a window may hold: a usual receive buffer takes them while the client is busy elsewhere."""


@dataclass(frozen=True)
class Terms:
    """What holds for a transfer. ``oack`` is empty when no option was accepted: then DATA 1 comes first."""

    blksize: int = DEFAULT_BLKSIZE
    windowsize: int = 1
    timeout: int | None = None
    oack: dict[str, str] = field(default_factory=dict)


def negotiate(asked: Mapping[str, str], size: int, *, blksize: int, windowsize: int) -> Terms:
    """The accepted subset of the options asked for, with the values that we agree to.

    ``size`` is the content's, ``blksize`` the largest block that the route carries whole, ``windowsize`` our own
    limit. Names are case-insensitive and come back as the client spelled them; of an option that is there twice the
    first counts. Unknown options and impossible values are left out, as RFC 2347 wants it: the transfer goes on.
    """
    numbers: dict[str, int] = {}
    spelled: dict[str, str] = {}
    for option, text in asked.items():
        name = option.lower()
        if name in spelled:
            continue
        spelled[name] = option
        number = _number(text)
        if number is not None:
            numbers[name] = number

    agreed: dict[str, int] = {}
    if numbers.get("blksize", 0) >= MIN_BLKSIZE:
        agreed["blksize"] = max(MIN_BLKSIZE, min(numbers["blksize"], blksize, MAX_BLKSIZE))
    block = agreed.get("blksize", DEFAULT_BLKSIZE)
    if 1 <= numbers.get("windowsize", 0) <= MAX_WINDOWSIZE:
        agreed["windowsize"] = max(1, min(numbers["windowsize"], windowsize, MAX_IN_FLIGHT // block))
    if 1 <= numbers.get("timeout", 0) <= MAX_TIMEOUT:
        agreed["timeout"] = numbers["timeout"]
    if "tsize" in numbers:
        agreed["tsize"] = size
    return Terms(
        blksize=block,
        windowsize=agreed.get("windowsize", 1),
        timeout=agreed.get("timeout"),
        oack={spelling: str(agreed[name]) for name, spelling in spelled.items() if name in agreed},
    )


def lower_names(asked: Mapping[str, str]) -> dict[str, str]:
    """The options by lower-case name; the first of each counts."""
    plain: dict[str, str] = {}
    for option, text in asked.items():
        plain.setdefault(option.lower(), text)
    return plain


def _number(text: str) -> int | None:
    if len(text) > 20 or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
