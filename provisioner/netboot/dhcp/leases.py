"""dnsmasq's lease file: `expiry mac ip hostname client-id`, one lease a line."""

from collections.abc import Iterable
from pathlib import Path

from provisioner.core.dhcp import Lease, Reservation, stale_leases
from provisioner.netboot.dhcp.files import write_whole


def parse_leases(text: str) -> tuple[Lease, ...]:
    """The IPv4 leases in the file; lines of other kinds (dnsmasq's DUID, IPv6) are passed over."""
    leases = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 4 and words[0].isdigit() and words[2].count(".") == 3:
            leases.append(Lease(mac=words[1].lower(), ip=words[2], line=line))
    return tuple(leases)


def stale_in(path: Path, reservations: Iterable[Reservation]) -> tuple[Lease, ...]:
    """The leases in the file that stand in the way of a reservation."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ()
    return stale_leases(parse_leases(text), reservations)


def drop_leases(path: Path, leases: Iterable[Lease]) -> None:
    """Take the leases out of the file; dnsmasq must not be running: it keeps its leases in memory."""
    gone = {lease.line for lease in leases}
    if gone and path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        write_whole(path, "".join(f"{line}\n" for line in text.splitlines() if line not in gone))
