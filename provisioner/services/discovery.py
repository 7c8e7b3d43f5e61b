"""Discovery: what an unknown machine is shown while it waits, and the recording of what machines say of themselves.

Looking happens in the transaction that decides the boot and costs a few indexed reads; recording happens behind the
answer, in a thread of the process that was asked, so that no boot ever waits for it.
"""

import math
import os
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from provisioner.core.addresses import contains
from provisioner.core.discovery import Waiting, screen
from provisioner.core.facts import Facts, merged
from provisioner.core.lifecycle import MachineState
from provisioner.errors import ProvisionerError
from provisioner.services import machines, objects, quarantine
from provisioner.services.looks import MachineSeen
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.store.engine import write
from provisioner.store.models import Discovery, Machine, Subnet, now

log = structlog.get_logger()
MOST_ROWS = 10_000
"""Machines in quarantine, and machines that `register` made and nobody gave a profile."""
SEEN_AGAIN = timedelta(seconds=10)
"""A machine that asks again sooner is not written again."""
_STALE = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_WAITING_SIGHTINGS = 1000
_BATCH = 100
_LOG_SECONDS = 60.0
_MADE = "new-"
_ACTOR = Actor(who="discovery", origin="boot")


@dataclass(frozen=True)
class Sighting:
    """A machine asked, and that is worth writing down."""

    mac: str
    source: str
    facts: Facts
    is_new: bool = False
    """Nobody registered it and it is not in quarantine."""


@dataclass(frozen=True)
class Recorded:
    """What became of sightings: rows or machines made, rows brought up to date, and those over a quota."""

    added: int = 0
    renewed: int = 0
    refused: int = 0


def look(
    session: Session, site: Site, mac: str, source: str, facts: Facts, machine: Machine | MachineSeen | None
) -> tuple[Waiting, Sighting | None]:
    """What a machine would be told if it has to wait, and what of its question is worth recording."""
    if machine is None and site.settings.discovery == "off":
        return Waiting(mac, facts=facts), None
    if machine is not None:
        return registered(mac, source, facts, machine)
    if _subnet(session, source) is None:
        return Waiting(mac, outside=source, facts=facts), None
    row = quarantine.find(session, mac)
    if row is not None and now() - row.last_seen < SEEN_AGAIN:
        return Waiting(mac, conflict=row.conflict, facts=facts), None
    known = facts if facts.said or row is None else quarantine.facts_of(row)
    conflict = quarantine.conflict(mac, quarantine.contradicted(session, known))
    return Waiting(mac, conflict=conflict, facts=known), Sighting(mac, source, facts, is_new=row is None)


def registered(mac: str, source: str, facts: Facts, machine: Machine | MachineSeen) -> tuple[Waiting, Sighting | None]:
    """As `look`, for the MAC of a machine that is known: nothing more is asked of the database."""
    told = Waiting(mac, machine.name, machine.profile_id is not None, facts=facts)
    news = bool(facts.said) and merged(machine.facts, facts.lasting) != machine.facts
    return told, Sighting(mac, source, facts) if news else None


def record(site: Site, sightings: Sequence[Sighting]) -> Recorded:
    """Write sightings down in one transaction. Raises DatabaseUnavailable, StorageFull."""
    count = {"added": 0, "renewed": 0, "refused": 0}
    with write(site.engine) as session:
        for sighting in sightings:
            outcome = _record(session, site, sighting)
            if outcome:
                count[outcome] += 1
    return Recorded(**count)


def _record(session: Session, site: Site, sighting: Sighting) -> str:
    subnet = _subnet(session, sighting.source)
    if subnet is None:
        return ""
    machine = machines.by_mac(session, sighting.mac)
    if machine is not None:
        quarantine.learn(session, machine, sighting.facts, sighting.source)
        return "renewed"
    if site.settings.discovery == "off":
        return ""
    row = quarantine.find(session, sighting.mac)
    if row is not None:
        return _renew(session, row, sighting)
    if not _within_quotas(session, site, sighting.source):
        return "refused"
    found = quarantine.contradicted(session, sighting.facts)
    if site.settings.discovery == "register" and not found and _register(session, sighting, subnet):
        return "added"
    if not _make_room(session):
        return "refused"
    row = Discovery(mac=sighting.mac, facts={}, conflict="", times=0, first_seen=now())
    session.add(row)
    _fill(session, row, sighting, found)
    return "added"


def _renew(session: Session, row: Discovery, sighting: Sighting) -> str:
    if now() - row.last_seen < SEEN_AGAIN:
        return ""
    known = sighting.facts if sighting.facts.said else quarantine.facts_of(row)
    _fill(session, row, sighting, quarantine.contradicted(session, known))
    return "renewed"


def _fill(session: Session, row: Discovery, sighting: Sighting, found: Sequence[tuple[Machine, str]]) -> None:
    facts, conflict = sighting.facts, quarantine.conflict(sighting.mac, found)
    if conflict and not row.conflict:
        # At most once for each MAC: whoever asks again and again would fill the timeline.
        for machine, why in found:
            message = f"{sighting.mac} at {sighting.source} says it is this machine ({why}), and is not registered"
            quarantine.raise_flag(session, machine, message, sighting.source)
    row.last_seen, row.times, row.source, row.conflict = now(), row.times + 1, sighting.source, conflict
    if facts.said:
        row.serial, row.uuid, row.facts = facts.serial, facts.uuid, merged(row.facts, facts.said)
    session.flush()


def made_name(mac: str) -> str:
    """What `register` calls a machine with this MAC, in normal form, until somebody gives it a name."""
    return f"{_MADE}{mac.replace(':', '')}"


