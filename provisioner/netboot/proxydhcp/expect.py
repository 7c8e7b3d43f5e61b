"""What to expect in a subnet of mode ``proxy``, for people."""

from provisioner.core.dhcp import BIOS_LOADER, UEFI_LOADER, DhcpSubnet
from provisioner.core.proxydhcp import LOADER_PATH, boot_url


def expectation(subnet: DhcpSubnet) -> str:
    """Who gives what there, and what could stand in the way."""
    base = boot_url(subnet, "ADDRESS")
    tftp = "ADDRESS" if subnet.tftp_everywhere else subnet.tftp_address
    lines = [
        f"subnet {subnet.name} ({subnet.cidr}) is in proxy mode: nothing to configure on the DHCP server there",
        "  that server gives   addresses, as before",
        "  Provisioner gives   boot information and never an address, on UDP ports 67 and 4011 of this host:",
        f"    BIOS PXE ROM      {BIOS_LOADER} by TFTP from {tftp}",
        f"    UEFI PXE          {UEFI_LOADER} by TFTP from {tftp}",
        f"    UEFI HTTP boot    {base}{LOADER_PATH}{UEFI_LOADER}",
        f"    iPXE              {base}/boot/ipxe",
        *(["  ADDRESS             this host's address in that subnet"] if "ADDRESS" in base + tftp else []),
        "  in the way would be",
        "    a boot file (options 66, 67, next-server) or option 60 PXEClient from that server: firmware takes those",
        "    a router between: it must relay DHCP to this host as well (a second helper address)",
        "  worth asking for    a reservation for each machine: one that boots with another address than the one",
        "                      it is registered with is admitted, and flagged",
        "  to check            provisioner dhcp check",
    ]
    return "\n".join(lines) + "\n"
