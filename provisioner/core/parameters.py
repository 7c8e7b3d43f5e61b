"""Inheritance: built-in defaults, each ancestor profile from the root down, the profile, the subnet, the machine,
the build request. The later wins by key, lists replace, ``!name`` removes an inherited kernel option.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provisioner.core.fields import refuse_deep, refuse_large
from provisioner.core.markers import refuse_markers
from provisioner.core.names import parameter_name
from provisioner.core.pointers import at
from provisioner.errors import MalformedContent, ParentCycle

Json = Any


@dataclass(frozen=True)
class Level:
    """One level that gives values; ``source`` is how people call it (``profile rocky9``, ``subnet lab``)."""

    source: str
    parameters: Mapping[str, Json] = field(default_factory=dict)
    kernel_options: Sequence[str] = ()
    fields: Mapping[str, Json] = field(default_factory=dict)
    """Settings of the profile itself that inherit as a whole: template, distro, image, handoff, local_boot."""


@dataclass(frozen=True)
class Effective:
    """A value and where it came from."""

    value: Json
    source: str
    overrides: tuple[str, ...] = ()
    """The earlier levels that gave a value too, nearest last."""


@dataclass(frozen=True)
class Removed:
    """A kernel option that a level gave (``source``) and a later one took away with ``!name`` (``by``)."""

    value: str
    source: str
    by: str


@dataclass(frozen=True)
class Resolved:
    """What a machine gets in the end, each value with its source."""

    parameters: Mapping[str, Effective]
    kernel_options: tuple[Effective, ...]
    fields: Mapping[str, Effective]
    removed: tuple[Removed, ...] = ()
    """Kernel options that were inherited and taken away."""
    levels: tuple[str, ...] = ()
    """All levels that were looked at, the weakest first, whether they gave something or not."""

    def plain_parameters(self) -> dict[str, Json]:
        """The parameters alone, as templates see them."""
        return {name: effective.value for name, effective in self.parameters.items()}

    def plain_kernel_options(self) -> list[str]:
        """The kernel options in order."""
        return [effective.value for effective in self.kernel_options]

    def field(self, name: str) -> Json:
        """A field's value, or None."""
        found = self.fields.get(name)
        return None if found is None else found.value


def resolve(levels: Iterable[Level]) -> Resolved:
    """Merge the levels, the weakest first."""
    ordered = list(levels)
    options, removed = _merge_options((level.source, level.kernel_options) for level in ordered)
    return Resolved(
        parameters=_merge((level.source, level.parameters) for level in ordered),
        kernel_options=options,
        fields=_merge((level.source, level.fields) for level in ordered),
        removed=removed,
        levels=tuple(level.source for level in ordered),
    )


def _merge(levels: Iterable[tuple[str, Mapping[str, Json]]]) -> dict[str, Effective]:
    merged: dict[str, Effective] = {}
    for source, values in levels:
        for name, value in values.items():
            before = merged.get(name)
            overridden = () if before is None else (*before.overrides, before.source)
            merged[name] = Effective(value, source, overridden)
    return merged


def _merge_options(
    levels: Iterable[tuple[str, Sequence[str]]],
) -> tuple[tuple[Effective, ...], tuple[Removed, ...]]:
    merged: list[Effective] = []
    removed: list[Removed] = []
    for source, options in levels:
        # A name given again replaces what was inherited under it; within one level it may stand several times
        # (console=tty0 console=ttyS0).
        named = {option_name(option) for option in options}
        given = {option_name(option) for option in options if not option.startswith("!")}
        before = [effective for effective in merged if option_name(effective.value) in named]
        merged = [effective for effective in merged if option_name(effective.value) not in named]
        removed = [each for each in removed if option_name(each.value) not in given]
        removed += [Removed(each.value, each.source, source) for each in before if option_name(each.value) not in given]
        merged += [
            Effective(option, source, _sources(option, before)) for option in options if not option.startswith("!")
        ]
    return tuple(merged), tuple(removed)


def _sources(option: str, before: Iterable[Effective]) -> tuple[str, ...]:
    same = [each for each in before if option_name(each.value) == option_name(option)]
    return tuple(dict.fromkeys(source for each in same for source in (*each.overrides, each.source)))


def option_name(option: str) -> str:
    """The name of a kernel option: ``console`` for ``console=ttyS0`` and for ``!console``."""
    return option.removeprefix("!").partition("=")[0]


def check_kernel_options(options: Sequence[Json], where: str) -> list[str]:
    """The options as texts. Raises MalformedContent for what cannot stand on a kernel's command line."""
    checked = []
    for option in options:
        if not isinstance(option, str) or not option or not option.isascii() or not option.isprintable():
            raise MalformedContent(f"{option!r} is not a kernel option", where=where, hint="write them as texts")
        if set(option) & set(" \t'\"\\`$;|&<>") or option.startswith(("initrd=", "BOOTIF=")):
            raise MalformedContent(
                f"the kernel option {option!r} would break the boot script",
                where=where,
                hint="spaces, quotes and shell characters are not possible here; initrd= and BOOTIF= are ours to set",
            )
        checked.append(option)
    return checked


def check_plain(value: Json, where: str) -> None:
    """Raise MalformedContent unless the value is plain data that JSON and both databases keep as it is.

    YAML makes dates of ``2026-01-01``, and keys of numbers; neither would come back from the store the same.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise MalformedContent(f"the key {key!r} is not a text", where=where, hint="write it in quotes")
            check_plain(key, where)
            check_plain(item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            check_plain(item, where)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise MalformedContent(f"{value[:80]!r} holds a character that cannot be stored", where=where)
    elif not isinstance(value, bool | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise MalformedContent(f"{value!s:.80} is neither text nor number", where=where, hint="write it in quotes")


def merged_parameters(current: Mapping[str, Json], change: Mapping[str, Json]) -> dict[str, Json]:
    """The parameters with the change put over them; a value of None removes one.

    Raises MalformedContent and MalformedName, and TooLarge for what is nested too deeply or too much.
    """
    where = "/parameters"
    if not isinstance(change, Mapping):
        raise MalformedContent(f"{str(change)[:80]!r} is not a mapping", where=where, hint="write it as {name: value}")
    refuse_deep(change, where)
    refuse_markers(change, where)
    check_plain(change, where)
    merged = dict(current)
    with at(where):
        for name, value in change.items():
            if value is None:
                merged.pop(parameter_name(name), None)
            else:
                merged[parameter_name(name)] = value
    refuse_large(merged, where)
    return merged


def ancestry(name: str, parents: Mapping[str, str | None]) -> list[str]:
    """The profile's ancestors from the root down, the profile itself last. Raises ParentCycle."""
    line: list[str] = []
    current: str | None = name
    while current is not None:
        if current in line:
            cycle = " -> ".join([*line[line.index(current) :], current])
            raise ParentCycle(f"the profile {current} would inherit from itself: {cycle}")
        line.append(current)
        current = parents.get(current)
    return line[::-1]
