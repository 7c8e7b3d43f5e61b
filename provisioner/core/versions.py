"""Versions in the order people mean: 9.10 after 9.9."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

Thing = TypeVar("Thing")


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """A key that sorts versions; numbers by value, and before words."""
    parts = re.findall(r"[0-9]+|[^0-9.]+", version)
    return tuple((0, int(part)) if part[0] in "0123456789" else (1, part) for part in parts)


def newest(things: Iterable[Thing], version: Callable[[Thing], str]) -> Thing:
    """The thing with the highest version; there is at least one."""
    return max(things, key=lambda thing: version_key(version(thing)))
