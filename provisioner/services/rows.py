"""Rows of machines that are added at once: names, MACs and addresses that count upwards."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from provisioner.core.addresses import normal_ip
from provisioner.core.pointers import at
from provisioner.core.pools import counted
from provisioner.core.sequences import counted_macs, expand
from provisioner.errors import InvalidInput, NameTaken, PlanRefused, ProvisionerError
from provisioner.services import addresses, machines, objects, plans
from provisioner.services.interfaces import NEXT, InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.store.engine import is_dry_run, read, write
from provisioner.store.models import Subnet

UPWARDS = "+"
MOST_IN_ONE_TRANSACTION = 100
"""So many machines are added in much less than the second for which others may be kept from writing."""


def add(
    site: Site,
    actor: Actor,
    pattern: str,
    inputs: Sequence[InterfaceInput],
    fields: Mapping[str, Any],
    *,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Add the machines that a pattern such as ``n[001-040]`` stands for, all or none of them; how they are then.

    A MAC or address that ends in ``+`` counts upwards from machine to machine; addresses that the subnet does not give
    are passed over. With ``dry_run`` all is taken back. Raises what :func:`machines.add` does, with the name of the
    machine that was refused.
    """
    with at("/name"):
        names = expand(pattern.strip().lower())
    site = site.rehearsing() if dry_run else site
    if len(names) > MOST_IN_ONE_TRANSACTION:
        planned = _planned(site, actor, names, inputs, fields)
        if not is_dry_run(site.engine):
            plans.apply(site, actor, plan_id=planned["id"])
        return [{"state": "ready", "flag": ""} | each["machine"] for each in planned["created"]]
    with write(site.engine) as session:
        rows = _rows(session, inputs, len(names))
        return [_add(session, actor, names, number, row, fields) for number, row in enumerate(rows)]


def _planned(
    site: Site, actor: Actor, names: Sequence[str], inputs: Sequence[InterfaceInput], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The plan of a long row: applied, it holds nobody else's writes up however many machines it has."""
    with read(site.engine) as session:
        rows = _rows(session, inputs, len(names))
    bodies = [dict(fields) | {"name": name, "interfaces": _plain(row)} for name, row in zip(names, rows, strict=True)]
    planned = plans.plan(site, actor, bodies)
    if planned["refused"]:
        first = planned["refused"][0]
        raise PlanRefused(
            f"{first['name']}: {first['reason']} ({len(planned['refused'])} of {len(names)} are refused)",
            where=first["pointer"],
            hint=first["hint"] or None,
        )
    new = {each["name"] for each in planned["created"]}
    for name in names:
        if name not in new:
            raise NameTaken(f"there is a machine {name!r} already", where="/name")
    return planned


def _plain(row: Sequence[InterfaceInput]) -> list[dict[str, Any]]:
    return [
        {key: value for key in ("mac", "ip", "name", "subnet") if (value := getattr(each, key)) is not None}
        for each in row
    ]


def _rows(session: Session, inputs: Sequence[InterfaceInput], count: int) -> list[tuple[InterfaceInput, ...]]:
    """The interfaces of each machine of the row."""
    columns = [_column(session, place, each, count) for place, each in enumerate(inputs)]
    avoid = {each.ip for column in columns for each in column if each.ip}
    for place, column in enumerate(columns):
        columns[place] = _picked(session, place, column, avoid)
    return list(zip(*columns, strict=True)) or [()] * count


def _add(
    session: Session,
    actor: Actor,
    names: Sequence[str],
    number: int,
    row: Sequence[InterfaceInput],
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    name = names[number]
    try:
        return machines.make_and_save(session, actor, name, row, fields)
    except ProvisionerError as error:
        if len(names) > 1 and name not in error.message:
            error.message = f"{name}: {error.message}"
        raise


def _column(session: Session, place: int, each: InterfaceInput, count: int) -> list[InterfaceInput]:
    """One interface of all the machines."""
    macs, ips = [each.mac] * count, [each.ip] * count
    where = f"/interfaces/{place}"
    with at(f"{where}/mac"):
        if each.mac and each.mac.endswith(UPWARDS):
            macs = list(counted_macs(each.mac.removesuffix(UPWARDS), count))
        elif each.mac and count > 1:
            raise InvalidInput(f"{each.mac} cannot be the MAC address of {count} machines", hint=f"write {each.mac}+")
    with at(f"{where}/ip"):
        if each.ip and each.ip.endswith(UPWARDS):
            start = normal_ip(each.ip.removesuffix(UPWARDS))
            ips = list(counted(addresses.pool(addresses.containing(session, start)), start, count))
        elif each.ip and each.ip != NEXT and count > 1:
            raise InvalidInput(f"{each.ip} cannot be the address of {count} machines", hint=f"write {each.ip}+")
    return [replace(each, mac=mac, ip=ip) for mac, ip in zip(macs, ips, strict=True)]


def _picked(session: Session, place: int, column: list[InterfaceInput], avoid: set[str]) -> list[InterfaceInput]:
    """A column of ``next`` with its addresses, none of which another column of the row counts up to."""
    first = column[0]
    if first.ip != NEXT or not first.subnet:
        return column
    with at(f"/interfaces/{place}/subnet"):
        subnet = objects.refer(session, Subnet, first.subnet, "")
    with at(f"/interfaces/{place}/ip"):
        ips = addresses.next_free(session, subnet, len(column), avoid)
    avoid.update(ips)
    return [replace(each, ip=ip) for each, ip in zip(column, ips, strict=True)]
