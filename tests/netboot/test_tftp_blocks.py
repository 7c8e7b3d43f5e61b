"""Content cut into packets ahead of time: the same bytes, shared where that is safe, and bounded (T14, R09, R38)."""

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.netboot.tftp import OpenFile, sockets
from provisioner.netboot.tftp import content as reading
from provisioner.netboot.tftp.blocks import Blocks, Chunks
from provisioner.netboot.tftp.content import BytesReader, Reader, reader_of
from tests.netboot.tftp_client import DATA, ERROR, Client, Running, fetch, running

BIG = random.Random(4).randbytes(700_000)
NOTHING_KEPT = 0


def packet(content: bytes, block: int, blksize: int) -> bytes:
    """What RFC 1350 has on the wire for this block."""
    return struct.pack("!HH", DATA, block & 0xFFFF) + content[(block - 1) * blksize : block * blksize]


def opened(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY)
    return OpenFile(fd, os.fstat(fd).st_size)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old from the moment they are written: a test cannot wait until they are."""
    monkeypatch.setattr(reading, "_YOUNG_NS", -(10**12))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    found = reader_of(opened(path))
    yield found
    found.close()


# What is cut


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(0, 30_000),
    blksize=st.sampled_from([8, 512, 1428, 9000, 65464]),
    window=st.integers(1, 20),
    at=st.floats(0, 1),
    count=st.integers(1, 20),
)
def test_t14_any_run_of_blocks_is_what_the_rfc_says(
    size: int, blksize: int, window: int, at: float, count: int
) -> None:
    content = BIG[:size]
    blocks = Blocks(BytesReader(content), blksize, window, Chunks(NOTHING_KEPT))
    total = size // blksize + 1
    assert blocks.total == total
    first = 1 + int(at * (total - 1))
    last = min(total, first + count - 1)
    wanted = [packet(content, block, blksize) for block in range(first, last + 1)]
    assert blocks.packets(first, last) == b"".join(wanted)
    assert blocks.content_of(first, last) == sum(len(each) - 4 for each in wanted)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(0, 60_000), blksize=st.sampled_from([8, 512, 1428]), window=st.integers(1, 20))
def test_t14_steps_follow_each_other_to_the_end_of_the_content(size: int, blksize: int, window: int) -> None:
    content = BIG[:size]
    blocks = Blocks(BytesReader(content), blksize, window, Chunks(NOTHING_KEPT))
    block, sent = 0, b""
    while steps := blocks.steps_after(block):
        for packets, ack in steps:
            sent += packets
            block = min(block + window, blocks.total)
            assert ack == struct.pack("!HH", 4, block & 0xFFFF)
    assert block == blocks.total
    assert sent == b"".join(packet(content, number, blksize) for number in range(1, blocks.total + 1))


def test_t14_where_no_window_ends_no_step_begins() -> None:
    blocks = Blocks(BytesReader(BIG), 512, 4, Chunks(NOTHING_KEPT))
    assert [bool(blocks.steps_after(block)) for block in range(9)] == [True, *[False] * 3, True, *[False] * 3, True]


def test_r09_numbers_go_on_past_the_wrap() -> None:
    blocks = Blocks(BytesReader(BIG), 8, 1, Chunks(NOTHING_KEPT))
    assert blocks.packets(65_536, 65_536) == packet(BIG, 65_536, 8)
    assert blocks.packets(65_536, 65_536)[2:4] == b"\0\0"
    assert blocks.steps_after(65_535)[0] == (packet(BIG, 65_536, 8), b"\0\4\0\0")


# What is shared, and how much


def test_what_many_ask_for_is_read_once(settled: None, reader: Reader) -> None:
    chunks = Chunks(10 << 20)
    first = chunks.get(reader, 1428, 1, 0)
    assert chunks.get(reader, 1428, 1, 0) is first
    assert chunks.get(reader, 1428, 16, 0) is not first
    assert chunks.get(reader, 512, 1, 0) is not first
    assert chunks.get(reader, 1428, 1, 1) is not first


def test_a_young_file_and_bytes_are_not_shared(reader: Reader) -> None:
    """The file may change again within the same tick of the file system's clock."""
    for each in (reader, BytesReader(BIG)):
        chunks = Chunks(10 << 20)
        assert chunks.get(each, 1428, 1, 0) is not chunks.get(each, 1428, 1, 0)
        assert chunks.bytes == 0


