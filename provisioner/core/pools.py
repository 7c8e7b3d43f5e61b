"""What a subnet gives to machines, in intervals of numbers: nothing here takes longer in a /64 than in a /24."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import netaddr

from provisioner.core.addresses import AddressRange, check_assignable, contains
from provisioner.errors import AddressOutsideSubnet, AddressTaken, InvalidInput

Span = tuple[int, int]
BLOCK = 256
"""Addresses that differ in their last eight bits alone are looked at together."""


@dataclass(frozen=True)
class Pool:
    """A subnet's addresses and what each is for."""

    name: str
    cidr: str
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    ranges: tuple[AddressRange, ...] = ()

    @cached_property
    def version(self) -> int:
        """4 or 6."""
        return int(netaddr.IPNetwork(self.cidr).version)

    @cached_property
    def whole(self) -> Span:
        """The first and the last address of the network."""
        network = netaddr.IPNetwork(self.cidr)
        return int(network.first), int(network.last)

    @cached_property
    def given(self) -> tuple[Span, ...]:
        """What is handed out when somebody asks for a free address: the static ranges, or else all that is no other's.

        Never the network's own addresses, the gateway, or a DNS server.
        """
        static = [_span(each) for each in self.ranges if each.kind == "static"]
        from_ = _merged(static) if static else self.allowed
        return tuple(_without(from_, [*self._kept_back, *self._servers]))

    @cached_property
    def _servers(self) -> tuple[Span, ...]:
        """The DNS servers that are in the subnet: one may be a machine of ours, but none is chosen for its address."""
        numbers = (number_of(each) for each in self.dns if contains(self.cidr, each))
        return tuple((each, each) for each in numbers)

    @cached_property
    def countable(self) -> tuple[Span, ...]:
        """What a row of machines is given that counts upwards: all but what is another's."""
        return tuple(_without(self.allowed, self._servers))

    @cached_property
    def allowed(self) -> tuple[Span, ...]:
        """What a machine may be given by name of the address."""
        return tuple(_without([self.whole], self._kept_back))

    @cached_property
    def _kept_back(self) -> tuple[Span, ...]:
        first, last = self.whole
        ours = [first, last] if self.version == 4 and last - first > 1 else [first] if last - first > 1 else []
        if self.gateway is not None:
            ours.append(number_of(self.gateway))
        ranges = [_span(each) for each in self.ranges if each.kind != "static"]
        return tuple(_merged([*((each, each) for each in ours), *ranges]))

    def refuse(self, ip: str) -> None:
        """Raise AddressOutsideSubnet, with the reason, unless a machine may be given this address."""
        check_assignable(ip, name=self.name, cidr=self.cidr, gateway=self.gateway)
        for extent in self.ranges:
            if extent.kind != "static" and ip in extent:
                why = {
                    "reserved": "reserved: nobody gets its addresses from us",
                    "dynamic": "dynamic: DHCP gives its addresses to machines that nobody registered",
                }[extent.kind]
                raise AddressOutsideSubnet(
                    f"{ip} is in the range {extent.start} to {extent.end} of subnet {self.name}, which is {why}",
                    hint=f"`provisioner subnet free {self.name}` shows an address that is free",
                )

    def text(self, number: int) -> str:
        """The address of that number in normal form."""
        return str(netaddr.IPAddress(number, 4 if self.version == 4 else 6))

    def sizes(self, used: Iterable[int], held: Iterable[int]) -> dict[str, int]:
        """How many addresses there are of each kind.

        ``total`` is the network; ``reserved`` also counts the network's own addresses, the gateway and DNS servers;
        ``free`` is what :attr:`given` has and nobody uses or holds.
        """
        taken, kept = set(used), set(held)
        busy = sum(1 for each in taken | kept if any(first <= each <= last for first, last in self.given))
        dynamic = _merged([_span(each) for each in self.ranges if each.kind == "dynamic"])
        spoken_for = [_span(each) for each in self.ranges if each.kind == "reserved"]
        reserved = _without([*spoken_for, *self._servers, *self._kept_back], dynamic)
        return {
            "total": self.whole[1] - self.whole[0] + 1,
            "used": len(taken),
            "free": _size(self.given) - busy,
            "held": len(kept),
            "static": _size(_merged([_span(each) for each in self.ranges if each.kind == "static"])),
            "dynamic": _size(dynamic),
            "reserved": _size(reserved),
        }


