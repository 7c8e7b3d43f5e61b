"""Which templates a template reaches, read from its text alone: never too few, sometimes too many."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TAG = re.compile(r"\{%[-+]?\s*(?:include|extends|import|from)\b(.*?)%\}", re.DOTALL)
# One plain text, then nothing that could make another name of it. Jinja joins texts that stand side by side, and knows
# escapes: both count as computed.
_PLAIN = re.compile(
    r"""\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*(?:(?:ignore|with|without|as|import)\b[\w\s,]*)?[-+]?\s*""", re.DOTALL
)


def references(text: str) -> frozenset[str] | None:
    """The names that a template includes, imports or extends; None when it computes one, which may be any."""
    found = set()
    for tag in _TAG.findall(text):
        plain = _PLAIN.fullmatch(tag)
        if plain is None:
            return None
        found.add(plain[1] if plain[1] is not None else plain[2])
    return frozenset(found)


@dataclass
class Includes:
    """What each of some templates reaches; ``sources`` are their texts by name."""

    sources: Mapping[str, str]
    _known: dict[str, frozenset[str]] = field(default_factory=dict)

    def reached(self, name: str) -> frozenset[str]:
        """The template itself and all that it reaches, also what is not there (it may be ignored, or added later)."""
        if name not in self._known:
            self._known[name] = self._walk(name)
        return self._known[name]

    def reached_by(self, names: Iterable[str]) -> frozenset[str]:
        """What any of the templates reaches."""
        return frozenset().union(*(self.reached(name) for name in names))

    def texts(self, name: str) -> dict[str, str]:
        """The texts that the template is made of."""
        return {each: self.sources[each] for each in self.reached(name) if each in self.sources}

    def _walk(self, name: str) -> frozenset[str]:
        seen, todo = {name}, [name]
        while todo:
            named = references(self.sources.get(todo.pop(), ""))
            if named is None:
                return frozenset(self.sources) | seen
            todo += named - seen
            seen |= named
        return frozenset(seen)
