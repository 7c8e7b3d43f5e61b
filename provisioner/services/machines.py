"""Machines and their interfaces."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passlib.hash import sha512_crypt
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from provisioner.core.addresses import check_assignable, looks_like_mac, normal_ip, normal_mac
from provisioner.core.facts import serial_text, uuid_text
from provisioner.core.lifecycle import RUNNING, MachineState, Phase, Trigger
from provisioner.core.localboot import check_way
from provisioner.core.names import machine_name, parameter_name
from provisioner.core.parameters import check_kernel_options
from provisioner.errors import (
    AddressTaken,
    IllegalTransition,
    InvalidInput,
    MacTaken,
    NotFound,
    Protected,
    StillInUse,
)
from provisioner.services import dhcp, objects, quarantine
from provisioner.services.lives import apply_trigger, latest_build, phase
from provisioner.services.site import Actor, Site
from provisioner.services.subnets import containing, merged_parameters
from provisioner.store.engine import read, write
from provisioner.store.models import Interface, Machine, MachineSecret, Profile, Subnet, now
from provisioner.store.snapshots import snapshot

# crypt(5): SHA-512, SHA-256, bcrypt, yescrypt.
_CRYPT = re.compile(
    r"\$6\$(rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
    r"|\$5\$(rounds=\d+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{43}"
    r"|\$2[aby]\$\d\d\$[./0-9A-Za-z]{53}"
    r"|\$y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{1,86}\$[./0-9A-Za-z]{43}"
)

_FACTS = {"serial": serial_text, "uuid": uuid_text}


@dataclass(frozen=True)
class InterfaceInput:
    """An interface as somebody writes it: any spelling; the subnet follows from the address."""

    mac: str
    ip: str | None = None
    name: str | None = None
    subnet: str | None = None


def add(
    site: Site, actor: Actor, name: str, interfaces: Sequence[InterfaceInput], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Add a machine; ``fields`` as in :func:`edit`.

    It is `ready`. One that waits in quarantine is `discovered` instead, unless ``fields`` say ``ready``, and takes its
    serial number, UUID and facts with it: its next question is answered by the build that somebody starts.
    """
    with write(site.engine) as session:
        machine = make(session, name, interfaces, fields)
        quarantine.adopt(session, machine, ready=bool(fields.get("ready")))
        objects.save(session, actor, machine, None)
        return view(machine)


def make(session: Session, name: str, interfaces: Sequence[InterfaceInput], fields: Mapping[str, Any]) -> Machine:
    """A machine in state `ready` that the caller completes and saves."""
    if not interfaces:
        raise InvalidInput("a machine needs a MAC address", where="mac", hint="give at least one --mac")
    objects.refuse_taken(session, Machine, machine_name(name))
    machine = Machine(
        name=machine_name(name), state="ready", description="", parameters={}, kernel_options=[], interfaces=[], tags=[]
    )
    _set_interfaces(session, machine, interfaces)
    _apply(session, machine, fields)
    dhcp.touch(session)
    return machine


def edit(
    site: Site,
    actor: Actor,
    name: str,
    fields: Mapping[str, Any],
    interfaces: Sequence[InterfaceInput] | None = None,
    *,
    plus: Sequence[InterfaceInput] = (),
    minus: Sequence[str] = (),
) -> dict[str, Any]:
    """Change profile, description, parameters, kernel_options, serial, uuid, local_boot, protected,
    retired or ready; ``interfaces`` replaces all of them, ``plus`` adds some, ``minus`` removes some by MAC. A
    parameter of None is removed; a local_boot of None is the profile's.
    """
    with write(site.engine) as session:
        machine = find(session, name)
        before = snapshot(machine)
        if plus or minus:
            interfaces = [*_without(machine, minus), *plus]
        if interfaces is not None:
            if not interfaces:
                raise InvalidInput("a machine needs a MAC address", where="mac", hint="give it another one first")
            _set_interfaces(session, machine, interfaces)
            quarantine.release(session, machine)
            dhcp.touch(session)
        _apply(session, machine, fields)
        objects.save(session, actor, machine, before)
        return view(machine)


def rename(site: Site, actor: Actor, name: str, new_name: str) -> dict[str, Any]:
    """Give a machine another name; its builds keep the name they were armed with."""
    with write(site.engine) as session:
        machine = find(session, name)
        before = snapshot(machine)
        objects.refuse_taken(session, Machine, machine_name(new_name))
        machine.name = machine_name(new_name)
        dhcp.touch(session)
        objects.save(session, actor, machine, before)
        return view(machine)


