"""A DHCP client over raw frames, which speaks as the firmware of machines does; only the standard library.

    dhcp_client.py INTERFACE < questions.json > answers.json

A question: {"mac": ..., "kind": "rom"|"ipxe"|"ipxe-efi"|"uefi"|"arm64"|"os", "client_id": hex|null,
"only": "discover"|null, "init_reboot": IP|null, "wait": seconds}. "wait" 0 sends and does not listen.
An answer: {"ip", "offered", "server", "file", "options": {number: hex}, "nak"}; all null where nobody answers.
"""

import json
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
_MAGIC = b"\x63\x82\x53\x63"
_UUID = bytes.fromhex("0033221100554477668899aabbccddeeff")
_ROM_ASKS = bytes([1, 3, 6, 12, 15, 43, 60, 66, 67, 128, 129, 130])


@dataclass
class Reply:
    """What a server sent."""

    kind: int
    ip: str
    next_server: str
    file: str
    options: dict[int, bytes] = field(default_factory=dict)


def firmware_options(kind: str) -> list[tuple[int, bytes]]:
    """The options by which this firmware is known (93 architecture, 94 UNDI, 60 vendor, 77 user class, 97 UUID)."""
    if kind == "os":
        return [(55, bytes([1, 3, 6, 12, 15]))]
    arch = {"rom": 0, "ipxe": 0, "ipxe-efi": 7, "uefi": 7, "uefi9": 9, "arm64": 11}[kind]
    undi = b"\x01\x02\x01" if arch == 0 else b"\x01\x03\x00"
    vendor = f"PXEClient:Arch:{arch:05d}:UNDI:00{undi[1]}00{undi[2]}".encode()
    options = [(55, _ROM_ASKS), (57, b"\x05\xc0"), (60, vendor), (93, struct.pack("!H", arch)), (94, undi), (97, _UUID)]
    if kind.startswith("ipxe"):
        # iPXE's user class is four raw bytes, not a list after RFC 3004; 175 holds its features.
        options += [(77, b"iPXE"), (175, bytes.fromhex("b105018086100e130101"))]
    return options


def packet(kind: int, question: dict, xid: int, more: list[tuple[int, bytes]]) -> bytes:
    """A DHCP message."""
    mac = bytes.fromhex(question["mac"].replace(":", ""))
    options = [(53, bytes([kind])), *more, *firmware_options(question["kind"])]
    if question.get("client_id"):
        options.append((61, bytes.fromhex(question["client_id"])))
    body = b"".join(bytes([number, len(value)]) + value for number, value in options) + b"\xff"
    broadcast = 0x8000 if question["kind"] == "uefi" else 0
    head = struct.pack("!BBBBIHH16x16s64x128x", 1, 1, 6, 0, xid, 0, broadcast, mac + bytes(10))
    return (head + _MAGIC + body).ljust(300, b"\0")


def frame(mac: str, payload: bytes) -> bytes:
    """The message in UDP, IPv4 and Ethernet, from nobody to all."""
    udp = struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    head = head[:10] + struct.pack("!H", checksum) + head[12:]
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + b"\x08\x00" + head + udp


def reply_in(data: bytes, xid: int) -> Reply | None:
    """The server's message in a frame, if it is one for this transaction."""
    if data[12:14] != b"\x08\x00" or data[23] != 17:
        return None
    udp = data[14 + (data[14] & 15) * 4 :]
    message = udp[8:]
    if struct.unpack("!H", udp[2:4])[0] != 68 or len(message) < 240 or struct.unpack("!I", message[4:8])[0] != xid:
        return None
    options: dict[int, bytes] = {}
    rest = message[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = options.get(rest[0], b"") + rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    file = message[108:236].split(b"\0")[0] or options.get(67, b"").rstrip(b"\0")
    addresses = [socket.inet_ntoa(message[at : at + 4]) for at in (16, 20)]
    return Reply(options.get(53, b"\0")[0], addresses[0], addresses[1], file.decode(), options)


class Client:
    """One interface, any number of machines."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self._socket.bind((interface, 0))

    def exchange(
        self, kind: int, question: dict, more: list[tuple[int, bytes]], wanted: tuple[int, ...]
    ) -> Reply | None:
        """Send, sending again each second as clients do, until an answer comes or the question's time is over."""
        xid = int.from_bytes(os.urandom(4), "big")
        data = frame(question["mac"], packet(kind, question, xid, more))
        deadline = time.monotonic() + question.get("wait", 5)
        again = 0.0
        while True:
            if time.monotonic() >= again:
                self._socket.send(data)
                again = time.monotonic() + 1
            left = min(deadline, again) - time.monotonic()
            if time.monotonic() >= deadline:
                return None
            self._socket.settimeout(max(left, 0.001))
            try:
                reply = reply_in(self._socket.recv(4096), xid)
            except TimeoutError:
                continue
            if reply is not None and reply.kind in wanted:
                return reply

    def answer(self, question: dict) -> dict:
        """The whole conversation of one machine."""
        result: dict = dict.fromkeys(("ip", "offered", "server", "file", "nak"))
        if question.get("init_reboot"):
            address = socket.inet_aton(question["init_reboot"])
            return result | told(self.exchange(REQUEST, question, [(50, address)], (ACK, NAK)))
        offer = self.exchange(DISCOVER, question, [], (OFFER,))
        if offer is None or question.get("only") == "discover":
            return result | ({"offered": offer.ip} if offer else {})
        chosen = [(50, socket.inet_aton(offer.ip)), (54, offer.options[54])]
        return result | {"offered": offer.ip} | told(self.exchange(REQUEST, question, chosen, (ACK, NAK)))


def told(reply: Reply | None) -> dict:
    """The part of an answer that an ACK or NAK gives."""
    if reply is None:
        return {}
    if reply.kind == NAK:
        return {"nak": True}
    options = {number: value.hex() for number, value in reply.options.items()}
    return {"ip": reply.ip, "server": reply.next_server, "file": reply.file, "options": options, "nak": False}


if __name__ == "__main__":
    client = Client(sys.argv[1])
    json.dump([client.answer(question) for question in json.load(sys.stdin)], sys.stdout)
