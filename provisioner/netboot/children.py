"""The bodies of the TFTP and DHCP children: the daemons' loops joined to the services."""

import threading
from dataclasses import dataclass

from provisioner.core.dhcp import DhcpPlan
from provisioner.netboot.dhcp import child as dhcp_child
from provisioner.netboot.tftp.contract import Content, OpenFile, Request, Transfer
from provisioner.netboot.tftp.server import TftpServer
from provisioner.services import bootfiles, notes
from provisioner.services import dhcp as wanted
from provisioner.services.discovery import Recorder
from provisioner.services.site import Site


def tftp(site: Site, stop: threading.Event) -> None:
    """Serve TFTP until ``stop``. Raises PortInUse."""
    subnets, noted, recorder = notes.Subnets(site), notes.Notes(site), Recorder(site)

    def resolve(request: Request) -> Content | None:
        found = bootfiles.find(site, request.name, request.client, request.local)
        if found is None:
            return None
        recorder.put(found.sighting)
        if found.descriptor is not None:
            return OpenFile(found.descriptor, bootfiles.size(found.descriptor))
        return found.content

    def ended(transfer: Transfer) -> None:
        mac = notes.mac_of(site, transfer.client) if transfer.outcome == "complete" else None
        if mac is not None:
            noted.put(mac, "loader", f"{transfer.name}, {transfer.size} bytes by TFTP")

    server = TftpServer(
        site.settings.tftp_bind,
        resolve,
        admitted=subnets.admitted,
        on_end=ended,
        single_port=site.settings.tftp_single_port == "on",
    )

    def until_stopped() -> None:
        stop.wait()
        server.stop()

    threading.Thread(target=until_stopped, name="stop", daemon=True).start()
    server.serve()


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
