"""Proxy DHCP (PXE 2.1, section 2.2): which request gets which boot information, beside a DHCP server of somebody else.

Pure: a request, where it came in, and the subnets of mode ``proxy`` go in; a reply or the reason for silence comes out.
A reply never carries an address for the machine. What firmware makes of it:

- The OFFER itself has ``siaddr`` and a file name, and option 43 says "use it" (discovery control, bit 3): iPXE takes a
  proxy's file name only together with ``siaddr``, and asks port 4011 for what the OFFER lacks; EDK2 and plain ROMs
  neither look for boot servers nor show a menu.
- Option 60 tells the firmware that this is a proxy's answer: ``PXEClient``, and ``HTTPClient`` for UEFI HTTP boot,
  which throws away any other. Option 97 comes back as it was sent, or the ROM drops the answer.
- Whoever has no address yet is answered by broadcast, whatever its flags say: we know of no address to send to.
"""

import ipaddress
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from provisioner.core.dhcp import DhcpSubnet
from provisioner.core.firmware import KNOWN, UEFI

DHCP_PORT, PXE_PORT, CLIENT_PORT = 67, 4011, 68
DISCOVER, REQUEST, INFORM = 1, 3, 8
OFFER: Final = 2
ACK: Final = 5
NOWHERE = "0.0.0.0"  # noqa: S104 - the absence of an address, never bound
LOADER_PATH = "/boot/loader/"

_EVERYWHERE = "255.255.255.255"
_BOOT_ITEM = 71
_USE_THE_FILE = bytes([6, 1, 8])
_LONGEST_FILE = 127
_HTTP_ARCHITECTURES = {16: UEFI}
"""IANA's registry of processor architecture types: x86-64 UEFI boot from HTTP."""


@dataclass(frozen=True, slots=True)
class Request:
    """A client's message (RFC 2131), as far as it matters here. ``kind`` is option 53; 0 for BOOTP."""

    kind: int
    xid: int
    flags: int
    ciaddr: str
    giaddr: str
    htype: int
    hlen: int
    chaddr: bytes
    options: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def mac(self) -> str | None:
        """The hardware address of an Ethernet card in normal form, else None."""
        return self.chaddr[:6].hex(":") if (self.htype, self.hlen) == (1, 6) else None


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a request came in: from whom, at which port, on an interface with these addresses of ours.

    ``local`` is the address of ours that it was sent to; None for a broadcast.
    """

    source: str
    source_port: int
    port: int
    addresses: tuple[str, ...]
    local: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent, from ``server`` to ``destination``; ``what`` names the boot file in a word for people."""

    kind: Literal[2, 5]
    request: Request
    server: str
    next_server: str
    file: str
    options: tuple[tuple[int, bytes], ...]
    destination: tuple[str, int]
    what: str


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer, and why; ``notable``: a machine wanted to boot, and there is nothing that it could run."""

    reason: str
    notable: bool = False


@dataclass(frozen=True, slots=True)
class _Boot:
    """What a client can run, and how it wants to be told."""

    vendor: bytes
    file: str
    what: str


def admitted(source: str, giaddr: str, subnets: Iterable[DhcpSubnet]) -> bool:
    """Whether a datagram may be looked into at all: from no address yet, or from (or relayed from) a proxied subnet."""
    if source == NOWHERE:
        return True
    return any(_in(subnet, source) or _in(subnet, giaddr) for subnet in subnets)


def decide(request: Request, arrival: Arrival, subnets: Sequence[DhcpSubnet]) -> Reply | Silence:
    """The answer to one request: an OFFER on port 67, an ACK on port 4011, or silence."""
    kind = _kind(request, arrival.port)
    if kind is None:
        return Silence("not a message that a proxy answers")
    place = _place(request, arrival, subnets)
    if place is None:
        return Silence("not from a subnet in proxy mode")
    subnet, server = place
    chosen = request.options.get(54)
    if chosen is not None and chosen != _packed(server):
        return Silence("it chose another server")
    boot = _boot(request, subnet, server)
    if isinstance(boot, Silence):
        return boot
    return Reply(
        kind=kind,
        request=request,
        server=server,
        next_server=server if subnet.tftp_everywhere else subnet.tftp_address,
        file=boot.file if len(boot.file) <= _LONGEST_FILE else "",
        options=_options(request, kind, server, boot),
        destination=_destination(request, arrival),
        what=boot.what,
    )


def boot_url(subnet: DhcpSubnet, server: str) -> str:
    """The boot plane's URL that machines there are told; ``server`` is our address on their network."""
    return f"http://{server}:{subnet.boot_port}" if subnet.boot_port else subnet.boot_url.rstrip("/")


