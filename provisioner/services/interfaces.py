"""The interfaces of a machine: whose MAC and address they have, and which are replaced by which."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core import fields
from provisioner.core.addresses import normal_ip, normal_mac
from provisioner.core.pointers import at
from provisioner.core.pools import Pool
from provisioner.errors import AddressTaken, InvalidInput, MacTaken, NotFound, TooLarge
from provisioner.services import addresses, objects
from provisioner.services.site import Actor
from provisioner.store.models import Interface, Machine, Subnet

NEXT = "next"
_NAME_CHARACTERS = 64
_NUMBERED = re.compile(r"nic\d+")


@dataclass(frozen=True)
class InterfaceInput:
    """An interface as somebody writes it: any spelling; the subnet follows from the address.

    An ``ip`` of ``next`` is the next free one of the subnet; an interface that has one there keeps it. A ``mac`` of
    None is not known yet; the next MAC that the machine is given without an address takes this place.
    """

    mac: str | None = None
    ip: str | None = None
    name: str | None = None
    subnet: str | None = None
    keep: bool = False
    """Whether an address that is not given stays as it is, rather than being taken away."""


@dataclass(frozen=True)
class _Wanted:
    """An interface as it will be; ``row`` is the one that becomes it."""

    row: Interface | None
    name: str
    mac: str | None
    ip: str | None
    subnet: Subnet | None


def parse(value: object) -> list[InterfaceInput]:
    """Interfaces as plain data, ``{"mac", "ip", "name", "subnet"}`` each; an address that is left out stays.

    Raises InvalidInput with the field's pointer.
    """
    found = []
    for place, each in enumerate(fields.several(value, "/interfaces", fields.MOST_INTERFACES)):
        where = f"/interfaces/{place}"
        if not isinstance(each, Mapping) or set(each) - {"mac", "ip", "name", "subnet"}:
            raise InvalidInput(
                f"{str(each)[:80]!r} is not an interface", where=where, hint="it has mac, ip, name and subnet"
            )
        texts = {key: fields.text(text, f"{where}/{key}", 128) or None for key, text in each.items()}
        found.append(InterfaceInput(**texts, keep="ip" not in each))
    return found


def put(session: Session, actor: Actor, machine: Machine, inputs: Sequence[InterfaceInput]) -> bool:
    """Make these the interfaces of the machine, in this order; whether anything changed.

    Raises MacTaken, AddressTaken, AddressOutsideSubnet, NoAddressFree, UnknownReference, MalformedMac,
    MalformedAddress, InvalidInput and TooLarge, each with the field's pointer.
    """
    if len(inputs) > fields.MOST_INTERFACES:
        raise TooLarge(
            f"{len(inputs)} interfaces are too many",
            where="/interfaces",
            hint=f"a machine has at most {fields.MOST_INTERFACES}",
        )
    wanted = _resolved(session, actor, machine, inputs)
    _refuse_twice("mac", "MAC address", [each.mac for each in wanted])
    _refuse_twice("ip", "address", [each.ip for each in wanted])
    before = [(each, each.position, each.name, each.mac, each.ip, each.subnet_id) for each in machine.interfaces]
    _give_up(session, machine, wanted)
    with session.no_autoflush:
        machine.interfaces = [each.row or Interface() for each in wanted]
        for position, (interface, each) in enumerate(zip(machine.interfaces, wanted, strict=True)):
            interface.position, interface.name, interface.mac = position, each.name, each.mac
            interface.ip, interface.subnet = each.ip, each.subnet
            interface.subnet_id = each.subnet.id if each.subnet else None
    after = [(each, each.position, each.name, each.mac, each.ip, each.subnet_id) for each in machine.interfaces]
    return before != after


def without(machine: Machine, macs: Sequence[str]) -> list[InterfaceInput]:
    """The machine's interfaces as input, less those with these MACs. Raises NotFound."""
    gone = {normal_mac(mac) for mac in macs}
    missing = gone - {each.mac for each in machine.interfaces}
    if missing:
        raise NotFound(f"{machine.name} has no interface {', '.join(sorted(missing))}", where="--remove-interface")
    return [as_input(each) for each in machine.interfaces if each.mac not in gone]


def as_input(each: Interface) -> InterfaceInput:
    """An interface as it would be written to stay as it is."""
    return InterfaceInput(each.mac, each.ip, each.name, each.subnet.name if each.subnet else None)


