"""The configuration for Kea's DHCPv4 server."""

import json
from typing import Any

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

_IPXE = "(option[175].exists or option[77].hex == 'iPXE')"


def kea_config(ours: Served) -> str:
    """kea-dhcp4.conf for these subnets and reservations (already checked), as plain JSON.

    Kea takes a class's file name before a subnet's: so the subnet names iPXE's script, and the classes, which are
    the same everywhere, name the loaders for ROMs that are not iPXE yet.
    """
    config = {
        "Dhcp4": {
            "user-context": {
                "comment": "For Kea: merge this into /etc/kea/kea-dhcp4.conf, name the interfaces, try it with "
                "`kea-dhcp4 -t FILE`, restart kea-dhcp4. Two stages: a plain ROM gets iPXE by TFTP from Provisioner; "
                "iPXE gets the URL of its script, each subnet's boot-file-name."
            },
            "interfaces-config": {"interfaces": ["*"]},
            "lease-database": {"type": "memfile", "persist": True},
            "authoritative": True,
            "valid-lifetime": LEASE_SECONDS,
            # ROM, iPXE, installer and system send different client identifiers.
            "match-client-id": False,
            "host-reservation-identifiers": ["hw-address"],
            "client-classes": _classes(),
            "subnet4": [_subnet(number, subnet, ours) for number, subnet in enumerate(ours.subnets, start=1)],
        }
    }
    return json.dumps(config, indent=2) + "\n"


def _classes() -> list[dict[str, Any]]:
    uefi = " or ".join(f"option[93].hex == 0x{number:04x}" for number in UEFI_ARCHITECTURES)
    return [
        _loader("provisioner-bios", "option[93].hex == 0x0000", BIOS_LOADER, "BIOS"),
        _loader("provisioner-uefi", f"({uefi})", UEFI_LOADER, "x86-64 UEFI"),
    ]


def _loader(name: str, arch: str, loader: str, title: str) -> dict[str, Any]:
    return {
        "name": name,
        "test": f"not {_IPXE} and {arch}",
        "boot-file-name": loader,
        "user-context": {"comment": f"a plain {title} ROM: iPXE by TFTP"},
    }


def _subnet(number: int, subnet: DhcpSubnet, ours: Served) -> dict[str, Any]:
    options = [{"name": "domain-name-servers", "data": ", ".join(subnet.nameservers)}]
    if subnet.gateway:
        options.append({"name": "routers", "data": subnet.gateway})
    if subnet.domain:
        options.append({"name": "domain-name", "data": subnet.domain})
    return {
        "id": number,
        "subnet": subnet.cidr,
        "user-context": {"comment": f"subnet {subnet.name}; the pools are for machines without a reservation"},
        "next-server": subnet.tftp_address,
        "boot-file-name": subnet.script_url,
        "option-data": options,
        "pools": [{"pool": f"{one.start} - {one.end}", "client-class": "UNKNOWN"} for one in subnet.ranges],
        "reservations": [_reservation(one) for one in ours.reservations if one.subnet == subnet.name],
    }


def _reservation(reservation: Reservation) -> dict[str, str]:
    entry = {"hw-address": reservation.mac, "ip-address": reservation.ip}
    name = short_name(reservation)
    return entry | ({"hostname": name} if name else {})