def remove(site: Site, actor: Actor, name: str) -> None:
    """Remove a machine; its tokens die with it, its builds and history stay."""
    with write(site.engine) as session:
        machine = find(session, name)
        if machine.protected:
            raise Protected(f"{machine.name} is protected")
        build = latest_build(session, machine)
        if build is not None and phase(build) in RUNNING:
            raise StillInUse(f"{machine.name} is being built", hint=f"`provisioner build cancel {machine.name}` first")
        if build is not None and phase(build) is Phase.BUILT:
            apply_trigger(session, build, Trigger.CANCEL, "the machine was removed")
        dhcp.touch(session)
        objects.remove(session, actor, machine)


def show(site: Site, name: str) -> dict[str, Any]:
    """One machine, by name or by any spelling of one of its MACs."""
    with read(site.engine) as session:
        return view(find(session, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All machines."""
    with read(site.engine) as session:
        return [view(machine) for machine in objects.listing(session, Machine)]


def search(site: Site, fact: str) -> list[dict[str, Any]]:
    """Machines by a part of their name, serial number or UUID, by an address, or by any spelling of a MAC."""
    wanted = fact.strip().lower()
    columns = (Machine.name, Machine.serial, Machine.uuid, Interface.ip)
    matches = [func.lower(column).contains(wanted, autoescape=True) for column in columns]
    if looks_like_mac(wanted):
        matches.append(Interface.mac == normal_mac(wanted))
    # By id, since a machine may match by several interfaces, and PostgreSQL cannot tell rows that hold JSON apart.
    ids = select(Machine.id).outerjoin(Interface).where(or_(*matches))
    with read(site.engine) as session:
        found = session.scalars(select(Machine).where(Machine.id.in_(ids)).order_by(Machine.name))
        return [view(machine) for machine in found]


def find(session: Session, name: str) -> Machine:
    """A machine by name or by any spelling of one of its MACs. Raises NotFound."""
    if not looks_like_mac(name):
        return objects.get(session, Machine, name.strip().lower())
    machine = by_mac(session, normal_mac(name))
    if machine is None:
        raise NotFound(f"no machine has the MAC address {name}", hint="see `provisioner machine list`")
    return machine


def by_mac(session: Session, mac: str) -> Machine | None:
    """The machine with this MAC in normal form, or None."""
    return session.scalars(select(Machine).join(Interface).where(Interface.mac == mac)).one_or_none()


def view(machine: Machine) -> dict[str, Any]:
    """The machine as people see it: its snapshot and its state."""
    return snapshot(machine) | {"state": machine.state, "flag": machine.flag, "facts": machine.facts or {}}


def set_secret(site: Site, actor: Actor, name: str, secret: str, value: str | None) -> None:
    """Give the machine a secret, or take it away with None. ``root_password`` is kept as a crypt hash only.

    A password in clear gets a salt of its own; so two machines with one password have different hashes.
    """
    parameter_name(secret)
    with write(site.engine) as session:
        machine = find(session, name)
        before = snapshot(machine)
        kept = [row for row in machine.secrets if row.name != secret]
        if value is not None:
            sealed = site.keys.seal(_hashed(secret, value), secret_row(machine.id, secret))
            session.execute(delete(MachineSecret).filter_by(machine_id=machine.id, name=secret))
            kept.append(MachineSecret(machine_id=machine.id, name=secret, ciphertext=sealed, set_at=now()))
        machine.secrets = kept
        objects.save(session, actor, machine, before)


def secret_row(machine_id: int, name: str) -> str:
    """The row that a machine's secret is sealed for."""
    return f"machine_secret:{machine_id}:{name}"


def _hashed(secret: str, value: str) -> str:
    if secret != "root_password":  # noqa: S105 - a name, not a password
        return value
    if value.startswith("$"):
        if not _CRYPT.fullmatch(value):
            raise InvalidInput(
                "this is no crypt hash, or one of a kind that is too weak",
                where=secret,
                hint="use SHA-512 crypt ($6$) or yescrypt ($y$), for example from `mkpasswd`; or give the password",
            )
        return value
    return str(sha512_crypt.hash(value))


def clear_flag(site: Site, name: str) -> None:
    """Somebody looked at the machine: its flag is taken down; the events keep what raised it."""
    with write(site.engine) as session:
        find(session, name).flag = ""


def _set_interfaces(session: Session, machine: Machine, inputs: Sequence[InterfaceInput]) -> None:
    wanted = []
    for position, each in enumerate(inputs):
        mac = normal_mac(each.mac)
        ip = normal_ip(each.ip) if each.ip else None
        _refuse_taken(session, machine, mac, ip)
        wanted.append((position, each.name or f"nic{position}", mac, ip, _subnet(session, each, ip)))
    _refuse_twice("MAC address", [row[2] for row in wanted])
    _refuse_twice("address", [row[3] for row in wanted if row[3]])
    kept = {interface.mac: interface for interface in machine.interfaces}
    for interface in machine.interfaces:
        interface.ip = None
    if kept:
        # Addresses may change places, or go to a new card: the constraint looks at each row as it is written.
        session.flush()
    with session.no_autoflush:
        machine.interfaces = [kept.get(mac) or Interface(mac=mac) for _, _, mac, _, _ in wanted]
        for interface, (position, name, _, ip, subnet) in zip(machine.interfaces, wanted, strict=True):
            interface.position, interface.name, interface.ip, interface.subnet = position, name, ip, subnet


def _without(machine: Machine, macs: Sequence[str]) -> list[InterfaceInput]:
    gone = {normal_mac(mac) for mac in macs}
    missing = gone - {each.mac for each in machine.interfaces}
    if missing:
        raise NotFound(f"{machine.name} has no interface {', '.join(sorted(missing))}", where="--remove-interface")
    return [
        InterfaceInput(each.mac, each.ip, each.name, each.subnet.name if each.subnet else None)
        for each in machine.interfaces
        if each.mac not in gone
    ]


def _refuse_twice(what: str, values: Sequence[str | None]) -> None:
    if len(set(values)) != len(values):
        raise InvalidInput(f"two interfaces have the same {what}", where="interfaces", hint="give each its own")


def _subnet(session: Session, each: InterfaceInput, ip: str | None) -> Subnet | None:
    if each.subnet:
        subnet = objects.refer(session, Subnet, each.subnet, "subnet")
    elif ip:
        subnet = containing(session, ip)
    else:
        return None
    if ip:
        check_assignable(ip, name=subnet.name, cidr=subnet.cidr, gateway=subnet.gateway)
    return subnet


def _refuse_taken(session: Session, machine: Machine, mac: str, ip: str | None) -> None:
    owner = by_mac(session, mac)
    if owner is not None and owner is not machine:
        raise MacTaken(f"{mac} belongs to machine {owner.name}", where="mac")
    if ip is None:
        return
    taken = session.scalars(select(Interface).where(Interface.ip == ip)).one_or_none()
    if taken is not None and taken.machine is not machine:
        raise AddressTaken(f"{ip} belongs to machine {taken.machine.name}", where="ip")


def _apply(session: Session, machine: Machine, fields: Mapping[str, Any]) -> None:
    known = {"profile", "description", "parameters", "kernel_options", "local_boot", *_FACTS}
    known |= {"protected", "retired", "ready"}
    unknown = set(fields) - known
    if unknown:
        raise InvalidInput(f"a machine has no {', '.join(sorted(unknown))}", hint=f"it has {', '.join(sorted(known))}")
    if "profile" in fields:
        wanted = fields["profile"]
        machine.profile = objects.refer(session, Profile, wanted, "profile") if wanted else None
    if "parameters" in fields:
        machine.parameters = merged_parameters(machine.parameters, fields["parameters"])
    if "kernel_options" in fields:
        machine.kernel_options = check_kernel_options(fields["kernel_options"], "kernel_options")
    if "local_boot" in fields:
        machine.local_boot = check_way(fields["local_boot"], "local_boot") if fields["local_boot"] else None
    if "description" in fields:
        machine.description = fields["description"]
    for key, normal in _FACTS.items():
        if key in fields:
            # A dummy is kept, since an inventory copies what firmware says; it identifies nothing (core.facts).
            setattr(machine, key, normal(fields[key]))
    _apply_state(session, machine, fields)


def _apply_state(session: Session, machine: Machine, fields: Mapping[str, Any]) -> None:
    if fields.get("protected") is not None:
        _set_protected(session, machine, protected=fields["protected"])
    if fields.get("retired") is not None:
        _set_retired(session, machine, retired=fields["retired"])
    if fields.get("ready"):
        _set_ready(machine)


def _set_protected(session: Session, machine: Machine, *, protected: bool) -> None:
    _refuse_running(session, machine, "protected")
    machine.protected = protected


def _set_retired(session: Session, machine: Machine, *, retired: bool) -> None:
    _refuse_running(session, machine, "retired")
    if retired:
        machine.state = MachineState.RETIRED
    elif machine.state == MachineState.RETIRED:
        machine.state = MachineState.READY


def _set_ready(machine: Machine) -> None:
    """A discovered machine stops waiting and boots its disk."""
    if machine.state not in {MachineState.DISCOVERED, MachineState.READY}:
        raise IllegalTransition(
            f"{machine.name} is {machine.state}; only a discovered machine can be made ready",
            hint=f"see `provisioner machine show {machine.name}`",
        )
    machine.state = MachineState.READY


def _refuse_running(session: Session, machine: Machine, what: str) -> None:
    build = latest_build(session, machine) if machine.id else None
    if build is not None and phase(build) in RUNNING:
        raise StillInUse(
            f"{machine.name} is being built and cannot be {what} meanwhile",
            hint=f"`provisioner build cancel {machine.name}` first",
        )
