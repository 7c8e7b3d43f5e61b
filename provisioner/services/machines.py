"""Machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from provisioner.core import fields as checked
from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.core.lifecycle import RUNNING, Phase, Trigger
from provisioner.core.names import machine_name, parameter_name
from provisioner.core.pointers import at
from provisioner.errors import InvalidInput, NotFound, Protected, StillInUse
from provisioner.services import dhcp, identities, interfaces, machinefields, objects, quarantine
from provisioner.services.crypthash import hashed
from provisioner.services.interfaces import InterfaceInput, without
from provisioner.services.lives import apply_trigger, latest_build, phase
from provisioner.services.site import Actor, Site
from provisioner.store import search as finding
from provisioner.store.engine import read, write
from provisioner.store.models import Interface, Machine, MachineSecret, now
from provisioner.store.snapshots import snapshot

__all__ = ["InterfaceInput"]


@dataclass(frozen=True)
class NewMachine:
    """A machine to add."""

    name: str
    interfaces: Sequence[InterfaceInput]
    fields: Mapping[str, Any]


def add(
    site: Site, actor: Actor, name: str, interfaces: Sequence[InterfaceInput], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Add a machine; ``fields`` as in :func:`edit`.

    It is `ready`. One that waits in quarantine is `discovered` instead, unless ``fields`` say ``ready``, and takes its
    serial number, UUID and facts with it: its next question is answered by the build that somebody starts. One whose
    MAC is not known yet may be added with its address, serial number or UUID; it cannot be built until it has a MAC.
    """
    with write(site.engine) as session:
        return make_and_save(session, actor, name, interfaces, fields)


def add_all(site: Site, actor: Actor, wanted: Sequence[NewMachine]) -> list[dict[str, Any]]:
    """Add several machines, all or none of them."""
    with write(site.engine) as session:
        return [make_and_save(session, actor, each.name, each.interfaces, each.fields) for each in wanted]


def make_and_save(
    session: Session, actor: Actor, name: str, inputs: Sequence[InterfaceInput], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """:func:`add` within a transaction of the caller's."""
    machine = make(session, actor, name, inputs, fields)
    quarantine.adopt(session, machine, ready=bool(fields.get("ready")))
    return _saved(session, actor, machine, None)


def make(
    session: Session, actor: Actor, name: str, inputs: Sequence[InterfaceInput], fields: Mapping[str, Any]
) -> Machine:
    """A machine in state `ready` that the caller completes and saves."""
    if not any(each.mac or each.ip for each in inputs) and not (fields.get("serial") or fields.get("uuid")):
        raise InvalidInput(
            "a machine needs a MAC address",
            where="/interfaces/0/mac",
            hint="give at least one --mac; while it is not known, its --ip, --serial or --uuid",
        )
    with at("/name"):
        wanted = machine_name(name)
        objects.refuse_taken(session, Machine, wanted)
    machine = Machine(
        name=wanted, state="ready", description="", parameters={}, kernel_options=[], interfaces=[], tags=[]
    )
    interfaces.put(session, actor, machine, inputs)
    machinefields.apply(session, machine, fields)
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
    expect: str | None = None,
) -> dict[str, Any]:
    """Change profile, description, parameters, kernel_options, tags, inventory, serial, uuid, local_boot, protected,
    retired or ready; ``interfaces`` replaces all of them, ``plus`` adds some, ``minus`` removes some by MAC. A
    parameter of None is removed; a local_boot of None is the profile's.

    Raises Stale unless the machine is at the revision ``expect``; None expects nothing.
    """
    with write(site.engine) as session:
        machine = find(session, name)
        objects.expect(machine, expect)
        if plus or minus:
            interfaces = [*without(machine, minus), *plus]
        return change(session, actor, machine, fields, interfaces)


