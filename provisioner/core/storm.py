"""How long it takes to boot many machines at once, and how many should be powered on together.

Each machine loads what a boot needs; what bounds all of them together is the server's link or the server itself, what
bounds one alone is TFTP's lockstep (a block a round trip, RFC 1350) and its own link.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from provisioner.errors import InvalidInput

_FRAME = 38
"""Bytes around an Ethernet packet: preamble, header, checksum, gap (IEEE 802.3)."""
_MTU = 1500
_TCP_PAYLOAD = _MTU - 52
"""Of a full packet: IPv4's header, TCP's, and its timestamps."""
_TFTP_HEADERS = 20 + 8 + 4
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kMGT]?)(?:bit/s|bit|bps|b)?", re.IGNORECASE | re.ASCII)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Limit(StrEnum):
    """What decides how long it takes."""

    LINK = "link"
    """The server's."""
    SERVER = "server"
    TFTP = "tftp"
    """The round trips of one machine's TFTP transfer."""
    CLIENT = "client"
    """The link of one machine."""
    INSTALLER = "installer"
    """Writing, unpacking and configuring: what is loaded meanwhile is there sooner than it is needed."""


@dataclass(frozen=True)
class Boot:
    """The bytes that one boot loads before the installer runs, and, of ``tree``, that the installer loads after."""

    tftp: int = 0
    boot: int = 0
    media: int = 0
    tree: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.tftp + self.boot + self.media + self.tree


@dataclass(frozen=True)
class Path:
    """Between server and machines: bits and round trips a second. The server's own rates are in bytes a second, None
    where nobody measured them.
    """

    link: float
    client_link: float = 1e9
    round_trip: float = 0.001
    blksize: int = 1428
    windowsize: int = 1
    tftp_rate: float | None = None
    media_rate: float | None = None


@dataclass(frozen=True)
class Plan:
    """The times are in seconds. ``together`` is until all have loaded when all begin at once."""

    wire_bytes: float
    """One boot's, with all headers."""
    link_seconds: float
    server_seconds: float
    alone_seconds: float
    """One machine's, with nobody else there."""
    together: float
    limit: Limit
    wave: int
    waves: int
    apart: float
    """From one wave to the next."""
    in_waves: float
    """Until all have loaded that begin in waves; about as long as `together`, but the first are ready early."""
    mean_together: float
    mean_in_waves: float
    """When a machine has loaded, on average."""


def rate(text: str) -> float:
    """Bits a second of a text such as ``10G``, ``2.5G``, ``100Mbit/s``. Raises InvalidInput."""
    found = _RATE.fullmatch(text.strip())
    bits = float(found[1]) * _FACTORS[found[2].lower()] if found else 0.0
    if not 1e6 <= bits <= 1e13:
        raise InvalidInput(
            f"{text[:40]!r} is not the rate of a link",
            where="link",
            hint="write it as 1G, 2.5G, 10G or 100M, in bits a second",
        )
    return bits


def tftp_share(blksize: int) -> float:
    """How much of what is on the wire is the file, at this block size; longer blocks travel in fragments (RFC 791)."""
    packets = max(1, math.ceil((blksize + 12) / (_MTU - 20)))
    return blksize / (blksize + _TFTP_HEADERS + (packets - 1) * 20 + packets * _FRAME)


def tcp_share() -> float:
    """How much of what is on the wire is the file, by HTTP."""
    return _TCP_PAYLOAD / (_MTU + _FRAME)


def round_trips(size: int, blksize: int, windowsize: int) -> int:
    """The round trips of a TFTP transfer: its request, and one for each window; the last block is never a full one."""
    return 0 if size <= 0 else 1 + math.ceil((size // blksize + 1) / windowsize)


def plan(machines: int, boot: Boot, path: Path, install_seconds: float | None = None, within: float = 10.0) -> Plan:
    """The plan for so many machines. A wave is to have loaded ``within`` about so many seconds, or one machine's own
    time where that is longer.
    """
    by_http = boot.boot + boot.media + boot.tree
    wire = boot.tftp / tftp_share(path.blksize) + by_http / tcp_share()
    link = wire * 8 / path.link
    server = _over(boot.tftp, path.tftp_rate) + _over(by_http, path.media_rate)
    tftp_alone = round_trips(boot.tftp, path.blksize, path.windowsize) * path.round_trip
    own_link = wire * 8 / path.client_link
    each, alone = max(link, server), max(tftp_alone + own_link, link, server)
    wave, waves = _waves(machines, each, max(within, alone))
    apart = wave * each if waves > 1 else 0.0
    together = max(machines * each, alone)
    mean_wave = max(wave * each, alone)
    return Plan(
        wire_bytes=wire,
        link_seconds=machines * link,
        server_seconds=machines * server,
        alone_seconds=alone,
        together=together,
        limit=_limit(machines, link, server, (tftp_alone, own_link), install_seconds),
        wave=wave,
        waves=waves,
        apart=apart,
        in_waves=max(together, apart * (waves - 1) + alone),
        mean_together=together,
        mean_in_waves=(waves - 1) / 2 * apart + mean_wave,
    )


def _over(size: int, per_second: float | None) -> float:
    return size / per_second if per_second else 0.0


def _waves(machines: int, each: float, within: float) -> tuple[int, int]:
    """Waves of about the same size, each of which takes at most that long (or is a single machine)."""
    most = machines if each <= 0 else max(1, min(machines, int(within / each)))
    waves = math.ceil(machines / most)
    wave = math.ceil(machines / waves)
    return wave, math.ceil(machines / wave)


def _limit(machines: int, link: float, server: float, own: tuple[float, float], install_seconds: float | None) -> Limit:
    found = {
        Limit.LINK: machines * link,
        Limit.SERVER: machines * server,
        Limit.TFTP: own[0],
        Limit.CLIENT: own[1],
        Limit.INSTALLER: install_seconds or 0.0,
    }
    return max(found, key=lambda each: found[each])


def duration(seconds: float) -> str:
    """For people: ``0.4 s``, ``35 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def amount(size: float) -> str:
    """For people, in decimal units as links have them: ``980 kB``, ``95 MB``, ``38 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            value = size / factor
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def speed(bits: float) -> str:
    """``10 Gbit/s``."""
    unit, factor = ("Gbit/s", 1e9) if bits >= 1e9 else ("Mbit/s", 1e6)
    return f"{bits / factor:g} {unit}"
