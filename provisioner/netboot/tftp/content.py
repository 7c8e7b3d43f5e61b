"""Content that can be read at any offset."""

import os
import stat
from typing import Protocol

from provisioner.netboot.tftp.contract import Content, OpenFile


class Reader(Protocol):
    """Content of a known size; ``read`` gives exactly the bytes asked for, or raises OSError."""

    size: int

    def read(self, offset: int, length: int) -> bytes | memoryview: ...
    def close(self) -> None: ...


class BytesReader:
    """Content in memory; reading copies nothing."""

    __slots__ = ("_view", "size")

    def __init__(self, content: bytes) -> None:
        self.size = len(content)
        self._view = memoryview(content)

    def read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def close(self) -> None:
        self._view = memoryview(b"")


class FileReader:
    """Content of an open file, which it closes."""

    __slots__ = ("_fd", "size")

    def __init__(self, file: OpenFile) -> None:
        self.size = file.size
        self._fd = file.fd

    def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size - offset)
        read = os.pread(self._fd, length, offset)
        if len(read) != length:
            raise OSError("the file became shorter while it was served")
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
    reader = FileReader(content)
    state = os.fstat(content.fd)
    if not stat.S_ISREG(state.st_mode) or not 0 <= content.size <= state.st_size:
        reader.close()
        raise OSError("not a regular file of the size that was given")
    return reader