def _register(session: Session, sighting: Sighting, subnet: str) -> bool:
    """Make it a machine that waits for its profile; not when the name that its MAC gives is somebody else's."""
    name = made_name(sighting.mac)
    if objects.find(session, Machine, name) is not None or (session.scalar(_made()) or 0) >= MOST_ROWS:
        return False
    fields = {"serial": sighting.facts.serial, "uuid": sighting.facts.uuid}
    machine = machines.make(session, _ACTOR, name, [InterfaceInput(sighting.mac, subnet=subnet)], fields)
    machine.state, machine.facts = MachineState.DISCOVERED, sighting.facts.lasting
    objects.save(session, _ACTOR, machine, None)
    return True


def _within_quotas(session: Session, site: Site, source: str) -> bool:
    """Whether one more may come in this minute; one address may use half of the site's quota."""
    most, since = site.settings.discovery_per_minute, now() - _MINUTE
    rows = select(func.count()).select_from(Discovery).where(Discovery.first_seen > since)
    made = session.scalar(_made().where(Machine.created_at > since)) or 0
    if (session.scalar(rows) or 0) + made >= most:
        return False
    return (session.scalar(rows.where(Discovery.source == source)) or 0) < max(1, most // 2)


def _make_room(session: Session) -> bool:
    """Whether the quarantine has room: who asked once only gives way first, then who was not seen for a day."""
    if (session.scalar(select(func.count()).select_from(Discovery)) or 0) < MOST_ROWS:
        return True
    oldest = select(Discovery).order_by(Discovery.last_seen).limit(1)
    row = session.scalars(oldest.where(Discovery.times == 1)).first()
    row = row or session.scalars(oldest.where(Discovery.last_seen < now() - _STALE)).first()
    if row is None:
        return False
    session.delete(row)
    session.flush()
    return True


def _made() -> Select[int]:
    """How many machines `register` made that nobody took up yet."""
    made = select(func.count()).select_from(Machine)
    return made.where(Machine.state == MachineState.DISCOVERED, Machine.name.startswith(_MADE))


def _subnet(session: Session, source: str) -> str | None:
    """The name of the subnet that contains the address, or None."""
    known = session.execute(select(Subnet.name, Subnet.cidr))
    return next((name for name, cidr in known if contains(cidr, source)), None)


class Recorder:
    """Records sightings in a thread of its own; what does not fit is dropped, since machines ask again."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._waiting: queue.Queue[Sighting] = queue.Queue(_WAITING_SIGHTINGS)
        self._lock = threading.Lock()
        self._running_in = 0
        self._full_until = 0.0
        self._put_at: dict[str, float] = {}
        self._dropped = 0
        self._told_at = -_LOG_SECONDS
        self._failures = 0
        self._failed_at = -_LOG_SECONDS

    def put(self, sighting: Sighting | None) -> None:
        """Record this soon; None is nothing. Never waits and never raises."""
        if sighting is None:
            return
        if sighting.is_new and time.monotonic() < self._full_until:
            self._drop(1, "the quota of this minute is used up")
            return
        if not self._due(sighting.mac):
            return
        self._start()
        try:
            self._waiting.put_nowait(sighting)
        except queue.Full:
            self._drop(1, "too many machines ask at once")

    def _due(self, mac: str) -> bool:
        """Whether this MAC was not recorded a moment ago: words that change with each question cost one write."""
        moment = time.monotonic()
        with self._lock:
            if moment - self._put_at.get(mac, -math.inf) < SEEN_AGAIN.total_seconds():
                return False
            if len(self._put_at) >= _WAITING_SIGHTINGS:
                self._put_at.clear()
            self._put_at[mac] = moment
        return True

    def _start(self) -> None:
        """The thread is started by the first sighting: a server's workers are forked after this was made."""
        with self._lock:
            if self._running_in != os.getpid():
                self._running_in = os.getpid()
                threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def _run(self) -> None:
        while True:
            batch = {sighting.mac: sighting for sighting in self._take()}
            try:
                recorded = record(self._site, list(batch.values()))
            except ProvisionerError as error:
                self._drop(len(batch), str(error))
                continue
            except Exception:  # the thread must survive whatever a stranger sent
                self._failures += 1
                if time.monotonic() - self._failed_at >= _LOG_SECONDS:
                    self._failed_at = time.monotonic()
                    log.exception("discovery failed", machines=len(batch), failures=self._failures)
                continue
            if recorded.refused:
                self._full_until = time.monotonic() + 2
                self._drop(recorded.refused, "over the quota of discovered machines")

    def _take(self) -> list[Sighting]:
        taken = [self._waiting.get()]
        while len(taken) < _BATCH:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return taken

    def _drop(self, number: int, why: str) -> None:
        """A line a minute: strangers cause these."""
        with self._lock:
            self._dropped += number
            if time.monotonic() - self._told_at < _LOG_SECONDS:
                return
            dropped, self._dropped, self._told_at = self._dropped, 0, time.monotonic()
        log.warning("discovered machines not recorded", machines=dropped, why=why)


def recorded(session: Session, mac: str) -> dict[str, Any] | None:
    """What the quarantine holds of a MAC in normal form, or None."""
    row = quarantine.find(session, mac)
    return quarantine.view(row) if row is not None else None


def console(session: Session, site: Site, mac: str, source: str) -> list[str]:
    """What the console of a machine with this MAC shows while it waits; without a source, as from a subnet of ours."""
    row, machine = quarantine.find(session, mac), machines.by_mac(session, mac)
    facts = quarantine.facts_of(row) if row is not None else Facts()
    if source or machine is not None:
        return screen(look(session, site, mac, source, facts, machine)[0])
    return screen(Waiting(mac, facts=facts))