def number_of(ip: str) -> int:
    """The address as a number."""
    return int(netaddr.IPAddress(ip))


def blocks(spans: Sequence[Span], full: Iterable[int] = ()) -> Iterator[Span]:
    """The intervals cut at multiples of ``BLOCK``, without the blocks that are known to be ``full`` (by number)."""
    skipped = sorted(set(full))
    whole = _merged([(each * BLOCK, each * BLOCK + BLOCK - 1) for each in skipped])
    for first, last in _without(spans, whole):
        start = first
        while start <= last:
            end = min(last, start // BLOCK * BLOCK + BLOCK - 1)
            yield start, end
            start = end + 1


def counted(pool: Pool, start: str, count: int) -> list[str]:
    """Addresses from ``start`` upwards, without those that the subnet does not give. Raises AddressOutsideSubnet."""
    begin, found = number_of(start), list[str]()
    for first, last in pool.countable:
        number = max(first, begin)
        while number <= last and len(found) < count:
            found.append(pool.text(number))
            number += 1
    if len(found) < count:
        raise AddressOutsideSubnet(
            f"from {start} upwards subnet {pool.name} ({pool.cidr}) gives {len(found)} addresses, not {count}",
            hint="begin lower, or name fewer machines",
        )
    return found


def check_ranges(ranges: Sequence[AddressRange], gateway: str | None) -> None:
    """Raise InvalidInput where two ranges share an address, or where DHCP would give away the gateway's."""
    ordered = sorted(((_span(each), each) for each in ranges), key=lambda pair: pair[0])
    for ((_, end), one), ((start, _), other) in pairwise(ordered):
        if start <= end:
            raise InvalidInput(
                f"the ranges {one.start} to {one.end} and {other.start} to {other.end} share addresses",
                where="/ranges",
                hint="end one before the other begins",
            )
    for each in ranges:
        if gateway is not None and each.kind == "dynamic" and gateway in each:
            raise InvalidInput(
                f"the range {each.start} to {each.end} contains the gateway {gateway}",
                where="/ranges",
                hint="let the range begin after it, or end before it",
            )


def refuse_covered(extent: AddressRange, used: Sequence[tuple[int, str]]) -> None:
    """Raise AddressTaken where a range that is not for machines would cover ``used``: numbers and machines' names."""
    first, last = _span(extent)
    covered = [(number, name) for number, name in used if first <= number <= last]
    if covered:
        version = netaddr.IPAddress(extent.start).version
        some = ", ".join(f"{netaddr.IPAddress(number, version)} ({name})" for number, name in sorted(covered)[:5])
        more = f" and {len(covered) - 5} more" if len(covered) > 5 else ""
        raise AddressTaken(
            f"the {extent.kind} range {extent.start} to {extent.end} covers addresses of machines: {some}{more}",
            where="/ranges",
            hint="give those machines other addresses first, or choose another range",
        )


def _span(extent: AddressRange) -> Span:
    return number_of(extent.start), number_of(extent.end)


def _size(spans: Iterable[Span]) -> int:
    return sum(last - first + 1 for first, last in spans)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _without(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """The intervals less the holes; both sorted and each disjoint, after merging."""
    left, gaps = [], _merged(holes)
    for first, last in _merged(spans):
        start = first
        for begin, end in gaps:
            if end < start or begin > last:
                continue
            if begin > start:
                left.append((start, begin - 1))
            start = end + 1
        if start <= last:
            left.append((start, last))
    return left
