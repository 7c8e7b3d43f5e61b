"""What TFTP's and DHCP's daemons need to know at once, and what they note in the timeline of a build."""

import queue
import threading

import structlog
from sqlalchemy import select

from provisioner.core.addresses import contains, normal_mac
from provisioner.errors import MalformedMac, ProvisionerError
from provisioner.services import boot, standby
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Interface, Subnet

log = structlog.get_logger()
_FRESH_SECONDS = 1.0
_WAITING_NOTES = 1000
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
            mac, kind, message = self._waiting.get()
            try:
                boot.note_network(self._site, normal_mac(mac), kind, message)
            except MalformedMac:
                continue


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


def mac_of(site: Site, ip: str) -> str | None:
    """The MAC whose assigned address this is, or None; also while the database is down."""
    try:
        with read(site.engine) as session:
            return session.scalar(select(Interface.mac).where(Interface.ip == ip))
    except ProvisionerError:
        return None
