"""What dnsmasq says in its log, one line at a time.

The log is the only place where it tells that it has re-read its hosts file. Host names in it come from the network;
nothing but the kind, the MAC and the address is taken from a line about a packet.
"""

import re
from dataclasses import dataclass
from typing import Literal

EventKind = Literal["discover", "offer", "request", "ack", "nak", "decline", "release", "no-address"]

_KINDS: dict[str, EventKind] = {
    "DHCPDISCOVER": "discover",
    "DHCPOFFER": "offer",
    "DHCPREQUEST": "request",
    "DHCPACK": "ack",
    "DHCPNAK": "nak",
    "DHCPDECLINE": "decline",
    "DHCPRELEASE": "release",
}
_PREFIX = re.compile(r"^dnsmasq(?:-dhcp)?(?:\[\d+\])?: ")
_PACKET = re.compile(
    r"(?P<kind>DHCP[A-Z]+)\([^)]*\) (?:(?P<ip>\d+\.\d+\.\d+\.\d+) )?(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})(?P<rest>.*)"
)
# What a full range or a missing reservation looks like: "... no address available", "... no address range available".
_NO_ADDRESS = re.compile(r"no address (range )?available|no leases left|static lease not available")


@dataclass(frozen=True, slots=True)
class DhcpEvent:
    """One DHCP message of one machine, as dnsmasq saw it; ``ip`` where the message names an address."""

    mac: str
    kind: EventKind
    ip: str | None


def message_of(line: str) -> str:
    """The line without dnsmasq's own prefix."""
    return _PREFIX.sub("", line.rstrip("\n"))


def is_packet(message: str) -> bool:
    """Whether the message is about a packet: there is one for each that anybody sends."""
    return message.startswith("DHCP") and not message.startswith("DHCP,")


def event_of(message: str) -> DhcpEvent | None:
    """The event that a message about a packet tells of, if any."""
    match = _PACKET.match(message)
    if match is None or match["kind"] not in _KINDS:
        return None
    kind: EventKind = "no-address" if _NO_ADDRESS.search(match["rest"]) else _KINDS[match["kind"]]
    return DhcpEvent(match["mac"], kind, match["ip"])
