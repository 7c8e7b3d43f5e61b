"""What machines fetched: as events in the timelines of their builds, and as bytes that `storm plan` counts with.

Daemons hand over and go on; a thread writes what came meanwhile in one transaction. It knows machines by their assigned
addresses. While the database is down events are dropped, since they only decorate; bytes are kept and written later.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import structlog
from sqlalchemy import Connection, Table, func, insert, select, update

from provisioner.core.lifecycle import MachineState
from provisioner.errors import ProvisionerError
from provisioner.services.lives import MESSAGE_CHARACTERS, printable
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Build, BuildTraffic, Event, Interface, Machine, now

log = structlog.get_logger()
LOADED, FAILED, MEDIA = "loader", "loader-failed", "media"
_KINDS = (LOADED, FAILED, MEDIA)
_MOST_EVENTS = 200
"""Of these kinds in one build: firmware that tries for ever must not fill it."""
_WAITING = 2000
_SOURCES = 50_000
_AT_ONCE = 500
"""Sources in one transaction, so that it is a short one."""
_PAUSE_SECONDS = 0.25
_QUIET_SECONDS = 5.0
_TRAFFIC, _EVENT = (cast("Table", each.__table__) for each in (BuildTraffic, Event))


@dataclass(frozen=True)
class Told:
    """An event of a transfer. With ``once``, before the comma in its message, a build gets only one."""

    kind: str
    message: str
    once: str = ""
    at: datetime = field(default_factory=now)


@dataclass
class _Heard:
    """What one address did since the last time that it was written."""

    sums: dict[str, list[int]] = field(default_factory=dict)
    events: list[Told] = field(default_factory=list)


class Meter:
    """Takes what was transferred, and writes it behind the transfers.

    ``dropped`` is told why, and how many events nobody will see.
    """

    def __init__(self, site: Site, dropped: Callable[[str, int], None]) -> None:
        self._site, self._dropped = site, dropped
        self._lock = threading.Lock()
        self._heard: dict[str, _Heard] = {}
        self._waiting = 0
        self._once: OrderedDict[tuple[int, str], None] = OrderedDict()
        self._some, self._over = threading.Event(), threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def put(self, source: str, way: str, sent: int, told: Told | None = None) -> None:
        """This address was sent so many bytes in one transfer."""
        with self._lock:
            heard = self._heard.get(source)
            if heard is None:
                if len(self._heard) >= _SOURCES:
                    return self._dropped("sources", int(told is not None))
                heard = self._heard[source] = _Heard()
            total = heard.sums.setdefault(way, [0, 0])
            total[0] += sent
            total[1] += 1
            if told is None:
                return None
            if self._waiting >= _WAITING:
                return self._dropped("full", 1)
            self._waiting += 1
            heard.events.append(told)
        self._some.set()
        return None

    def close(self) -> None:
        """Write what is there, and end."""
        self._over.set()
        self._some.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.is_set():
            self._some.wait(_QUIET_SECONDS)
            self._some.clear()
            self._flush()
            self._over.wait(_PAUSE_SECONDS)
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            heard, self._heard, self._waiting = self._heard, {}, 0
        while heard:
            some = {source: heard.pop(source) for source in list(heard)[:_AT_ONCE]}
            try:
                with write(self._site.engine) as session:
                    noted = self._write(session.connection(), some)
            except ProvisionerError as error:
                log.warning("transfers not noted", error=str(error))
                self._keep_sums(some | heard)
                return
            except Exception:  # the thread must live on
                self._failures += 1
                log.exception("transfers not noted", failures=self._failures)
            else:
                self._remember(noted)

    def _keep_sums(self, heard: dict[str, _Heard]) -> None:
        lost = sum(len(each.events) for each in heard.values())
        if lost:
            self._dropped("database", lost)
        with self._lock:
            for source, each in heard.items():
                kept = self._heard.setdefault(source, _Heard())
                for way, (sent, count) in each.sums.items():
                    total = kept.sums.setdefault(way, [0, 0])
                    total[0] += sent
                    total[1] += count

    def _remember(self, noted: Sequence[tuple[int, str]]) -> None:
        for each in noted:
            self._once[each] = None
        while len(self._once) > _SOURCES:
            self._once.popitem(last=False)

    def _write(self, connection: Connection, heard: dict[str, _Heard]) -> list[tuple[int, str]]:
        """Write it; the pairs of build and text that no build needs twice."""
        builds = _building(connection, list(heard))
        rows: list[dict[str, Any]] = []
        noted: list[tuple[int, str]] = []
        room = _room(connection, [build for build, _ in builds.values()])
        for source, (build, machine) in builds.items():
            for way, (sent, count) in heard[source].sums.items():
                _add(connection, build, way, sent, count)
            for told in heard[source].events:
                key = (build, told.once)
                if room[build] <= 0 or (told.once and (key in self._once or key in noted)):
                    continue
                noted += [key] if told.once else []
                if told.once and _there(connection, build, told):
                    continue  # another process noted it
                room[build] -= 1
                rows.append(_row(build, machine, source, told))
        if rows:
            connection.execute(insert(_EVENT), rows)
        return noted


def _building(connection: Connection, sources: list[str]) -> dict[str, tuple[int, int]]:
    """The build and the machine of each address whose machine is being built."""
    newest = select(func.max(Build.number)).where(Build.machine_id == Machine.id).correlate(Machine).scalar_subquery()
    query = (
        select(Interface.ip, Build.id, Machine.id)
        .join(Machine, Machine.id == Interface.machine_id)
        .join(Build, (Build.machine_id == Machine.id) & (Build.number == newest))
        .where(Interface.ip.in_(sources), Machine.state == MachineState.BUILDING)
    )
    return {ip: (build, machine) for ip, build, machine in connection.execute(query) if ip}


def _room(connection: Connection, builds: list[int]) -> dict[int, int]:
    query = select(Event.build_id, func.count()).where(Event.build_id.in_(builds), Event.kind.in_(_KINDS))
    there = {build: count for build, count in connection.execute(query.group_by(Event.build_id)) if build}
    return {build: _MOST_EVENTS - there.get(build, 0) for build in builds}


def _there(connection: Connection, build: int, told: Told) -> bool:
    alike = Event.message.startswith(f"{printable(told.once)},", autoescape=True)
    query = select(Event.id).where(Event.build_id == build, Event.kind == told.kind, alike).limit(1)
    return connection.execute(query).first() is not None


def _add(connection: Connection, build: int, way: str, sent: int, count: int) -> None:
    row = (_TRAFFIC.c.build_id == build) & (_TRAFFIC.c.way == way)
    values = {"bytes": _TRAFFIC.c.bytes + sent, "transfers": _TRAFFIC.c.transfers + count}
    if not connection.execute(update(_TRAFFIC).where(row).values(values)).rowcount:
        # Transactions that write take turns, so nobody else adds it meanwhile.
        connection.execute(insert(_TRAFFIC).values(build_id=build, way=way, bytes=sent, transfers=count))


def _row(build: int, machine: int, source: str, told: Told) -> dict[str, Any]:
    return {
        "machine_id": machine,
        "build_id": build,
        "at": told.at,
        "kind": told.kind,
        "message": printable(told.message)[:MESSAGE_CHARACTERS],
        "source": source,
        "flagged": False,
    }
