"""Rows of names, MACs and addresses: ``n[001-040]``, ``52:54:00:00:00:01+``."""

import re
from itertools import product

from provisioner.core.addresses import normal_mac
from provisioner.errors import InvalidInput, TooLarge

MOST = 10_000
"""So many things one pattern may stand for."""
_PART = re.compile(r"\[([^\[\]]*)\]")
_RUN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_LIKE = "write it as n[001-040], r[1-4]n[01-16] or n[1,3,7-9]"


def expand(pattern: str) -> list[str]:
    """The names that a pattern stands for, the last bracket counting fastest; a name without brackets is itself.

    ``n[001-040]`` is n001 to n040: numbers are filled with zeros to the width of the run's first one. Raises
    InvalidInput for a pattern that is none, TooLarge for more than ``MOST`` names.
    """
    texts = _PART.split(pattern)
    if any(set(text) & set("[]") for text in texts[::2]):
        raise InvalidInput(f"{pattern[:80]!r} has a bracket without its other half", where="/name", hint=_LIKE)
    choices = [_numbers(text, pattern) if place % 2 else [text] for place, text in enumerate(texts)]
    count = 1
    for each in choices:
        count *= len(each)
    if count > MOST:
        raise TooLarge(
            f"{pattern[:80]!r} stands for {count} names, more than {MOST}", where="/name", hint="split it into several"
        )
    names = ["".join(parts) for parts in product(*choices)]
    if len(set(names)) != len(names):
        raise InvalidInput(f"{pattern[:80]!r} stands for the same name twice", where="/name", hint=_LIKE)
    return names


def counted_macs(text: str, count: int) -> list[str]:
    """``count`` MAC addresses upwards from one in any spelling. Raises MalformedMac, InvalidInput past the last one."""
    first = normal_mac(text)
    digits = len(first.replace(":", ""))
    start = int(first.replace(":", ""), 16)
    if (start + count - 1) >> (4 * digits):
        raise InvalidInput(f"{count} MAC addresses from {first} go beyond the last one", hint="begin lower")
    return [normal_mac(f"{start + step:0{digits}x}") for step in range(count)]


def following(name: str) -> str:
    """The name after this one: its last number in the first label counted up, ``rack3-07.lab`` to ``rack3-08.lab``.

    Empty for a name without a number in its first label.
    """
    host, dot, domain = name.partition(".")
    found = re.search(r"([0-9]{1,9})([^0-9]*)$", host)
    if found is None:
        return ""
    return f"{host[: found.start()]}{int(found[1]) + 1:0{len(found[1])}d}{found[2]}{dot}{domain}"


def _numbers(text: str, pattern: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        run = _RUN.fullmatch(part.strip())
        if run is None:
            raise InvalidInput(f"[{text[:80]}] in {pattern[:80]!r} is not a run of numbers", where="/name", hint=_LIKE)
        first, last = int(run[1]), int(run[2] or run[1])
        if last < first:
            raise InvalidInput(f"[{text[:80]}] in {pattern[:80]!r} counts downwards", where="/name", hint=_LIKE)
        if last - first >= MOST:
            raise TooLarge(
                f"[{text[:80]}] in {pattern[:80]!r} stands for more than {MOST} numbers",
                where="/name",
                hint="split it into several",
            )
        found += [f"{number:0{len(run[1])}d}" for number in range(first, last + 1)]
    return found
