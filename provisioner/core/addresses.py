"""MAC and IP addresses in one normal form, whatever the spelling they arrive in."""

import re
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


def parse_range(text: str, cidr: str) -> AddressRange:
    """A range ``[KIND:]START-END`` inside the network, ``dynamic`` unless it says otherwise.

    Raises MalformedAddress or AddressOutsideSubnet.
    """
    before, colon, after = text.partition(":")
    kind, extent = (before, after) if colon and before in RANGE_KINDS else ("dynamic", text)
    start, dash, end = extent.partition("-")
    if not dash:
        raise MalformedAddress(
            f"{text[:80]!r} is not a range", hint="write it as 10.0.2.100-10.0.2.199 or static:10.0.2.10-10.0.2.99"
        )
    found = AddressRange(normal_ip(start), normal_ip(end), kind)
    for ip in (found.start, found.end):
        if not contains(cidr, ip):
            raise AddressOutsideSubnet(f"{ip} is not in {cidr}")
    if netaddr.IPAddress(found.start) > netaddr.IPAddress(found.end):
        raise MalformedAddress(f"the range {text!r} ends before it starts")
    return found


def contains(cidr: str, ip: str) -> bool:
    """Whether the network contains the address; an IPv4 network contains no IPv6 address."""
    address, network = netaddr.IPAddress(ip), netaddr.IPNetwork(cidr)
    return address.version == network.version and address in network


def overlaps(first: str, second: str) -> bool:
    """Whether two networks share an address."""
    one, two = netaddr.IPNetwork(first), netaddr.IPNetwork(second)
    return one.version == two.version and (one in two or two in one)


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
    # /31 and /32 (RFC 3021) have neither a network nor a broadcast address.
    if network.version == 4 and network.prefixlen < 31:
        if address == network.network:
            raise AddressOutsideSubnet(f"{ip} is the network address of subnet {name} ({cidr})")
        if address == network.broadcast:
            raise AddressOutsideSubnet(f"{ip} is the broadcast address of subnet {name} ({cidr})")
    if gateway is not None and ip == gateway:
        raise AddressOutsideSubnet(f"{ip} is the gateway of subnet {name}")
