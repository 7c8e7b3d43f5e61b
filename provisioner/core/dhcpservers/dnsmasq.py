"""What dnsmasq is told, ours and somebody else's: lines of its configuration."""

import re
from collections.abc import Iterable

from provisioner.core.dhcp import (
    BIOS_LOADER,
    LEASE_SECONDS,
    UEFI_ARCHITECTURES,
    UEFI_LOADER,
    DhcpSubnet,
    Reservation,
    Served,
    short_name,
)

# In a host line these words are not names: dnsmasq takes them for "no service" and for lease times.
_NOT_A_NAME = re.compile(r"ignore|infinite|[0-9]+[smhdw]?", re.IGNORECASE)


def dnsmasq_config(ours: Served) -> str:
    """A file for ``/etc/dnsmasq.d`` with these subnets and reservations (already checked)."""
    lines = [
        "# For dnsmasq: put this into /etc/dnsmasq.d/provisioner.conf, try it with `dnsmasq --test`, restart dnsmasq.",
        "# Two stages: a plain ROM gets iPXE by TFTP from Provisioner; iPXE gets the URL of its script.",
        "",
        *common_lines(),
    ]
    for subnet in ours.subnets:
        lines += ["", f"# subnet {subnet.name}", *subnet_lines(subnet)]
        own = [one for one in ours.reservations if one.subnet == subnet.name]
        lines += [f"dhcp-host={line}" for line in host_lines(own)]
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
