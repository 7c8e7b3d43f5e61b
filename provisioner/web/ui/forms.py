"""What fields of forms mean: words, values as YAML, and what changed of them."""

from collections.abc import Mapping
from typing import Any

from provisioner.core.content import dump_yaml, load_yaml
from provisioner.errors import MalformedContent

_QUOTES = "mend it there; a text with a colon, a bracket or a dash at its beginning stands in quotes"


def words(text: str) -> list[str]:
    """The words of a field, however they are parted: blanks, commas, lines."""
    return text.replace(",", " ").split()


def value(text: str, where: str) -> Any:
    """What somebody wrote as YAML in the field ``where``. Raises MalformedContent, with the line in its words."""
    try:
        return load_yaml(text, where)
    except MalformedContent as error:
        line = error.where.rpartition(":")[2]
        said = f"line {line}: {error.message}" if line.isdigit() else error.message
        raise MalformedContent(said, where=where, hint=_QUOTES) from error


def parameters(text: str, where: str = "parameters") -> dict[str, Any]:
    """Names with values, as somebody wrote them as YAML; empty for an empty field. Raises as `value` does."""
    wanted = value(text, where) if text.strip() else None
    if wanted is None:
        return {}
    if not isinstance(wanted, dict):
        raise MalformedContent(
            "these are not names with values", where=where, hint="one a line, such as timezone: Europe/Berlin"
        )
    return wanted


def parameters_text(values: Mapping[str, Any]) -> str:
    """A mapping as YAML, for a field."""
    return dump_yaml(dict(values)).rstrip("\n") if values else ""


def replaced(current: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The change that makes ``current`` into ``wanted``, as services take it: None removes a name."""
    return {name: None for name in current if name not in wanted} | dict(wanted)
