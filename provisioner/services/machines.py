"""Machines and their interfaces."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passlib.hash import sha512_crypt
from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from provisioner.core.addresses import check_assignable, looks_like_mac, normal_ip, normal_mac
from provisioner.core.lifecycle import RUNNING, MachineState, Phase, Trigger
from provisioner.core.names import machine_name, parameter_name
from provisioner.core.parameters import check_kernel_options
from provisioner.errors import AddressTaken, InvalidInput, MacTaken, NotFound, Protected, StillInUse
from provisioner.services import dhcp, objects
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
    """Add a machine in state `ready`; ``fields`` as in :func:`edit`."""
    if not interfaces:
        raise InvalidInput("a machine needs a MAC address", where="mac", hint="give at least one --mac")
    with write(site.engine) as session:
        objects.refuse_taken(session, Machine, machine_name(name))
        machine = Machine(
            name=machine_name(name), state="ready", description="", parameters={}, kernel_options=[], interfaces=[]
        )
        _set_interfaces(session, machine, interfaces)
        _apply(session, machine, fields)
        dhcp.touch(session)
        objects.save(session, actor, machine, None)
        return view(machine)


def edit(
    site: Site,
    actor: Actor,
    name: str,
    fields: Mapping[str, Any],
    interfaces: Sequence[InterfaceInput] | None = None,
) -> dict[str, Any]:
    """Change profile, description, parameters, kernel_options, serial, uuid, protected or retired; ``interfaces``
    replaces all of them. A parameter of None is removed.
    """
    with write(site.engine) as session:
        machine = find(session, name)
        before = snapshot(machine)
        if interfaces is not None:
            _set_interfaces(session, machine, interfaces)
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
    return snapshot(machine) | {"state": machine.state, "flag": machine.flag}


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
    known = {"profile", "description", "parameters", "kernel_options", "serial", "uuid", "protected", "retired"}
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
    for key in ("description", "serial", "uuid"):
        if key in fields:
            setattr(machine, key, fields[key])
    if fields.get("protected") is not None:
        _set_protected(session, machine, protected=fields["protected"])
    if fields.get("retired") is not None:
        _set_retired(session, machine, retired=fields["retired"])


def _set_protected(session: Session, machine: Machine, *, protected: bool) -> None:
    _refuse_running(session, machine, "protected")
    machine.protected = protected


def _set_retired(session: Session, machine: Machine, *, retired: bool) -> None:
    _refuse_running(session, machine, "retired")
    if retired:
        machine.state = MachineState.RETIRED
    elif machine.state == MachineState.RETIRED:
        machine.state = MachineState.READY


def _refuse_running(session: Session, machine: Machine, what: str) -> None:
    build = latest_build(session, machine) if machine.id else None
    if build is not None and phase(build) in RUNNING:
        raise StillInUse(
            f"{machine.name} is being built and cannot be {what} meanwhile",
            hint=f"`provisioner build cancel {machine.name}` first",
        )
