"""The configuration for Windows Server's DHCP, as a PowerShell script."""

import ipaddress

from provisioner.core.dhcp import (
    BIOS_LOADER,
    UEFI_ARCHITECTURES,
    UEFI_LOADER,
    DhcpSubnet,
    Reservation,
    Served,
    short_name,
)

_HEAD = """\
# For Windows Server 2012 R2 and later: run in an elevated PowerShell on the DHCP server.
# Two stages: a plain ROM gets iPXE by TFTP from Provisioner; iPXE gets the URL of its script.
$ErrorActionPreference = 'Stop'
Import-Module DhcpServer

# What a client says it is: option 77 (user class) of iPXE, the beginning of option 60 (vendor class) of a ROM.
function Add-ProvisionerClass($Name, $Type, $Data) {
    if (-not (Get-DhcpServerv4Class -Type $Type | Where-Object Name -eq $Name)) {
        Add-DhcpServerv4Class -Name $Name -Type $Type -Data $Data
    }
}
Add-ProvisionerClass 'Provisioner iPXE' 'User' 'iPXE'
Add-ProvisionerClass 'Provisioner BIOS' 'Vendor' 'PXEClient:Arch:00000'
"""


def windows_config(ours: Served) -> str:
    """The script for these subnets and reservations (already checked)."""
    classes = "".join(
        f"Add-ProvisionerClass 'Provisioner UEFI {number}' 'Vendor' 'PXEClient:Arch:{number:05d}'\n"
        for number in UEFI_ARCHITECTURES
    )
    return _HEAD + classes + "".join(_scope(subnet, ours) for subnet in ours.subnets)


def _scope(subnet: DhcpSubnet, ours: Served) -> str:
    network = subnet.network
    scope = str(network.network_address)
    extent = f"-StartRange {network.network_address + 1} -EndRange {network.broadcast_address - 1}"
    add = f"Add-DhcpServerv4Scope -Name {_quoted(subnet.name)} {extent} -SubnetMask {network.netmask}"
    options = [f"-DnsServer {','.join(subnet.nameservers)} -Force"]
    options += [f"-Router {subnet.gateway}"] if subnet.gateway else []
    options += [f"-DnsDomain {_quoted(subnet.domain)}"] if subnet.domain else []
    lines = [
        "",
        f"# subnet {subnet.name}: the whole network is the scope, since reservations must lie within it;",
        "# everything outside the ranges for machines without a reservation is excluded.",
        f"{add} -LeaseDuration 01:00:00 -State Active",
    ]
    for start, end in excluded(subnet):
        lines.append(f"Add-DhcpServerv4ExclusionRange -ScopeId {scope} -StartRange {start} -EndRange {end}")
    lines += [f"Set-DhcpServerv4OptionValue -ScopeId {scope} {option}" for option in options]
    lines += ["", "# The first policy in order decides an option: iPXE is also a PXEClient, so it comes first."]
    lines += _policies(scope, subnet)
    own = [one for one in ours.reservations if one.subnet == subnet.name]
    if own:
        lines += ["", "# reservations", *(_reservation(scope, one) for one in own)]
    return "\n".join(lines) + "\n"


def _reservation(scope: str, reservation: Reservation) -> str:
    card = reservation.mac.replace(":", "-")
    owner = f"-ClientId {_quoted(card)} -Name {_quoted(short_name(reservation) or card)}"
    return f"Add-DhcpServerv4Reservation -ScopeId {scope} -IPAddress {reservation.ip} {owner}"


def _policies(scope: str, subnet: DhcpSubnet) -> list[str]:
    uefi = ",".join(f"'Provisioner UEFI {number}*'" for number in UEFI_ARCHITECTURES)
    policies = [
        ("Provisioner iPXE", "-UserClass EQ,'Provisioner iPXE'", subnet.script_url),
        ("Provisioner UEFI", f"-VendorClass EQ,{uefi}", UEFI_LOADER),
        ("Provisioner BIOS", "-VendorClass EQ,'Provisioner BIOS*'", BIOS_LOADER),
    ]
    lines = []
    for order, (name, condition, file) in enumerate(policies, start=1):
        policy = f"-Name '{name}' -ScopeId {scope} -Condition OR {condition} -ProcessingOrder {order}"
        option = f"Set-DhcpServerv4OptionValue -ScopeId {scope} -PolicyName '{name}'"
        lines += [
            f"Add-DhcpServerv4Policy {policy}",
            f"{option} -OptionId 66 -Value '{subnet.tftp_address}'",
            f"{option} -OptionId 67 -Value '{file}'",
        ]
    return lines


def excluded(subnet: DhcpSubnet) -> list[tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]]:
    """The machines' addresses of the network that are in none of its ranges, as first and last of each gap."""
    network = subnet.network
    gaps = []
    free = network.network_address + 1
    ranges = sorted((ipaddress.IPv4Address(one.start), ipaddress.IPv4Address(one.end)) for one in subnet.ranges)
    for start, end in ranges:
        if free < start:
            gaps.append((free, start - 1))
        free = end + 1
    if free < network.broadcast_address:
        gaps.append((free, network.broadcast_address - 1))
    return gaps


def _quoted(text: str) -> str:
    # In PowerShell's single quotes nothing but the quotes themselves is special, and it takes typographic ones too.
    for quote in "'\u2018\u2019\u201a\u201b":
        text = text.replace(quote, quote * 2)
    return f"'{text}'"
