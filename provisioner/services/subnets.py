"""Subnets."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core import fields as checked
from provisioner.core.addresses import check_network, contains, normal_cidr, normal_ip, overlaps, parse_range
from provisioner.core.choices import DHCP_MODES
from provisioner.core.names import FEW, few, object_name
from provisioner.core.parameters import merged_parameters as merged_parameters  # noqa: PLC0414
from provisioner.core.pointers import at
from provisioner.core.pools import check_ranges, refuse_covered
from provisioner.errors import AddressOutsideSubnet, AddressTaken, Conflict, InvalidInput, StillInUse
from provisioner.services import addresses, dhcp, objects
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Interface, Machine, Subnet
from provisioner.store.snapshots import snapshot


def add(site: Site, actor: Actor, name: str, cidr: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add a subnet; ``fields`` as in :func:`edit`."""
    with write(site.engine) as session:
        with at("/name"):
            objects.refuse_taken(session, Subnet, object_name(name))
        with at("/cidr"):
            network = normal_cidr(cidr)
            check_network(network)
        subnet = Subnet(
            name=name, cidr=network, dns=[], dhcp="off", ranges=[], boot_url="", media_url="", parameters={}
        )
        _refuse_overlap(session, subnet)
        _apply(session, subnet, fields)
        dhcp.check_subnet(site, subnet)
        dhcp.touch(session)
        return objects.save(session, actor, subnet, None)


def edit(
    site: Site, actor: Actor, name: str, fields: Mapping[str, Any], *, expect: str | None = None
) -> dict[str, Any]:
    """Change gateway, dns, domain, dhcp, ranges, boot_url, media_url or parameters (None removes one).

    ``ranges`` replaces them all: texts ``[KIND:]START-END`` or mappings of ``kind``, ``start`` and ``end``. Raises
    Stale unless the subnet is at the revision ``expect``; None expects nothing.
    """
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        objects.expect(subnet, expect)
        before = snapshot(subnet)
        _apply(session, subnet, fields)
        _refuse_taken_gateway(session, subnet)
        dhcp.check_subnet(site, subnet)
        dhcp.touch(session)
        return objects.save(session, actor, subnet, before)


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a subnet another name; ``expect`` as in :func:`edit`."""
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        objects.expect(subnet, expect)
        before = snapshot(subnet)
        with at("/name"):
            objects.refuse_taken(session, Subnet, object_name(new_name))
        subnet.name = new_name
        dhcp.touch(session)
        return objects.save(session, actor, subnet, before)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a subnet that no interface is in; ``expect`` as in :func:`edit`."""
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        objects.expect(subnet, expect)
        theirs = select(Machine.name).join(Interface).where(Interface.subnet_id == subnet.id).distinct()
        used = session.scalars(theirs.order_by(Machine.name).limit(FEW + 1)).all()
        if used:
            raise StillInUse(f"subnet {name} has machines: {few(used)}")
        dhcp.touch(session)
        objects.remove(session, actor, subnet)


def show(site: Site, name: str) -> dict[str, Any]:
    """One subnet."""
    with read(site.engine) as session:
        return objects.view(objects.get(session, Subnet, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All subnets."""
    with read(site.engine) as session:
        return [objects.view(subnet) for subnet in objects.listing(session, Subnet)]


def _refuse_overlap(session: Session, subnet: Subnet) -> None:
    for other in session.scalars(select(Subnet)):
        if overlaps(other.cidr, subnet.cidr):
            raise Conflict(
                f"{subnet.cidr} overlaps subnet {other.name} ({other.cidr})",
                where="/cidr",
                hint="choose another network, or remove that subnet first",
            )


def _refuse_taken_gateway(session: Session, subnet: Subnet) -> None:
    taken = session.scalar(select(Machine.name).join(Interface).where(Interface.ip == subnet.gateway))
    if subnet.gateway and taken:
        raise AddressTaken(f"{subnet.gateway} belongs to machine {taken}", where="/gateway")


def _apply(session: Session, subnet: Subnet, fields: Mapping[str, Any]) -> None:
    unknown = set(fields) - set(_CHECKS)
    if unknown:
        known = ", ".join(sorted(_CHECKS))
        raise InvalidInput(f"a subnet has no {', '.join(sorted(map(str, unknown)))}", hint=f"it has {known}")
    before = addresses.pool(subnet).ranges
    for key, value in fields.items():
        setattr(subnet, key, _CHECKS[key](subnet, value))
    after = addresses.pool(subnet).ranges
    if after != before or "gateway" in fields:
        check_ranges(after, subnet.gateway)
    added = [each for each in after if each.kind != "static" and each not in before]
    if added and subnet.id is not None:
        used = addresses.used_numbers(session, subnet)
        for extent in added:
            refuse_covered(extent, used)


def _gateway(subnet: Subnet, value: Any) -> str | None:
    with at("/gateway"):
        wanted = checked.text(value, "", 64)
        if not wanted:
            return None
        gateway = normal_ip(wanted)
        if not contains(subnet.cidr, gateway):
            raise AddressOutsideSubnet(
                f"the gateway {gateway} is not in {subnet.cidr}", hint="machines there must reach it: name one inside"
            )
        return gateway


def _dns(_subnet: Subnet, value: Any) -> list[str]:
    servers = []
    for place, each in enumerate(checked.several(value or [], "/dns", checked.MOST_SERVERS)):
        with at(f"/dns/{place}"):
            servers.append(normal_ip(checked.text(each, "", 64)))
    return servers


def _ranges(subnet: Subnet, value: Any) -> list[dict[str, str]]:
    ranges = []
    for place, each in enumerate(checked.several(value or [], "/ranges", checked.MOST_RANGES)):
        with at(f"/ranges/{place}"):
            found = parse_range(each, subnet.cidr)
            ranges.append({"kind": found.kind, "start": found.start, "end": found.end})
    return ranges


def _dhcp(_subnet: Subnet, mode: str) -> str:
    if mode not in DHCP_MODES:
        raise InvalidInput(f"{mode!r} is not a DHCP mode", where="/dhcp", hint=f"choose one of {', '.join(DHCP_MODES)}")
    return mode


def _url(text: str | None, where: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise InvalidInput(f"{text!r} is not a URL", where=where, hint="write it as http://ADDRESS:PORT")
    return (text or "").rstrip("/")


_CHECKS: Mapping[str, Callable[[Subnet, Any], Any]] = {
    "gateway": _gateway,
    "dns": _dns,
    "domain": lambda _, value: checked.text(value, "/domain", 253) or None,
    "dhcp": _dhcp,
    "ranges": _ranges,
    "boot_url": lambda _, value: _url(checked.text(value, "/boot_url", 255), "/boot_url"),
    "media_url": lambda _, value: _url(checked.text(value, "/media_url", 255), "/media_url"),
    "parameters": lambda subnet, change: merged_parameters(subnet.parameters, change or {}),
}
