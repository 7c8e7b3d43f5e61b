"""Content cut into DATA packets once, and sent from there.

A step is what one acknowledgement sets off: a window of blocks, back to back and each behind its header, with the ACK
that it waits for. Steps lie ready in chunks. Who fetches the same file with the same block and window size shares them:
a rack that powers on asks for one loader, and for nothing else.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from provisioner.netboot.tftp.content import Reader
from provisioner.netboot.tftp.packets import HEADER_BYTES, ack_of, data_header

Step = tuple[bytes, bytes]
_Key = tuple[Hashable, int, int, int]

_CHUNK_BYTES = 1 << 17
_MOST_STEPS = 64
_STEP_OVERHEAD = 126
"""Bytes of Python's own for each step."""


class Chunks:
    """The chunks of files, for all transfers: at most ``most`` bytes; the one that was not used longest goes first.

    Besides, each transfer holds the chunk that it is at: 128 KiB at most, and much less at usual block sizes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[_Key, Sequence[Step]] = OrderedDict()
        self.bytes = 0

    def get(self, reader: Reader, blksize: int, window: int, number: int) -> Sequence[Step]:
        """Chunk ``number`` (from 0) of this content. Raises OSError."""
        if reader.identity is None:
            return _cut(reader, blksize, window, number)
        key = (reader.identity, blksize, window, number)
        chunk = self._kept.get(key)
        if chunk is None:
            chunk = _cut(reader, blksize, window, number)
            self._keep(key, chunk)
        else:
            self._kept.move_to_end(key)
        return chunk

    def _keep(self, key: _Key, chunk: Sequence[Step]) -> None:
        self._kept[key] = chunk
        self.bytes += _size(chunk)
        while self.bytes > self._most:
            _, forgotten = self._kept.popitem(last=False)
            self.bytes -= _size(forgotten)


def _size(chunk: Sequence[Step]) -> int:
    return sum(len(packets) + _STEP_OVERHEAD for packets, _ in chunk)


def steps_in_chunk(blksize: int, window: int) -> int:
    """How many steps one chunk has."""
    return max(1, min(_MOST_STEPS, _CHUNK_BYTES // (window * (blksize + HEADER_BYTES))))


def _cut(reader: Reader, blksize: int, window: int, number: int) -> Sequence[Step]:
    blocks = window * steps_in_chunk(blksize, window)
    before = number * blocks
    offset = before * blksize
    content = memoryview(reader.read(offset, min(blocks * blksize, reader.size - offset)))
    # One more than there are whole blocks: the transfer's end is a shorter block, if need be an empty one.
    count = min(blocks, len(content) // blksize + 1)
    steps = []
    for first in range(0, count, window):
        last = min(first + window, count)
        packets: list[bytes | memoryview] = []
        for block in range(first, last):
            packets += (data_header(before + block + 1), content[block * blksize : (block + 1) * blksize])
        steps.append((b"".join(packets), ack_of(before + last)))
    return steps


class Blocks:
    """The DATA packets of one transfer, counted from 1 on past 65535. It owns the reader."""

    __slots__ = (
        "_blksize",
        "_chunk",
        "_chunks",
        "_number",
        "_per_chunk",
        "_reader",
        "size",
        "stride",
        "total",
        "window",
    )

    def __init__(self, reader: Reader, blksize: int, window: int, chunks: Chunks) -> None:
        self.size = reader.size
        self.window = window
        self.total = reader.size // blksize + 1
        self.stride = blksize + HEADER_BYTES
        self._reader = reader
        self._blksize = blksize
        self._chunks = chunks
        self._per_chunk = steps_in_chunk(blksize, window)
        self._number = -1
        self._chunk: Sequence[Step] = ()

    def packets(self, first: int, last: int) -> bytes:
        """These blocks' packets, back to back: ``stride`` bytes each, but for the very last. Raises OSError."""
        parts = []
        while first <= last:
            at, block = divmod(first - 1, self.window)
            until = min(last, (at + 1) * self.window)
            packets, _ = self._steps(at)[at % self._per_chunk]
            parts.append(packets[block * self.stride : (block + until - first + 1) * self.stride])
            first = until + 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def steps_after(self, block: int) -> Sequence[Step]:
        """Steps that lie ready for when ``block`` is acknowledged; none if it is the last, or no window ends there.

        Raises OSError.
        """
        at, rest = divmod(block, self.window)
        return () if rest or block >= self.total else self._steps(at)[at % self._per_chunk :]

    def content_of(self, first: int, last: int) -> int:
        """How many bytes of content these blocks have."""
        return min(last * self._blksize, self.size) - (first - 1) * self._blksize

    def _steps(self, at: int) -> Sequence[Step]:
        """The chunk with this step, counted from 0."""
        number = at // self._per_chunk
        if number != self._number:
            self._chunk = self._chunks.get(self._reader, self._blksize, self.window, number)
            self._number = number
        return self._chunk

    def close(self) -> None:
        """Give back the content."""
        self._chunk = ()
        self._reader.close()
