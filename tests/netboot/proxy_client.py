"""Firmware beside a proxy: sends DHCP messages as raw frames and collects every server's replies.

    proxy_client.py INTERFACE < {"questions": [...], "servers": [...], "proxies": [...], "pxe_from": {...}} > answers

A question: {"mac", "kind" (as in dhcp_client.py, or "http", "raw"), "message" (option 53), "port", "source",
"source_port", "target", "ciaddr", "giaddr", "flags", "options": {number: hex, or null to leave it out}, "raw": hex of a
whole datagram}. After all questions a plain ROM asks by DISCOVER until each of ``servers`` has answered it, and, if any
question went to port 4011, there as well: so what was not answered by then never will be.
An answer: the list of replies to that question: {"server", "port", "to", "to_port", "kind", "yiaddr", "siaddr",
"ciaddr", "giaddr", "file", "options": {number: hex}}.
"""

import json
import os
import select
import socket
import struct
import sys
import time

from dhcp_client import _UUID, firmware_options

_MAGIC = b"\x63\x82\x53\x63"
_LAST = {"mac": "02:ff:00:00:00:01", "kind": "rom"}
_SECONDS = 30
# linux/if_packet.h
_SOL_PACKET, _ADD_MEMBERSHIP, _PROMISCUOUS = 263, 1, 1


def options_of(question: dict) -> dict[int, bytes]:
    """The options of one message, in the order in which firmware sends them."""
    if question["kind"] == "http":
        vendor = b"HTTPClient:Arch:00016:UNDI:003001"
        found = {
            55: bytes([1, 3, 6, 43, 54, 60, 66, 67, 97]),
            60: vendor,
            93: b"\x00\x10",
            94: b"\x01\x03\x00",
            97: _UUID,
        }
    else:
        found = dict(firmware_options(question["kind"]))
    found = {53: bytes([question.get("message", 1)]), **found}
    for number, value in question.get("options", {}).items():
        found.pop(int(number), None)
        if value is not None:
            found[int(number)] = bytes.fromhex(value)
    return found


def message(question: dict, xid: int) -> bytes:
    """The DHCP message."""
    flags = question.get("flags", 0x8000 if question["kind"].startswith("uefi") else 0)
    ciaddr, giaddr = (socket.inet_aton(question.get(name, "0.0.0.0")) for name in ("ciaddr", "giaddr"))
    mac = bytes.fromhex(question["mac"].replace(":", ""))
    head = struct.pack("!BBBBIHH4s4s4s4s16s64x128x", 1, 1, 6, 0, xid, 0, flags, ciaddr, bytes(4), bytes(4), giaddr, mac)
    body = b"".join(bytes([number, len(value)]) + value for number, value in options_of(question).items())
    return (head + _MAGIC + body + b"\xff").ljust(300, b"\0")


def frame(question: dict, payload: bytes) -> bytes:
    """The message in UDP, IPv4 and Ethernet."""
    source = socket.inet_aton(question.get("source", "0.0.0.0"))
    target = socket.inet_aton(question.get("target", "255.255.255.255"))
    ports = (question.get("source_port", 68), question.get("port", 67))
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:]
    return b"\xff" * 6 + bytes.fromhex(question["mac"].replace(":", "")) + b"\x08\x00" + head + udp


def reply_in(data: bytes) -> tuple[int, dict] | None:
    """A server's message in a frame, with its transaction number."""
    if data[12:14] != b"\x08\x00" or data[23] != 17:
        return None
    udp = data[14 + (data[14] & 15) * 4 :]
    payload = udp[8:]
    if len(payload) < 240 or payload[0] != 2:
        return None
    options, rest = {}, payload[240:]
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = rest[2 : 2 + rest[1]].hex()
        rest = rest[2 + rest[1] :]
    address = {name: socket.inet_ntoa(payload[at : at + 4])
               for name, at in (("ciaddr", 12), ("yiaddr", 16), ("siaddr", 20), ("giaddr", 24))}  # fmt: skip
    port, to_port = struct.unpack("!HH", udp[:4])
    return struct.unpack("!I", payload[4:8])[0], {
        **address,
        "server": socket.inet_ntoa(data[26:30]),
        "port": port,
        "to": socket.inet_ntoa(data[30:34]),
        "to_port": to_port,
        "kind": int(options.get(53, "00"), 16),
        "file": payload[108:236].split(b"\0")[0].decode(),
        "options": options,
    }


class Client:
    """One interface, any number of machines."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind((interface, 0))
        # Offers are sent to the hardware address of the machine that is played.
        index = socket.if_nametoindex(interface)
        self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8s", index, _PROMISCUOUS, 0, b""))
        self.replies: dict[int, list[dict]] = {}

    def send(self, question: dict) -> int:
        """Send one question; its transaction number (of no meaning for raw datagrams)."""
        xid = int.from_bytes(os.urandom(4), "big")
        payload = bytes.fromhex(question["raw"]) if "raw" in question else message(question, xid)
        self._socket.send(frame(question, payload))
        return xid

    def collect(self, seconds: float) -> None:
        """Take in what comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and select.select([self._socket], [], [], left)[0]:
            found = reply_in(self._socket.recv(65535))
            if found is not None and found[1] not in self.replies.setdefault(found[0], []):
                self.replies[found[0]].append(found[1])

    def until_answered(self, question: dict, servers: set[str]) -> None:
        """Ask once a second until all of these servers have answered."""
        deadline = time.monotonic() + _SECONDS
        mine: list[int] = []
        while not servers <= {reply["server"] for xid in mine for reply in self.replies.get(xid, [])}:
            if time.monotonic() > deadline:
                raise SystemExit(f"not answered by all of {servers} within {_SECONDS} s")
            mine.append(self.send(question))
            for _ in range(10):
                self.collect(0.1)
                if servers <= {reply["server"] for xid in mine for reply in self.replies.get(xid, [])}:
                    break


if __name__ == "__main__":
    given = json.load(sys.stdin)
    client = Client(sys.argv[1])
    asked = []
    for number, one in enumerate(given["questions"]):
        asked.append(client.send(one))
        if number % 100 == 99:
            client.collect(0.05)
    client.until_answered(_LAST, set(given["servers"]))
    if any(one.get("port") == 4011 for one in given["questions"]):
        for proxy in given["proxies"]:
            last = {**_LAST, "port": 4011, "message": 3, "target": proxy, **given["pxe_from"]}
            client.until_answered(last, {proxy})
    json.dump([client.replies.get(xid, []) for xid in asked], sys.stdout)
