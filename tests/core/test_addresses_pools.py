"""What a subnet gives to machines, against a model that looks at every address."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.addresses import AddressRange, check_network, parse_range
from provisioner.core.pools import Pool, blocks, check_ranges, counted, number_of, refuse_covered
from provisioner.errors import (
    AddressOutsideSubnet,
    AddressTaken,
    InvalidInput,
    MalformedAddress,
)

KINDS = ("static", "dynamic", "reserved")


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """A small subnet of either version, with some ranges that share nothing, a gateway and DNS servers."""
    cidr = draw(
        st.sampled_from(["10.0.2.0/26", "10.0.2.64/30", "10.0.2.4/31", "10.0.2.9/32", "fd00::/122", "fd00::40/127"])
    )
    network = ipaddress.ip_network(cidr)
    cuts = sorted(draw(st.sets(st.integers(0, network.num_addresses), max_size=6)))
    ranges = tuple(
        AddressRange(str(network[first]), str(network[last - 1]), draw(st.sampled_from(KINDS)))
        for first, last in zip(cuts[::2], cuts[1::2], strict=False)
    )
    place = st.integers(0, network.num_addresses - 1)
    gateway = draw(st.one_of(st.none(), place.map(lambda number: str(network[number]))))
    dns = draw(st.lists(place.map(lambda number: str(network[number])), max_size=2))
    return Pool("lab", cidr, gateway, (*dns, "192.0.2.53", "2001:db8::53"), ranges)


def kind_of(pool: Pool, ip: str) -> str:
    """What the address is for, said the slow way."""
    address = ipaddress.ip_address(ip)
    for each in pool.ranges:
        if ipaddress.ip_address(each.start) <= address <= ipaddress.ip_address(each.end):
            return each.kind
    return ""


def is_own(pool: Pool, ip: str) -> bool:
    """Whether no machine may have it: network, broadcast, anycast, gateway."""
    network, address = ipaddress.ip_network(pool.cidr), ipaddress.ip_address(ip)
    ends = {network[0], network[-1]} if network.version == 4 else {network[0]}
    return (network.num_addresses > 2 and address in ends) or ip == pool.gateway


@given(pools())
def test_r16_only_what_is_free_for_machines_is_handed_out(pool: Pool) -> None:
    everything = [str(ip) for ip in ipaddress.ip_network(pool.cidr)]
    static = any(each.kind == "static" for each in pool.ranges)
    wanted = [
        ip
        for ip in everything
        if not is_own(pool, ip) and ip not in pool.dns and kind_of(pool, ip) == ("static" if static else "")
    ]
    assert [pool.text(number) for first, last in pool.given for number in range(first, last + 1)] == wanted
    for ip in everything:
        allowed = not is_own(pool, ip) and kind_of(pool, ip) in {"", "static"}
        try:
            pool.refuse(ip)
            assert allowed, ip
        except AddressOutsideSubnet as error:
            assert not allowed, ip
            assert ip in error.message
            assert error.hint


@given(pools(), st.data())
def test_the_counts_add_up(pool: Pool, data: st.DataObject) -> None:
    everything = [number_of(str(ip)) for ip in ipaddress.ip_network(pool.cidr)]
    used = data.draw(st.sets(st.sampled_from(everything)))
    held = data.draw(st.sets(st.sampled_from(everything)))
    sizes = pool.sizes(used, held)
    given_out = {number for first, last in pool.given for number in range(first, last + 1)}
    assert sizes["total"] == len(everything)
    assert sizes["free"] == len(given_out - used - held)
    assert (sizes["used"], sizes["held"]) == (len(used), len(held))
    dynamic = {number for number in everything if kind_of(pool, pool.text(number)) == "dynamic"}
    reserved = {
        number
        for number in everything
        for ip in [pool.text(number)]
        if number not in dynamic and (is_own(pool, ip) or ip in pool.dns or kind_of(pool, ip) == "reserved")
    }
    assert (sizes["dynamic"], sizes["reserved"]) == (len(dynamic), len(reserved))


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 700)), max_size=5), st.sets(st.integers(0, 8)))
def test_blocks_hold_each_address_once_and_no_full_ones(spans: list[tuple[int, int]], full: set[int]) -> None:
    found = list(blocks([(start, start + length) for start, length in spans], full))
    numbers = [number for first, last in found for number in range(first, last + 1)]
    wanted = {number for start, length in spans for number in range(start, start + length + 1)}
    assert numbers == sorted(number for number in wanted if number // 256 not in full)
    assert all(first // 256 == last // 256 for first, last in found)


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("10.0.2.1", ["10.0.2.2", "10.0.2.4", "10.0.2.8", "10.0.2.9"]),
        ("10.0.2.5", ["10.0.2.8", "10.0.2.9", "10.0.2.10", "10.0.2.11"]),
    ],
)
def test_counting_up_passes_over_what_is_not_given(start: str, wanted: list[str]) -> None:
    """The gateway, a DNS server, a dynamic and a reserved range."""
    ranges = (parse_range("10.0.2.5-10.0.2.6", "10.0.2.0/24"), parse_range("reserved:10.0.2.7-10.0.2.7", "10.0.2.0/24"))
    pool = Pool("lab", "10.0.2.0/24", "10.0.2.1", ("10.0.2.3",), ranges)
    assert counted(pool, start, 4) == wanted


def test_counting_up_passes_over_a_range_of_any_size_at_once() -> None:
    ranges = (parse_range("fd00::2-fd00::ffff:ffff:ffff", "fd00::/64"),)
    assert counted(Pool("lab", "fd00::/64", None, (), ranges), "fd00::1", 2) == ["fd00::1", "fd00::1:0:0:0"]
    with pytest.raises(AddressOutsideSubnet, match="gives 3 addresses, not 4"):
        counted(Pool("lab", "10.0.2.0/24"), "10.0.2.252", 4)


def test_a_range_is_written_in_two_ways() -> None:
    said = parse_range("static:fd00::10-fd00::1f", "fd00::/64")
    assert said == parse_range({"kind": "static", "start": "FD00::10", "end": "fd00:0::1f"}, "fd00::/64")
    assert parse_range({"start": "10.0.2.10", "end": "10.0.2.20"}, "10.0.2.0/24").kind == "dynamic"
    for wrong in (
        {"start": "10.0.2.1"},
        {"kind": "x", "start": "10.0.2.1", "end": "10.0.2.2"},
        5,
        {"start": 1, "end": 2},
    ):
        with pytest.raises(MalformedAddress, match="is not a range"):
            parse_range(wrong, "10.0.2.0/24")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=4))
def test_ranges_share_no_address(spans: list[tuple[int, int]]) -> None:
    ranges = [AddressRange(f"10.0.2.{start}", f"10.0.2.{start + length}", "static") for start, length in spans]
    every = [number for start, length in spans for number in range(start, start + length + 1)]
    try:
        check_ranges(ranges, None)
        assert len(set(every)) == len(every)
    except InvalidInput as error:
        assert len(set(every)) != len(every)
        assert error.where == "/ranges"


def test_a_dynamic_range_with_the_gateway_in_it_is_refused() -> None:
    ranges = [AddressRange("10.0.2.1", "10.0.2.9", "dynamic")]
    with pytest.raises(InvalidInput, match=r"contains the gateway 10\.0\.2\.1"):
        check_ranges(ranges, "10.0.2.1")
    check_ranges(ranges, "10.0.2.10")


def test_a_range_over_machines_names_them() -> None:
    used = [(number_of(f"10.0.2.{each}"), f"web{each}") for each in range(10, 20)]
    with pytest.raises(AddressTaken, match=r"10\.0\.2\.12 \(web12\).* and 3 more") as caught:
        refuse_covered(AddressRange("10.0.2.12", "10.0.2.30", "reserved"), used)
    assert "web11" not in caught.value.message
    refuse_covered(AddressRange("10.0.2.20", "10.0.2.30", "reserved"), used)


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("fe80::/64", "link-local"),
        ("ff02::/64", "multicast"),
        ("::ffff:10.0.0.0/112", "IPv4"),
        ("169.254.7.0/24", "link-local"),
        ("224.0.0.0/24", "multicast"),
        ("::/0", "cannot be given"),
    ],
)
def test_networks_that_are_not_for_machines(cidr: str, reason: str) -> None:
    with pytest.raises(MalformedAddress, match=reason):
        check_network(cidr)


@pytest.mark.parametrize(
    "cidr", ["10.0.2.0/24", "127.0.2.0/24", "fd00::/64", "2001:db8::/32", "::1/128", "192.0.2.0/31"]
)
def test_networks_that_are(cidr: str) -> None:
    check_network(cidr)


@pytest.mark.parametrize(
    ("ip", "cidr", "reason"),
    [
        ("fd00::", "fd00::/64", "subnet-router anycast address of subnet lab"),
        ("fe80::1", "fe80::/64", "link-local"),
        ("ff02::1", "ff00::/8", "multicast"),
        ("169.254.1.1", "169.254.0.0/16", "link-local"),
        ("fd01::1", "fd00::/64", "not in subnet lab"),
    ],
)
def test_ipv6_addresses_that_no_machine_may_have(ip: str, cidr: str, reason: str) -> None:
    with pytest.raises(AddressOutsideSubnet, match=reason):
        Pool("lab", cidr).refuse(ip)


def test_on_a_link_of_two_every_address_is_a_machines() -> None:
    """RFC 6164."""
    Pool("lab", "fd00::/127").refuse("fd00::")


def test_a_huge_network_is_never_enumerated() -> None:
    pool = Pool("lab", "2001:db8::/32", "2001:db8::1")
    assert pool.sizes([], [])["free"] == 2**96 - 2
    assert pool.text(pool.given[0][0]) == "2001:db8::2"
    assert next(blocks(pool.given)) == (number_of("2001:db8::2"), number_of("2001:db8::ff"))
