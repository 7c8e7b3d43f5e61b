"""The quarantine: machines that nobody registered, what they said, and whom they contradict."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.core.discovery import NEXT
from provisioner.core.facts import Facts, merged, normal_serial, normal_uuid, serial_spellings, uuid_spellings
from provisioner.core.lifecycle import RUNNING, MachineState
from provisioner.errors import NotFound
from provisioner.services.lives import MESSAGE_CHARACTERS, add_event, has_room, latest_build, phase
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Discovery, Interface, Machine

_MOST_NAMED = 5


def listing(site: Site) -> list[dict[str, Any]]:
    """All machines in quarantine, the latest seen first."""
    with read(site.engine) as session:
        return [view(row) for row in session.scalars(select(Discovery).order_by(Discovery.last_seen.desc()))]


def search(site: Site, fact: str) -> list[dict[str, Any]]:
    """Machines in quarantine by a part of their serial number, UUID or address, or by any spelling of the MAC."""
    wanted = fact.strip().lower()
    columns = (Discovery.serial, Discovery.uuid, Discovery.source)
    matches = [func.lower(column).contains(wanted, autoescape=True) for column in columns]
    if looks_like_mac(wanted):
        matches.append(Discovery.mac == normal_mac(wanted))
    with read(site.engine) as session:
        found = session.scalars(select(Discovery).where(or_(*matches)).order_by(Discovery.mac))
        return [view(row) for row in found]


def forget(site: Site, mac: str) -> None:
    """Remove one machine from the quarantine; it comes back when it asks again. Raises NotFound, MalformedMac."""
    with write(site.engine) as session:
        row = find(session, normal_mac(mac))
        if row is None:
            raise NotFound(f"{mac} is not in quarantine", hint="see `provisioner machine discovered`")
        session.delete(row)


def forget_all(site: Site) -> int:
    """Empty the quarantine; how many machines were in it."""
    with write(site.engine) as session:
        count = session.scalar(select(func.count()).select_from(Discovery)) or 0
        session.execute(delete(Discovery))
        return count


def find(session: Session, mac: str) -> Discovery | None:
    """The row of a MAC in normal form, or None."""
    return session.scalars(select(Discovery).where(Discovery.mac == mac)).one_or_none()


def view(row: Discovery) -> dict[str, Any]:
    """A machine in quarantine as people see it."""
    return {
        "mac": row.mac,
        "serial": row.serial,
        "uuid": row.uuid,
        "vendor": row.facts.get("manufacturer"),
        "product": row.facts.get("product"),
        "address": row.source,
        "first_seen": row.first_seen.isoformat(timespec="seconds"),
        "last_seen": row.last_seen.isoformat(timespec="seconds"),
        "times": row.times,
        "conflict": row.conflict,
        "facts": row.facts,
    }


def facts_of(row: Discovery) -> Facts:
    """What the machine said, as it was recorded."""
    return Facts(row.serial, row.uuid, row.facts)


def adopt(session: Session, machine: Machine, *, ready: bool) -> None:
    """Take a machine that is being added out of quarantine: it waits there, so it goes on waiting unless ``ready``.

    Serial number and UUID come from its report where the administrator gave none; where they gave another, the
    machine is flagged.
    """
    rows = _rows(session, machine)
    inherit(session, machine, rows, ready=ready)
    for row in rows:
        session.delete(row)


def inherit(session: Session, machine: Machine, rows: Sequence[Discovery], *, ready: bool) -> None:
    """What a machine takes over from its rows in quarantine, which stay where they are."""
    for row in rows:
        machine.serial = machine.serial or row.serial
        machine.uuid = machine.uuid or row.uuid
        machine.facts = merged(machine.facts, facts_of(row).lasting)
        _flag_contradiction(session, machine, facts_of(row))
    if rows and not ready:
        machine.state = MachineState.DISCOVERED


def release(session: Session, machine: Machine) -> None:
    """Forget the MACs in quarantine that are now interfaces of this machine, which keeps its own serial and UUID."""
    for row in _rows(session, machine):
        learn(session, machine, facts_of(row), row.source)
        session.delete(row)


def _rows(session: Session, machine: Machine) -> Sequence[Discovery]:
    macs = [each.mac for each in machine.interfaces if each.mac]
    return session.scalars(select(Discovery).where(Discovery.mac.in_(macs)).order_by(Discovery.id)).all()


def contradicted(session: Session, facts: Facts) -> list[tuple[Machine, str]]:
    """Registered machines that a stranger with these facts claims to be, and by which fact. Dummies match nothing."""
    found: dict[int, tuple[Machine, str]] = {}
    if facts.macs:
        owners = select(Interface).where(Interface.mac.in_(facts.macs)).limit(_MOST_NAMED)
        for nic in session.scalars(owners):
            found.setdefault(nic.machine.id, (nic.machine, f"MAC address {nic.mac}"))
    if facts.uuid:
        same = select(Machine).where(Machine.uuid.in_(uuid_spellings(facts.uuid))).order_by(Machine.id)
        for machine in session.scalars(same.limit(_MOST_NAMED)):
            found.setdefault(machine.id, (machine, f"UUID {facts.uuid}"))
    if facts.serial:
        same = select(Machine).where(Machine.serial.in_(serial_spellings(facts.serial))).order_by(Machine.id)
        for machine in session.scalars(same.limit(_MOST_NAMED)):
            found.setdefault(machine.id, (machine, f"serial {facts.serial}"))
    return list(found.values())


def conflict(mac: str, found: Sequence[tuple[Machine, str]]) -> str:
    """In one sentence whom the machine with this MAC contradicts, and what to do; empty when nobody."""
    if not found:
        return ""
    who = " or ".join(f"{machine.name} ({why})" for machine, why in found[:_MOST_NAMED])
    return (
        f"this machine says it is {who}, but its MAC address {mac} is not registered{NEXT}"
        f"provisioner machine edit {found[0][0].name} --add-interface {mac}"
    )


def contradiction(machine: Machine, facts: Facts) -> str:
    """How a registered machine's report contradicts its record, or nothing: a board was swapped or a card moved."""
    serial, uuid = normal_serial(machine.serial), normal_uuid(machine.uuid)
    if serial and facts.serial and serial.lower() != facts.serial.lower():
        return f"it says its serial is {facts.serial}, its record says {serial}: board swapped, or card moved?"
    if uuid and facts.uuid and facts.uuid not in uuid_spellings(uuid):
        return f"it says its UUID is {facts.uuid}, its record says {uuid}: board swapped, or card moved?"
    return ""


def learn(session: Session, machine: Machine, facts: Facts, source: str) -> None:
    """Keep what a registered machine says at its own boot; flag it, once, when that contradicts its record.

    What it said last time is the memory: the same words again are the same news.
    """
    together = merged(machine.facts, facts.lasting)
    if machine.facts == together:
        return
    machine.facts = together
    _flag_contradiction(session, machine, facts, source)


def _flag_contradiction(session: Session, machine: Machine, facts: Facts, source: str = "") -> None:
    message = contradiction(machine, facts)
    if message:
        raise_flag(session, machine, message, source)


def raise_flag(session: Session, machine: Machine, message: str, source: str) -> None:
    """Flag a machine, and note it in its build's timeline if one is under way."""
    machine.flag = message[:MESSAGE_CHARACTERS]
    build = latest_build(session, machine) if machine.id else None
    if build is not None and phase(build) in RUNNING and has_room(session, build):
        add_event(session, build, "flag", message, source=source, flagged=True)
