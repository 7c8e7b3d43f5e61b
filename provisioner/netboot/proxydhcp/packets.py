"""DHCP messages as bytes (RFC 2131, section 2; options RFC 2132). Pure and total: any bytes give a request or None."""

import socket
import struct

from provisioner.core.proxydhcp import ACK, Reply, Request

LONGEST = 4096
"""More than any client sends; what is longer is cut by the kernel and then refused here."""

_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_MAGIC = b"\x63\x82\x53\x63"
_ASKS, _ANSWERS = 1, 2
_PAD, _END = 0, 255
# Relays and old ROMs drop what is shorter than a BOOTP message.
_SHORTEST = 300


def giaddr_of(data: bytes) -> str:
    """The relay's address, without looking further into the datagram; ``0.0.0.0`` if it is too short to have one."""
    return socket.inet_ntoa(data[24:28]) if len(data) >= 28 else "0.0.0.0"  # noqa: S104 - compared, not bound


def parse(data: bytes) -> Request | None:
    """A client's DHCP message, or None for anything else."""
    if not _HEAD.size <= len(data) <= LONGEST:
        return None
    op, htype, hlen, _, xid, _, flags, ciaddr, _, _, giaddr, chaddr, _, _, magic = _HEAD.unpack_from(data)
    if op != _ASKS or magic != _MAGIC or hlen > len(chaddr):
        return None
    options = _options(data[_HEAD.size :])
    if options is None:
        return None
    kind = options.get(53, b"")
    return Request(
        kind=kind[0] if len(kind) == 1 else 0,
        xid=xid,
        flags=flags,
        ciaddr=socket.inet_ntoa(ciaddr),
        giaddr=socket.inet_ntoa(giaddr),
        htype=htype,
        hlen=hlen,
        chaddr=chaddr,
        options=options,
    )


def _options(rest: bytes) -> dict[int, bytes] | None:
    """The options; parts of one are joined (RFC 3396). None if one reaches beyond the end."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(rest) and rest[at] != _END:
        if rest[at] == _PAD:
            at += 1
            continue
        start = at + 2
        if start > len(rest) or start + rest[at + 1] > len(rest):
            return None
        found[rest[at]] = found.get(rest[at], b"") + rest[start : start + rest[at + 1]]
        at = start + rest[at + 1]
    return found


def build(reply: Reply) -> bytes:
    """The reply as it is sent; ``yiaddr`` is zero always."""
    asked = reply.request
    head = _HEAD.pack(
        _ANSWERS,
        asked.htype,
        asked.hlen,
        0,
        asked.xid,
        0,
        asked.flags,
        socket.inet_aton(asked.ciaddr) if reply.kind == ACK else bytes(4),
        bytes(4),
        socket.inet_aton(reply.next_server),
        socket.inet_aton(asked.giaddr),
        asked.chaddr,
        b"",
        reply.file.encode("ascii"),
        _MAGIC,
    )
    body = b"".join(bytes([number, len(value)]) + value for number, value in reply.options)
    return (head + body + bytes([_END])).ljust(_SHORTEST, b"\0")
