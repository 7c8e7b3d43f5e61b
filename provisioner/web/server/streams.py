"""What the parser reads from and the writer writes to, instead of the socket itself."""

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from werkzeug.exceptions import RequestTimeout

MOST_LEFT = 1 << 20
"""Bytes of one answer that are kept for a client which takes them slowly; beyond them its thread waits."""
SEND_SECONDS = 60.0
"""A client that takes nothing for so long is gone."""
_BODY_SECONDS = 30.0
_BODY_RATE = 16 << 10
_SLICE = 1 << 20
_SMALL = 8 << 10
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_TRAILING = "the body came too slowly"


Told = Callable[[int, bool], None]
"""Told once for a file: the bytes that were sent of it, and whether that is all. It is quick, and raises nothing."""
TOLD = "provisioner.told"
"""Where in WSGI's environment an application leaves one."""


class Budget:
    """Memory that all connections of a process share."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._lock = threading.Lock()

    def take(self, amount: int) -> bool:
        """Whether so much was left; then it is taken."""
        with self._lock:
            if amount > self._free:
                return False
            self._free -= amount
            return True

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._free += amount

    @property
    def free(self) -> int:
        """How much is left."""
        return self._free


class Source:
    """The bytes of one request; of a large one also those that are still to come, within a time."""

    def __init__(self, data: bytes, more: socket.socket | None) -> None:
        self._data, self._at, self._more = memoryview(data), 0, more
        self._deadline = time.monotonic() + _BODY_SECONDS

    def recv(self, size: int) -> bytes:
        """As a socket's. Empty at the end, so that a parser which wants more than the request refuses it.

        Raises RequestTimeout.
        """
        if self._at < len(self._data):
            part = bytes(self._data[self._at : self._at + size])
            self._at += len(part)
            return part
        return b"" if self._more is None else self._receive(self._more, size)

    @property
    def left(self) -> int:
        """How many bytes nobody read."""
        return len(self._data) - self._at

    def _receive(self, more: socket.socket, size: int) -> bytes:
        while True:
            try:
                part = more.recv(size)
            except _NOT_NOW:
                left = self._deadline - time.monotonic()
                if left <= 0 or not _wait(more, select.POLLIN, left):
                    raise RequestTimeout(_TRAILING) from None
                continue
            self._deadline += len(part) / _BODY_RATE
            return part


class _Part:
    """A piece of a file that is to be sent. It keeps the file open by a descriptor of its own."""

    def __init__(self, descriptor: int, offset: int, left: int, told: Told | None) -> None:
        self.descriptor, self.offset, self.left = os.dup(descriptor), offset, left
        self._size, self._told = left, told

    def close(self) -> None:
        """Let go of the file, and tell how much of it went out."""
        os.close(self.descriptor)
        if self._told is not None:
            self._told(self._size - self.left, self.left == 0)


class Outlet:
    """Where answers are written: what the client does not take at once is kept, and sent later by the loop."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        self._sock, self._budget = sock, budget
        self._left: deque[memoryview | _Part] = deque()
        self._kept = 0
        self.keeps = True
        """Off for a stream, whose lines must not lie here until the next one."""
        self.told: Told | None = None
        """Of the file that comes next."""

    def sendall(self, data: bytes) -> None:
        """Send, or keep for later. Raises OSError when the client is gone."""
        self._append(data)
        deadline = time.monotonic() + SEND_SECONDS
        while not self.flush() and not (self.keeps and self._keep()):
            seconds = deadline - time.monotonic()
            if seconds <= 0 or not _wait(self._sock, select.POLLOUT, seconds):
                raise TimeoutError("the client takes nothing")

    def offer(self, data: bytes) -> None:
        """Send, or keep for later, without waiting: for the loop, and for little. Raises OSError."""
        self._append(data)
        self.flush()

    @property
    def kept(self) -> int:
        """Bytes that are kept here for the client."""
        return self._kept

    def send(self, data: bytes) -> int:
        """As `sendall`; all of it counts as sent."""
        self.sendall(data)
        return len(data)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Let the loop send that piece of the file."""
        size = os.fstat(file.fileno()).st_size - offset if count is None else count
        self._left.append(_Part(file.fileno(), offset, size, self.told))
        self.flush()
        return size

    @property
    def left(self) -> int:
        """Bytes that are still to be sent."""
        return sum(each.left if isinstance(each, _Part) else len(each) for each in self._left)

    def flush(self, most: int = _SLICE) -> bool:
        """Send what goes now, at most so many bytes of a file; whether nothing is left. Raises OSError."""
        sent_slice = False
        while self._left:
            first = self._left[0]
            try:
                if isinstance(first, _Part):
                    if sent_slice:
                        return False
                    sent_slice = True
                    if self._send_part(first, most):
                        self._left.popleft()
                        first.close()
                    continue
                sent = self._sock.send(first)
            except _NOT_NOW:
                return False
            if sent < len(first):
                self._left[0] = first[sent:]
            else:
                self._left.popleft()
        self._budget.give(self._kept)
        self._kept = 0
        return True

    def close(self) -> None:
        """Forget what is left."""
        for each in self._left:
            if isinstance(each, _Part):
                each.close()
        self._left.clear()
        self._budget.give(self._kept)
        self._kept = 0

    def _append(self, data: bytes) -> None:
        last = self._left[-1] if self._left else None
        if isinstance(last, memoryview) and len(last) < _SMALL:
            # Many small writes to a slow client must not become many small pieces.
            self._left[-1] = memoryview(bytes(last) + data)
        elif data:
            self._left.append(memoryview(data))

    def _send_part(self, part: _Part, most: int) -> bool:
        if not part.left:
            return True
        sent = os.sendfile(self._sock.fileno(), part.descriptor, part.offset, min(part.left, most))
        if not sent:
            raise OSError("the file is shorter than it was")
        part.offset += sent
        part.left -= sent
        return part.left == 0

    def _keep(self) -> bool:
        size = sum(len(each) for each in self._left if isinstance(each, memoryview))
        more = size - self._kept
        if size > MOST_LEFT or (more > 0 and not self._budget.take(more)):
            return False
        self._kept = max(size, self._kept)
        return True


def _wait(sock: socket.socket, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), event)
    return bool(poll.poll(seconds * 1000))
