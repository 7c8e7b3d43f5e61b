"""MAC and IP addresses in one normal form, whatever the spelling they arrive in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import netaddr

from provisioner.errors import AddressOutsideSubnet, MalformedAddress, MalformedMac

_INTERFACE_PREFIX = re.compile(r"^net[0-9]+[=/:_ -]", re.IGNORECASE)
# PXELINUX's hardware type stands before a hyphen, whatever separates the bytes after it.
_TYPE_PREFIX = re.compile(r"^(01|20)-(?=[0-9a-f]{2}[:.0-9a-f])")
_GROUPED = re.compile(r"^[0-9a-f]{1,2}(?:([:-])[0-9a-f]{1,2})(?:\1[0-9a-f]{1,2})*$")
_DOTTED = re.compile(r"^[0-9a-f]{4}(?:\.[0-9a-f]{4})+$")
_BARE = re.compile(r"^[0-9a-f]+$")
_ETHERNET, _INFINIBAND = 6, 20
# ARP hardware types as PXELINUX writes them before the address: Ethernet and InfiniBand.
_HARDWARE_TYPE = {(1, _ETHERNET), (0x20, _INFINIBAND)}


def normal_mac(text: str) -> str:
    """The normal form of a MAC address: lower case, two digits a byte, colons.

    Accepts colons, hyphens, Cisco's dots, no separators, a PXELINUX hardware type before it (``01-``), iPXE's
    ``net0/`` prefix, and InfiniBand's 20 bytes. Raises MalformedMac.
    """
    octets = _octets(text)
    if octets is None:
        raise MalformedMac(f"{text[:80]!r} is not a MAC address")
    if not any(octets):
        raise MalformedMac(f"{text[:80]!r} is all zeros: firmware writes that when it does not know its address")
    if len(octets) == _ETHERNET and octets[0] & 1:
        raise MalformedMac(f"{text[:80]!r} is a group address; no card has it")
    return ":".join(f"{octet:02x}" for octet in octets)


def looks_like_mac(text: str) -> bool:
    """Whether the text would parse as a MAC address; such a text is never a machine's name."""
    return _octets(text) is not None


def _octets(text: str) -> tuple[int, ...] | None:
    spelled = _TYPE_PREFIX.sub("", _INTERFACE_PREFIX.sub("", text.strip()).lower())
    if _GROUPED.match(spelled):
        octets = tuple(int(group, 16) for group in re.split("[:-]", spelled))
    elif _DOTTED.match(spelled):
        octets = tuple(bytes.fromhex(spelled.replace(".", "")))
    elif _BARE.match(spelled) and len(spelled) % 2 == 0:
        octets = tuple(bytes.fromhex(spelled))
    else:
        return None
    if octets and (octets[0], len(octets) - 1) in _HARDWARE_TYPE:
        octets = octets[1:]
    return octets if len(octets) in {_ETHERNET, _INFINIBAND} else None


def normal_ip(text: str) -> str:
    """The normal form of an IPv4 or IPv6 address. Raises MalformedAddress (also for ``10.1`` and ``010.0.0.1``)."""
    try:
        address = netaddr.IPAddress(text.strip(), flags=netaddr.INET_PTON)
    except (netaddr.AddrFormatError, ValueError, TypeError) as error:
        raise MalformedAddress(f"{text[:80]!r} is not an IP address") from error
    if address.is_ipv4_mapped():
        # A dual-stack socket reports IPv4 peers as ::ffff:10.0.2.11.
        address = address.ipv4()
    return str(address)


def normal_cidr(text: str) -> str:
    """The normal form of a network, ``10.0.2.0/24``. Raises MalformedAddress when host bits are set."""
    if "/" not in text:
        raise MalformedAddress(f"{text[:80]!r} has no prefix length", hint="write it as 10.0.2.0/24")
    try:
        # IPNetwork alone would take 10.1/16 for 10.1.0.0/16.
        network = netaddr.IPNetwork(f"{normal_ip(text.split('/', maxsplit=1)[0])}/{text.strip().split('/', 1)[1]}")
    except (netaddr.AddrFormatError, ValueError, TypeError) as error:
        raise MalformedAddress(f"{text[:80]!r} is not a network") from error
    if network.ip != network.network:
        raise MalformedAddress(f"{text!r} has bits set beyond its prefix", hint=f"did you mean {network.cidr}?")
    return str(network.cidr)


RANGE_KINDS = ("static", "dynamic", "reserved")


@dataclass(frozen=True)
class AddressRange:
    """Addresses ``start`` to ``end``, both included, and what they are for.

    ``static``: machines get theirs here when somebody asks for a free one. ``dynamic``: DHCP gives them to machines
    nobody registered. ``reserved``: nobody gets them from us.
    """

    start: str
    end: str
    kind: str = "dynamic"

    def __contains__(self, ip: str) -> bool:
        address = netaddr.IPAddress(ip)
        return netaddr.IPAddress(self.start) <= address <= netaddr.IPAddress(self.end)


