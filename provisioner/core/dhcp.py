"""What the DHCP server should say: plain values, and the decisions about them.

The values become lines in the configuration of daemons that know neither quoting nor escaping (dnsmasq's `ignore`
in a host line refuses the machine service, a newline begins the next directive), so nothing passes unless every
character is known to be harmless: ``served`` refuses the plan with ``InvalidInput`` otherwise.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from provisioner.errors import AddressOutsideSubnet, InvalidInput, MalformedAddress, MalformedMac, UnknownReference

Mode = Literal["off", "authoritative", "proxy", "external"]

LEASE_SECONDS = 3600
BIOS_LOADER = "undionly.kpxe"
UEFI_LOADER = "snponly.efi"
UEFI_ARCHITECTURES = (7, 9)
"""Option 93 of x86-64 UEFI firmware: RFC 4578 says 9, the field says 7 (its erratum)."""

_SCRIPT = "/boot/ipxe"
# The BOOTP `file` field holds 128 bytes with the final zero, and iPXE ROMs read the file name from there.
_LONGEST_SCRIPT_URL = 127
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2})+")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")
_URL_CHARACTERS = re.compile(r"[A-Za-z0-9:/._~%\[\]-]+")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9._-]{1,15}")


@dataclass(frozen=True, slots=True)
class DhcpRange:
    """Addresses given to machines without a reservation, both ends included."""

    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """This MAC (``aa:bb:cc:dd:ee:ff``) in this subnet (its name) gets this address and no other."""

    mac: str
    ip: str
    hostname: str | None
    subnet: str


@dataclass(frozen=True, slots=True)
class DhcpSubnet:
    """One network as the DHCP server sees it.

    Without ``ranges`` only machines with a reservation are answered. ``tftp_address`` is where firmware fetches its
    loader, ``boot_url`` the address of the boot plane as machines in this subnet reach it.

    A proxy names the address at which it was asked: as ``boot_url``, with ``boot_port``, unless that is 0; for TFTP if
    ``tftp_everywhere``.
    """

    name: str
    cidr: str
    gateway: str | None
    dns: tuple[str, ...]
    domain: str | None
    ranges: tuple[DhcpRange, ...]
    mode: Mode
    boot_url: str
    tftp_address: str
    boot_port: int = 0
    tftp_everywhere: bool = False

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The CIDR as a value; raises ``MalformedAddress``."""
        try:
            return ipaddress.IPv4Network(self.cidr)
        except ValueError as exc:
            raise MalformedAddress(
                f"{self.cidr!r} is not an IPv4 network: {exc}",
                hint="DHCP serves IPv4; write the network's first address, such as 10.0.2.0/24, or set its DHCP to off",
                where=f"subnet {self.name}",
            ) from None

    @property
    def script_url(self) -> str:
        """Where iPXE fetches its first script."""
        return self.boot_url.rstrip("/") + _SCRIPT

    @property
    def nameservers(self) -> tuple[str, ...]:
        """Option 6, never empty: without it Debian's installer stops and asks, even at priority critical."""
        given = tuple(address for address in self.dns if ":" not in address)
        return given or (self.gateway or self.tftp_address,)


