"""DHCP messages as bytes: any datagram gives a request or nothing, and what is built can be read."""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.proxydhcp import Arrival, Reply, Request, decide
from provisioner.netboot.proxydhcp.flood import Cap, Once
from provisioner.netboot.proxydhcp.packets import LONGEST, build, giaddr_of, parse
from tests.core.test_proxydhcp import OURS, SUBNETS, answerable
from tests.netboot.dhcp_client import packet

BOX = {"mac": "52:54:00:00:00:09", "kind": "rom"}
ROM = packet(1, BOX, 7, [])


def with_options(body: bytes) -> bytes:
    return ROM[:240] + body


def test_a_rom_s_own_message_is_read() -> None:
    request = parse(packet(1, BOX | {"kind": "uefi"}, 0xDEADBEEF, [(61, b"\x01abc")]))
    assert request is not None
    assert (request.kind, request.xid, request.mac, request.flags) == (1, 0xDEADBEEF, BOX["mac"], 0x8000)
    assert request.options[93] == b"\0\x07"
    assert request.options[61] == b"\x01abc"


@given(st.binary(max_size=700))
@example(b"")
@example(ROM[:239])
@example(with_options(b"\x35"))
@example(with_options(b"\x35\x01"))
@example(with_options(b"\x35\x02\x01"))
@example(with_options(b"\x35\xff" + b"a" * 10))
def test_any_bytes_give_a_request_or_nothing(data: bytes) -> None:
    giaddr_of(data)
    for datagram in (data, ROM[:240] + data, ROM[: len(ROM) // 2] + data):
        request = parse(datagram)
        if request is not None:
            decide(request, Arrival("0.0.0.0", 68, 67, OURS), SUBNETS)


@given(st.integers(0, len(ROM) - 1), st.integers(0, 255))
def test_one_changed_byte_raises_nothing(at: int, value: int) -> None:
    request = parse(ROM[:at] + bytes([value]) + ROM[at + 1 :])
    if request is not None:
        answer = decide(request, Arrival("0.0.0.0", 68, 67, OURS), SUBNETS)
        if isinstance(answer, Reply):
            build(answer)


def test_what_is_no_request_is_nothing() -> None:
    assert parse(ROM) is not None
    assert parse(b"\x02" + ROM[1:]) is None  # a reply
    assert parse(ROM[:236] + b"\x63\x82\x53\x64" + ROM[240:]) is None
    assert parse(ROM[:2] + b"\x11" + ROM[3:]) is None  # a hardware address longer than its field
    assert parse(ROM.ljust(LONGEST + 1, b"\0")) is None
    assert parse(with_options(b"\x35\x05\x01")) is None  # an option beyond the end
    bootp = parse(with_options(b"\xff"))
    assert bootp is not None
    assert bootp.kind == 0


def test_an_option_in_parts_is_one() -> None:
    """RFC 3396; and padding between options is nothing."""
    request = parse(with_options(b"\x35\x01\x01\x00\x00\x3c\x03PXE\x00\x3c\x06Client\xff\x3c\x01!"))
    assert request is not None
    assert request.options == {53: b"\x01", 60: b"PXEClient"}


@given(answerable)
def test_a_reply_has_no_address_and_carries_the_question_s_marks(pair: tuple[Request, Arrival]) -> None:
    request_, arrival = pair
    answer = decide(request_, arrival, SUBNETS)
    assert isinstance(answer, Reply)
    data = build(answer)
    assert len(data) >= 300
    op, htype, hlen, _, xid, _, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr = struct.unpack(
        "!BBBBIHH4s4s4s4s16s", data[:44]
    )
    assert op == 2
    assert yiaddr == bytes(4)
    assert siaddr != bytes(4)
    assert (htype, hlen, xid, flags, chaddr) == (
        request_.htype, request_.hlen, request_.xid, request_.flags, request_.chaddr,
    )  # fmt: skip
    assert giaddr == bytes(map(int, request_.giaddr.split(".")))
    assert ciaddr == (bytes(4) if answer.kind == 2 else bytes(map(int, request_.ciaddr.split("."))))
    back = parse(b"\x01" + data[1:])
    assert back is not None
    assert back.options == dict(answer.options)
    assert back.options.get(97) == (request_.options.get(97) if len(request_.options.get(97, b"")) == 17 else None)


def test_p3_a_sender_gets_its_share_of_each_second_and_all_together_theirs() -> None:
    cap = Cap(per_source=2, together=5)
    assert [cap.admits("a", 10.0 + n / 10) for n in range(4)] == [True, True, False, False]
    assert [cap.admits(name, 10.5) for name in "bcde"] == [True, True, True, False]
    assert cap.admits("a", 11.0)


def test_what_was_told_lately_is_not_told_again_and_memory_is_bounded() -> None:
    once = Once(seconds=20, most=3)
    assert [once.admits("a", at) for at in (0, 5, 19.9, 20)] == [True, False, False, True]
    assert all(once.admits(name, 21) for name in "bcd")
    assert once.admits("a", 22)  # forgotten: three others came since
    assert not once.admits("d", 22)