def is_ipxe(options: Mapping[int, bytes]) -> bool:
    """Whether iPXE asks: its features (option 175), or its user class, raw as it sends it or listed as in RFC 3004."""
    user_class = options.get(77, b"")
    return 175 in options or user_class == b"iPXE" or user_class.startswith(b"\x04iPXE")


def _kind(request: Request, port: int) -> Literal[2, 5] | None:
    if port == DHCP_PORT:
        return OFFER if request.kind == DISCOVER else None
    return ACK if request.kind in {REQUEST, INFORM} else None


def _place(request: Request, arrival: Arrival, subnets: Sequence[DhcpSubnet]) -> tuple[DhcpSubnet, str] | None:
    """The proxied subnet that it comes from, and our address to answer from."""
    if request.giaddr != NOWHERE:
        server = arrival.local or next(iter(arrival.addresses), None)
        return next(((subnet, server) for subnet in subnets if server and _in(subnet, request.giaddr)), None)
    # An answer goes to ciaddr or the source: neither may lead out of the subnet (no reflection).
    known = {request.ciaddr, arrival.source} - {NOWHERE}
    for subnet in subnets:
        ours = [address for address in arrival.addresses if _in(subnet, address)]
        if ours and all(_in(subnet, address) for address in known):
            return subnet, arrival.local if arrival.local in ours else ours[0]
    return None


def _boot(request: Request, subnet: DhcpSubnet, server: str) -> _Boot | Silence:
    vendor = request.options.get(60, b"")
    base = boot_url(subnet, server)
    if is_ipxe(request.options):
        return _Boot(b"PXEClient", f"{base}/boot/ipxe", "the first script")
    codes = _architectures(request.options.get(93, b""), vendor)
    if vendor.startswith(b"HTTPClient"):
        loaders = [_HTTP_ARCHITECTURES[code].loader for code in codes if code in _HTTP_ARCHITECTURES]
        boots = [_Boot(b"HTTPClient", f"{base}{LOADER_PATH}{name}", f"{name} by HTTP") for name in loaders]
    elif vendor.startswith(b"PXEClient"):
        loaders = [known.loader for code in codes for known in KNOWN if code in known.arch_codes]
        boots = [_Boot(b"PXEClient", name, name) for name in loaders]
    else:
        return Silence("not a network boot")
    if not boots:
        shown = ", ".join(map(str, codes[:4])) or "untold"
        return Silence(f"no loader for processor architecture {shown} (option 93)", notable=True)
    return boots[0]


def _architectures(option: bytes, vendor: bytes) -> list[int]:
    """Option 93: a list of codes (RFC 4578, 2.1); a ROM that leaves it out still says it in its vendor class."""
    if len(option) >= 2:
        return list(struct.unpack(f"!{len(option) // 2}H", option[: len(option) // 2 * 2]))
    parts = vendor.split(b":")
    if len(parts) > 2 and parts[1] == b"Arch" and parts[2].isdigit() and len(parts[2]) <= 5:
        return [int(parts[2])]
    return []


def _options(request: Request, kind: int, server: str, boot: _Boot) -> tuple[tuple[int, bytes], ...]:
    options = [(53, bytes([kind])), (54, _packed(server)), (60, boot.vendor)]
    if boot.vendor == b"HTTPClient":
        options.append((67, boot.file.encode()))
    else:
        options.append((43, _USE_THE_FILE + _boot_item(request) + b"\xff"))
    if len(uuid := request.options.get(97, b"")) == 17:
        options.append((97, uuid))
    relay = request.options.get(82, b"")
    if request.giaddr != NOWHERE and 0 < len(relay) < 256:
        options.append((82, relay))  # RFC 3046, 2.2: last, and as it came
    return tuple(options)


def _boot_item(request: Request) -> bytes:
    """A ROM that looks for a boot server all the same wants its item back, or it drops the answer (PXE 2.1, 3.3)."""
    rest = request.options.get(43, b"")
    while len(rest) > 1 and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        if rest[0] == _BOOT_ITEM and rest[1] == 4 and len(rest) >= 6:
            return rest[:6]
        rest = rest[2 + rest[1] :]
    return b""


def _destination(request: Request, arrival: Arrival) -> tuple[str, int]:
    if request.giaddr != NOWHERE:
        return request.giaddr, DHCP_PORT
    port = CLIENT_PORT if arrival.port == DHCP_PORT else arrival.source_port
    for address in (request.ciaddr, arrival.source if arrival.port == PXE_PORT else NOWHERE):
        if address != NOWHERE:
            return address, port
    return _EVERYWHERE, CLIENT_PORT


def _in(subnet: DhcpSubnet, address: str) -> bool:
    return address != NOWHERE and ipaddress.IPv4Address(address) in subnet.network


def _packed(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed
