"""Ansible's dynamic inventory: machines with their resolved parameters, read in a fixed number of queries."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from provisioner.core import ansible
from provisioner.core.lifecycle import MachineState
from provisioner.core.parameters import Level, ancestry, resolve
from provisioner.services import machines
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Interface, Machine, Profile


def inventory(site: Site, *, retired: bool = False) -> dict[str, Any]:
    """What an inventory script answers to ``--list``: see `core.ansible.inventory`. Secrets are in no variable."""
    query = select(Machine).order_by(Machine.name)
    if not retired:
        query = query.where(Machine.state != MachineState.RETIRED)
    query = query.options(
        selectinload(Machine.interfaces).joinedload(Interface.subnet),
        selectinload(Machine.tags),
        selectinload(Machine.profile),
    )
    with read(site.engine) as session:
        profiles = _profile_levels(session)
        return ansible.inventory([_host(machine, profiles) for machine in session.scalars(query)])


def host(site: Site, name: str) -> dict[str, Any]:
    """What it answers to ``--host``: one machine's variables, a retired one's too. Raises NotFound."""
    with read(site.engine) as session:
        return ansible.variables(_host(machines.find(session, name), _profile_levels(session)))


def _profile_levels(session: Session) -> dict[int, list[Level]]:
    """The levels that each profile stands for, the weakest first."""
    rows = {each.id: each for each in session.scalars(select(Profile))}
    names = {each.name: each for each in rows.values()}
    parents = {each.name: rows[each.parent_id].name if each.parent_id else None for each in rows.values()}
    return {
        each.id: [Level(name, names[name].parameters) for name in ancestry(each.name, parents)]
        for each in rows.values()
    }


def _host(machine: Machine, profiles: Mapping[int, list[Level]]) -> dict[str, Any]:
    levels = list(profiles[machine.profile_id]) if machine.profile_id else []
    subnets = [each.subnet for each in machine.interfaces if each.subnet]
    # As `services.resolve` has it: the first subnet gives values, then the machine itself.
    levels += [Level(subnets[0].name, subnets[0].parameters)] if subnets else []
    levels.append(Level(machine.name, machine.parameters))
    return {
        "name": machine.name,
        "address": next((each.ip for each in machine.interfaces if each.ip), None),
        "state": machine.state,
        "profile": machine.profile.name if machine.profile else None,
        "subnets": [each.name for each in subnets],
        "tags": [each.tag for each in machine.tags],
        "interfaces": [
            {
                "name": each.name,
                "mac": each.mac,
                "ip": each.ip,
                "subnet": each.subnet.name if each.subnet else None,
            }
            for each in machine.interfaces
        ],
        "serial": machine.serial,
        "uuid": machine.uuid,
        "inventory": machine.inventory,
        "protected": machine.protected,
        "parameters": resolve(levels).plain_parameters(),
    }
