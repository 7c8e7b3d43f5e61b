"""When is a request complete? Looks at the bytes that came; it reads no socket and judges no request.

Judging is the parser's work. Both could disagree about where a request ends; so the parser gets the bytes of this one
request and no other, and what it leaves over or misses ends the connection.
"""

import re
from dataclasses import dataclass
from enum import Enum

LONGEST_HEAD = 64 << 10
"""Bytes of a request line with all header lines."""
_LONGEST_CHUNK_LINE = 1024
_LONGEST_TRAILERS = 8 << 10
_BARE_LF = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(?:;.*)?")


class Stage(Enum):
    """How far a request has come."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"
    WHOLE = "whole"
    LARGE = "large"
    """Its head is here, and its body is longer than what is waited for: whoever takes it reads the rest."""
    TOO_LONG = "too long"
    """Its head is."""


@dataclass(frozen=True)
class Gathered:
    """The bytes of one request."""

    data: bytes
    whole: bool


class Gathering:
    """The bytes of one connection until they make a request, and those of the requests after it."""

    def __init__(self, longest_body: int) -> None:
        self._longest_body = longest_body
        self._buffer = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._searched = 0
        self._head: int | None = None
        self._end: int | None = None
        self._chunks: _Chunks | None = None
        self.expects_continue = False
        """The client wants to hear `100 Continue` before it sends its body (RFC 9110, 10.1.1)."""

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> Stage:
        """Take what came, and say how far the request is."""
        self._buffer += data
        return self.look()

    def look(self) -> Stage:
        """How far the request is."""
        if not self._buffer:
            return Stage.NOTHING
        if self._head is None and not self._find_head():
            return Stage.TOO_LONG if len(self._buffer) > LONGEST_HEAD else Stage.HEAD
        assert self._head is not None  # noqa: S101 - it was just found
        if self._head > LONGEST_HEAD:
            return Stage.TOO_LONG
        if self._chunks is not None and self._end is None:
            self._end = self._chunks.end(self._buffer)
            if self._end is None:
                return Stage.LARGE if len(self._buffer) - self._head > self._longest_body else Stage.BODY
        assert self._end is not None  # noqa: S101 - without chunks the head says it
        if len(self._buffer) >= self._end:
            return Stage.WHOLE
        return Stage.LARGE if self._end - self._head > self._longest_body else Stage.BODY

    def take(self) -> Gathered:
        """The request, when it is whole or large; what came behind it stays for the next."""
        whole = self._end is not None and len(self._buffer) >= self._end
        end = self._end if whole else len(self._buffer)
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._begin()
        return Gathered(data, whole)

    def _find_head(self) -> bool:
        found = self._buffer.find(b"\r\n\r\n", self._searched)
        if found >= 0:
            self._head = found + 4
            self._framing(bytes(self._buffer[: self._head]))
            return True
        if _BARE_LF.search(self._buffer, self._searched):
            # Such a head never ends the way it is read; the parser says so.
            self._head = self._end = len(self._buffer)
            return True
        self._searched = max(0, len(self._buffer) - 3)
        return False

    def _framing(self, head: bytes) -> None:
        fields: dict[bytes, bytes] = {}
        for line in head.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon:
                fields[name.strip().lower()] = value.strip()
        self._end = len(head)
        length = fields.get(b"content-length", b"")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower().endswith(b"chunked") and not length:
                self._end = None
                self._chunks = _Chunks(len(head))
        elif length.isdigit() and len(length) < 19:
            self._end = len(head) + int(length)
        self.expects_continue = fields.get(b"expect", b"").lower() == b"100-continue"


class _Chunks:
    """Where a chunked body ends (RFC 9112, 7.1). What is malformed ends at once: the parser refuses it."""

    def __init__(self, begin: int) -> None:
        self._at = begin
        self._last = False

    def end(self, buffer: bytearray) -> int | None:
        """The place behind the body; None while it is not here."""
        while not self._last:
            line = buffer.find(b"\r\n", self._at, self._at + _LONGEST_CHUNK_LINE)
            if line < 0:
                return None if len(buffer) - self._at < _LONGEST_CHUNK_LINE else len(buffer)
            if not _CHUNK_SIZE.fullmatch(buffer, self._at, line):
                return len(buffer)
            size = int(bytes(buffer[self._at : line]).partition(b";")[0], 16)
            if size and len(buffer) < line + size + 4:
                return None
            self._at = line + 2 + (size + 2 if size else 0)
            self._last = size == 0
        return self._trailers(buffer)

    def _trailers(self, buffer: bytearray) -> int | None:
        if buffer[self._at : self._at + 2] == b"\r\n":
            return self._at + 2
        found = buffer.find(b"\r\n\r\n", self._at)
        if found >= 0:
            return found + 4
        return None if len(buffer) - self._at < _LONGEST_TRAILERS else len(buffer)
