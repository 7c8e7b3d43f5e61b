"""Webhooks: what events are called, when a delivery is tried again, how it is signed, and where it may go."""

import difflib
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from provisioner.errors import InvalidInput

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

PING = "ping"
"""What a test sends; nobody chooses it, every webhook takes it."""
EVENTS: dict[str, str] = {
    "machine.added": "somebody registered a machine",
    "machine.changed": "somebody changed a machine; `changed` names the fields, not their values",
    "machine.removed": "somebody removed a machine",
    "machine.discovered": "a machine asked that nobody registered",
    "build.armed": "a build was started: the machine installs at its next boot",
    "build.booting": "the machine fetched its boot script; once for each attempt",
    "build.installing": "the installer fetched its answer file; once for each attempt",
    "build.progress": "the installer reported a step",
    "build.built": "the installer is done",
    "build.configured": "configuration management reported a good first run",
    "build.failed": "the installer or the handoff failed, or the build was stopped",
    "build.cancelled": "somebody cancelled the build",
    "build.halted": "the machine was stopped with a message: somebody has to look",
    "build.continued": "somebody let a halted build go on",
    "build.handoff-retried": "somebody let the handoff report again",
    "build.flagged": "something happened that somebody should look at",
}
_GROUPS = ("machine.*", "build.*")
# Reported steps are any word, so what only we write is told by what a report cannot have: no attempt.
_OURS = {
    "armed": "build.armed",
    "cancelled": "build.cancelled",
    "halt": "build.halted",
    "continued": "build.continued",
    "retry-handoff": "build.handoff-retried",
}
_ONCE = {"script": "build.booting", "answer": "build.installing"}
_ENDS = {
    "built": "build.built",
    "configured": "build.configured",
    "failed": "build.failed",
    "handoff-failed": "build.failed",
}
# Fetches, and what only decorates the timeline; a step that is called like one is not told either.
_QUIET = {
    "dhcp",
    "loader",
    "local-boot",
    "secret",
    "handoff",
    "user-data",
    "meta-data",
    "vendor-data",
    "network-config",
    "refused-event",
    "refused-report",
}
_MOST_CHOSEN = 64


def check_events(chosen: object) -> list[str]:
    """The events that a webhook is told of, each once and sorted; empty is all. Raises InvalidInput."""
    if not isinstance(chosen, list | tuple) or len(chosen) > _MOST_CHOSEN:
        raise InvalidInput("events are a list of names", where="events", hint="for example build.failed, machine.*")
    possible = (*EVENTS, *_GROUPS)
    for name in chosen:
        if name not in possible:
            near = difflib.get_close_matches(str(name)[:80], possible, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InvalidInput(
                f"there is no event {str(name)[:80]!r}", where="events", hint=f"{hint}There are {', '.join(possible)}"
            )
    return sorted(set(chosen))


def wants(chosen: Sequence[str], event: str) -> bool:
    """Whether a webhook that chose these is told of the event."""
    return not chosen or event == PING or event in chosen or f"{event.partition('.')[0]}.*" in chosen


@dataclass(frozen=True)
class BuildEvent:
    """A row of a build's timeline, with what of the build decides what it is called."""

    kind: str
    attempt: int | None = None
    flagged: bool = False
    repeated: bool = False
    """The attempt has an earlier event of this kind."""
    message: str = ""
    state: str = ""
    was_built: bool = False
    outcome: str = ""


def build_events(row: BuildEvent) -> list[str]:
    """What a row of the timeline is called outside; none for what only decorates it.

    An installer may report any word as its step: one that says `configured` or `cancelled` is told as progress,
    unless the build is so.
    """
    if row.flagged:
        # A secret that was asked for twice stops the build, and leaves no other row.
        stopped = row.state == "failed" and bool(row.message) and row.message == row.outcome
        return ["build.flagged", *(["build.failed"] if stopped else [])]
    if row.kind in _QUIET:
        return []
    if row.attempt is None:
        return [_OURS[row.kind]] if row.kind in _OURS else []
    if row.kind in _ONCE:
        return [] if row.repeated else [_ONCE[row.kind]]
    if row.kind in _ENDS and _is_so(row):
        return [] if row.repeated else [_ENDS[row.kind]]
    return ["build.progress"]


def _is_so(row: BuildEvent) -> bool:
    if row.kind == "configured":
        return row.state == "configured"
    return row.state == "failed" if row.kind == "failed" else row.was_built


BACKOFF = (
    timedelta(seconds=10),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=24),
)
TRIES = len(BACKOFF) + 1


def next_try(tries: int, at: datetime, draw: float) -> datetime | None:
    """When a delivery is tried again that failed ``tries`` times, or None: it is given up.

    ``draw`` from 0 to 1 spreads it by a tenth either way, so that what failed together does not come back together.
    """
    if tries >= TRIES:
        return None
    return at + BACKOFF[max(tries, 1) - 1] * (0.9 + 0.2 * draw)


def signature(key: str, timestamp: str, body: bytes) -> str:
    """The value of X-Provisioner-Signature: HMAC-SHA256 over timestamp, a dot, and the body."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def delivery_uid(webhook: str, source: str, event: str) -> str:
    """The id of one event's delivery to one webhook: the same whenever it is derived again."""
    return hashlib.sha256(f"{webhook}\n{source}\n{event}".encode()).hexdigest()[:32]


_MESSAGE = 500
# Of attempts (54 characters) and of people and programs: a machine may report the URL that it could not fetch.
_TOKENS = re.compile(r"pv[ts]_[0-9a-f]{16}_[A-Za-z0-9_-]{43}|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{54}(?![A-Za-z0-9_-])")


