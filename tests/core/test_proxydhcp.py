"""Who is told what by the proxy, as a table, and what holds whatever is asked."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.bootplan import Admission, Network, admit
from provisioner.core.dhcp import DhcpSubnet, links_of, validate_proxied
from provisioner.core.proxydhcp import Arrival, Reply, Request, Silence, admitted, decide
from provisioner.errors import InvalidInput, MalformedAddress

OFFICE = DhcpSubnet(
    "office", "10.0.3.0/24", None, (), None, (), "proxy", "http://10.9.9.9:8080", "10.9.9.9", 8080, True
)
LAB = replace(OFFICE, name="lab", cidr="10.0.2.0/24", boot_url="http://boot.example/x/", boot_port=0)
SUBNETS = (OFFICE, LAB)
OURS = ("192.0.2.1", "10.0.3.1")
PXE = b"PXEClient:Arch:00000:UNDI:002001"
HTTP = b"HTTPClient:Arch:00016:UNDI:003001"
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"


def asked(kind: int = 1, arch: int | None = 0, vendor: bytes | None = PXE, **more: Any) -> Request:
    options = dict(more.pop("options", {}))
    if vendor is not None:
        options[60] = vendor
    if arch is not None:
        options[93] = struct.pack("!H", arch)
    values = {"xid": 1, "flags": 0, "ciaddr": NOBODY, "giaddr": NOBODY, "htype": 1, "hlen": 6} | more
    return Request(kind=kind, chaddr=bytes.fromhex("525400000009") + bytes(10), options=options, **values)


def arrived(port: int = 67, source: str = NOBODY, local: str | None = None, addresses: Any = OURS) -> Arrival:
    return Arrival(source, 68, port, addresses, local)


def answered(request: Request, arrival: Arrival | None = None) -> Reply:
    reply = decide(request, arrival or arrived(), SUBNETS)
    assert isinstance(reply, Reply), reply
    return reply


@pytest.mark.parametrize(
    ("request_", "file", "vendor"),
    [
        (asked(), "undionly.kpxe", b"PXEClient"),
        (asked(arch=7), "snponly.efi", b"PXEClient"),
        (asked(arch=9), "snponly.efi", b"PXEClient"),
        (asked(arch=None), "undionly.kpxe", b"PXEClient"),
        (asked(arch=None, vendor=b"PXEClient:Arch:00007:UNDI:003000"), "snponly.efi", b"PXEClient"),
        (asked(arch=None, options={93: b"\0\x0b\0\x07"}), "snponly.efi", b"PXEClient"),
        (asked(options={77: b"iPXE"}), "http://10.0.3.1:8080/boot/ipxe", b"PXEClient"),
        (asked(options={77: b"\x04iPXE"}), "http://10.0.3.1:8080/boot/ipxe", b"PXEClient"),
        (asked(options={175: b""}), "http://10.0.3.1:8080/boot/ipxe", b"PXEClient"),
        (asked(arch=11, options={175: b""}), "http://10.0.3.1:8080/boot/ipxe", b"PXEClient"),
        (asked(vendor=None, options={175: b""}), "http://10.0.3.1:8080/boot/ipxe", b"PXEClient"),
        (asked(arch=16, vendor=HTTP), "http://10.0.3.1:8080/boot/loader/snponly.efi", b"HTTPClient"),
    ],
)
def test_each_client_gets_what_it_can_run(request_: Request, file: str, vendor: bytes) -> None:
    reply = answered(request_)
    assert (reply.file, reply.next_server, reply.server) == (file, "10.0.3.1", "10.0.3.1")
    assert dict(reply.options)[60] == vendor
    assert (43 in dict(reply.options)) == (vendor == b"PXEClient")


@pytest.mark.parametrize(
    ("request_", "arrival", "reason", "notable"),
    [
        (asked(vendor=b"MSFT 5.0"), arrived(), "not a network boot", False),
        (asked(vendor=None), arrived(), "not a network boot", False),
        (asked(arch=11), arrived(), "no loader for processor architecture 11 (option 93)", True),
        (asked(arch=None, vendor=b"PXEClient"), arrived(), "no loader for processor architecture untold", True),
        (asked(arch=16), arrived(), "no loader for processor architecture 16", True),
        (asked(arch=0, vendor=HTTP), arrived(), "no loader for processor architecture 0", True),
        (asked(kind=3), arrived(), "not a message", False),
        (asked(kind=1), arrived(4011, "10.0.3.7"), "not a message", False),
        (asked(kind=0), arrived(), "not a message", False),
        (asked(), arrived(addresses=("192.0.2.1",)), "not from a subnet", False),
        (asked(), arrived(addresses=()), "not from a subnet", False),
        (asked(ciaddr="10.0.2.7"), arrived(), "not from a subnet", False),
        (asked(giaddr="192.0.2.7"), arrived(), "not from a subnet", False),
        (asked(kind=3), arrived(4011, "10.0.2.7"), "not from a subnet", False),
        (asked(kind=3, options={54: bytes([10, 0, 3, 2])}), arrived(4011, "10.0.3.7"), "another server", False),
    ],
)
def test_everybody_else_is_met_with_silence(request_: Request, arrival: Arrival, reason: str, notable: bool) -> None:
    silence = decide(request_, arrival, SUBNETS)
    assert isinstance(silence, Silence), silence
    assert reason in silence.reason
    assert silence.notable is notable


@pytest.mark.parametrize(
    ("request_", "arrival", "destination"),
    [
        (asked(), arrived(), (EVERYBODY, 68)),
        (asked(flags=0x8000), arrived(), (EVERYBODY, 68)),
        (asked(ciaddr="10.0.3.7"), arrived(source="10.0.3.7"), ("10.0.3.7", 68)),
        (asked(kind=3), arrived(4011), (EVERYBODY, 68)),
        (asked(kind=3), Arrival("10.0.3.7", 4011, 4011, OURS), ("10.0.3.7", 4011)),
        (asked(kind=3, ciaddr="10.0.3.8"), arrived(4011, "10.0.3.7"), ("10.0.3.8", 68)),
        (asked(giaddr="10.0.2.254"), arrived(source="192.0.2.254", local="192.0.2.1"), ("10.0.2.254", 67)),
    ],
)
def test_where_the_answer_goes(request_: Request, arrival: Arrival, destination: tuple[str, int]) -> None:
    assert answered(request_, arrival).destination == destination


def test_a_relayed_request_is_answered_for_the_relays_subnet_from_the_address_it_was_sent_to() -> None:
    ipxe = asked(giaddr="10.0.2.254", options={175: b"", 82: b"\x01\x02ab"})
    reply = answered(ipxe, arrived(source="192.0.2.254", local="192.0.2.1"))
    assert reply.file == "http://boot.example/x/boot/ipxe"
    assert reply.server == "192.0.2.1"
    assert reply.options[-1] == (82, b"\x01\x02ab")


def test_a_url_too_long_for_the_old_field_is_in_the_option_alone() -> None:
    long = replace(OFFICE, boot_port=0, boot_url="http://" + "a" * 105 + ".example")
    reply = decide(asked(arch=16, vendor=HTTP), arrived(), (long,))
    assert isinstance(reply, Reply)
    assert reply.file == ""
    assert dict(reply.options)[67].endswith(b".example/boot/loader/snponly.efi")


addresses = st.sampled_from([NOBODY, "10.0.3.7", "10.0.2.7", "192.0.2.7", EVERYBODY, "10.0.3.1"])
requests = st.builds(
    Request,
    kind=st.one_of(st.sampled_from([1, 3, 8]), st.integers(0, 255)),
    xid=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 65535),
    ciaddr=addresses,
    giaddr=addresses,
    htype=st.integers(0, 255),
    hlen=st.integers(0, 16),
    chaddr=st.binary(min_size=16, max_size=16),
    options=st.fixed_dictionaries(
        {60: st.one_of(st.sampled_from([PXE, HTTP]), st.binary(max_size=40))},
        optional={
            43: st.one_of(st.binary(max_size=300), st.just(b"\x47\x04\0\0\0\0\xff")),
            54: st.sampled_from([bytes([10, 0, 3, 1]), bytes([10, 0, 3, 2]), b""]),
            77: st.sampled_from([b"iPXE", b"\x04iPXE", b"x"]),
            82: st.one_of(st.binary(max_size=8), st.binary(min_size=250, max_size=300)),
            93: st.one_of(st.sampled_from([b"\0\0", b"\0\x07", b"\0\x10"]), st.binary(max_size=9)),
            97: st.one_of(st.binary(min_size=17, max_size=17), st.binary(max_size=300)),
        },
    ),
)
arrivals = st.builds(
    Arrival,
    addresses,
    st.integers(1, 65535),
    st.sampled_from([67, 4011]),
    st.just(OURS),
    st.sampled_from([None, *OURS]),
)
answerable = st.tuples(requests, arrivals).filter(lambda pair: isinstance(decide(*pair, SUBNETS), Reply))
"""What is answered, out of all that."""


@given(requests, arrivals)
def test_any_request_is_answered_or_not(request_: Request, arrival: Arrival) -> None:
    assert isinstance(decide(request_, arrival, SUBNETS), Reply | Silence)


@given(answerable)
def test_t25_no_answer_leaves_the_proxied_subnets_whatever_is_asked(pair: tuple[Request, Arrival]) -> None:
    request_, arrival = pair
    answer = decide(request_, arrival, SUBNETS)
    assert isinstance(answer, Reply)
    where, port = answer.destination
    assert where == EVERYBODY or admitted(where, NOBODY, SUBNETS)
    assert where != NOBODY
    assert port in {67, 68} or arrival.port == 4011
    assert answer.server in OURS
    assert all(0 < len(value) < 256 for _, value in answer.options)


@pytest.mark.parametrize(
    ("source", "giaddr", "right"),
    [
        (NOBODY, NOBODY, True),
        ("10.0.3.7", NOBODY, True),
        ("192.0.2.7", NOBODY, False),
        ("192.0.2.7", "10.0.2.254", True),
        ("192.0.2.7", "192.0.2.7", False),
    ],
)
def test_t25_what_is_looked_into_at_all(source: str, giaddr: str, right: bool) -> None:
    assert admitted(source, giaddr, SUBNETS) is right


def test_a_subnet_is_asked_where_we_have_an_address_in_it_else_where_its_relay_sends() -> None:
    far = replace(LAB, name="far", cidr="10.0.9.0/24", tftp_address="10.0.3.1")
    near = replace(OFFICE, tftp_address="10.0.2.1")
    host = {"lo": ("127.0.0.1",), "eth0": ("10.0.3.1", "10.0.3.5"), "eth1": ("10.0.2.1",), "bad name": ("10.0.3.9",)}
    assert links_of((near, far), host) == {"eth0": (near, far)}
    assert links_of((replace(LAB, cidr="172.16.0.0/16", tftp_address="172.16.0.1"),), host) == {}


def test_what_a_proxy_cannot_serve_is_refused() -> None:
    validate_proxied(OFFICE)
    with pytest.raises(MalformedAddress, match="not an IPv4 network"):
        validate_proxied(replace(OFFICE, cidr="fd00::/64"))
    with pytest.raises(InvalidInput, match="holds no machine"):
        validate_proxied(replace(OFFICE, cidr="10.0.3.1/32"))
    with pytest.raises(InvalidInput, match="longer than the 127"):
        validate_proxied(replace(OFFICE, boot_url="http://" + "a" * 150))
    with pytest.raises(MalformedAddress):
        validate_proxied(replace(OFFICE, tftp_address="tftp.example", tftp_everywhere=False))


def test_under_a_proxy_any_address_of_the_subnet_is_admitted_and_the_wrong_one_flagged() -> None:
    networks = [Network("office", "10.0.3.0/24", "proxy")]
    assert admit("10.0.3.11", ["10.0.3.11"], networks) is Admission.ASSIGNED
    assert admit("10.0.3.199", ["10.0.3.11"], networks) is Admission.IN_SUBNET
    assert admit("10.0.4.11", ["10.0.3.11"], networks) is Admission.REFUSED
