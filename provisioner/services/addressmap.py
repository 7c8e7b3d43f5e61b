"""A subnet's addresses one by one, as a map: what each is for, who has it, and what contradicts that."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.addresses import normal_ip
from provisioner.core.pools import Pool, number_of
from provisioner.errors import AddressOutsideSubnet
from provisioner.services import addresses, objects
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import AddressHold, Discovery, Interface, Machine, Subnet, now

WINDOW = 256
"""Addresses that are shown at once."""
MOST_BLOCKS = 256


def window(site: Site, name: str, start: str = "") -> dict[str, Any]:
    """The ``WINDOW`` addresses around ``start``, or the subnet's first.

    ``cells``: ``ip``, ``kind`` (used, free, spare: only by name, held, dynamic, reserved, own: the
    network's, conflict), ``machine`` and ``note`` each.
    ``blocks``: where the other windows begin and how many of their addresses are in use, for subnets of at most
    ``MOST_BLOCKS`` of them; ``previous`` and ``next`` are the neighbours' beginnings, or None. Raises NotFound,
    MalformedAddress, AddressOutsideSubnet.
    """
    with read(site.engine) as session:
        subnet = objects.get(session, Subnet, name)
        pool = addresses.pool(subnet)
        first, last = pool.whole
        at = number_of(normal_ip(start)) if start else first
        if not first <= at <= last:
            raise AddressOutsideSubnet(f"{start} is not in subnet {name} ({subnet.cidr})", where="start")
        begin = max(first, at - at % WINDOW)
        end = min(last, begin - begin % WINDOW + WINDOW - 1)
        used = dict(addresses.used_numbers(session, subnet))
        cells = _cells(session, subnet, pool, range(begin, end + 1), used)
        return {
            "cells": cells,
            "blocks": _blocks(pool, used),
            "at": pool.text(begin),
            "previous": pool.text(begin - 1 - (begin - 1) % WINDOW) if begin > first else None,
            "next": pool.text(end + 1) if end < last else None,
        }


def _cells(session: Session, subnet: Subnet, pool: Pool, numbers: range, used: dict[int, str]) -> list[dict[str, str]]:
    holds = session.scalars(select(AddressHold).where(AddressHold.subnet_id == subnet.id, AddressHold.until > now()))
    held = {number_of(each.ip): each.holder for each in holds}
    wrong = _contradictions(session, pool, numbers)
    cells = []
    for number in numbers:
        ip, machine = pool.text(number), used.get(number, "")
        kind, note = _kind(pool, ip, number)
        if machine and kind in {"dynamic", "reserved", "own"}:
            kind, note = "conflict", f"{machine} has it, but it is {note}"
        elif number in wrong:
            kind, note = "conflict", wrong[number]
        elif machine:
            kind, note = "used", machine
        elif number in held:
            kind, note = "held", f"held for {held[number]}"
        cells.append({"ip": ip, "kind": kind, "machine": machine, "note": note})
    return cells


def _kind(pool: Pool, ip: str, number: int) -> tuple[str, str]:
    """What an address is for, whoever has it."""
    first, last = pool.whole
    if pool.gateway == ip:
        return "own", "the gateway"
    if ip in pool.dns:
        return "own", "a DNS server"
    if last - first > 1 and (number == first or (number == last and pool.version == 4)):
        return "own", "the network's own"
    for extent in pool.ranges:
        if ip in extent and extent.kind != "static":
            return extent.kind, {"dynamic": "in a dynamic range", "reserved": "in a reserved range"}[extent.kind]
    if any(extent.kind == "static" for extent in pool.ranges) and not any(
        low <= number <= high for low, high in pool.given
    ):
        return "spare", "free, given to whoever names it"
    return "free", "free"


def _contradictions(session: Session, pool: Pool, numbers: range) -> dict[int, str]:
    """Addresses of registered machines from which somebody else asked for a boot script."""
    asked = session.execute(
        select(Discovery.source, Discovery.mac, Machine.name)
        .join(Interface, Interface.ip == Discovery.source)
        .join(Machine, Interface.machine_id == Machine.id)
        .where(Discovery.source.in_([pool.text(number) for number in numbers]))
    )
    return {number_of(ip): f"{name} has it, but {mac} asked from there" for ip, mac, name in asked}


def _blocks(pool: Pool, used: dict[int, str]) -> list[dict[str, Any]]:
    first, last = pool.whole
    start = first - first % WINDOW
    if not 1 < (last - start) // WINDOW + 1 <= MOST_BLOCKS:
        return []
    counts: dict[int, int] = {}
    for number in used:
        counts[number // WINDOW] = counts.get(number // WINDOW, 0) + 1
    return [
        {"start": pool.text(max(first, begin)), "used": counts.get(begin // WINDOW, 0)}
        for begin in range(start, last + 1, WINDOW)
    ]
