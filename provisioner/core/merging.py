"""Two changes of one thing, put together: field by field, or line by line."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, TypeAlias

_Hunk: TypeAlias = tuple[int, int, tuple[str, ...]]
"""Lines from the first to before the second of what was there become these."""


@dataclass(frozen=True)
class Merged:
    """What fields are when two people changed them, and whose they are."""

    fields: Mapping[str, Any]
    taken: tuple[str, ...]
    """Changed by the other one alone: theirs."""
    both: tuple[str, ...]
    """Changed by both, to something else each: ours."""


def fields_together(base: Mapping[str, Any], mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Merged:
    """``mine`` with what ``theirs`` changed and mine did not; both began as ``base``. Names are those of ``mine``."""
    changed = [name for name in mine if name in base and name in theirs and theirs[name] != base[name]]
    taken = tuple(name for name in changed if mine[name] == base[name])
    both = tuple(name for name in changed if mine[name] not in (base[name], theirs[name]))
    return Merged(dict(mine) | {name: theirs[name] for name in taken}, taken, both)


def lines_together(base: str, mine: str, theirs: str) -> str | None:
    """The text with both changes; None where they touch the same or neighbouring lines in different ways."""
    old = base.splitlines(keepends=True)
    hunks = sorted({*_hunks(old, mine), *_hunks(old, theirs)})
    made: list[str] = []
    at = -1
    for begin, end, lines in hunks:
        if begin <= at:
            return None
        made += [*old[max(at, 0) : begin], *lines]
        at = end
    return "".join([*made, *old[max(at, 0) :]])


def _hunks(old: list[str], text: str) -> list[_Hunk]:
    new = text.splitlines(keepends=True)
    codes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(begin, end, tuple(new[i:j])) for tag, begin, end, i, j in codes if tag != "equal"]
