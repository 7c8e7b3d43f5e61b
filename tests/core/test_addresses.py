"""R12: whatever the spelling, one machine has one key."""

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.addresses import (
    check_assignable,
    contains,
    looks_like_mac,
    normal_cidr,
    normal_ip,
    normal_mac,
    overlaps,
    parse_range,
    prefix_and_netmask,
)
from provisioner.errors import AddressOutsideSubnet, InvalidInput, MalformedAddress, MalformedMac

ethernet = st.binary(min_size=6, max_size=6).filter(lambda octets: any(octets) and not octets[0] & 1)
infiniband = st.binary(min_size=20, max_size=20).filter(any)
NORMAL = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(:[0-9a-f]{2}){19}")


def spellings(octets: bytes) -> list[str]:
    """Every way that firmware, people and other tools write the address."""
    bare = octets.hex()
    forms = [octets.hex(":"), octets.hex("-"), bare, ".".join(bare[at : at + 4] for at in range(0, len(bare), 4))]
    hardware = "01" if len(octets) == 6 else "20"
    forms += [f"{hardware}-{octets.hex('-')}", f"{hardware}:{octets.hex(':')}"]
    forms += [":".join(f"{octet:x}" for octet in octets)]
    forms += [f"net{number}/{form}" for number in (0, 12) for form in forms[:2]]
    forms += [f"  {form}\n" for form in forms]
    return forms + [form.upper() for form in forms]


@given(st.one_of(ethernet, infiniband))
@example(bytes.fromhex("525400123456"))
def test_r12_every_spelling_of_a_mac_is_one_key(octets: bytes) -> None:
    keys = {normal_mac(spelling) for spelling in spellings(octets)}
    assert keys == {octets.hex(":")}
    assert normal_mac(keys.pop()) == octets.hex(":"), "the normal form is its own normal form"


@given(ethernet, ethernet)
def test_r12_two_addresses_never_share_a_key(one: bytes, other: bytes) -> None:
    assert (normal_mac(one.hex("-")) == normal_mac(other.hex())) is (one == other)


@given(st.one_of(st.text(), st.text(alphabet="0123456789abcdefABCDEF:-. /net\n", max_size=70)))
@example("01:00:5e:00:00:01")
@example("net٣/52:54:00:12:34:56")
@example("52:54:00:12:34:56:")
@example("52:54-00:12-34:56")
@example("٥٢:54:00:12:34:56")
def test_r12_garbage_is_refused_and_never_crashes(text: str) -> None:
    try:
        key = normal_mac(text)
    except MalformedMac as error:
        assert error.hint
        return
    assert NORMAL.fullmatch(key)
    assert looks_like_mac(text)
    digits = "".join(char for char in re.sub(r"^net[0-9]+.", "", text.strip().lower()) if char in "0123456789abcdef")
    assert text.strip().isascii(), "no other alphabet's digits"
    assert digits.endswith(key.replace(":", "")) or re.search(r"(^|[:-])[0-9a-f]([:-]|$)", text.strip().lower())


@pytest.mark.parametrize("text", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00", "00" * 20])
def test_r12_what_no_card_has_is_refused(text: str) -> None:
    with pytest.raises(MalformedMac, match=r"group address|all zeros"):
        normal_mac(text)


@given(st.ip_addresses())
def test_ip_has_one_normal_form(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    forms = {str(address), address.exploded, f" {address} ", str(address).upper()}
    keys = {normal_ip(form) for form in forms}
    assert len(keys) == 1
    key = keys.pop()
    assert normal_ip(key) == key
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert ipaddress.ip_address(key) == (mapped or address)


def test_ip_of_a_dual_stack_socket_is_ipv4() -> None:
    assert normal_ip("::ffff:10.0.2.11") == "10.0.2.11"


@given(st.one_of(st.text(), st.text(alphabet="0123456789.:/-abcdef%\0", max_size=50)))
@example("10.1")
@example("010.0.0.1")
@example("10.0.2.11\0")
@example("fe80::1%eth0")
def test_ip_and_network_garbage_never_crashes(text: str) -> None:
    try:
        key = normal_ip(text)
        assert str(ipaddress.ip_address(key)) == key or ":" in key
    except MalformedAddress:
        pass
    for parse in (normal_cidr, lambda given: parse_range(given, "10.0.2.0/24")):
        try:
            assert parse(text)
        except InvalidInput as error:
            assert error.hint


@pytest.mark.parametrize("text", ["10.1", "010.0.0.1", "1.2.3.4.5", "", "10.0.2.11/24", "0x0a.0.0.1", "٣.0.0.1"])
def test_ip_refused(text: str) -> None:
    with pytest.raises(MalformedAddress):
        normal_ip(text)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_cidr_normal_form_and_host_bits(address: ipaddress.IPv4Address, prefix: int) -> None:
    network = ipaddress.ip_network(f"{address}/{prefix}", strict=False)
    assert normal_cidr(str(network)) == str(network)
    assert prefix_and_netmask(str(network)) == (prefix, str(network.netmask))
    if network.network_address != address:
        with pytest.raises(MalformedAddress) as caught:
            normal_cidr(f"{address}/{prefix}")
        assert str(network) in caught.value.hint, "the hint says what was meant"


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4), st.integers(0, 32))
def test_overlap_agrees_with_the_standard_library(
    one: ipaddress.IPv4Address, first: int, two: ipaddress.IPv4Address, second: int
) -> None:
    networks = [ipaddress.ip_network(f"{ip}/{bits}", strict=False) for ip, bits in ((one, first), (two, second))]
    assert overlaps(str(networks[0]), str(networks[1])) is networks[0].overlaps(networks[1])
    assert contains(str(networks[0]), str(two)) is (two in networks[0])
    assert not contains(str(networks[0]), "::1")


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("10.0.2.0", "network address"),
        ("10.0.2.255", "broadcast address"),
        ("10.0.2.1", "gateway"),
        ("10.0.3.11", "not in subnet lab"),
        ("fd00::11", "not in subnet lab"),
    ],
)
def test_an_address_no_machine_may_have_is_refused_with_the_reason(ip: str, reason: str) -> None:
    with pytest.raises(AddressOutsideSubnet, match=reason):
        check_assignable(ip, name="lab", cidr="10.0.2.0/24", gateway="10.0.2.1")


@pytest.mark.parametrize(("ip", "cidr"), [("10.0.2.0", "10.0.2.0/31"), ("10.0.2.1", "10.0.2.0/31"), ("::1", "::1/128")])
def test_networks_without_a_broadcast_address_are_wholly_assignable(ip: str, cidr: str) -> None:
    check_assignable(ip, name="link", cidr=cidr, gateway=None)
    assert contains(cidr, ip)


def test_ranges() -> None:
    found = parse_range("10.0.2.100 - 10.0.2.199", "10.0.2.0/24")
    assert (found.start, found.end) == ("10.0.2.100", "10.0.2.199")
    assert "10.0.2.100" in found
    assert "10.0.2.199" in found
    assert "10.0.2.200" not in found
    for text in ("10.0.2.199-10.0.2.100", "10.0.2.100", "10.0.2.100-"):
        with pytest.raises(MalformedAddress):
            parse_range(text, "10.0.2.0/24")
    with pytest.raises(AddressOutsideSubnet):
        parse_range("10.0.2.100-10.0.3.1", "10.0.2.0/24")
