"""What is there that a body of machines touches, read in few queries however many machines it has."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session, selectinload

from provisioner.core.cabling import Nets
from provisioner.core.facts import serial_spellings, uuid_spellings
from provisioner.core.identity import Known, serial_key, uuid_key
from provisioner.core.lifecycle import RUNNING
from provisioner.core.planning import Row, There, World
from provisioner.services import addresses
from provisioner.services.site import Actor
from provisioner.store.models import AddressHold, Build, Discovery, Interface, Machine, Profile, Subnet, now
from provisioner.store.snapshots import snapshot

Value = TypeVar("Value")
_CHUNK = 1000


@dataclass(frozen=True)
class Landscape:
    """The world as the plan sees it, and the row numbers behind the names in it."""

    world: World
    profiles: Mapping[str, int]
    subnets: Mapping[str, int]
    interfaces: Mapping[int, Sequence[int]]
    """The interfaces of each machine, in their order."""
    quarantine: Mapping[str, Discovery]
    """The machines that wait, by MAC."""


def load(session: Session, actor: Actor, rows: Sequence[Row]) -> Landscape:
    """What these rows of that actor's touch."""
    # Held for as long as the machines are read, which then ask for none of them.
    profiles, subnets = session.scalars(select(Profile)).all(), session.scalars(select(Subnet)).all()
    ids = sorted(_touched(session, rows))
    found = _machines(session, ids)
    running = set(_in(session, select(Build.machine_id).where(Build.state.in_(RUNNING)), Build.machine_id, ids))
    world = World(
        machines={each.id: There(_known(each), snapshot(each), each.id in running) for each in found},
        nets=Nets(addresses.pool(each) for each in subnets),
        profiles=frozenset(each.name for each in profiles),
        blank=snapshot(blank("")),
        held=_held(session, actor, rows),
        free=lambda name, count, taken: addresses.some_free(session, name, count, taken),
    )
    waiting = _in(session, select(Discovery), Discovery.mac, [mac for row in rows for mac in row.macs])
    return Landscape(
        world,
        {each.name: each.id for each in profiles},
        {each.name: each.id for each in subnets},
        {each.id: [nic.id for nic in each.interfaces] for each in found},
        {each.mac: each for each in waiting},
    )


def everything(session: Session) -> list[dict[str, Any]]:
    """The snapshots of all machines by name."""
    kept = session.scalars(select(Profile)).all(), session.scalars(select(Subnet)).all()
    found = _machines(session, session.scalars(select(Machine.id).order_by(Machine.name)).all())
    del kept
    return sorted((snapshot(each) for each in found), key=lambda each: str(each["name"]))


def blank(name: str) -> Machine:
    """A machine of which nothing but its name is said; not in any session."""
    return Machine(
        name=name, state="ready", protected=False, description="", parameters={}, kernel_options=[], flag="",
        interfaces=[], tags=[], secrets=[],
    )  # fmt: skip


def _known(machine: Machine) -> Known:
    macs = tuple(nic.mac for nic in machine.interfaces if nic.mac)
    awaits_mac = len(macs) < len(machine.interfaces) or not macs
    return Known(machine.id, machine.name, macs, machine.serial, machine.uuid, awaits_mac)


def _held(session: Session, actor: Actor, rows: Sequence[Row]) -> dict[str, str]:
    """Those of the given addresses that others hold, and who."""
    others = select(AddressHold).where(AddressHold.until > now(), AddressHold.holder != actor.who)
    holds = _in(session, others, AddressHold.ip, [ip for row in rows for ip in row.ips])
    return {each.ip: each.holder for each in holds}


def _touched(session: Session, rows: Sequence[Row]) -> set[int]:
    """The machines that one of the names, addresses, serial numbers or UUIDs belongs to."""
    serials = [row.wanted["serial"] for row in rows if serial_key(row.wanted.get("serial"))]
    uuids = [row.wanted["uuid"] for row in rows if uuid_key(row.wanted.get("uuid"))]
    nics = select(Interface.machine_id)
    return {
        *_in(session, select(Machine.id), Machine.name, [row.wanted["name"] for row in rows if "name" in row.wanted]),
        *_in(session, nics, Interface.mac, [mac for row in rows for mac in row.macs]),
        *_in(session, nics, Interface.ip, [ip for row in rows for ip in row.ips]),
        *_in(session, select(Machine.id), Machine.serial, [each for one in serials for each in serial_spellings(one)]),
        *_in(session, select(Machine.id), Machine.uuid, [each for one in uuids for each in uuid_spellings(one)]),
    }


def _machines(session: Session, ids: Sequence[int]) -> list[Machine]:
    parts = (selectinload(Machine.interfaces), selectinload(Machine.tags), selectinload(Machine.secrets))
    return list(_in(session, select(Machine).options(*parts), Machine.id, ids))


def _in(session: Session, query: Any, column: InstrumentedAttribute[Any], values: Iterable[Value]) -> Iterator[Any]:
    """The query for these values of the column, a thousand at a time."""
    wanted = list(dict.fromkeys(values))
    for first in range(0, len(wanted), _CHUNK):
        yield from session.scalars(query.where(column.in_(wanted[first : first + _CHUNK])))
