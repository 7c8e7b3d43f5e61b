"""Differences between two versions of a file, and when those of two machines are the same but for who they are."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Lines = Sequence[str]
_Places = tuple[tuple[int, int, int, int], ...]
_RECENT = 8


@dataclass
class Differ:
    """Finds changed lines; remembers where they were, since the next machine's are mostly in the same places."""

    _recent: dict[tuple[int, int], list[_Places]] = field(default_factory=dict)

    def changed(self, before: Lines, after: Lines) -> tuple[str, ...]:
        """The lines that go, each with ``-`` before it, and those that come, with ``+``; in their order."""
        if before == after:
            return ()  # a line that went in one place and came in another would pass for a change elsewhere
        found = []
        for begin, end, begins, ends in self._places(before, after):
            found += [f"-{line}" for line in before[begin:end]]
            found += [f"+{line}" for line in after[begins:ends]]
        return tuple(found)

    def _places(self, before: Lines, after: Lines) -> _Places:
        recent = self._recent.setdefault((len(before), len(after)), [])
        for places in recent:
            if _holds(places, before, after):
                return places
        opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        places = tuple(each[1:] for each in opcodes if each[0] != "equal")
        recent.insert(0, places)
        del recent[_RECENT:]
        return places


def _holds(places: _Places, before: Lines, after: Lines) -> bool:
    """Whether all outside these places is equal and nothing inside is."""
    left = right = 0
    for begin, end, begins, ends in (*places, (len(before), len(before), len(after), len(after))):
        if before[left:begin] != after[right:begins] or not set(before[begin:end]).isdisjoint(after[begins:ends]):
            return False
        left, right = end, ends
    return True


def unified(name: str, before: str, after: str) -> str:
    """A unified diff of a file, with three lines around each change; its lines end in newlines."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"now/{name}", f"then/{name}", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def own_values(machine: Mapping[str, Any], number: int) -> dict[str, str]:
    """What is a machine's own, each with the word that stands for it; ``machine`` as templates see it."""
    named = {"uuid": machine["uuid"], "fqdn": machine["fqdn"], "serial": machine["serial"]}
    named |= {"name": machine["name"], "hostname": machine["hostname"], "build": f"build {number}"}
    for place, nic in enumerate(machine["interfaces"]):
        mac = nic["mac"] or ""
        named |= {f"ip{place}": nic["ip"], f"mac{place}": mac, f"mac{place}-": mac.replace(":", "-")}
    values: dict[str, str] = {}
    for word, value in named.items():
        if value:
            values.setdefault(value, f"<{word}>")
    return values


def normal(lines: Lines, values: Mapping[str, str]) -> tuple[str, ...]:
    """The lines with every value, where it stands as a word, replaced by what stands for it."""
    if not values or not lines:
        return tuple(lines)
    longest_first = sorted(values, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    by_lower = {value.lower(): word for value, word in values.items()}
    return tuple(pattern.sub(lambda found: by_lower.get(found[0].lower(), found[0]), line) for line in lines)
