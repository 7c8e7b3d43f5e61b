"""UDP datagrams out of a capture by tcpdump on the lab's wire: enough to see what firmware really sends."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RRQ, ERROR, OACK = 1, 5, 6


@dataclass(frozen=True)
class Datagram:
    """One datagram; ``payload`` may be cut off at the capture's length."""

    source: str
    source_port: int
    target: str
    target_port: int
    payload: bytes

    @property
    def opcode(self) -> int:
        """Of TFTP (RFC 1350, RFC 2347)."""
        return int.from_bytes(self.payload[:2], "big")

    @property
    def words(self) -> list[str]:
        """The texts of a TFTP request or OACK: file name, mode, options and their values."""
        return [word.decode("ascii", "replace") for word in self.payload[2:].split(b"\0") if word]


def datagrams(capture: Path) -> Iterator[Datagram]:
    """The UDP datagrams over IPv4 and Ethernet of a pcap file (little-endian, as tcpdump writes it here)."""
    data = capture.read_bytes()
    at = 24
    while at + 16 <= len(data):
        kept = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + kept]
        at += 16 + kept
        if frame[12:14] != b"\x08\x00" or frame[23:24] != b"\x11":
            continue
        start = 14 + (frame[14] & 15) * 4
        ports = struct.unpack_from(">HH", frame, start)
        source, target = (".".join(map(str, frame[begin : begin + 4])) for begin in (26, 30))
        yield Datagram(source, ports[0], target, ports[1], frame[start + 8 :])
