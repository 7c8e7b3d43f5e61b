"""What TFTP's and DHCP's daemons need to know at once, and what they note in the timeline of a build."""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence

import structlog
from sqlalchemy import Connection, select

from provisioner.core.addresses import contains, normal_mac
from provisioner.core.lifecycle import MachineState
from provisioner.errors import MalformedMac, ProvisionerError
from provisioner.services import looks, standby
from provisioner.services.lives import note
from provisioner.services.site import Site
from provisioner.store.engine import glance, read, together
from provisioner.store.models import Subnet

log = structlog.get_logger()
_FRESH_SECONDS = 1.0
_WAITING_NOTES = 1000
_BATCH = 100
_NOTED = {"ack": "dhcp"}


class Notes:
    """Events from daemons on their way to the database, in a thread of their own: no daemon waits for a write.

    Those that do not fit any more are dropped: they only decorate the timeline.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._waiting: queue.Queue[tuple[str, str, str]] = queue.Queue(_WAITING_NOTES)
        threading.Thread(target=self._write, name="notes", daemon=True).start()

    def dhcp(self, mac: str, kind: str, ip: str | None) -> None:
        """A DHCP exchange, as the daemon tells it."""
        if kind in _NOTED:
            self.put(mac, _NOTED[kind], f"address {ip}")

    def put(self, mac: str, kind: str, message: str) -> None:
        """Note an event for the machine with this MAC."""
        try:
            self._waiting.put_nowait((mac, kind, message))
        except queue.Full:
            log.warning("event dropped", mac=mac, kind=kind)

    def _write(self) -> None:
        while True:
            taken = [self._waiting.get()]
            while len(taken) < _BATCH:
                try:
                    taken.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            write_down(self._site, list(_readable(taken)))


def _readable(notes: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    for mac, kind, message in notes:
        try:
            yield normal_mac(mac), kind, message
        except MalformedMac:
            continue


def write_down(site: Site, notes: Sequence[tuple[str, str, str]]) -> None:
    """Note what DHCP or TFTP did for machines that are being built: MAC address in normal form, kind and message each.

    A failure to note it stops no boot.
    """
    try:
        with glance(site.engine) as connection:
            worlds = [looks.world(connection, mac) for mac, _, _ in notes]
        wanted = [
            (world.build, kind, message)
            for world, (_, kind, message) in zip(worlds, notes, strict=True)
            if world.build is not None and world.machine is not None and world.machine.state == MachineState.BUILDING
        ]

        def job(connection: Connection) -> None:
            for build, kind, message in wanted:
                note(connection, build, kind, message)

        if wanted:
            together(site.engine, job)
    except ProvisionerError as error:
        log.warning("events not noted", notes=len(notes), error=str(error))


class Subnets:
    """The networks that are served, read again every second in a thread of their own.

    So the question costs no query, and while the database is down the last known ones count.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._cidrs = tuple(standby.recall(site).subnets)
        self._over = threading.Event()
        self._refresh()
        threading.Thread(target=self._keep_fresh, name="subnets", daemon=True).start()

    def admitted(self, ip: str) -> bool:
        """Whether this client is in a configured subnet; loopback always is."""
        return any(contains(cidr, ip) for cidr in ("127.0.0.0/8", "::1/128", *self._cidrs))

    def close(self) -> None:
        """Read no more."""
        self._over.set()

    def _keep_fresh(self) -> None:
        while not self._over.wait(_FRESH_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        try:
            with read(self._site.engine) as session:
                self._cidrs = tuple(session.scalars(select(Subnet.cidr)))
        except ProvisionerError as error:
            log.warning("subnets not read", error=str(error))