def _resolved(session: Session, actor: Actor, machine: Machine, inputs: Sequence[InterfaceInput]) -> list[_Wanted]:
    macs = [_mac(session, machine, place, each) for place, each in enumerate(inputs)]
    rows = _rows(machine, inputs, macs)
    explicit = [_explicit(session, machine, place, each) for place, each in enumerate(inputs)]
    avoid = {ip for ip in explicit if ip}
    found = []
    for place, (each, row, ip) in enumerate(zip(inputs, rows, explicit, strict=True)):
        if row is not None and not each.ip and (each.keep or row.mac is None):
            ip, subnet = row.ip, row.subnet  # noqa: PLW2901
            if each.subnet and (subnet is None or subnet.name != each.subnet):
                ip, subnet = None, _subnet(session, each, place)  # noqa: PLW2901
        else:
            subnet = _subnet(session, each, place)
        with at(f"/interfaces/{place}/ip"):
            if each.ip == NEXT:
                subnet = subnet or (row.subnet if row is not None else None)
                ip = _next(session, row, subnet, avoid)  # noqa: PLW2901
                avoid.add(ip)
            if ip and subnet is None:
                subnet = addresses.containing(session, ip)
            if ip and subnet:
                _check(session, actor, machine, ip, subnet)
        found.append(_Wanted(row, _name(each, row, place), macs[place], ip, subnet))
    return found


def _subnet(session: Session, each: InterfaceInput, place: int) -> Subnet | None:
    with at(f"/interfaces/{place}/subnet"):
        return objects.refer(session, Subnet, each.subnet, "") if each.subnet else None


def _rows(machine: Machine, inputs: Sequence[InterfaceInput], macs: Sequence[str | None]) -> list[Interface | None]:
    """For each input the interface that becomes it: that of its MAC; else one whose MAC was not known."""
    by_mac = {each.mac: each for each in machine.interfaces if each.mac}
    waiting = [each for each in machine.interfaces if each.mac is None]
    rows: list[Interface | None] = []
    for each, mac in zip(inputs, macs, strict=True):
        row = by_mac.get(mac) if mac else None
        if row is None and waiting:
            same = [one for one in waiting if each.ip in (None, NEXT, one.ip)]
            row = (same or waiting)[0]
            waiting.remove(row)
        rows.append(row)
    return rows


def _mac(session: Session, machine: Machine, place: int, each: InterfaceInput) -> str | None:
    if not each.mac:
        return None
    with at(f"/interfaces/{place}/mac"):
        mac = normal_mac(each.mac)
        owner = session.scalar(select(Interface).where(Interface.mac == mac))
        if owner is not None and owner.machine is not machine:
            raise MacTaken(f"{mac} belongs to machine {owner.machine.name}")
        return mac


def _explicit(session: Session, machine: Machine, place: int, each: InterfaceInput) -> str | None:
    if not each.ip or each.ip == NEXT:
        return None
    with at(f"/interfaces/{place}/ip"):
        ip = normal_ip(each.ip)
        taken = session.scalar(select(Interface).where(Interface.ip == ip))
        if taken is not None and taken.machine is not machine:
            raise AddressTaken(f"{ip} belongs to machine {taken.machine.name}")
        return ip


def _next(session: Session, row: Interface | None, subnet: Subnet | None, avoid: set[str]) -> str:
    if subnet is None:
        raise InvalidInput("`next` needs a subnet", hint="name it: subnet=lab, or --ip next:lab")
    if row is not None and row.ip and row.subnet is subnet and row.ip not in avoid:
        return row.ip
    return addresses.next_free(session, subnet, avoid=avoid)[0]


def _check(session: Session, actor: Actor, machine: Machine, ip: str, subnet: Subnet) -> None:
    if ip in {each.ip for each in machine.interfaces if each.subnet is subnet}:
        # It was given before the ranges were drawn, perhaps; what no machine may have is refused all the same.
        Pool(subnet.name, subnet.cidr, subnet.gateway).refuse(ip)
    else:
        addresses.take(session, actor, ip, subnet)


def _name(each: InterfaceInput, row: Interface | None, place: int) -> str:
    if each.name:
        return fields.text(each.name, f"/interfaces/{place}/name", _NAME_CHARACTERS)
    kept = row.name if row is not None else ""
    return kept if kept and not _NUMBERED.fullmatch(kept) else f"nic{place}"


def _give_up(session: Session, machine: Machine, wanted: Sequence[_Wanted]) -> None:
    """Addresses that change places are taken away first: the constraint looks at each row as it is written."""
    moved = {each.ip for each in wanted if each.ip and (each.row is None or each.row.ip != each.ip)}
    holders = [each for each in machine.interfaces if each.ip in moved]
    for interface in holders:
        interface.ip = None
    if holders:
        session.flush()


def _refuse_twice(key: str, what: str, values: Sequence[str | None]) -> None:
    for place, value in enumerate(values):
        if value is not None and value in values[:place]:
            raise InvalidInput(
                f"two interfaces have the same {what} {value}",
                where=f"/interfaces/{place}/{key}",
                hint="give each its own",
            )
