"""Which registered machine is meant: by any of its MACs, then by serial number, then by UUID.

Fillers of firmware match nothing. Where the facts name different machines nobody guesses: that is a conflict, with both
sides in its details (R14, R15).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from provisioner.core.facts import normal_serial, normal_uuid, uuid_spellings
from provisioner.errors import IdentityConflict


@dataclass(frozen=True)
class Known:
    """A registered machine. ``key`` is the caller's own; MACs are in normal form."""

    key: int
    name: str
    macs: tuple[str, ...] = ()
    serial: str | None = None
    uuid: str | None = None
    awaits_mac: bool = False
    """It has no MAC at all, or an interface whose MAC nobody knew yet."""


@dataclass(frozen=True)
class Wanted:
    """What somebody says of a machine. MACs are in normal form; serial number and UUID as they were said."""

    macs: tuple[str, ...] = ()
    serial: str | None = None
    uuid: str | None = None
    name: str | None = None


_Side: TypeAlias = Known | Wanted


@dataclass
class Index:
    """Registered machines by what they are found by; for one look-up or for ten thousand."""

    by_mac: dict[str, Known] = field(default_factory=dict)
    by_serial: dict[str, list[Known]] = field(default_factory=dict)
    by_uuid: dict[str, list[Known]] = field(default_factory=dict)
    by_name: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def of(cls, machines: Iterable[Known]) -> "Index":
        """An index of these machines."""
        index = cls()
        for each in machines:
            index.add(each)
        return index

    def add(self, machine: Known) -> None:
        """One machine more."""
        self.by_name[machine.name] = machine
        self.by_mac |= dict.fromkeys(machine.macs, machine)
        for key, found in ((serial_key(machine.serial), self.by_serial), (uuid_key(machine.uuid), self.by_uuid)):
            if key is not None:
                found.setdefault(key, []).append(machine)


def serial_key(serial: str | None) -> str | None:
    """What serial numbers are compared by: inventories change their case; None for an empty or a dummy one."""
    found = normal_serial(serial)
    return None if found is None else found.lower()


def uuid_key(uuid: str | None) -> str | None:
    """What UUIDs are compared by: tools differ in the byte order; None for an empty, a broken or a dummy one."""
    found = normal_uuid(uuid)
    return None if found is None else min(uuid_spellings(found))


def match(wanted: Wanted, index: Index) -> Known | None:
    """The registered machine that is meant, or None when it is nobody yet. Raises IdentityConflict.

    A record that awaits its MAC is also found by serial number or UUID, and at last by its name.
    """
    machine = _by_mac(wanted, index)
    serial, uuid = serial_key(wanted.serial), uuid_key(wanted.uuid)
    by_serial = index.by_serial.get(serial, ()) if serial else ()
    machine = _by_fact(wanted, machine, by_serial, f"serial number {wanted.serial}", "/serial")
    by_uuid = index.by_uuid.get(uuid, ()) if uuid else ()
    machine = _by_fact(wanted, machine, by_uuid, f"UUID {wanted.uuid}", "/uuid")
    if machine is None and wanted.name is not None and wanted.name in index.by_name:
        machine = index.by_name[wanted.name]
        _refuse_other_card(wanted, machine, "is there already", "/name")
    if machine is not None:
        _refuse_other_facts(wanted, machine)
    return machine


def _by_mac(wanted: Wanted, index: Index) -> Known | None:
    owners = [(place, index.by_mac[mac]) for place, mac in enumerate(wanted.macs) if mac in index.by_mac]
    if not owners:
        return None
    first, machine = owners[0]
    for place, other in owners[1:]:
        if other.key != machine.key:
            message = f"{wanted.macs[first]} belongs to machine {machine.name}, {wanted.macs[place]} to {other.name}"
            _conflict(message, machine, other, f"/interfaces/{place}/mac")
    return machine


def _by_fact(wanted: Wanted, machine: Known | None, same: Sequence[Known], what: str, where: str) -> Known | None:
    others = [each for each in same if machine is None or each.key != machine.key]
    if not others or len(others) < len(same):
        # Two records with one serial number may be there; who asks for either by its MAC contradicts nothing.
        return machine
    first = others[0]
    if machine is not None:
        by = "MAC address" if set(machine.macs) & set(wanted.macs) else "serial number"
        _conflict(f"the {by} is machine {machine.name}'s, the {what} machine {first.name}'s", machine, first, where)
    if len(others) > 1:
        _conflict(f"machines {first.name} and {others[1].name} both have the {what}", first, others[1], where)
    _refuse_other_card(wanted, first, f"has the {what}", where)
    return first


def _refuse_other_card(wanted: Wanted, machine: Known, why: str, where: str) -> None:
    """A machine that is found by less than a MAC must await one, or have this very one."""
    if not machine.awaits_mac and not set(wanted.macs) & set(machine.macs):
        macs = ", ".join(wanted.macs) or "no MAC address"
        message = f"machine {machine.name} {why}, but its MAC addresses are others than {macs}"
        _conflict(f"{message}: a new card, or another machine?", machine, wanted, where)


def _refuse_other_facts(wanted: Wanted, machine: Known) -> None:
    for what, where, new, old, said, recorded in (
        ("serial", "/serial", serial_key(wanted.serial), serial_key(machine.serial), wanted.serial, machine.serial),
        ("UUID", "/uuid", uuid_key(wanted.uuid), uuid_key(machine.uuid), wanted.uuid, machine.uuid),
    ):
        if new is not None and old is not None and new != old:
            message = f"machine {machine.name} has the {what} {recorded}, not {said}: board swapped, or card moved?"
            _conflict(message, machine, wanted, where)


def _conflict(message: str, machine: Known, other: _Side, where: str) -> NoReturn:
    raise IdentityConflict(message, where=where, matched=_shown(machine), other=_shown(other))


def _shown(side: _Side) -> dict[str, Any]:
    return {"name": side.name, "macs": list(side.macs), "serial": side.serial, "uuid": side.uuid}
