"""What a body of machines would do, decided without I/O from what is there.

A row that cannot be is refused with its reason and place, and does not keep the others from being looked at. The
whole body is looked at as one change: two machines may swap their names or addresses in it. A machine is who has the
MAC, so two that swap their MACs are two that swap their names; serial numbers or UUIDs that say otherwise refuse that.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from provisioner.core import machineinput
from provisioner.core.cabling import Nets, cable
from provisioner.core.differences import differences
from provisioner.core.identity import Index, Known, Wanted, match, serial_key, uuid_key
from provisioner.core.machineinput import NEXT, pointer
from provisioner.core.parameters import merged_parameters
from provisioner.errors import (
    AddressTaken,
    Conflict,
    IdentityConflict,
    InvalidInput,
    MacTaken,
    NameTaken,
    NoAddressFree,
    ProvisionerError,
    StillInUse,
    UnknownReference,
)

Machine = dict[str, Any]
"""A machine's snapshot, as `store.snapshots` makes it."""
Free = Callable[[str, int, set[str]], Sequence[str]]
"""Free addresses of the subnet of that name: at most so many, none of the given ones."""


@dataclass(frozen=True)
class There:
    """A machine that is there."""

    known: Known
    machine: Machine
    running: bool
    """Whether it is being built."""


@dataclass(frozen=True)
class World:
    """What there is that the body touches: every machine that one of its names, addresses or identities hits."""

    machines: Mapping[int, There]
    nets: Nets
    profiles: frozenset[str]
    blank: Machine
    """A machine of which nothing is said."""
    held: Mapping[str, str]
    """Addresses that somebody else holds, and who."""
    free: Free


@dataclass(frozen=True)
class Refusal:
    """A row that cannot be, and why."""

    index: int
    name: str | None
    reason: str
    code: str
    pointer: str
    hint: str

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return dict(vars(self))