@pytest.mark.parametrize("most", [0, 100, 200_000, 1 << 20])
def test_r38_never_more_is_kept_than_the_limit(settled: None, reader: Reader, most: int) -> None:
    chunks = Chunks(most)
    rng = random.Random(most)
    for _ in range(300):
        blksize, window = rng.choice([(512, 1), (1428, 1), (1428, 16), (8192, 4)])
        blocks = Blocks(reader, blksize, window, chunks)
        block = rng.randint(1, blocks.total)
        assert blocks.packets(block, block) == packet(BIG, block, blksize)
        assert chunks.bytes <= most
    assert (chunks.bytes > 0) == (most > 150_000)


def test_r38_what_was_not_used_longest_goes_first(settled: None, reader: Reader) -> None:
    chunks = Chunks(250_000)  # two chunks and a half
    first, second = (chunks.get(reader, 1428, 1, number) for number in (0, 1))
    assert chunks.get(reader, 1428, 1, 0) is first
    chunks.get(reader, 1428, 1, 2)
    assert chunks.get(reader, 1428, 1, 0) is first
    assert chunks.get(reader, 1428, 1, 1) is not second


# Files that change


def test_a_file_that_was_rewritten_is_served_anew(settled: None, tmp_path: Path) -> None:
    """Also with the same size and the old time put back, as `cp -p` and rsync do."""
    path = tmp_path / "loader"
    path.write_bytes(b"a" * 50_000)
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with running(lambda _: opened(path)) as tftp:
        assert fetch(tftp.address, "x") == b"a" * 50_000
        before = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == before:  # file systems' clocks tick in milliseconds
            path.write_bytes(b"b" * 50_000)
            os.utime(path, ns=times)
        assert fetch(tftp.address, "x") == b"b" * 50_000


def begun(tftp: Running, client: Client) -> bytes:
    """The first block of the content."""
    client.ask("x", {"blksize": 1024})
    client.receive()
    client.ack(0)
    return client.receive().data


def test_a_file_that_is_written_to_meanwhile_is_an_error_and_never_a_mixture(tmp_path: Path) -> None:
    path = tmp_path / "loader"
    path.write_bytes(BIG)
    with running(lambda _: opened(path)) as tftp, Client(tftp.address) as client:
        got = begun(tftp, client)
        before = path.stat().st_mtime_ns
        while path.stat().st_mtime_ns == before:
            path.write_bytes(bytes(len(BIG)))
        block = 1
        client.ack(block)
        while (heard := client.receive()).opcode == DATA:
            got += heard.data
            block += 1
            client.ack(block)
        assert (heard.opcode, heard.number) == (ERROR, 0)
        assert BIG.startswith(got)
        assert fetch(tftp.address, "x", {"blksize": 8192}) == bytes(len(BIG))


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_file_that_is_replaced_meanwhile_comes_whole_as_it_was(tmp_path: Path, how: str) -> None:
    path = tmp_path / "loader"
    path.write_bytes(BIG)
    with running(lambda _: opened(path)) as tftp, Client(tftp.address) as client:
        first = begun(tftp, client)
        if how == "replaced":
            (tmp_path / "new").write_bytes(b"other")
            (tmp_path / "new").rename(path)
        else:
            path.unlink()
        client.ack(1)
        assert first + client.rest(blksize=1024, acknowledged=1) == BIG


# Windows where the kernel does not cut them


@pytest.mark.parametrize("single_port", [False, True])
def test_t14_windows_go_out_one_by_one_where_the_kernel_cannot_cut_them(
    monkeypatch: pytest.MonkeyPatch, single_port: bool
) -> None:
    """As before Linux 4.18. The option has another meaning at this level then, or none."""
    monkeypatch.setattr(sockets, "UDP_SEGMENT", 9999)
    with running(lambda _: BIG, single_port=single_port) as tftp:
        assert fetch(tftp.address, "x", {"blksize": 1024, "windowsize": 8}) == BIG
        assert [transfer.resends for transfer in tftp.ended()] == [0]
