"""The fields of objects as somebody sends them: checked for type and size, each error with its JSON pointer."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.errors import InvalidInput, TooLarge

DESCRIPTION_CHARACTERS = 4000
PARAMETER_BYTES = 64 * 1024
PARAMETER_DEPTH = 16
MOST_INTERFACES = 64
MOST_OPTIONS = 64
MOST_TAGS = 64
MOST_RANGES = 64
MOST_SERVERS = 16
_INVENTORY_CHARACTERS = 128
_TAG = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")


def text(value: object, where: str, most: int = DESCRIPTION_CHARACTERS) -> str:
    """A text of at most ``most`` characters, None counting as empty. Raises InvalidInput."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"{str(value)[:80]!r} is not a text", where=where, hint="write it in quotes")
    if len(value) > most:
        raise TooLarge(
            f"a text of {len(value)} characters, more than {most}", where=where, hint=f"shorten it to {most} characters"
        )
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInput(f"{value[:80]!r} holds a character that cannot be stored", where=where, hint="leave it out")
    return value


def flag(value: object, where: str) -> bool:
    """Yes or no. Raises InvalidInput."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{str(value)[:80]!r} is neither true nor false", where=where, hint="write true or false")
    return value


def several(value: object, where: str, most: int) -> Sequence[Any]:
    """A list of at most ``most``. Raises InvalidInput, TooLarge."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise InvalidInput(f"{str(value)[:80]!r} is not a list", where=where, hint="write it in brackets")
    if len(value) > most:
        raise TooLarge(f"{len(value)} are too many", where=where, hint=f"give at most {most}")
    return value


def tags(value: object, where: str) -> list[str]:
    """Tags in lower case, each once, in order. Raises InvalidInput, TooLarge."""
    found = set()
    for place, each in enumerate(several(value, where, MOST_TAGS)):
        word = each.strip().lower() if isinstance(each, str) else ""
        if not _TAG.fullmatch(word):
            raise InvalidInput(
                f"{str(each)[:80]!r} is not a tag",
                where=f"{where}/{place}",
                hint="use letters, digits, dots, hyphens, underscores and colons; at most 64 characters",
            )
        found.add(word)
    return sorted(found)


def inventory(value: object, where: str) -> str | None:
    """What an inventory calls a machine, in one printable line; None for nothing. Raises InvalidInput."""
    found = text(value, where, _INVENTORY_CHARACTERS).strip()
    if not found.isprintable():
        raise InvalidInput(f"{found[:80]!r} is not printable", where=where, hint="for example netbox/17")
    return found or None


def refuse_deep(value: object, where: str) -> None:
    """Raise TooLarge for plain data nested beyond ``PARAMETER_DEPTH``; never recurses itself."""
    level: list[Any] = [value]
    for _ in range(PARAMETER_DEPTH):
        inside = [list(each.values()) if isinstance(each, Mapping) else each for each in level]
        level = [one for each in inside if isinstance(each, list | tuple) for one in each]
        if not level:
            return
    if any(isinstance(each, Mapping | list | tuple) for each in level):
        raise TooLarge(
            "nested too deeply", where=where, hint=f"at most {PARAMETER_DEPTH} levels of lists and mappings are kept"
        )


def refuse_large(value: Mapping[str, Any], where: str) -> None:
    """Raise TooLarge for parameters that take more than ``PARAMETER_BYTES`` as JSON."""
    size = len(json.dumps(value))
    if size > PARAMETER_BYTES:
        raise TooLarge(
            f"the parameters take {size} bytes, more than {PARAMETER_BYTES}",
            where=where,
            hint="put long texts into a template or snippet",
        )
