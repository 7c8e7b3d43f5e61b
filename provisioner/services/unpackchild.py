"""The process that reads an ISO image: started fresh by ``unpacking``, gives up its rights, then reads and writes.

It has the image's descriptor and that of an empty directory, and speaks JSON lines: orders on standard input, what it
found and how far it is on standard output. Never imported by the server.

Every byte is read through ``Verified``: the whole image is hashed first, in blocks, and whatever is read later must
have its block's hash. So the SHA-256 that it tells is that of the bytes that it unpacks, whoever writes to the image
meanwhile.
"""

import codecs
import ctypes
import hashlib
import io
import json
import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # -I starts without the place of our own package

import pycdlib
import pycdlib.dr
from pycdlib.pycdlibexception import PyCdlibException

from provisioner.core import treepaths
from provisioner.core.mediatree import LONGEST_TEXT, WANTED
from provisioner.errors import InvalidInput
from provisioner.services import unpackjail

_BLOCK = 1 << 20
_KEPT_BLOCKS = 4
_TELL = 16 << 20
_SECTOR = 2048
_MOST_LETTERS = 16 << 20
# What a parser says of bytes that nobody meant for it.
_FAULTS = (PyCdlibException, struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Refused(Exception):
    """The image is not one that we unpack."""


@dataclass(frozen=True)
class Entry:
    """A file, directory or link: ``extents`` are offset and length of each run of its bytes."""

    path: str
    kind: str
    extents: tuple[tuple[int, int], ...] = ()
    target: str = ""

    @property
    def size(self) -> int:
        """Its bytes."""
        return sum(length for _, length in self.extents)


class Verified(io.RawIOBase):
    """The image, each block of which must be what it was when the whole was hashed."""

    def __init__(self, handle: int) -> None:
        self._handle, self._position = handle, 0
        self._hashes: list[bytes] = []
        self._kept: dict[int, bytes] = {}
        self.size = 0
        self.sha256 = self._read_through()

    def _read_through(self) -> str:
        whole, told = hashlib.sha256(), 0
        while block := self._pread(len(self._hashes)):
            whole.update(block)
            self._hashes.append(hashlib.blake2b(block, digest_size=32).digest())
            self.size += len(block)
            if self.size - told >= _TELL:
                told = self.size
                say(hashed=told)
        return whole.hexdigest()

    def _pread(self, number: int) -> bytes:
        parts, offset = [], number * _BLOCK
        left = _BLOCK
        while left and (part := os.pread(self._handle, left, offset)):
            parts.append(part)
            offset, left = offset + len(part), left - len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number not in self._kept:
            block = self._pread(number)
            if hashlib.blake2b(block, digest_size=32).digest() != self._hashes[number]:
                raise Refused("somebody changed the image while it was read")
            while len(self._kept) >= _KEPT_BLOCKS:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = block
        return self._kept[number]

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The bytes of a run, which is within the image, in pieces of at most a block."""
        while length:
            number, begin = divmod(offset, _BLOCK)
            piece = memoryview(self._block(number))[begin : begin + length]
            if not piece:
                raise Refused("the image ends before its files do: it is truncated")
            yield piece
            offset, length = offset + len(piece), length - len(piece)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)
        length = min(len(room), max(0, self.size - self._position))
        done = 0
        for piece in self.pieces(self._position, length):
            room[done : done + len(piece)] = piece
            done += len(piece)
        self._position += done
        return done


def main() -> None:
    """Read the order, give up all rights, tell what is in the image, write what is then asked for."""
    order = json.loads(sys.stdin.buffer.readline())
    _warm_up()
    size = os.fstat(order["image"]).st_size
    unpackjail.enter(size, order["parent"])
    try:
        _work(order)
    except Refused as error:
        say(error="refused", message=str(error))
    except InvalidInput as error:
        say(error="refused", message=error.message)
    except (MemoryError, RecursionError):
        say(error="refused", message="its directories are larger than those of any honest image")
    except OSError as error:
        say(error="system", number=error.errno or 0, message=error.strerror or str(error))


def _warm_up() -> None:
    """Read an image once: whatever Python loads for that is loaded while its files can be opened."""
    for encoding in ("utf-16-be", "utf-16_be", "latin-1", "utf-8", "ascii"):
        codecs.lookup(encoding)
    made, image = pycdlib.PyCdlib(), io.BytesIO()
    made.new(rock_ridge="1.09", joliet=3, udf="2.60")
    made.add_fp(io.BytesIO(b"x"), 1, "/X.;1", rr_name="x", joliet_path="/x", udf_path="/x")
    made.write_fp(image)
    read = pycdlib.PyCdlib()
    read.open_fp(image)
    for key in ("rr_path", "joliet_path", "udf_path", "iso_path"):
        list(read.list_children(**{key: "/"}))


def _work(order: dict[str, Any]) -> None:
    image = Verified(order["image"])
    say(sha256=image.sha256, size=image.size)
    _read_order()
    try:
        namespace, label, entries = listing(image, order["most_entries"])
    except _FAULTS as error:
        raise Refused(f"it is no ISO image that can be read: {str(error)[:200] or type(error).__name__}") from error
    check(entries, image.size)
    texts = {
        entry.path: _bytes(image, entry)[:LONGEST_TEXT].decode(errors="replace")
        for entry in entries
        if entry.kind == "file" and entry.path in WANTED and entry.size <= LONGEST_TEXT
    }
    files = {entry.path: entry.size for entry in entries if entry.kind == "file"}
    stored = {entry.extents: entry.size for entry in entries if entry.kind == "file"}
    say(namespace=namespace, label=label, texts=texts, files=files, stored=sum(stored.values()))
    wanted = _read_order()["take"]
    chosen = entries if wanted is None else [entry for entry in entries if entry.path in set(wanted)]
    say(done=write(image, chosen, order["directory"]))


def _read_order() -> dict[str, Any]:
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(1)  # whoever started us is gone
    found: dict[str, Any] = json.loads(line)
    return found


def say(**line: Any) -> None:
    """One line for the parent."""
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    sys.stdout.buffer.flush()


def _bytes(image: Verified, entry: Entry) -> bytes:
    return b"".join(bytes(piece) for offset, length in entry.extents for piece in image.pieces(offset, length))


def listing(image: Verified, most: int) -> tuple[str, str, list[Entry]]:
    """Which kind of names the image has, its label, and all that is in it, by those names and no others."""
    # The library shortens what lies beyond the end, by this and silently: that must be an error.
    pycdlib.dr.DirectoryRecord.set_data_length = _beyond  # type: ignore[assignment,method-assign]
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BufferedReader(image, _SECTOR * 16))
    if iso.pvd.space_size * _SECTOR > image.size:
        raise Refused(
            f"it says that it has {iso.pvd.space_size * _SECTOR} bytes, and has {image.size}: it is truncated"
        )
    label = iso.pvd.volume_identifier.decode("latin-1").rstrip(" \0")[:64]
    kinds = (
        (iso.has_rock_ridge(), "Rock Ridge", "rr_path"),
        (iso.has_joliet(), "Joliet", "joliet_path"),
        (iso.has_udf(), "UDF", "udf_path"),
        (True, "ISO 9660", "iso_path"),
    )
    namespace, key = next((name, key) for there, name, key in kinds if there)
    entries: dict[str, Entry] = {}
    letters = 0
    waiting = [("", "")]
    while waiting:
        ours, theirs = waiting.pop()
        for record in iso.list_children(**{key: theirs or "/"}):
            raw = record.file_identifier()
            if record.is_dot() or record.is_dotdot():
                continue
            entry, raw_name = _entry(iso, record, raw, (ours, theirs), key)
            if entry.path in entries:
                raise Refused(f"it has {entry.path[:200]!r} twice")
            if entry.kind == "directory":
                waiting.append((entry.path, f"{theirs}/{raw_name}"))
            entries[entry.path] = entry
            letters += len(entry.path) + len(entry.target)
            if letters > _MOST_LETTERS:
                raise Refused("its names are longer than those of any honest image")
            if len(entries) > most:
                raise Refused(f"it has more than {most} files and directories")
    return namespace, label, list(entries.values())


def _beyond(record: Any, _length: int) -> None:
    raise Refused(f"{record.file_identifier()[:200]!r} lies beyond its end: it is truncated")


def _entry(iso: Any, record: Any, raw: bytes, where: tuple[str, str], key: str) -> tuple[Entry, str]:
    """The entry, and what the library calls it in that directory."""
    ours, theirs = where
    ridge = record.rock_ridge if key == "rr_path" else None
    called = ridge.name().decode("utf-8", "surrogateescape") if ridge is not None else _decoded(record, raw, key)
    path = treepaths.path(f"{ours}/{treepaths.name(_plain(called, key))}".lstrip("/"))
    if record.is_dir():
        return Entry(path, "directory"), called
    if record.is_symlink():
        target = ridge.symlink_path().decode("utf-8", "surrogateescape") if ridge is not None else ""
        return Entry(path, "link", target=target), called
    if ridge is not None and not stat.S_ISREG(ridge.get_file_mode() or stat.S_IFREG):
        return Entry(path, "special"), called
    if not record.is_file():
        return Entry(path, "special"), called
    runs = iso.get_file_byte_extents(**{key: f"{theirs}/{called}"})
    if not runs and record.get_data_length():
        # The boot catalogue: the library keeps it apart.
        runs = [(record.extent_location() * _SECTOR, record.get_data_length())]
    return Entry(path, "file", tuple((offset, length) for offset, length in runs if length)), called


def _decoded(record: Any, raw: bytes, key: str) -> str:
    if key == "joliet_path":
        return raw.decode("utf-16-be")
    if key == "udf_path":
        return raw.decode(getattr(record.file_ident, "encoding", "latin-1"))
    return raw.decode("latin-1")


def _plain(called: str, key: str) -> str:
    """Without the version (``;1``) of ISO 9660, and in lower case where that has no other."""
    if key in {"rr_path", "udf_path"}:
        return called
    plain = called.rpartition(";")[0] if called.rpartition(";")[2].isdecimal() and ";" in called else called
    return plain.rstrip(".").lower() if key == "iso_path" else plain


def check(entries: list[Entry], image_bytes: int) -> None:
    """Raise Refused unless these can all be: each byte within the image, and no more of them than it holds."""
    runs: dict[tuple[tuple[int, int], ...], int] = {}
    for entry in entries:
        if any(offset < 0 or length < 0 or offset + length > image_bytes for offset, length in entry.extents):
            raise Refused(f"{entry.path[:200]!r} lies beyond its end: it is truncated")
        runs[entry.extents] = entry.size
    # The same run under several names is a hard link, and written once; runs that overlap otherwise are a bomb.
    if sum(runs.values()) > image_bytes:
        raise Refused(f"its files together would have {sum(runs.values())} bytes, more than the {image_bytes} it has")


def write(image: Verified, entries: list[Entry], directory: int) -> dict[str, Any]:
    """Write them below the directory: first directories and files, then the links that stay inside."""
    first: dict[tuple[tuple[int, int], ...], str] = {}
    made: set[str] = set()
    told = done = files = 0
    left_out = [entry.path for entry in entries if entry.kind == "special"]
    for entry in entries:
        parents = entry.path.split("/") if entry.kind == "directory" else entry.path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            above = "/".join(parents[:depth])
            if above not in made:
                os.mkdir(above, 0o755, dir_fd=directory)
                made.add(above)
        if entry.kind != "file":
            continue
        files += 1
        if entry.extents and entry.extents in first:
            os.link(first[entry.extents], entry.path, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            continue
        first[entry.extents] = entry.path
        done = _write_file(image, entry, directory, done)
        if done - told >= _TELL:
            told = done
            say(written=done)
    for entry in entries:
        if entry.kind == "link" and treepaths.stays_inside(entry.path, entry.target):
            os.symlink(entry.target, entry.path, dir_fd=directory)
        elif entry.kind == "link":
            left_out.append(entry.path)
    ctypes.CDLL(None).syncfs(directory)
    return {"files": files, "bytes": done, "left_out": sorted(left_out)[:20], "left_out_count": len(left_out)}


def _write_file(image: Verified, entry: Entry, directory: int, done: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(entry.path, flags, 0o644, dir_fd=directory)
    try:
        for offset, length in entry.extents:
            for piece in image.pieces(offset, length):
                while piece:
                    written = os.write(handle, piece)
                    piece, done = piece[written:], done + written  # noqa: PLW2901
    finally:
        os.close(handle)
    return done


if __name__ == "__main__":
    main()