def parse_range(value: str | Mapping[str, str], cidr: str) -> AddressRange:
    """A range inside the network: ``[KIND:]START-END``, or the same as ``kind``, ``start`` and ``end``.

    It is ``dynamic`` unless it says otherwise. Raises MalformedAddress or AddressOutsideSubnet.
    """
    kind, start, end = range_parts(value)
    found = AddressRange(normal_ip(start), normal_ip(end), kind)
    for ip in (found.start, found.end):
        if not contains(cidr, ip):
            raise AddressOutsideSubnet(f"{ip} is not in {cidr}", hint="a range lies in its subnet's own network")
    if netaddr.IPAddress(found.start) > netaddr.IPAddress(found.end):
        raise MalformedAddress(
            f"the range {found.start} to {found.end} ends before it starts", hint="write the lower address first"
        )
    return found


def range_parts(value: str | Mapping[str, str]) -> tuple[str, str, str]:
    """Kind, start and end of a range, as they are written. Raises MalformedAddress."""
    if isinstance(value, str):
        before, colon, after = value.partition(":")
        kind, extent = (before, after) if colon and before in RANGE_KINDS else ("dynamic", value)
        start, dash, end = extent.partition("-")
        if dash:
            return kind, start, end
    elif isinstance(value, Mapping) and {"start", "end"} <= set(value) <= {"kind", "start", "end"}:
        kind, start, end = value.get("kind", "dynamic"), value["start"], value["end"]
        if kind in RANGE_KINDS and isinstance(start, str) and isinstance(end, str):
            return kind, start, end
    raise MalformedAddress(
        f"{str(value)[:80]!r} is not a range",
        hint=f"write it as 10.0.2.100-10.0.2.199 or static:10.0.2.10-10.0.2.99; kinds: {', '.join(RANGE_KINDS)}",
    )


def contains(cidr: str, ip: str) -> bool:
    """Whether the network contains the address; an IPv4 network contains no IPv6 address."""
    address, network = netaddr.IPAddress(ip), netaddr.IPNetwork(cidr)
    return address.version == network.version and address in network


def overlaps(first: str, second: str) -> bool:
    """Whether two networks share an address."""
    one, two = netaddr.IPNetwork(first), netaddr.IPNetwork(second)
    return one.version == two.version and (one in two or two in one)


def check_network(cidr: str) -> None:
    """Raise MalformedAddress, with the reason, for a network whose addresses cannot be given to machines."""
    network = netaddr.IPNetwork(cidr)
    for special, reason in _SPECIAL:
        if special.version == network.version and (network in special or special in network):
            raise MalformedAddress(f"the addresses of {cidr} cannot be given to machines: {special} {reason}")


def _unusable(address: netaddr.IPAddress) -> str:
    for special, reason in _SPECIAL:
        if address.version == special.version and address in special:
            return reason
    return ""


# RFC 4291 (2.4, 2.5.2, 2.5.5.2, 2.5.6, 2.7), RFC 5771, RFC 3927, RFC 1122 (3.2.1.3).
_SPECIAL = tuple(
    (netaddr.IPNetwork(cidr), reason)
    for cidr, reason in (
        ("fe80::/10", "is link-local: each interface makes its own such address, and no router passes it on"),
        ("ff00::/8", "is multicast: no machine has such an address"),
        ("::ffff:0:0/96", "is IPv4 in IPv6's clothes: write it as IPv4"),
        ("::/128", "is the unspecified address"),
        ("169.254.0.0/16", "is link-local: each interface makes its own such address, and no router passes it on"),
        ("224.0.0.0/4", "is multicast: no machine has such an address"),
        ("0.0.0.0/32", "is the unspecified address"),
    )
)


def prefix_and_netmask(cidr: str) -> tuple[int, str]:
    """The prefix length and the netmask of a network in normal form."""
    network = netaddr.IPNetwork(cidr)
    return network.prefixlen, str(network.netmask)


def check_assignable(ip: str, *, name: str, cidr: str, gateway: str | None) -> None:
    """Raise AddressOutsideSubnet, with the reason, unless a machine in this network may have the address."""
    network = netaddr.IPNetwork(cidr)
    address = netaddr.IPAddress(ip)
    if not contains(cidr, ip):
        raise AddressOutsideSubnet(f"{ip} is not in subnet {name} ({cidr})")
    reason = _unusable(address)
    if reason:
        raise AddressOutsideSubnet(f"{ip} {reason}")
    # RFC 4291, 2.6.1: the address with an empty interface part means any router there; not on links of two (RFC 6164).
    if network.version == 6 and network.prefixlen < 127 and address == network.network:
        raise AddressOutsideSubnet(f"{ip} is the subnet-router anycast address of subnet {name} ({cidr})")
    # /31 and /32 (RFC 3021) have neither a network nor a broadcast address.
    if network.version == 4 and network.prefixlen < 31:
        if address == network.network:
            raise AddressOutsideSubnet(f"{ip} is the network address of subnet {name} ({cidr})")
        if address == network.broadcast:
            raise AddressOutsideSubnet(f"{ip} is the broadcast address of subnet {name} ({cidr})")
    if gateway is not None and ip == gateway:
        raise AddressOutsideSubnet(f"{ip} is the gateway of subnet {name}")