@dataclass
class Change:
    """A row that can be. ``before`` is None for a machine that is new."""

    index: int
    target: int | None
    before: Machine | None
    after: Machine
    nics: list[int | None] = field(default_factory=list)
    """For each interface after, the position of the one before that it was; None for one that is new."""

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What it changes, field by field."""
        return [] if self.before is None else differences(self.before, self.after)

    @property
    def fresh(self) -> set[str]:
        """The addresses that it had not before."""
        had = {nic["ip"] for nic in self.before["interfaces"]} if self.before else set()
        return {nic["ip"] for nic in self.after["interfaces"]} - had - {None}


@dataclass(frozen=True)
class Plan:
    """What the body would do."""

    created: tuple[Change, ...]
    changed: tuple[Change, ...]
    refused: tuple[Refusal, ...]
    unchanged: int
    targets: frozenset[int]
    """The machines it is about, changed or not."""

    @property
    def digest(self) -> str:
        """Two plans with the same digest do the same."""
        told = [
            *([each.index, each.after] for each in self.created),
            *([each.index, each.target, each.changes] for each in self.changed),
            *(each.plain() for each in self.refused),
            self.unchanged,
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """A row that was read: its number in the body, and the machine in normal form."""

    index: int
    wanted: Mapping[str, Any]

    @property
    def macs(self) -> list[str]:
        """Its MAC addresses."""
        return [nic["mac"] for nic in self.wanted.get("interfaces", ()) if nic.get("mac")]

    @property
    def ips(self) -> list[str]:
        """Its addresses, as far as they are given."""
        given = [nic.get("ip") for nic in self.wanted.get("interfaces", ())]
        return [ip for ip in given if ip is not None and ip != NEXT]


def read(machines: Sequence[Any]) -> tuple[list[Row], list[Refusal]]:
    """The rows of a body in normal form, and those that have none."""
    rows, refused = [], []
    for index, raw in enumerate(machines):
        try:
            rows.append(Row(index, machineinput.read(raw)))
        except ProvisionerError as error:
            name = raw.get("name") if isinstance(raw, Mapping) else None
            refused.append(_refusal(index, name if isinstance(name, str) else None, error))
    return rows, refused


def decide(rows: Sequence[Row], refused: Sequence[Refusal], world: World) -> Plan:
    """What the rows do to the world; ``refused`` are those that could not be read."""
    finder = _Finder(world)
    changes: list[Change] = []
    refusals = list(refused)
    seen: dict[int, int] = {}
    for row in rows:
        try:
            there = finder.find(row)
            if there is not None and there.known.key in seen:
                raise Conflict(
                    f"this is machine {there.known.name}, which row {seen[there.known.key] + 1} is about already",
                    where="/name" if "name" in row.wanted else "/interfaces",
                    hint="say all of a machine in one row",
                )
            changes.append(_change(row, there, world))
            if there is not None:
                seen[there.known.key] = row.index
        except ProvisionerError as error:
            refusals.append(_refusal(row.index, row.wanted.get("name"), error))
    refusals += _pick(changes, world)
    refusals += _clashes(changes, finder)
    bad = {each.index for each in refusals}
    good = [each for each in changes if each.index not in bad]
    return Plan(
        created=tuple(each for each in good if each.before is None),
        changed=tuple(each for each in good if each.before is not None and each.before != each.after),
        refused=tuple(sorted(refusals, key=lambda each: each.index)),
        unchanged=sum(each.before == each.after for each in good),
        targets=frozenset(each.target for each in changes if each.target is not None),
    )


def _refusal(index: int, name: str | None, error: ProvisionerError) -> Refusal:
    shown = None if name is None else name[:253]
    return Refusal(index, shown, error.message, error.code, error.where, error.hint)


class _Finder:
    """The machines that are there, by what they are found by."""

    def __init__(self, world: World) -> None:
        self.machines = world.machines
        self.index = Index.of(there.known for there in world.machines.values())
        self._ips = {
            nic["ip"]: number
            for number, there in world.machines.items()
            for nic in there.machine["interfaces"]
            if nic["ip"] is not None
        }

    def owner(self, what: str, value: str) -> int | None:
        """The machine that has this name, MAC or address."""
        if what == "ip":
            return self._ips.get(value)
        known = {"name": self.index.by_name, "mac": self.index.by_mac}.get(what, {}).get(value)
        return known.key if known else None

    def find(self, row: Row) -> There | None:
        """The machine that the row is about; None for a new one. Raises IdentityConflict, InvalidInput."""
        said = Wanted(tuple(row.macs), row.wanted.get("serial"), row.wanted.get("uuid"), row.wanted.get("name"))
        found = match(said if said.macs else replace(said, macs=self._macs(said)), self.index)
        if found is not None:
            return self.machines[found.key]
        _refuse_nobody(row)
        return None

    def _macs(self, said: Wanted) -> tuple[str, ...]:
        """Nothing is said of its MACs, so they stay those of the machine with the name, serial number or UUID."""
        same = [self.index.by_name[said.name]] if said.name in self.index.by_name else []
        same = same or self.index.by_serial.get(serial_key(said.serial) or "") or []
        same = same or self.index.by_uuid.get(uuid_key(said.uuid) or "") or []
        return same[0].macs if len(same) == 1 else ()


def _refuse_nobody(row: Row) -> None:
    """Raise InvalidInput if there is too little to add a machine."""
    if "name" not in row.wanted:
        raise InvalidInput(
            "no machine has these addresses, and one that is added needs a name", where="/name", hint="give it one"
        )
    nics = row.wanted.get("interfaces", ())
    if not any(nic.get("mac") or nic.get("ip") for nic in nics) and not (
        row.wanted.get("serial") or row.wanted.get("uuid")
    ):
        raise InvalidInput(
            f"there is no machine {row.wanted['name']}, and one that is added needs a MAC address",
            where="/interfaces",
            hint="give at least one interface; while its MAC is not known, its address, serial number or UUID",
        )


def facts_of(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What identifies a machine besides its MACs, in a form to compare; dummies identify nothing."""
    keys = (("serial", serial_key(machine.get("serial"))), ("uuid", uuid_key(machine.get("uuid"))))
    return [(what, key) for what, key in keys if key is not None]