def change(
    session: Session,
    actor: Actor,
    machine: Machine,
    fields: Mapping[str, Any],
    inputs: Sequence[InterfaceInput] | None,
) -> dict[str, Any]:
    """:func:`edit` of a machine within a transaction of the caller's. ``fields`` may hold its new name."""
    before = snapshot(machine)
    if "name" in fields:
        _call(session, machine, fields["name"])
        fields = {key: value for key, value in fields.items() if key != "name"}
    if inputs is not None:
        if not inputs:
            raise InvalidInput(
                "a machine needs a MAC address", where="/interfaces/0/mac", hint="give it another one first"
            )
        if interfaces.put(session, actor, machine, inputs):
            dhcp.touch(session)
        quarantine.release(session, machine)
    machinefields.apply(session, machine, fields)
    return _saved(session, actor, machine, before)


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a machine another name; its builds keep the name they were armed with. ``expect`` as in :func:`edit`."""
    with write(site.engine) as session:
        machine = find(session, name)
        objects.expect(machine, expect)
        before = snapshot(machine)
        with at("/name"):
            objects.refuse_taken(session, Machine, machine_name(new_name))
        _call(session, machine, new_name)
        return _saved(session, actor, machine, before)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a machine; its tokens die with it, its builds and history stay. ``expect`` as in :func:`edit`."""
    with write(site.engine) as session:
        machine = find(session, name)
        objects.expect(machine, expect)
        if machine.protected:
            hint = f"if you are sure: `provisioner machine edit {machine.name} --no-protected`"
            raise Protected(f"{machine.name} is protected", hint=hint)
        build = latest_build(session, machine)
        if build is not None and phase(build) in RUNNING:
            raise StillInUse(f"{machine.name} is being built", hint=f"`provisioner build cancel {machine.name}` first")
        if build is not None and phase(build) is Phase.BUILT:
            apply_trigger(session, build, Trigger.CANCEL, "the machine was removed")
        identities.revoke_all(session, machine)
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
    with read(site.engine) as session:
        holds = [each.holds for each in finding.conditions(session, fact)]
        found = session.scalars(select(Machine).where(*holds).order_by(Machine.name))
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
    """The machine as people see it: its snapshot, its state, and what it said of itself."""
    return objects.view(machine) | {
        "state": machine.state,
        "flag": machine.flag,
        "facts": machine.facts or {},
        "created_at": machine.created_at.isoformat(timespec="seconds"),
        "updated_at": machine.updated_at.isoformat(timespec="seconds"),
    }


def _saved(session: Session, actor: Actor, machine: Machine, before: dict[str, Any] | None) -> dict[str, Any]:
    objects.save(session, actor, machine, before)
    session.flush()
    return view(machine)


def _call(session: Session, machine: Machine, name: str) -> None:
    """Give it this name; its own is no other."""
    with at("/name"):
        wanted = machine_name(checked.text(name, "/name", 253))
        if wanted != machine.name:
            objects.refuse_taken(session, Machine, wanted)
            machine.name = wanted
            dhcp.touch(session)


def set_secret(
    site: Site, actor: Actor, name: str, secret: str, value: str | None, *, expect: str | None = None
) -> None:
    """Give the machine a secret, or take it away with None. ``root_password`` is kept as a crypt hash only.

    A password in clear gets a salt of its own; so two machines with one password have different hashes.
    """
    parameter_name(secret)
    with write(site.engine) as session:
        machine = find(session, name)
        objects.expect(machine, expect)
        before = snapshot(machine)
        kept = [row for row in machine.secrets if row.name != secret]
        if value is not None:
            sealed = site.keys.seal(hashed(secret, value), secret_row(machine.id, secret))
            session.execute(delete(MachineSecret).filter_by(machine_id=machine.id, name=secret))
            kept.append(MachineSecret(machine_id=machine.id, name=secret, ciphertext=sealed, set_at=now()))
        machine.secrets = kept
        objects.save(session, actor, machine, before)


def secret_row(machine_id: int, name: str) -> str:
    """The row that a machine's secret is sealed for."""
    return f"machine_secret:{machine_id}:{name}"


def clear_flag(site: Site, name: str) -> None:
    """Somebody looked at the machine: its flag is taken down; the events keep what raised it."""
    with write(site.engine) as session:
        find(session, name).flag = ""
