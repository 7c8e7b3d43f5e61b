"""DHCP as the firmware of many machines speaks it, on one interface: whole frames, each with its machine's own MAC.

Needs root (or CAP_NET_RAW). Every question asks for a broadcast answer, since none of the MACs is the interface's own.
"""

import asyncio
import ctypes
import random
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from provisioner.errors import Unavailable
from provisioner.simulate.plan import Part

_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6
_COOKIE = b"\x63\x82\x53\x63"
_ASKED = bytes([1, 3, 6, 12, 15, 43, 60, 66, 67, 128, 129, 130])
_PAUSES = (1.0, 2.0, 4.0, 8.0)
_RECEIVE_BUFFER = 4 << 20
_ATTACH_FILTER = 26
# Classic BPF: IPv4, UDP, destination port 68. Without it every byte that the machines download would come here too.
_FILTER = (
    (0x28, 0, 0, 12),
    (0x15, 0, 6, 0x0800),
    (0x30, 0, 0, 23),
    (0x15, 0, 4, 17),
    (0xB1, 0, 0, 14),
    (0x48, 0, 0, 16),
    (0x15, 0, 1, 68),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


class DhcpError(OSError):
    """No lease: silence, or a refusal."""


@dataclass(frozen=True)
class Reply:
    """What a server sent."""

    kind: int
    ip: str
    options: Mapping[int, bytes]


@dataclass
class Wire:
    """An interface with all machines on it; a context manager that must be entered inside the event loop."""

    interface: str
    _socket: socket.socket = field(init=False)
    _waiting: dict[int, asyncio.Future[Reply]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            self._socket.bind((self.interface, 0))
        except OSError as error:
            raise Unavailable(
                f"DHCP on {self.interface}: {error.strerror}", hint="name an interface of this host, and be root"
            ) from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _FILTER))
        program = struct.pack("HL", len(_FILTER), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def lease(self, part: Part, client: str) -> str:
        """DISCOVER, OFFER, REQUEST, ACK as this client (``rom`` or ``ipxe``); the address. Raises DhcpError."""
        offer = await self._exchange(part, client, _DISCOVER, {}, {_OFFER})
        chosen = {50: socket.inet_aton(offer.ip), 54: offer.options.get(54, b"")}
        reply = await self._exchange(part, client, _REQUEST, chosen, {_ACK, _NAK})
        if reply.kind == _NAK:
            raise DhcpError(f"the server refused {offer.ip}, which it had offered")
        return reply.ip

    async def _exchange(self, part: Part, client: str, kind: int, more: Mapping[int, bytes], wanted: set[int]) -> Reply:
        xid = random.getrandbits(32)
        data = frame(part.mac, message(part, client, kind, xid, more))
        loop = asyncio.get_running_loop()
        for pause in _PAUSES:
            self._waiting[xid] = answer = loop.create_future()
            try:
                self._socket.send(data)
                async with asyncio.timeout(pause):
                    reply: Reply = await answer
                if reply.kind in wanted:
                    return reply
            except (TimeoutError, BlockingIOError):
                continue
            finally:
                del self._waiting[xid]
        raise DhcpError(f"no answer on {self.interface}")

    def _readable(self) -> None:
        try:
            while True:
                data = self._socket.recv(4096)
                xid = struct.unpack_from("!I", data, _payload(data) + 4)[0] if len(data) > 300 else 0
                answer = self._waiting.get(xid)
                if answer is not None and not answer.done():
                    answer.set_result(parse(data[_payload(data) :]))
        except BlockingIOError:
            return


def message(part: Part, client: str, kind: int, xid: int, more: Mapping[int, bytes]) -> bytes:
    """A question in the words of this client: option 93 is the architecture, 94 UNDI, 60 the vendor, 97 the UUID."""
    arch, undi = (7, 3) if part.platform == "efi" else (0, 2)
    uuid = bytes.fromhex(part.uuid.replace("-", ""))
    # SMBIOS order: the first three fields are little-endian.
    uuid = uuid[3::-1] + uuid[5:3:-1] + uuid[7:5:-1] + uuid[8:]
    options = {
        53: bytes([kind]),
        **more,
        55: _ASKED,
        57: b"\x05\xc0",
        60: f"PXEClient:Arch:{arch:05d}:UNDI:00{undi}00{1 if arch == 0 else 0}".encode(),
        93: struct.pack("!H", arch),
        94: bytes([1, undi, 1 if arch == 0 else 0]),
        97: b"\0" + uuid,
    }
    if client == "ipxe":
        # iPXE's user class is four raw bytes, not a list after RFC 3004; 175 holds its features.
        options |= {77: b"iPXE", 175: bytes.fromhex("b105018086100e130101"), 61: b"\1" + _mac(part.mac)}
    body = b"".join(bytes([number, len(value)]) + value for number, value in options.items()) + b"\xff"
    head = struct.pack("!BBBBIHH16x16s64x128x", 1, 1, 6, 0, xid, 0, 0x8000, _mac(part.mac) + bytes(10))
    return (head + _COOKIE + body).ljust(300, b"\0")


def frame(mac: str, payload: bytes) -> bytes:
    """The message in UDP, IPv4 and Ethernet, from nobody to all."""
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return b"\xff" * 6 + _mac(mac) + b"\x08\x00" + head[:10] + struct.pack("!H", checksum) + head[12:] + udp


def parse(data: bytes) -> Reply:
    """A server's message."""
    options: dict[int, bytes] = {}
    at = 240
    while at + 1 < len(data) and data[at] != 255:
        if data[at] == 0:
            at += 1
            continue
        options[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return Reply(options.get(53, b"\0")[0], socket.inet_ntoa(data[16:20]), options)


def _payload(data: bytes) -> int:
    """Where the DHCP message begins in a frame."""
    return 14 + (data[14] & 15) * 4 + 8


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
