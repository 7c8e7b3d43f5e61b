"""What fields of forms mean: words, parameters as YAML, and what changed of them."""

from collections.abc import Mapping
from typing import Any

from provisioner.core.content import dump_yaml, load_yaml
from provisioner.errors import MalformedContent


def words(text: str) -> list[str]:
    """The words of a field, however they are parted: blanks, commas, lines."""
    return text.replace(",", " ").split()


def parameters(text: str, where: str = "parameters") -> dict[str, Any]:
    """The mapping that somebody wrote as YAML; empty for an empty field. Raises MalformedContent, with the line."""
    wanted = load_yaml(text, where) if text.strip() else {}
    if not isinstance(wanted, dict):
        raise MalformedContent(
            "these are no names with values", where=where, hint="write a line `name: value` for each"
        )
    return wanted


def parameters_text(values: Mapping[str, Any]) -> str:
    """A mapping as YAML, for a field."""
    return dump_yaml(dict(values)).rstrip("\n") if values else ""


def replaced(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The change that makes ``current`` into ``wanted``, as services take it: None removes a name."""
    return {name: None for name in current if name not in wanted} | dict(wanted)
