"""What somebody needs who stands at a rack: who waits there, what it could be called, and what became of one's own."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.addresses import contains, normal_mac
from provisioner.core.lifecycle import MachineState
from provisioner.core.sequences import following
from provisioner.errors import InvalidInput, NotFound
from provisioner.services import discovery, fleet, machines, objects, overview, quarantine
from provisioner.services.interfaces import NEXT, InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read
from provisioner.store.models import Machine, Revision, Subnet, now

_RECENT = timedelta(hours=12)
_LOOKED_THROUGH = 200
_TRIED_NAMES = 100


def waiting(site: Site, mac: str) -> dict[str, Any]:
    """A machine in quarantine as `quarantine.view` tells it, and besides:

    ``subnet``, the one it asked from, as ``name``, ``cidr`` and ``dhcp``, or None; ``claims``, the registered machines
    that it says it is, each with ``machine``, ``why`` and its ``revision``. Raises NotFound, MalformedMac.
    """
    with read(site.engine) as session:
        row = quarantine.find(session, normal_mac(mac))
        if row is None:
            raise NotFound(f"{mac} does not wait (any more)", hint="somebody took it or forgot it: see Rack mode")
        found = quarantine.contradicted(session, quarantine.facts_of(row))
        claims = [
            {"machine": machine.name, "why": why, "revision": objects.view(machine)["revision"]}
            for machine, why in found
        ]
        return quarantine.view(row) | {"subnet": _subnet(session, row.source), "claims": claims}


def owner(site: Site, mac: str) -> str | None:
    """The name of the machine that has this MAC by now, or None."""
    with read(site.engine) as session:
        machine = machines.by_mac(session, normal_mac(mac))
        return machine.name if machine is not None else None


def is_unnamed(machine: Mapping[str, Any]) -> bool:
    """Whether this machine (as `machines.view` tells it) still has the name that discovery made of its MAC."""
    macs = [each["mac"] for each in machine["interfaces"] if each["mac"]]
    return machine["state"] == MachineState.DISCOVERED and machine["name"] in {discovery.made_name(mac) for mac in macs}


def suggestion(site: Site, who: str) -> dict[str, Any]:
    """What the next machine could be: after the one that this user added last, in the last hours.

    ``name`` is the next in its sequence that is free, ``profile`` the same, ``address`` is ``next`` if it had one;
    empty texts where there is nothing to go by.
    """
    with read(site.engine) as session:
        last = next((each.name for each in _done(session, who) if (each.kind, each.action) == ("machine", "add")), "")
        machine = objects.find(session, Machine, last) if last else None
        if machine is None:
            return {"name": "", "profile": "", "address": NEXT}
        return {
            "name": _free_name(session, machine.name),
            "profile": machine.profile.name if machine.profile else "",
            "address": NEXT if any(each.ip for each in machine.interfaces) else "",
        }


def profiles(site: Site) -> list[dict[str, str]]:
    """The profiles to choose from: ``name``, ``description``, and ``obstacle``, why no build with it is possible."""
    with read(site.engine) as session:
        content = fleet.content(session)
    told = [
        {"name": each["name"], "description": each["description"], "obstacle": _obstacle(content, number)}
        for number, each in content.profiles.items()
    ]
    return sorted(told, key=lambda each: each["name"])


def take(site: Site, actor: Actor, mac: str, name: str, address: str, profile: str) -> dict[str, Any]:
    """Make a machine of one in quarantine; it goes on waiting, now for its build.

    ``address`` is one, ``next`` for the next free one of the subnet that it asked from, or empty for none. Raises
    NotFound when nobody waits with this MAC, and what `machines.add` does.
    """
    found = waiting(site, mac)
    subnet = found["subnet"]["name"] if found["subnet"] else None
    if address == NEXT and subnet is None:
        raise InvalidInput("its subnet is not known, so there is no next address", where="ip", hint="type the address")
    given = InterfaceInput(found["mac"], address or None, subnet=subnet if address in {"", NEXT} else None)
    return machines.add(site, actor, name, [given], {"profile": profile or None})


def join(site: Site, actor: Actor, mac: str, machine: str, expect: str | None = None) -> dict[str, Any]:
    """Give the network card of one in quarantine to the registered machine that it says it is.

    Raises NotFound when nobody waits with this MAC, and what `machines.edit` does.
    """
    found = waiting(site, mac)
    return machines.edit(site, actor, machine, {}, plus=[InterfaceInput(found["mac"])], expect=expect)


def mine(site: Site, who: str, most: int = 8) -> list[dict[str, Any]]:
    """The builds that this user armed in the last hours, the newest first, as `overview.build` tells them."""
    with read(site.engine) as session:
        done = [each.object_id for each in _done(session, who) if (each.kind, each.action) == ("build", "add")]
    return overview.told(site, done[:most])


def _done(session: Session, who: str) -> Sequence[Any]:
    """What this user did last, the newest first."""
    columns = (Revision.kind, Revision.action, Revision.name, Revision.object_id, Revision.at)
    query = select(*columns).where(Revision.actor == who).order_by(Revision.id.desc()).limit(_LOOKED_THROUGH)
    since = now() - _RECENT
    return [each for each in session.execute(query) if each.at > since]


def _free_name(session: Session, last: str) -> str:
    name = last
    for _ in range(_TRIED_NAMES):
        name = following(name)
        if not name or objects.find(session, Machine, name) is None:
            return name
    return ""


def _subnet(session: Session, address: str) -> dict[str, str] | None:
    for subnet in session.scalars(select(Subnet)):
        if contains(subnet.cidr, address):
            return {"name": subnet.name, "cidr": subnet.cidr, "dhcp": subnet.dhcp}
    return None


def _obstacle(content: fleet.Content, profile: int) -> str:
    picked = fleet.picked(content, profile)
    if picked is None:
        return "it names no distro and no image"
    if isinstance(picked, str):
        return picked
    return "" if fleet.main_template(content, profile) else "it names no template"
