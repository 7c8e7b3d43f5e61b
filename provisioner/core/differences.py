"""What differs between two states of an object, field by field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def differences(before: Any, after: Any) -> list[dict[str, Any]]:
    """Each field that differs, as ``pointer`` (RFC 6901), ``before`` and ``after``; None where it is missing.

    Lists of the same length are compared item by item; of others the whole list is one difference.
    """
    return [{"pointer": pointer, "before": old, "after": new} for pointer, old, new in _walk("", before, after)]


def fields(changes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of the fields that the differences are in."""
    return sorted({each["pointer"].split("/")[1] for each in changes if each["pointer"]})


def _walk(pointer: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _walk(f"{pointer}/{_escaped(key)}", before.get(key), after.get(key))
    elif _is_list(before) and _is_list(after) and len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _walk(f"{pointer}/{place}", old, new)
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield pointer, before, after


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
