"""The codec: nothing gets out of it but a request, a refusal or silence (T01 to T03, T20, T23, T24)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.netboot.tftp import packets
from provisioner.netboot.tftp.packets import ReadRequest, Refusal, encode_error, encode_oack, parse_request
from tests.netboot.tftp_client import ERROR, RRQ, WRQ, request, unpack

HERE = ("127.0.0.1", 1)


@given(
    st.one_of(
        st.binary(max_size=1100),
        st.binary(max_size=200).map(lambda tail: b"\0\1" + tail),
        st.lists(st.binary(max_size=9)).map(lambda parts: b"\0\1name\0octet\0" + b"\0".join(parts)),
    )
)
def test_t01_t02_t03_parsing_never_raises(datagram: bytes) -> None:
    parsed = parse_request(datagram)
    if datagram[:2] == b"\0\2":
        assert parsed is packets.NO_WRITING
    elif datagram[:2] != b"\0\1":
        assert parsed is None
    else:
        assert isinstance(parsed, ReadRequest | Refusal)


def test_a_request_is_taken_apart_in_order_and_spelling() -> None:
    options = {"tsize": "0", "BlkSize": "1468", "windowsize": "4"}
    assert parse_request(request(RRQ, "a/b", options, mode="OcTeT")) == ReadRequest(b"a/b", options)


def test_padding_after_a_request_is_forgiven() -> None:
    assert parse_request(request(RRQ, "a", {"tsize": 0}) + b"\0" * 20) == ReadRequest(b"a", {"tsize": "0"})
    assert parse_request(request(RRQ, "a") + b"\0" * 20) == ReadRequest(b"a", {})


def test_an_option_without_a_value_is_left_out() -> None:
    datagram = request(RRQ, "a", {"multicast": "", "tsize": "0", "last": ""})
    assert parse_request(datagram) == ReadRequest(b"a", {"tsize": "0"})
    assert parse_request(datagram + b"\0" * 7) == ReadRequest(b"a", {"tsize": "0"})


@pytest.mark.parametrize(
    "datagram",
    [
        b"\0\1",
        b"\0\1name",
        b"\0\1name\0",
        b"\0\1name\0octet",
        b"\0\1name\0octet\0blksize",
        b"\0\1name\0octet\0blksize\0",
        b"\0\1name\0octet\0blksize\0" + b"512",
        b"\0\1name\0octet\0\0blksize\0" + b"512\0",
        b"\0\1name\0octet\0blk\xffsize\0" + b"512\0",
        request(RRQ, "n", {f"option{n}": n for n in range(200)}),
        request(RRQ, b"n" * 5000),
        request(RRQ, b"n" * 65000),
    ],
)
def test_t01_t03_t23_malformed_requests_are_refused(datagram: bytes) -> None:
    assert parse_request(datagram) is packets.MALFORMED


@pytest.mark.parametrize("mode", ["netascii", "mail", "", "octets", "binary"])
def test_t04_only_mode_octet_is_served(mode: str) -> None:
    assert parse_request(request(RRQ, "name", mode=mode)) is packets.NOT_OCTET


@given(st.binary(max_size=600))
def test_t20_a_write_request_is_refused_however_it_goes_on(tail: bytes) -> None:
    assert parse_request(b"\0\2" + tail) is packets.NO_WRITING
    assert packets.NO_WRITING.code == 2


@given(st.dictionaries(st.sampled_from(["blksize", "TSIZE", "timeout"]), st.integers(0, 2**40).map(str), min_size=1))
def test_an_oack_can_be_read_back(options: dict[str, str]) -> None:
    assert unpack(encode_oack(options), HERE).options == options


@pytest.mark.parametrize("refusal", [value for value in vars(packets).values() if isinstance(value, Refusal)])
def test_t24_error_packets_carry_our_own_code_and_text(refusal: Refusal) -> None:
    packet = unpack(encode_error(refusal), HERE)
    assert (packet.opcode, packet.number, packet.data.decode()) == (ERROR, refusal.code, refusal.text)
    assert "/" not in refusal.text


def test_the_request_helper_makes_what_tftpy_reads() -> None:
    from tftpy.TftpPacketFactory import TftpPacketFactory

    packet = TftpPacketFactory().parse(request(WRQ, "up", {"tsize": 3}))
    assert (packet.filename, packet.mode, packet.options) == ("up", "octet", {"tsize": "3"})
