"""The bodies of the TFTP and DHCP children: the daemons' loops joined to the services."""

import socket
import threading
from collections import Counter
from dataclasses import dataclass

from provisioner import metrics
from provisioner.core.dhcp import DhcpPlan
from provisioner.netboot.dhcp import child as dhcp_child
from provisioner.netboot.tftp.contract import Content, Limits, OpenFile, Request, Transfer
from provisioner.netboot.tftp.server import TftpServer
from provisioner.netboot.tftp.sockets import open_port
from provisioner.services import bootfiles, notes, traffic
from provisioner.services import dhcp as wanted
from provisioner.services.discovery import Recorder
from provisioner.services.site import Site
from provisioner.settings import Settings

_COUNT_SECONDS = 1.0
_FAILED = frozenset({"timeout", "evicted", "aborted", "error", "stopped"})


def tftp_ports(settings: Settings) -> list[socket.socket]:
    """A socket at TFTP's port for each process that serves it; the kernel keeps a client's port with one of them.

    They are to stay open while the service runs: if one closed, the clients' ports would be dealt out anew, and a
    transfer by the single port would lose its process. Raises PortInUse or InvalidSettings.
    """
    count, ports = settings.tftp_processes, list[socket.socket]()
    try:
        for _ in range(count):
            ports.append(open_port(settings.tftp_bind, Limits().receive_buffer, one_of_many=count > 1))
    except BaseException:
        for port in ports:
            port.close()
        raise
    return ports


def tftp(site: Site, stop: threading.Event, port: socket.socket) -> None:
    """Serve TFTP at one of `tftp_ports` until ``stop``, with this process's share of what all may hold and send."""
    subnets, meter, recorder = notes.Subnets(site), traffic.Meter(site, metrics.note_dropped), Recorder(site)

    def resolve(request: Request) -> Content | None:
        found = bootfiles.find(site, request.name, request.client, request.local)
        if found is None:
            return None
        recorder.put(found.sighting)
        if found.descriptor is not None:
            return OpenFile(found.descriptor, bootfiles.size(found.descriptor))
        return found.content

    def ended(transfer: Transfer) -> None:
        family = bootfiles.family(transfer.name)
        metrics.tftp_ended(transfer.outcome, family, transfer.sent_bytes, transfer.seconds, transfer.resends)
        told = told_of(transfer)
        if told is not None or transfer.sent_bytes:
            meter.put(transfer.client, "tftp", transfer.sent_bytes, told)

    server = TftpServer(
        port,
        resolve,
        admitted=subnets.admitted,
        on_end=ended,
        limits=Limits().divided(site.settings.tftp_processes),
        single_port=site.settings.tftp_single_port == "on",
    )

    def until_stopped() -> None:
        stop.wait()
        server.stop()

    metrics.begin(tftp=True)
    threading.Thread(target=until_stopped, name="stop", daemon=True).start()
    threading.Thread(target=_count, args=(server, stop), name="count", daemon=True).start()
    server.serve()
    meter.close()


def told_of(transfer: Transfer) -> traffic.Told | None:
    """The event that a transfer leaves on its machine; None for what firmware does in passing.

    That a file is not there is no event: PXELINUX asks for a dozen names before it finds its own.
    """
    way = f"by TFTP in {transfer.seconds:.1f} s (blksize {transfer.blksize}, windowsize {transfer.windowsize}"
    again = f", {transfer.resends} datagrams sent again)" if transfer.resends else ")"
    if transfer.outcome == "complete":
        return traffic.Told(traffic.LOADED, f"{transfer.name}, {transfer.size} bytes {way}{again}")
    if transfer.outcome not in _FAILED:
        return None
    sent = f"{transfer.name}: {transfer.outcome} after {transfer.sent_bytes} bytes sent of {transfer.size}"
    return traffic.Told(traffic.FAILED, f"{sent}, {way}{again}")


def _count(server: TftpServer, stop: threading.Event) -> None:
    """Hand what the server counted to the metrics, every second: it has no time for them itself."""
    before: Counter[str] = Counter()
    over = False
    while not over:
        over = stop.wait(_COUNT_SECONDS)
        counted = Counter({each: n for each, n in server.counters.copy().items() if not each.startswith("ended_")})
        metrics.tftp_server(counted - before, len(server))
        before = counted


@dataclass(frozen=True)
class _Source:
    """The DHCP child's view of the services."""

    site: Site

    def generation(self) -> int:
        return wanted.generation(self.site)

    def plan(self) -> DhcpPlan:
        return wanted.plan(self.site)

    def acknowledge(self, generation: int) -> None:
        wanted.acknowledge(self.site, generation)


def dhcp(site: Site, stop: threading.Event) -> None:
    """Run dnsmasq for the authoritative subnets, and the proxy for those in proxy mode, until ``stop``."""
    noted = notes.Notes(site)

    def told(mac: str, what: str) -> None:
        noted.put(mac, "dhcp", f"boot information: {what}")

    dhcp_child.run(_Source(site), site.settings.state_dir, stop, noted.dhcp, told)
