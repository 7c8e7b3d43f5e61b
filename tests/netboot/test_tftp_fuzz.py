"""Datagrams gone wrong, thrown at a server in a process of its own while transfers run beside (T01 to T04, T23).

The seed of each run is in its name: the same seed throws the same datagrams.
"""

import random
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.netboot.tftp_client import Client, fetch, request
from tests.netboot.tftp_process import Child, child, content_of

pytestmark = pytest.mark.slow

UNCAPPED = {"source_rate": 1e9, "source_burst": 1e9, "rate": 1e9, "burst": 1e9}
NAMES = (
    b"sized-700",
    b"file-5000",
    b"",
    b"../x",
    b"\xff\xfe",
    b"d" * 600,
    b"a\\b",
    b"\0",
    b"%s%n{}",
    b"C:x",
    b"x\x1b[2J",
)
OPTIONS = ("blksize", "TSIZE", "timeout", "windowsize", "multicast", "x", "\u00fc" * 9)
VALUES = ("abc", "-1", "0", "7", "65465", "99999999999", "\x00", "\u00e9", "9" * 4400, "", " 1", "1e3", "512", "4")


def short_ones() -> Iterator[bytes]:
    """Lengths 0 to 6, each with every opcode."""
    for opcode in range(256):
        whole = struct.pack("!H", opcode) + b"\0\1\0\0"
        for length in range(7):
            yield whole[:length]


def mutated(rng: random.Random) -> bytes:
    """A request gone wrong in one of the ways that ended other servers."""
    options = {rng.choice(OPTIONS): rng.choice(VALUES) for _ in range(rng.choice((0, 1, 3)))}
    mode = rng.choice(("octet", "octet", "netascii", "", "\xff", "OCTET"))
    raw = bytearray(request(rng.choice((1, 1, 1, 2)), rng.choice(NAMES), options, mode))
    match rng.randrange(8):
        case 0:
            del raw[rng.randrange(len(raw)) :]
        case 1:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        case 2:
            raw = bytearray(raw.replace(b"\0", b"", rng.randrange(1, 9)))
        case 3:
            raw += rng.randbytes(rng.randrange(40))
        case 4:
            raw = bytearray(rng.randbytes(rng.randrange(60)))
        case 5:
            raw[2:] = bytes(byte | 0x80 for byte in raw[2:])
        case 6:
            raw += b"blksize\0" * rng.randrange(200)
        case _:
            raw = bytearray(struct.pack("!HH", rng.randrange(8), rng.randrange(65536)) + rng.randbytes(5))
    return bytes(raw)


def throw(server: Child, datagrams: Iterator[bytes]) -> int:
    """Send all these, none faster than the server takes them, and some of each to the port of a running transfer."""
    count = 0
    with Client(server.address) as client, Client(server.address, "127.0.0.3") as victim:
        victim.ask("sized-5000", {"blksize": 1024})
        victim.receive()
        for count, raw in enumerate(datagrams, 1):
            client.send(raw)
            if count % 10 == 0 and raw[:2] != b"\0\5" and not raw.startswith(b"\0\4"):
                victim.send(raw, victim.peer)
            if count % 200 == 0:
                server.barrier()
                client.drain()
    server.barrier()
    return count


def fetch_until(stop: threading.Event, server: Child, fetched: list[bytes]) -> None:
    while not stop.is_set():
        fetched.append(fetch(server.address, "file-20000", {"blksize": 1024, "tsize": 0}, source="127.0.0.4"))


def survive(datagrams: Callable[[], Iterator[bytes]]) -> int:
    """Throw them; the process, its memory and its descriptors are the same after, and transfers beside come whole."""
    stop = threading.Event()
    fetched: list[bytes] = []
    with child(patience=2.0, linger=0.5, **UNCAPPED) as server:
        throw(server, (mutated(random.Random(n)) for n in range(2000)))  # what is allocated once
        before = server.state()
        beside = threading.Thread(target=fetch_until, args=(stop, server, fetched))
        beside.start()
        try:
            count = throw(server, datagrams())
        finally:
            stop.set()
            beside.join()
        after = server.state()
        counters = after["counters"]
        assert after["pid"] == before["pid"]
        assert after["rss"] < before["rss"] + 20_000, "KiB; a million datagrams of 30 bytes would be more"
        assert after["descriptors"] - 2 * after["sessions"] <= before["descriptors"] + 16
        assert not {"loop_errors", "request_errors", "transfer_errors"} & set(counters)
        assert sum(counters[what] for what in ("ignored", "refused", "requests")) >= count
        assert fetch(server.address, "sized-20000") == content_of(20_000)
    assert fetched
    assert set(fetched) == {content_of(20_000)}
    return count


def test_t01_every_opcode_at_every_short_length() -> None:
    assert survive(short_ones) == 7 * 256


@pytest.mark.parametrize("seed", [1, 2])
def test_t02_t03_t04_ten_thousand_malformed_datagrams(seed: int) -> None:
    rng = random.Random(seed)
    assert survive(lambda: (mutated(rng) for _ in range(10_000))) == 10_000


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [4])
def test_t01_t04_a_million_malformed_datagrams(seed: int) -> None:
    rng = random.Random(seed)
    assert survive(lambda: (mutated(rng) for _ in range(1_000_000))) == 1_000_000
