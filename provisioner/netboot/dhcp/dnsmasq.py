"""dnsmasq's configuration as text: what changes rarely, and the hosts file that it re-reads on SIGHUP."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.dhcp import (
    BIOS_LOADER,
    LEASE_SECONDS,
    UEFI_ARCHITECTURES,
    UEFI_LOADER,
    DhcpPlan,
    DhcpSubnet,
    Reservation,
    served,
    short_name,
)
from provisioner.errors import InvalidInput

# dnsmasq's own limit of 1000 leases is less than one site; ranges and reservations bound them anyway.
_MOST_LEASES = 250_000
# In a host line these words are not names: dnsmasq takes them for "no service" and for lease times.
_NOT_A_NAME = re.compile(r"ignore|infinite|[0-9]+[smhdw]?", re.IGNORECASE)
_SAFE_PATH = re.compile(r"[A-Za-z0-9/._+@=-]+")
_SAFE_WORD = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the DHCP child keeps its files: one directory below the state directory."""

    directory: Path

    @property
    def config(self) -> Path:
        """The configuration that runs."""
        return self.directory / "dnsmasq.conf"

    @property
    def candidate(self) -> Path:
        """A configuration on its way through the checker."""
        return self.directory / "candidate.conf"

    @property
    def hosts(self) -> Path:
        """The reservations."""
        return self.directory / "hosts"

    @property
    def leases(self) -> Path:
        """dnsmasq's lease database; only dnsmasq writes it while it runs."""
        return self.directory / "leases"

    @property
    def pid(self) -> Path:
        """dnsmasq's process id."""
        return self.directory / "dnsmasq.pid"

    @property
    def proxy(self) -> Path:
        """The subnets that the proxy answers in, for a start without the database."""
        return self.directory / "proxy.json"

    @property
    def status(self) -> Path:
        """How the child fares, for ``provisioner check``."""
        return self.directory / "status.json"


def main_config(plan: DhcpPlan, *, state: Paths, interfaces: Sequence[str], user: str) -> str:
    """Everything except the reservations, as the body of dnsmasq's configuration file.

    ``user`` is whom a dnsmasq started as root becomes. Raises ``InvalidInput``.
    """
    lines = [
        "# Written by Provisioner from its database; changes made here are overwritten.",
        "port=0",
        # Names in /etc/hosts would become addresses of machines that have no reservation.
        "no-hosts",
        f"user={_word(user)}",
        f"pid-file={_path(state.pid)}",
        "log-facility=-",
        "bind-dynamic",
        *(f"interface={_word(name)}" for name in interfaces),
        f"dhcp-hostsfile={_path(state.hosts)}",
        f"dhcp-leasefile={_path(state.leases)}",
        f"dhcp-lease-max={_MOST_LEASES}",
        *common_lines(),
    ]
    for subnet in served(plan).subnets:
        lines += ["", *subnet_lines(subnet)]
    return "\n".join(lines) + "\n"


def common_lines() -> list[str]:
    """What holds for every subnet: who asks, by option 93 and by iPXE's marks."""
    return [
        "dhcp-authoritative",
        # A ping before each offer to a stranger would keep the machines that have a reservation waiting.
        "no-ping",
        # Old ROMs do not look for options in the file and server name fields.
        "dhcp-no-override",
        "dhcp-match=set:ipxe,175",
        "dhcp-userclass=set:ipxe,iPXE",
        "dhcp-match=set:bios,option:client-arch,0",
        *(f"dhcp-match=set:efi64,option:client-arch,{number}" for number in UEFI_ARCHITECTURES),
    ]


def subnet_lines(subnet: DhcpSubnet) -> list[str]:
    """Addresses, options and loaders of one subnet (already checked)."""
    network = subnet.network
    # Tagged by network, not by name: a subnet may be called `ipxe` or `known`.
    tag = f"net-{network.network_address}-{network.prefixlen}"
    lease = f"{network.netmask},{LEASE_SECONDS}"
    router = subnet.gateway or ""
    return [
        # A static range serves reservations anywhere in the network, and nobody else.
        f"dhcp-range=set:{tag},{network.network_address},static,{lease}",
        *(f"dhcp-range=tag:!known,set:{tag},{extent.start},{extent.end},{lease}" for extent in subnet.ranges),
        # Without a value the option is left out; unless told so, dnsmasq names itself as the router.
        f"dhcp-option=tag:{tag},option:router" + (f",{router}" if router else ""),
        f"dhcp-option=tag:{tag},option:dns-server,{','.join(subnet.nameservers)}",
        *([f"dhcp-option=tag:{tag},option:domain-name,{subnet.domain}"] if subnet.domain else []),
        f"dhcp-boot=tag:{tag},tag:ipxe,{subnet.script_url},,{subnet.tftp_address}",
        f"dhcp-boot=tag:{tag},tag:!ipxe,tag:bios,{BIOS_LOADER},,{subnet.tftp_address}",
        f"dhcp-boot=tag:{tag},tag:!ipxe,tag:efi64,{UEFI_LOADER},,{subnet.tftp_address}",
    ]


def hosts_file(plan: DhcpPlan) -> str:
    """The reservations, one a line. Raises ``InvalidInput``."""
    return "".join(line + "\n" for line in host_lines(served(plan).reservations))


def host_lines(reservations: Iterable[Reservation]) -> list[str]:
    """The argument of ``dhcp-host`` for each reservation (already checked).

    ``id:*`` makes dnsmasq forget the client identifier: ROM, iPXE, installer and system each send another.
    """
    lines = []
    for reservation in reservations:
        name = short_name(reservation)
        named = f",{name}" if name and not _NOT_A_NAME.fullmatch(name) else ""
        lines.append(f"{reservation.mac},id:*,{reservation.ip}{named},{LEASE_SECONDS}")
    return lines


def _word(text: str) -> str:
    if not _SAFE_WORD.fullmatch(text):
        raise InvalidInput(f"{text!r} cannot stand in dnsmasq's configuration")
    return text


def _path(path: Path) -> str:
    if not _SAFE_PATH.fullmatch(str(path)):
        raise InvalidInput(
            f"the path {str(path)!r} holds characters that dnsmasq's configuration cannot carry",
            hint="use a state directory of letters, digits, '-', '_' and '.'",
        )
    return str(path)
