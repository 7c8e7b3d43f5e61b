"""The configuration for ISC dhcpd."""

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

_HEAD = """\
# For ISC dhcpd: put this into /etc/dhcp/dhcpd.conf (or include it), try it with `dhcpd -t`, restart dhcpd.
# Two stages: a plain ROM gets iPXE by TFTP from Provisioner; iPXE gets the URL of its script.

# Option 93: 0 is BIOS, 7 and 9 are x86-64 UEFI. Option 175 is sent by iPXE alone.
option client-arch code 93 = unsigned integer 16;
option ipxe-encapsulated code 175 = string;

# ROM, iPXE, installer and system send different client identifiers: the MAC address alone decides.
ignore-client-uids true;
"""


def isc_config(ours: Served) -> str:
    """dhcpd.conf for these subnets and reservations (already checked)."""
    parts = [_HEAD, *(_subnet(subnet) for subnet in ours.subnets), *(_host(one) for one in ours.reservations)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _subnet(subnet: DhcpSubnet) -> str:
    network = subnet.network
    uefi = " or ".join(f"option client-arch = 00:{number:02x}" for number in UEFI_ARCHITECTURES)
    lines = [
        f"# subnet {subnet.name}",
        f"subnet {network.network_address} netmask {network.netmask} {{",
        "  authoritative;",
        f"  default-lease-time {LEASE_SECONDS};",
        f"  max-lease-time {LEASE_SECONDS};",
        *([f"  option routers {subnet.gateway};"] if subnet.gateway else []),
        f"  option domain-name-servers {', '.join(subnet.nameservers)};",
        *([f'  option domain-name "{subnet.domain}";'] if subnet.domain else []),
        f"  next-server {subnet.tftp_address};",
        '  if exists ipxe-encapsulated or option user-class = "iPXE" {',
        f'    filename "{subnet.script_url}";',
        f"  }} elsif {uefi} {{",
        f'    filename "{UEFI_LOADER}";',
        "  } elsif option client-arch = 00:00 {",
        f'    filename "{BIOS_LOADER}";',
        "  }",
    ]
    if subnet.ranges:
        lines += ["  # for machines without a reservation", "  pool {", "    deny known-clients;"]
        lines += [f"    range {extent.start} {extent.end};" for extent in subnet.ranges]
        lines += ["  }"]
    return "\n".join([*lines, "}", ""])


def _host(reservation: Reservation) -> str:
    # The declaration's name must be unique, and one MAC may have an address in several subnets.
    label = f"{reservation.mac.replace(':', '')}-{reservation.ip.replace('.', '-')}"
    name = short_name(reservation)
    option = f' option host-name "{name}";' if name else ""
    return f"host {label} {{ hardware ethernet {reservation.mac}; fixed-address {reservation.ip};{option} }}"