def _change(row: Row, there: There | None, world: World) -> Change:
    wanted = row.wanted
    before = there.machine if there else None
    after = dict(before or world.blank)
    for key in wanted.keys() - {"interfaces", "parameters", "protected", "retired"}:
        after[key] = wanted[key]
    if wanted.get("profile") and wanted["profile"] not in world.profiles:
        raise UnknownReference(
            f"there is no profile {wanted['profile']!r}", where="/profile", hint="see `provisioner profile list`"
        )
    if "parameters" in wanted:
        after["parameters"] = merged_parameters(after["parameters"], wanted["parameters"])
    for key in ("protected", "retired"):
        if key in wanted and wanted[key] != after[key]:
            _refuse_running(there, key)
            after[key] = wanted[key]
    if after["retired"]:
        after.pop("state", None)
    change = Change(row.index, there.known.key if there else None, before, after)
    change.nics = list(range(len(after["interfaces"])))
    if "interfaces" in wanted:
        cabled = cable(wanted["interfaces"], after["interfaces"], world.nets, world.held)
        after["interfaces"], change.nics = cabled
    return change


def _refuse_running(there: There | None, what: str) -> None:
    if there is not None and there.running:
        name = there.known.name
        raise StillInUse(
            f"{name} is being built and cannot be {what} meanwhile",
            where=pointer(what),
            hint=f"`provisioner build cancel {name}` first",
        )


def _pick(changes: Sequence[Change], world: World) -> list[Refusal]:
    """Choose the addresses that were left to us, row by row; the refusals are of those for whom none is left."""
    asking: dict[str, list[tuple[Change, int]]] = {}
    given: set[str] = set()
    for change in changes:
        for place, nic in enumerate(change.after["interfaces"]):
            if nic["ip"] == NEXT:
                asking.setdefault(nic["subnet"], []).append((change, place))
            elif nic["ip"]:
                given.add(nic["ip"])
    refusals = []
    for subnet, places in asking.items():
        free = world.free(subnet, len(places), given)
        for (change, place), ip in zip(places, free, strict=False):
            change.after["interfaces"][place]["ip"] = ip
        for change, place in places[len(free) :]:
            error = NoAddressFree(
                f"subnet {subnet} has {len(free)} addresses free, {len(places)} are asked for",
                where=pointer("interfaces", place, "ip"),
            )
            refusals.append(_refusal(change.index, change.after["name"], error))
    return refusals


def _clashes(changes: Sequence[Change], finder: _Finder) -> list[Refusal]:
    """Rows that want what another row, or a machine that keeps it, has."""
    after: dict[int | None, Machine] = {each.target: each.after for each in changes if each.target is not None}
    claims: dict[tuple[str, str], int] = {}
    refusals = []
    for change in changes:
        try:
            for key, place in _claimed(change.before, change.after):
                first = claims.setdefault(key, change.index)
                if first != change.index:
                    raise _TAKEN[key[0]](f"{key[1]} stands in row {first + 1} too", where=place, hint=_ONCE)
                _refuse_kept(key, place, change, finder, after)
        except ProvisionerError as error:
            refusals.append(_refusal(change.index, change.after["name"], error))
    return refusals


_ONCE = "let it stand in one row alone"
_TAKEN: Mapping[str, type[Conflict]] = {
    "name": NameTaken, "mac": MacTaken, "ip": AddressTaken, "serial": IdentityConflict, "uuid": IdentityConflict
}  # fmt: skip


def _claimed(before: Machine | None, machine: Machine) -> Iterable[tuple[tuple[str, str], str]]:
    yield ("name", machine["name"]), "/name"
    for place, nic in enumerate(machine["interfaces"]):
        for key in ("mac", "ip"):
            if nic[key] and nic[key] != NEXT:
                yield (key, nic[key]), pointer("interfaces", place, key)
    # Two machines of which the same was said long ago are no fault of this body.
    said = facts_of(before or {})
    yield from ((fact, pointer(fact[0])) for fact in facts_of(machine) if fact not in said)


def _refuse_kept(
    key: tuple[str, str], place: str, change: Change, finder: _Finder, after: Mapping[int | None, Machine]
) -> None:
    """Raise if a machine that is there has it and does not give it away in this body."""
    what, value = key
    owner = finder.owner(what, value)
    if owner is None or owner == change.target:
        return
    name = finder.machines[owner].known.name
    if what == "name":
        if owner not in after or after[owner]["name"] == value:
            hint = "choose another, or rename that machine in the same body: names may change places"
            raise NameTaken(f"there is a machine {name!r} already", where=place, hint=hint)
        return
    if what == "mac":
        raise MacTaken(f"{value} belongs to machine {name}", where=place)
    if owner not in after or any(nic["ip"] == value for nic in after[owner]["interfaces"]):
        raise AddressTaken(f"{value} belongs to machine {name}", where=place)
