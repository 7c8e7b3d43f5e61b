"""Content that can be read at any offset."""

import os
import stat
import time
from collections.abc import Hashable
from typing import Protocol

from provisioner.netboot.tftp.contract import Content, OpenFile

_YOUNG_NS = 2_000_000_000
"""A file that was changed so recently may change again without its times showing it: some clocks tick in seconds."""


class Reader(Protocol):
    """Content of a known size; ``read`` gives exactly the bytes asked for, or raises OSError.

    Readers of the same ``identity`` have the same bytes; None: nothing is known of that.
    """

    size: int
    identity: Hashable

    def read(self, offset: int, length: int) -> bytes | memoryview: ...
    def close(self) -> None: ...


class BytesReader:
    """Content in memory; reading copies nothing."""

    __slots__ = ("_view", "identity", "size")

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self.identity: Hashable = None  # scripts are short, and each machine has its own
        self._view = memoryview(content)

    def read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def close(self) -> None:
        self._view = memoryview(b"")


class FileReader:
    """Content of an open file, which it closes; ``state`` is the file's when it was opened."""

    __slots__ = ("_fd", "_modified", "identity", "size")

    def __init__(self, file: OpenFile, state: os.stat_result) -> None:
        self.size = file.size
        self._fd = file.fd
        self._modified = state.st_mtime_ns
        changed = max(state.st_mtime_ns, state.st_ctime_ns)
        settled = changed + _YOUNG_NS < time.time_ns()
        times = (state.st_mtime_ns, state.st_ctime_ns)
        self.identity: Hashable = (state.st_dev, state.st_ino, *times, file.size) if settled else None

    def read(self, offset: int, length: int) -> bytes:
        """Raises OSError also for a file that was written to since: half of each would be neither.

        One that was replaced (renamed over, deleted) is another file, and this one stays as it was.
        """
        read = os.pread(self._fd, length, offset)
        if len(read) != length:
            raise OSError("the file became shorter while it was served")
        if os.fstat(self._fd).st_mtime_ns != self._modified:
            raise OSError("the file was changed while it was served")
        return read

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def reader_of(content: Content) -> Reader:
    """A reader that owns the content. Raises TypeError or OSError for what is neither bytes nor a whole regular file.

    A FIFO or a device in its place would block every transfer; a directory cannot be read.
    """
    if isinstance(content, bytes):
        return BytesReader(content)
    if not isinstance(content, OpenFile):
        raise TypeError(f"content must be bytes or OpenFile, not {type(content).__name__}")
    state = os.fstat(content.fd)
    reader = FileReader(content, state)
    if not stat.S_ISREG(state.st_mode) or not 0 <= content.size <= state.st_size:
        reader.close()
        raise OSError("not a regular file of the size that was given")
    return reader
