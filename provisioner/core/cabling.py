"""The interfaces of one machine as plain data: which is replaced by which, and what address each has."""

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import netaddr

from provisioner.core.machineinput import NEXT, pointer
from provisioner.core.names import few
from provisioner.core.pools import Pool
from provisioner.errors import AddressOutsideSubnet, AddressTaken, InvalidInput, ProvisionerError, UnknownReference

Nic = Mapping[str, Any]
_NUMBERED = re.compile(r"nic\d+")


class Nets:
    """All subnets; finds the one that contains an address quickly, since no two overlap."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self.by_name = {pool.name: pool for pool in pools}
        self._bare = {name: Pool(pool.name, pool.cidr, pool.gateway) for name, pool in self.by_name.items()}
        self._spans = sorted((pool.version, *pool.whole, name) for name, pool in self.by_name.items())

    def refuse(self, ip: str, name: str, *, kept: bool) -> None:
        """Raise AddressOutsideSubnet unless a machine may have it. One that has it may ``keep`` it within a range."""
        (self._bare if kept else self.by_name)[name].refuse(ip)

    def containing(self, ip: str) -> Pool:
        """The subnet that contains the address. Raises AddressOutsideSubnet."""
        address = netaddr.IPAddress(ip)
        place = bisect.bisect_right(self._spans, (address.version, int(address), 1 << 130, ""))
        if place:
            version, _, last, name = self._spans[place - 1]
            if version == address.version and int(address) <= last:
                return self.by_name[name]
        known = few([f"{net.name} {net.cidr}" for net in self.by_name.values()])
        raise AddressOutsideSubnet(f"no subnet contains {ip}" + (f"; known: {known}" if known else ""))


def cable(
    wanted: Sequence[Nic], there: Sequence[Nic], nets: Nets, held: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[int | None]]:
    """The interfaces as they will be, as `services.interfaces` makes them for one machine.

    For each also the position of the one before that it was, None for a new one. ``held`` are addresses that somebody
    else holds, and who. Raises AddressOutsideSubnet, AddressTaken, UnknownReference or InvalidInput with the pointer.
    """
    rows = _rows(wanted, there)
    cabled = []
    for place, (nic, row) in enumerate(zip(wanted, rows, strict=True)):
        old = None if row is None else there[row]
        try:
            ip, subnet = _address(nic, old, there, nets, held)
        except ProvisionerError as error:
            error.where = pointer("interfaces", place, error.where.removeprefix("/") or "ip")
            raise
        cabled.append({"name": _nic_name(nic, old, place), "mac": nic.get("mac"), "ip": ip, "subnet": subnet})
        # An address that one keeps may be given to another.
        if ip not in {None, NEXT} and any(nic["ip"] == ip for nic in cabled[:-1]):
            raise InvalidInput(
                f"two interfaces have the same address {ip}",
                where=pointer("interfaces", place, "ip"),
                hint="give each its own; one of which none is said keeps its own",
            )
    return cabled, rows


def _rows(wanted: Sequence[Nic], there: Sequence[Nic]) -> list[int | None]:
    """For each interface the one that becomes it: that of its MAC, else one whose MAC was not known."""
    by_mac = {nic["mac"]: row for row, nic in enumerate(there) if nic["mac"]}
    waiting = [row for row, nic in enumerate(there) if nic["mac"] is None]
    rows: list[int | None] = []
    for nic in wanted:
        row = by_mac.get(nic.get("mac"))
        if row is None and waiting:
            ip = nic.get("ip")
            same = [each for each in waiting if ip in {None, NEXT, there[each]["ip"]}]
            row = (same or waiting)[0]
            waiting.remove(row)
        rows.append(row)
    return rows


def _nic_name(nic: Nic, old: Nic | None, place: int) -> str:
    kept = nic.get("name") or (old["name"] if old else "")
    numbered = not nic.get("name") and _NUMBERED.fullmatch(kept)
    return f"nic{place}" if numbered or not kept else str(kept)


def _address(
    nic: Nic, old: Nic | None, there: Sequence[Nic], nets: Nets, held: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """The address and the subnet of an interface; what is not said of one that stays is kept."""
    ip, subnet = nic.get("ip"), nic.get("subnet")
    if subnet is not None and subnet not in nets.by_name:
        raise UnknownReference(f"there is no subnet {subnet!r}", where="/subnet", hint="see `provisioner subnet list`")
    if old is not None and not ip and ("ip" not in nic or old["mac"] is None):
        if subnet in {None, old["subnet"]}:
            ip, subnet = old["ip"], old["subnet"]
    elif ip == NEXT:
        if subnet is None:
            raise InvalidInput("`next` needs a subnet", hint="name it besides")
        # What has an address there keeps it, so that the same body again changes nothing.
        if old is None or not old["ip"] or old["subnet"] != subnet:
            return NEXT, subnet
        ip = old["ip"]
    if ip is None:
        return None, subnet
    subnet = subnet or nets.containing(ip).name
    kept = any(each["ip"] == ip and each["subnet"] == subnet for each in there)
    nets.refuse(ip, subnet, kept=kept)
    if not kept and ip in held:
        raise AddressTaken(
            f"{ip} is held for {held[ip]}", hint=f"`provisioner subnet free {subnet}` shows one that is free"
        )
    return ip, subnet