@dataclass(frozen=True, slots=True)
class DhcpPlan:
    """Everything that DHCP should be, at one generation of the database."""

    generation: int
    subnets: tuple[DhcpSubnet, ...]
    reservations: tuple[Reservation, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A reservation that DHCP cannot serve, and why: worth a warning, no reason to refuse all others."""

    reservation: Reservation
    reason: str


@dataclass(frozen=True, slots=True)
class Served:
    """The checked part of a plan for which one mode answers; reservations in the order of their addresses."""

    subnets: tuple[DhcpSubnet, ...]
    reservations: tuple[Reservation, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """One line of dnsmasq's lease file."""

    mac: str
    ip: str
    line: str


def served(plan: DhcpPlan, mode: Mode = "authoritative") -> Served:
    """The subnets of one mode and their reservations, checked.

    A MAC with several addresses in one subnet (bonds and VLANs share their card's) keeps the lowest; the others are
    left out. Raises ``InvalidInput`` or one of its kinds for the first value that is wrong.
    """
    names = {subnet.name for subnet in plan.subnets}
    subnets = tuple(sorted((s for s in plan.subnets if s.mode == mode), key=lambda s: (s.network, s.name)))
    for subnet in subnets:
        validate_subnet(subnet)
    _refuse_overlaps(subnets)
    networks = {subnet.name: subnet.network for subnet in subnets}
    ours = []
    for reservation in plan.reservations:
        if reservation.subnet not in names:
            raise UnknownReference(f"{reservation.mac} is reserved in {reservation.subnet!r}, which is no subnet")
        if reservation.subnet in networks:
            validate_reservation(reservation, networks[reservation.subnet])
            ours.append(reservation)
    _refuse_shared_addresses(ours)
    return _one_each(subnets, ours)


def _one_each(subnets: tuple[DhcpSubnet, ...], reservations: list[Reservation]) -> Served:
    kept: dict[tuple[str, str], Reservation] = {}
    left_out = []
    for reservation in sorted(reservations, key=lambda r: ipaddress.IPv4Address(r.ip)):
        key = (reservation.mac, reservation.subnet)
        if reservation.mac.count(":") != 5:
            # RFC 4390: InfiniBand sends no hardware address by DHCP at all.
            left_out.append(LeftOut(reservation, "DHCP carries six-byte MAC addresses only"))
        elif key in kept:
            left_out.append(LeftOut(reservation, f"this MAC already has {kept[key].ip} in this subnet"))
        else:
            kept[key] = reservation
    return Served(subnets, tuple(kept.values()), tuple(left_out))


def validate_subnet(subnet: DhcpSubnet) -> None:
    """Refuse a subnet that cannot be served as it stands: ``InvalidInput`` or one of its kinds."""
    where = f"subnet {subnet.name}"
    network = subnet.network
    if network.prefixlen > 30:
        raise InvalidInput(f"{network} is too small for DHCP", hint="use a /30 or larger", where=where)
    if not subnet.name.isprintable():
        raise InvalidInput(f"the subnet's name {subnet.name!r} holds unprintable characters", where=where)
    if subnet.gateway is not None and _address(subnet.gateway, where) not in network:
        raise AddressOutsideSubnet(f"the gateway {subnet.gateway} is not in {network}", where=where)
    for address in subnet.dns:
        _any_address(address, where)
    _address(subnet.tftp_address, where)
    if subnet.domain is not None and not _HOSTNAME.fullmatch(subnet.domain):
        raise InvalidInput(f"{subnet.domain!r} is not a DNS domain", where=where)
    _validate_boot_url(subnet, where)
    _validate_ranges(subnet, network, where)


def validate_proxied(subnet: DhcpSubnet) -> None:
    """Refuse a subnet that a proxy cannot serve as it stands: ``InvalidInput`` or one of its kinds."""
    where = f"subnet {subnet.name}"
    if subnet.network.prefixlen == 32:
        raise InvalidInput(f"{subnet.network} holds no machine beside us", hint="use a /31 or larger", where=where)
    if not subnet.tftp_everywhere:
        _address(subnet.tftp_address, where)
    _validate_boot_url(subnet, where)


def _validate_boot_url(subnet: DhcpSubnet, where: str) -> None:
    url = subnet.boot_url
    if not _URL_CHARACTERS.fullmatch(url):
        raise InvalidInput(f"the boot URL {url!r} holds characters that a DHCP configuration cannot carry", where=where)
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise InvalidInput(f"the boot URL {url!r} is not a URL: {exc}", where=where) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput(f"{url!r} is not a URL", hint="write it as http://10.0.2.1:8080", where=where)
    if len(subnet.script_url) > _LONGEST_SCRIPT_URL:
        raise InvalidInput(
            f"{subnet.script_url} is longer than the {_LONGEST_SCRIPT_URL} characters that DHCP has for a file name",
            hint="give the subnet a shorter boot URL",
            where=where,
        )


def _validate_ranges(subnet: DhcpSubnet, network: ipaddress.IPv4Network, where: str) -> None:
    # dnsmasq is told not to ping before it offers, so what is known to be in use must be kept out here.
    fixed = dict.fromkeys(subnet.dns, "DNS server") | {subnet.tftp_address: "TFTP address"}
    if subnet.gateway is not None:
        fixed[subnet.gateway] = "gateway"
    taken: list[tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]] = []
    for extent in subnet.ranges:
        start, end = _address(extent.start, where), _address(extent.end, where)
        text = f"the range {extent.start} to {extent.end}"
        if start > end:
            raise InvalidInput(f"{text} ends before it starts", where=where)
        if start <= network.network_address or end >= network.broadcast_address:
            raise AddressOutsideSubnet(f"{text} is not within the machines' addresses of {network}", where=where)
        if any(start <= other_end and other_start <= end for other_start, other_end in taken):
            raise InvalidInput(f"{text} overlaps another range", where=where)
        for address, role in fixed.items():
            if ":" not in address and start <= ipaddress.IPv4Address(address) <= end:
                raise InvalidInput(f"{text} contains {address}, the {role}", where=where)
        taken.append((start, end))


