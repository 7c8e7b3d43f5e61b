"""Subnets."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.addresses import contains, normal_cidr, normal_ip, overlaps, parse_range
from provisioner.core.markers import refuse_markers
from provisioner.core.names import object_name, parameter_name
from provisioner.core.parameters import check_plain
from provisioner.errors import AddressOutsideSubnet, AddressTaken, Conflict, InvalidInput, StillInUse
from provisioner.services import dhcp, objects
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Interface, Machine, Subnet
from provisioner.store.snapshots import snapshot

DHCP_MODES = ("off", "authoritative", "proxy", "external")


def add(site: Site, actor: Actor, name: str, cidr: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add a subnet; ``fields`` as in :func:`edit`."""
    with write(site.engine) as session:
        objects.refuse_taken(session, Subnet, object_name(name))
        subnet = Subnet(
            name=name, cidr=normal_cidr(cidr), dns=[], dhcp="off", ranges=[], boot_url="", media_url="", parameters={}
        )
        _refuse_overlap(session, subnet)
        _apply(subnet, fields)
        dhcp.check_subnet(site, subnet)
        dhcp.touch(session)
        return objects.save(session, actor, subnet, None)


def edit(site: Site, actor: Actor, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Change gateway, dns, domain, dhcp, ranges, boot_url, media_url or parameters (None removes one)."""
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        before = snapshot(subnet)
        _apply(subnet, fields)
        _refuse_taken_gateway(session, subnet)
        dhcp.check_subnet(site, subnet)
        dhcp.touch(session)
        return objects.save(session, actor, subnet, before)


def rename(site: Site, actor: Actor, name: str, new_name: str) -> dict[str, Any]:
    """Give a subnet another name."""
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        before = snapshot(subnet)
        objects.refuse_taken(session, Subnet, object_name(new_name))
        subnet.name = new_name
        dhcp.touch(session)
        return objects.save(session, actor, subnet, before)


def remove(site: Site, actor: Actor, name: str) -> None:
    """Remove a subnet that no interface is in."""
    with write(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        used = session.scalars(
            select(Machine.name).join(Interface).where(Interface.subnet_id == subnet.id).limit(5)
        ).all()
        if used:
            raise StillInUse(f"subnet {name} has machines: {', '.join(used)}")
        dhcp.touch(session)
        objects.remove(session, actor, subnet)


def show(site: Site, name: str) -> dict[str, Any]:
    """One subnet."""
    with read(site.engine) as session:
        return snapshot(objects.get(session, Subnet, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All subnets."""
    with read(site.engine) as session:
        return [snapshot(subnet) for subnet in objects.listing(session, Subnet)]


def containing(session: Session, ip: str) -> Subnet:
    """The subnet that contains the address. Raises AddressOutsideSubnet."""
    for subnet in session.scalars(select(Subnet)):
        if contains(subnet.cidr, ip):
            return subnet
    known = ", ".join(f"{subnet.name} {subnet.cidr}" for subnet in session.scalars(select(Subnet).limit(5)))
    raise AddressOutsideSubnet(f"no subnet contains {ip}" + (f"; known: {known}" if known else ""), where="ip")


def _refuse_overlap(session: Session, subnet: Subnet) -> None:
    for other in session.scalars(select(Subnet)):
        if overlaps(other.cidr, subnet.cidr):
            raise Conflict(
                f"{subnet.cidr} overlaps subnet {other.name} ({other.cidr})",
                where="cidr",
                hint="choose another network, or remove that subnet first",
            )


def _refuse_taken_gateway(session: Session, subnet: Subnet) -> None:
    taken = session.scalar(select(Machine.name).join(Interface).where(Interface.ip == subnet.gateway))
    if subnet.gateway and taken:
        raise AddressTaken(f"{subnet.gateway} belongs to machine {taken}", where="gateway")


def _apply(subnet: Subnet, fields: Mapping[str, Any]) -> None:
    unknown = set(fields) - set(_CHECKS)
    if unknown:
        known = ", ".join(sorted(_CHECKS))
        raise InvalidInput(f"a subnet has no {', '.join(sorted(unknown))}", hint=f"it has {known}")
    for key, value in fields.items():
        setattr(subnet, key, _CHECKS[key](subnet, value))


def _gateway(subnet: Subnet, text: str | None) -> str | None:
    if not text:
        return None
    gateway = normal_ip(text)
    if not contains(subnet.cidr, gateway):
        raise AddressOutsideSubnet(f"the gateway {gateway} is not in {subnet.cidr}", where="gateway")
    return gateway


def _ranges(subnet: Subnet, texts: Sequence[str]) -> list[dict[str, str]]:
    ranges = [parse_range(text, subnet.cidr) for text in texts]
    return [{"kind": each.kind, "start": each.start, "end": each.end} for each in ranges]


def _dhcp(_subnet: Subnet, mode: str) -> str:
    if mode not in DHCP_MODES:
        raise InvalidInput(f"{mode!r} is not a DHCP mode", where="dhcp", hint=f"choose one of {', '.join(DHCP_MODES)}")
    return mode


def _url(text: str | None, where: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise InvalidInput(f"{text!r} is not a URL", where=where, hint="write it as http://ADDRESS:PORT")
    return (text or "").rstrip("/")


def merged_parameters(current: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with the change put over them; a value of None removes one."""
    refuse_markers(change, "parameters")
    check_plain(change, "parameters")
    merged = dict(current)
    for name, value in change.items():
        if value is None:
            merged.pop(parameter_name(name), None)
        else:
            merged[parameter_name(name)] = value
    return merged


_CHECKS: Mapping[str, Callable[[Subnet, Any], Any]] = {
    "gateway": _gateway,
    "dns": lambda _, texts: [normal_ip(text) for text in texts],
    "domain": lambda _, text: text or None,
    "dhcp": _dhcp,
    "ranges": _ranges,
    "boot_url": lambda _, text: _url(text, "boot_url"),
    "media_url": lambda _, text: _url(text, "media_url"),
    "parameters": lambda subnet, change: merged_parameters(subnet.parameters, change),
}