def inert(text: str | None, most: int = _MESSAGE) -> str | None:
    """A text that strangers may have written: on one line, without tokens, cut."""
    if not text:
        return None
    plain = "".join(char if char.isprintable() else " " for char in text)
    masked = _TOKENS.sub("********", plain)
    return masked if len(masked) <= most else masked[: most - 3] + "..."


@dataclass(frozen=True)
class Target:
    """Where deliveries go. ``path`` begins with a slash and holds the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a secret is for: another scheme, host or port is another receiver."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 1024
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?", re.ASCII)
# inet_aton(3) reads 127.1, 0x7f.0.0.1, 0177.0.0.1 and 2130706433 as addresses; so does the resolver.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_WRITE_IT = "write it as https://chat.example.com/hook"


def parse_url(text: object) -> Target:
    """The parts of a webhook's URL. Raises InvalidInput; whether its address is allowed is another question."""
    if not isinstance(text, str) or not text or len(text) > _LONGEST_URL:
        raise InvalidInput(f"a URL has 1 to {_LONGEST_URL} characters", where="url", hint=_WRITE_IT)
    if not all("!" <= char <= "~" for char in text) or set(text) & set('\\"<>^`{}|'):
        raise InvalidInput("a URL has no spaces, control characters or letters beyond ASCII", where="url", hint=_ESCAPE)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{text[:80]!r} is not a URL", where="url", hint=_WRITE_IT) from error
    scheme, host = parts.scheme.lower(), _host(parts.netloc, parts.hostname or "")
    if scheme not in _PORTS:
        raise InvalidInput(
            f"a webhook cannot use {scheme[:20]!r}", where="url", hint=f"only http and https; {_WRITE_IT}"
        )
    if "@" in parts.netloc:
        raise InvalidInput(
            "a URL must not hold a user or password", where="url", hint="the signature proves who sent it"
        )
    if not host or port == 0:
        raise InvalidInput(f"{text[:80]!r} names no host", where="url", hint=_WRITE_IT)
    if "#" in text:
        raise InvalidInput("a URL must not have a fragment: it is never sent", where="url", hint="leave out the # part")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme, host, port or _PORTS[scheme], path)


_ESCAPE = "write a host as punycode (xn--...) and anything else as %XX"


def _host(netloc: str, host: str) -> str:
    """The host in normal form; empty for one that is none."""
    if "[" in netloc:
        try:
            return str(IPv6Address(host)) if "%" not in host else ""
        except ValueError:
            return ""
    if not _HOST.fullmatch(host):
        return ""
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return host.rstrip(".")
    try:
        return str(IPv4Address(host))
    except ValueError:
        raise InvalidInput(
            f"{host[:80]!r} is an address in disguise", where="url", hint="write it with four numbers, as 10.0.2.11"
        ) from None


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks that the setting `webhook_networks` allows."""
    return tuple(ip_network(text) for text in texts)


# Private networks (RFC 1918, ULA) are not here: that is where the receivers of a provisioning server live.
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(cidr), why)
    for cidr, why in (
        ("127.0.0.0/8", "this host itself"),
        ("::1/128", "this host itself"),
        ("0.0.0.0/8", "this host itself"),
        ("::/128", "this host itself"),
        ("169.254.0.0/16", "link-local, where clouds serve credentials"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, which RFC 3879 took back"),
        # Clouds' metadata beside the link-local ones: AWS over IPv6, Oracle, Alibaba.
        ("fd00:ec2::254/128", "where a cloud serves credentials"),
        ("192.0.0.0/24", "where a cloud serves credentials"),
        ("100.100.100.200/32", "where a cloud serves credentials"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "reserved, or broadcast"),
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)


def refusal(address: str, allowed: Sequence[Network] = ()) -> str:
    """Why nothing is sent to this address, or an empty text; an IPv6 address that holds an IPv4 one is asked both."""
    try:
        found = ip_address(address)
    except ValueError:
        return "not an address"
    for each in _meant(found):
        if not _within(each, allowed):
            why = next((why for network, why in _REFUSED if _within(each, (network,))), "")
            if why or "%" in address:
                return why or "in the zone of one interface"
    return ""


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Whether the setting names a network with this address."""
    return all(_within(each, allowed) for each in _meant(ip_address(address)))


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _meant(address: Address) -> list[Address]:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return [mapped] if mapped else [address, *_inside(address)]


def _inside(address: Address) -> list[Address]:
    """The IPv4 addresses that an IPv6 address leads to: 6to4, Teredo, NAT64, ISATAP, IPv4-compatible."""
    if isinstance(address, IPv4Address):
        return []
    held: list[Address] = [] if address.sixtofour is None else [address.sixtofour]
    if address.teredo is not None:
        held += address.teredo
    number = int(address)
    ours = address in _COMPATIBLE and number > 1
    if ours or any(address in network for network in _NAT64) or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        held.append(IPv4Address(number & 0xFFFFFFFF))
    return held


def literal_refusal(host: str, allowed: Sequence[Network] = ()) -> str:
    """Why the host of a URL is refused by its spelling alone; what a name resolves to is asked when connecting."""
    if host == "localhost" or host.endswith(".localhost"):
        return refusal("127.0.0.1", allowed)  # RFC 6761, 6.3
    try:
        ip_address(host)
    except ValueError:
        return ""
    return refusal(host, allowed)


def body(payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with all keys that a receiver may count on; what an event does not have is null."""
    keys = ("id", "event", "at", "machine", "build", "step", "message", "actor", "changed")
    return {key: payload.get(key) for key in keys}
