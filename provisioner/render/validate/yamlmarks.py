"""YAML as plain data together with the line of each value, for messages that point at it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from provisioner.render.validate.programs import Finding, finding

Path = tuple[str | int, ...]
MOST_NODES = 100_000
"""Aliases can make a short file enormous; no answer file has as many values."""


class Unreadable(ValueError):
    """Not YAML, or YAML that nobody should read; ``finding`` says what and where."""

    def __init__(self, found: Finding) -> None:
        super().__init__(found.message)
        self.finding = found


@dataclass(frozen=True)
class Marked:
    """``value`` is the plain data, ``lines`` the line of each value by its path, ``blocks`` the block scalars."""

    text: str
    value: Any
    lines: dict[Path, int]
    blocks: frozenset[Path]
    twice: tuple[Path, ...]
    first: int = 1

    def line(self, path: Sequence[str | int]) -> int:
        """The line of what is at the path, or of the nearest that is above it."""
        place: Path = ()
        for step in path:
            if (*place, step) in self.lines:
                place = (*place, step)
        return self.lines.get(place, self.first)

    def error(self, path: Sequence[str | int], message: str) -> Finding:
        return finding(self.text, self.line(path), f"{dotted(path)}: {message}" if path else message)

    def warning(self, path: Sequence[str | int], message: str) -> Finding:
        return finding(self.text, self.line(path), f"{dotted(path)}: {message}" if path else message, "warning")

    def duplicates(self) -> Iterator[Finding]:
        """Keys that stand twice: YAML's readers take the last without a word."""
        return (self.error(path, "this key stands twice; the last counts") for path in self.twice)


def dotted(path: Sequence[str | int]) -> str:
    """``autoinstall.storage.config[3].id``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def load(text: str, *, inside: str = "", first: int = 1) -> Marked:
    """The YAML of ``inside``, or of the whole text; ``first`` is the line of the text where ``inside`` begins.

    Raises Unreadable.
    """
    source = inside or text
    try:
        loader = yaml.SafeLoader(source)
        try:
            node = loader.get_single_node()
            walk = _Walk(loader, first)
            value = walk.plain(node, ()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + first if mark else first
        raise Unreadable(finding(text, line, f"YAML: {error.problem or error}")) from error
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's constructors of tagged scalars trust their text: `!!int ''`, `!!timestamp x`.
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise Unreadable(Finding("error", 0, "", f"YAML: {why}")) from error
    return Marked(text, value, walk.lines, frozenset(walk.blocks), tuple(walk.twice), first)


class _Walk:
    def __init__(self, loader: yaml.SafeLoader, first: int) -> None:
        self.loader, self.first = loader, first
        self.lines: dict[Path, int] = {}
        self.blocks: set[Path] = set()
        self.twice: list[Path] = []

    def plain(self, node: yaml.Node, path: Path) -> Any:
        if len(self.lines) >= MOST_NODES:
            raise ValueError(f"more than {MOST_NODES} values")
        self.lines.setdefault(path, node.start_mark.line + self.first)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.plain(item, (*path, place)) for place, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.style == "|":
            self.blocks.add(path)
        return self.loader.construct_object(node, deep=True)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        own = {id(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"}
        self.loader.flatten_mapping(node)
        found: dict[Any, Any] = {}
        seen: set[Any] = set()
        for key_node, value_node in node.value:
            key = self.loader.construct_object(key_node, deep=True)
            step = key if isinstance(key, str) else str(key)
            if id(key_node) in own and key in seen:
                self.twice.append((*path, step))
            seen |= {key} if id(key_node) in own else set()
            self.lines[*path, step] = key_node.start_mark.line + self.first
            found[key] = self.plain(value_node, (*path, step))
        return found