def validate_reservation(reservation: Reservation, network: ipaddress.IPv4Network) -> None:
    """Refuse a reservation that no daemon could serve in ``network``."""
    if not _MAC.fullmatch(reservation.mac) or reservation.mac.count(":") not in {5, 19}:
        raise MalformedMac(f"{reservation.mac!r} is not a MAC address in normal form")
    where = f"reservation {reservation.mac}"
    address = _address(reservation.ip, where)
    if address not in network or address in {network.network_address, network.broadcast_address}:
        raise AddressOutsideSubnet(f"{reservation.ip} is not a machine's address in {network}", where=where)
    if reservation.hostname is not None and not _HOSTNAME.fullmatch(reservation.hostname):
        raise InvalidInput(f"{reservation.hostname!r} is not a host name", where=where)


def _refuse_overlaps(subnets: Iterable[DhcpSubnet]) -> None:
    before: DhcpSubnet | None = None
    for subnet in subnets:
        if before is not None and before.network.overlaps(subnet.network):
            raise InvalidInput(
                f"the subnets {before.name} ({before.cidr}) and {subnet.name} ({subnet.cidr}) overlap",
                hint="serve DHCP in one of them",
            )
        before = subnet


def _refuse_shared_addresses(reservations: Iterable[Reservation]) -> None:
    owners: dict[str, str] = {}
    for reservation in reservations:
        other = owners.setdefault(reservation.ip, reservation.mac)
        if other != reservation.mac:
            raise InvalidInput(f"{reservation.ip} is reserved for both {other} and {reservation.mac}")


def _address(text: str, where: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise MalformedAddress(f"{text!r} is not an IPv4 address", where=where) from None


def _any_address(text: str, where: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise MalformedAddress(f"{text!r} is not an IP address", where=where) from None
    if getattr(address, "scope_id", None):
        raise MalformedAddress(f"{text!r} is a link-local address with a zone", where=where)


def short_name(reservation: Reservation) -> str:
    """The host name a machine is told (option 12): the first label, since the domain has its own option; or ''."""
    return (reservation.hostname or "").split(".")[0]


def interfaces_for(subnets: Iterable[DhcpSubnet], addresses: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The network interfaces (name to its IPv4 addresses) on which these subnets are answered.

    Those with an address in a subnet, and those that own a subnet's TFTP address: there the requests of a DHCP relay
    arrive. Loopback is never one.
    """
    wanted = [(subnet.network, subnet.tftp_address) for subnet in subnets]
    found = set()
    for name, own in addresses.items():
        if name == "lo" or not _INTERFACE_NAME.fullmatch(name):
            continue
        for text in own:
            address = ipaddress.IPv4Address(text)
            if any(address in network or text == tftp for network, tftp in wanted):
                found.add(name)
    return tuple(sorted(found))


def links_of(
    subnets: Iterable[DhcpSubnet], addresses: Mapping[str, Iterable[str]]
) -> dict[str, tuple[DhcpSubnet, ...]]:
    """The network interfaces by name, each with those of the subnets that are asked there.

    A subnet is asked on the interfaces with an address in it; one in which we have none is asked through a relay, on
    the interface that owns its TFTP address.
    """
    found: dict[str, tuple[DhcpSubnet, ...]] = {}
    for subnet in subnets:
        usable = {name: set(own) for name, own in addresses.items() if name != "lo" and _INTERFACE_NAME.fullmatch(name)}
        within = [n for n, own in usable.items() if any(ipaddress.IPv4Address(ip) in subnet.network for ip in own)]
        for name in within or [name for name, own in usable.items() if subnet.tftp_address in own]:
            found[name] = (*found.get(name, ()), subnet)
    return found


def stale_leases(leases: Iterable[Lease], reservations: Iterable[Reservation]) -> tuple[Lease, ...]:
    """Leases that stand in the way of a reservation: its address, held by another MAC.

    A replaced card, or an address reserved out of a range, would otherwise have to wait until the lease runs out.
    """
    owners = {reservation.ip: reservation.mac for reservation in reservations}
    return tuple(lease for lease in leases if owners.get(lease.ip, lease.mac) != lease.mac)
