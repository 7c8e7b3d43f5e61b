"""What a change does to machines, gathered: grouped where it is the same, the mistakes first."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from provisioner.core.likeness import Differ, normal, own_values, unified
from provisioner.errors import ProvisionerError
from provisioner.services import sealing
from provisioner.services.rerender import Pair
from provisioner.services.sealing import Prepared
from provisioner.services.site import Site

MOST_VALIDATED = 50
"""So many groups are validated, the first to be found: each starts programs."""


@dataclass
class _Group:
    """Machines whose files differ alike."""

    example: str
    files: Mapping[str, str]
    prepared: Prepared | None
    unfilled: Mapping[str, str]
    names: list[str] = field(default_factory=list)
    problem: dict[str, str] | None = None
    warnings: list[str] = field(default_factory=list)
    validated: bool = False
    """As far as need be."""


@dataclass
class Findings:
    """Takes machines one after the other; keeps one example of each kind of difference."""

    site: Site
    reached: int = 0
    unchanged: int = 0
    _groups: dict[object, _Group] = field(default_factory=dict)
    _errors: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _unrendered: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _mended: list[str] = field(default_factory=list)
    _added: list[str] = field(default_factory=list)
    _sealed: list[str] = field(default_factory=list)
    _differ: Differ = field(default_factory=Differ)
    _began: float = field(default_factory=time.monotonic)
    _rendering: float = 0.0
    _validating: float = 0.0

    def take(self, pairs: Iterable[Pair]) -> None:
        """Sort these machines in."""
        for pair in pairs:
            self.reached += 1
            if self._sorted_in(pair):
                row = pair.row or {}
                self._sealed += [pair.name] if row.get("sealed") and pair.sealed_differ else []
        self._rendering = time.monotonic() - self._began

    def _sorted_in(self, pair: Pair) -> bool:
        """Sort a machine in; whether what it would be built from is another."""
        if pair.failed_after is not None:
            failed_already = pair.row is None or pair.failed_before is not None
            errors = self._unrendered if failed_already else self._errors
            errors.setdefault(_said(pair.failed_after, pair), []).append(pair.name)
            return not failed_already
        if pair.row is None:
            self._added.append(pair.name)
            return False
        if pair.failed_before is not None:
            self._mended.append(pair.name)
        elif pair.before or pair.after:
            self._group(pair)
        else:
            self.unchanged += 1
            return False
        return True

    def _group(self, pair: Pair) -> None:
        values = _same_values(pair)
        alike = []
        for name in sorted({*pair.before, *pair.after}):
            lines = self._differ.changed(*(side.get(name, "").split("\n") for side in (pair.before, pair.after)))
            alike.append((name, normal(lines, values)))
        key = tuple(alike)
        if key not in self._groups:
            files = {name: unified(name, pair.before.get(name, ""), pair.after.get(name, "")) for name, _ in key}
            few = len(self._groups) < MOST_VALIDATED
            self._groups[key] = _Group(pair.name, files, pair.prepared if few else None, pair.unfilled if few else {})
        self._groups[key].names.append(pair.name)

    def validate(self, progress: Callable[[str, int, int], None] | None = None) -> None:
        """Hold one output of each group against its installer's grammar."""
        began = time.monotonic()
        groups = [group for group in self._groups.values() if group.prepared is not None]
        for done, group in enumerate(groups, 1):
            _validate(group)
            if progress is not None:
                progress("validated", done, len(groups))
        self._validating = time.monotonic() - began

    def told(self) -> dict[str, Any]:
        """All of it as plain data."""
        groups = sorted(self._groups.values(), key=lambda each: (each.problem is None, -len(each.names)))
        failed = sum(map(len, self._errors.values()))
        return {
            "reached": self.reached,
            "changed": sum(len(each.names) for each in groups),
            "failed": failed,
            "unchanged": self.unchanged,
            "errors": _reasons(self._errors),
            "groups": [_told(each) for each in groups],
            "unrendered": _reasons(self._unrendered),
            "mended": self._mended,
            "added": self._added,
            "sealed": self._sealed,
            "seconds": {"rendering": round(self._rendering, 2), "validating": round(self._validating, 2)},
        }


def _said(error: ProvisionerError, pair: Pair) -> tuple[str, ...]:
    """An error in words that are the same for each machine that has it."""
    values = own_values(pair.prepared.context["machine"], 0) if pair.prepared else {pair.name: "<name>"}
    return (error.code, *normal((error.message, error.where, error.hint or ""), values))


def _same_values(pair: Pair) -> dict[str, str]:
    """The machine's own values that the change leaves as they are: a new name is a difference like any other."""
    row, new_row = pair.row or {}, pair.new_row or {}
    if pair.prepared is None:
        return {}
    values = own_values(pair.prepared.context["machine"], int(new_row.get("number", 0)))
    own = ("name", "serial", "uuid", "interfaces")
    if all(row.get(key) == new_row.get(key) for key in own):
        return values
    kept = {str(nic[key]) for nic in row.get("interfaces", ()) for key in ("mac", "ip")}
    kept |= {str(row.get(key)) for key in own[:3]}
    return {value: word for value, word in values.items() if value.replace("-", ":") in kept or value in kept}


def _validate(group: _Group) -> None:
    assert group.prepared is not None  # noqa: S101 - the caller looked
    group.validated = True
    main = next(iter(sealing.wanted(group.prepared.order.gathered)))
    if main not in group.unfilled:
        return  # what the validator reads is as it was
    try:
        group.warnings = list(sealing.validated(group.prepared, group.unfilled))
    except ProvisionerError as error:
        group.problem = dict(zip(_FIELDS, _plain(error), strict=True))


_FIELDS = ("code", "message", "where", "hint")


def _plain(error: ProvisionerError) -> tuple[str, ...]:
    return error.code, error.message, error.where, error.hint or ""


def _reasons(found: Mapping[tuple[str, ...], list[str]]) -> list[dict[str, Any]]:
    ordered = sorted(found.items(), key=lambda each: -len(each[1]))
    return [dict(zip(_FIELDS, said, strict=True)) | {"machines": names} for said, names in ordered]


def _told(group: _Group) -> dict[str, Any]:
    return {
        "machines": group.names,
        "example": group.example,
        "files": dict(group.files),
        "problem": group.problem,
        "warnings": group.warnings,
        "validated": group.validated,
    }
