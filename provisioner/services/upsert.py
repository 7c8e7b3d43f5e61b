"""Machines as an inventory knows them: found by identity, then added or brought up to date."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from provisioner.core import machineinput
from provisioner.core.addresses import normal_mac
from provisioner.core.facts import serial_spellings, uuid_spellings
from provisioner.core.identity import Index, Known, Wanted, match, serial_key, uuid_key
from provisioner.core.pointers import at
from provisioner.errors import InvalidInput
from provisioner.services import machines
from provisioner.services.interfaces import InterfaceInput, as_input
from provisioner.services.site import Actor, Site
from provisioner.store.engine import write
from provisioner.store.models import Interface, Machine

_MADE = "m-"
_TAKEN = {"mac", "ip", "name", "subnet"}


def upsert(site: Site, actor: Actor, mac: str, data: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The machine with this MAC as ``data`` says it is, and whether it was added by this.

    It is found by any of its MACs, then by serial number, then by UUID. ``data`` is a machine as plain data
    (:mod:`core.machineinput`); keys left out stay as they are, and so does the address of an interface for which none
    is said. Without interfaces the MAC is one of those it has, or becomes one. A machine that is added without a name
    is called after its MAC, ``m-525400123456``. The same again changes nothing and leaves no revision.

    Raises IdentityConflict, with both sides in its details, and what :func:`machines.add` and :func:`machines.edit` do.
    """
    with at("/mac"):
        mac = normal_mac(mac)
    ready = {"ready": data["ready"]} if "ready" in data else {}
    read = machineinput.read({key: value for key, value in data.items() if key != "ready"})
    inputs = _inputs(mac, read.pop("interfaces", None))
    macs = tuple(each.mac for each in inputs or () if each.mac) or (mac,)
    with write(site.engine) as session:
        wanted = Wanted(macs, read.get("serial"), read.get("uuid"), read.get("name"))
        known = match(wanted, candidates(session, wanted))
        if known is None:
            name = read.pop("name", None) or _MADE + mac.replace(":", "")
            given = inputs or [InterfaceInput(mac)]
            return machines.make_and_save(session, actor, name, given, read | ready), True
        machine = session.get_one(Machine, known.key)
        if inputs is None and mac not in known.macs:
            inputs = _filled(machine, mac)
        return machines.change(session, actor, machine, read | ready, inputs), False


def candidates(session: Session, wanted: Wanted) -> Index:
    """All machines that could be meant: two statements."""
    conditions = [Machine.interfaces.any(Interface.mac.in_(wanted.macs))]
    if wanted.serial and serial_key(wanted.serial):
        conditions.append(Machine.serial.in_(serial_spellings(wanted.serial)))
    if wanted.uuid and uuid_key(wanted.uuid):
        conditions.append(Machine.uuid.in_(uuid_spellings(wanted.uuid)))
    if wanted.name:
        conditions.append(Machine.name == wanted.name)
    ids = [select(Machine.id).where(each) for each in conditions]
    found = session.scalars(select(Machine).where(or_(*(Machine.id.in_(each) for each in ids))).order_by(Machine.id))
    return Index.of(known(each) for each in found.unique())


def known(machine: Machine) -> Known:
    """A registered machine as identities are compared."""
    macs = tuple(each.mac for each in machine.interfaces if each.mac)
    awaits = not macs or len(macs) < len(machine.interfaces)
    return Known(machine.id, machine.name, macs, machine.serial, machine.uuid, awaits)


def _inputs(mac: str, given: Sequence[Mapping[str, Any]] | None) -> list[InterfaceInput] | None:
    """The interfaces that were said; the one without a MAC is the one with that of the URL."""
    if given is None:
        return None
    said = [dict(each) for each in given]
    if mac not in {each.get("mac") for each in said}:
        nameless = [each for each in said if not each.get("mac")]
        if len(nameless) != 1:
            raise InvalidInput(
                f"{mac} is none of these interfaces", where="/interfaces", hint="say it of the one that has this MAC"
            )
        nameless[0]["mac"] = mac
    return [InterfaceInput(**{key: each[key] for key in _TAKEN & set(each)}, keep="ip" not in each) for each in said]


def _filled(machine: Machine, mac: str) -> list[InterfaceInput]:
    """The interfaces of a machine that awaited this MAC."""
    nics = [as_input(each) for each in machine.interfaces]
    for place, each in enumerate(nics):
        if each.mac is None:
            nics[place] = InterfaceInput(mac, each.ip, each.name, each.subnet)
            return nics
    return [*nics, InterfaceInput(mac)]
