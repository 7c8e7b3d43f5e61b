"""Datagrams to requests and answers to datagrams, on top of tftpy's packet classes.

tftpy 0.8.7 decodes well what is well formed, and raises `struct.error`, `UnicodeDecodeError` or `TftpException` for
the rest; its ERROR packets know neither code 0 nor a text of ours, and it logs each ERROR that it decodes. So its
decoder sees only the options of requests, and nothing it raises gets out of here.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from tftpy.TftpPacketTypes import TftpPacketERR, TftpPacketOACK, TftpPacketRRQ
from tftpy.TftpShared import TftpException

RRQ, WRQ, DATA, ACK, ERROR = b"\0\1", b"\0\2", b"\0\3", b"\0\4", b"\0\5"

HEADER_BYTES = 4
_HEADER = struct.Struct("!HH")

_REMEMBERED = 512

MAX_REQUEST = 1024
"""Bytes of the largest request that is looked at; RFC 2347 allows 512, and nothing good is longer."""


@dataclass(frozen=True)
class Refusal:
    """An ERROR packet: its code (RFC 1350, page 10; RFC 2347) and its text, which is ours alone.

    The text never repeats what the client sent nor tells a path of ours.
    """

    code: int
    text: str


MALFORMED = Refusal(4, "malformed request")
NOT_OCTET = Refusal(4, "only mode octet is served")
NO_WRITING = Refusal(2, "this server takes no files")
BAD_NAME = Refusal(2, "file name not allowed")
NOT_FOUND = Refusal(1, "file not found")
FORBIDDEN = Refusal(2, "access denied")
SERVER_ERROR = Refusal(0, "server error")


@dataclass(frozen=True)
class ReadRequest:
    """A well-formed RRQ in mode octet. ``options`` is in the order and with the spelling of the request."""

    name: bytes
    options: Mapping[str, str]


@lru_cache(_REMEMBERED)
def parse_request(datagram: bytes) -> ReadRequest | Refusal | None:
    """What came to the listening port: a request, one to refuse, or None for what is answered by silence.

    Silence for everything that is not a request: an answer to an ERROR could go round for ever. What was parsed is
    remembered: in a rack that powers on all ask the same, byte for byte, and decoding takes as long as a dozen blocks.
    """
    opcode = datagram[:2]
    if opcode == WRQ:
        return NO_WRITING
    if opcode != RRQ:
        return None
    if len(datagram) > MAX_REQUEST:
        return MALFORMED
    name, *rest = datagram[2:].split(b"\0", 2)
    if len(rest) < 2:
        return MALFORMED
    mode, tail = rest
    if mode.lower() != b"octet":
        return NOT_OCTET
    options = _parse_options(tail)
    return MALFORMED if options is None else ReadRequest(name, options)


def _parse_options(tail: bytes) -> dict[str, str] | None:
    fields = tail.split(b"\0")
    if fields.pop():
        return None  # the last string lacks its NUL
    while fields and not fields[-1] and (len(fields) % 2 or not fields[-2]):
        fields.pop()  # padding, as some PXE ROMs have it
    if len(fields) % 2 or not all(fields[::2]):
        return None
    # An empty value, as in RFC 2090's "multicast", means nothing to us and ends tftpy's decoding.
    pairs = [name + b"\0" + value + b"\0" for name, value in zip(fields[::2], fields[1::2], strict=True) if value]
    try:
        decoded: dict[str, str] = TftpPacketRRQ().decode_options(b"".join(pairs))
    except (TftpException, UnicodeDecodeError, struct.error):
        return None
    return decoded


def encode_oack(options: dict[str, str]) -> bytes:
    """An OACK (RFC 2347) of these options, in this order."""
    return _encode_oack(tuple(options.items()))


@lru_cache(_REMEMBERED)
def _encode_oack(options: tuple[tuple[str, str], ...]) -> bytes:
    packet = TftpPacketOACK()
    packet.options = dict(options)
    encoded: bytes = packet.encode().buffer
    return encoded


@cache
def encode_error(refusal: Refusal) -> bytes:
    """The ERROR packet of a refusal."""
    packet = TftpPacketERR()
    packet.errorcode = refusal.code
    packet.errmsgs = {refusal.code: refusal.text.encode("ascii")}
    encoded: bytes = packet.encode().buffer
    return encoded


def data_header(block: int) -> bytes:
    """The header of DATA number ``block``, which counts on past 65535; on the wire it goes on with 0."""
    return _HEADER.pack(3, block & 0xFFFF)


def ack_of(block: int) -> bytes:
    """The ACK that a client sends for DATA ``block`` (0 for an OACK)."""
    return _HEADER.pack(4, block & 0xFFFF)
