"""The media store: kernels, initrds and images under their SHA-256, so that what was sealed is what is served."""

import errno
import hashlib
import os
import stat
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provisioner.errors import InvalidInput, MediaMissing
from provisioner.services import fetching
from provisioner.services.files import Held, sync_directory, translated
from provisioner.services.site import Site
from provisioner.store.engine import is_dry_run

_CHUNK = 1 << 20
Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the total, where it is known."""


@dataclass(frozen=True)
class Stored:
    """A file of the store."""

    sha256: str
    size: int
    name: str


def path_of(site: Site, sha256: str) -> Path:
    """Where the store keeps the file of this SHA-256, or would after what is rehearsed."""
    pretended = site.pretended.get(sha256)
    if pretended is not None:
        return pretended.path
    return site.media_dir / "sha256" / sha256[:2] / sha256


def require(site: Site, sha256: str, what: str) -> Path:
    """The stored file. Raises MediaMissing that says what it was for."""
    path = path_of(site, sha256)
    if not path.is_file():
        raise MediaMissing(
            f"{what} is not in the media store (SHA-256 {sha256[:12]}...)",
            where=str(path),
            hint="restore the media directory, or add the distro or image again",
        )
    return path


def ingest(site: Site, source: str, where: str, progress: Progress | None = None, *, most: int | None = None) -> Stored:
    """Copy a file or a URL (http, https) into the store; ``most`` is what a URL may give, in bytes.

    Raises MediaMissing if it cannot be had, InvalidInput for another kind of URL, StorageFull. A partial copy is
    never visible. A rehearsal reads the file and leaves nothing.
    """
    name = Path(_path(source, where)).name or "file"
    directory = site.media_dir / "sha256"
    with translated(directory):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _opened(source, where, most) as (stream, total):
        if is_dry_run(site.engine):
            return _pretend(site, stream, name, total, progress)
        return _store(site, stream, name, total, progress)


def _pretend(
    site: Site, stream: BinaryIO | fetching.Body, name: str, total: int | None, progress: Progress | None
) -> Stored:
    with translated(site.media_dir):
        if isinstance(stream, fetching.Body):
            with tempfile.TemporaryFile(dir=site.media_dir) as fetched:
                digest, size = _copied(stream, fetched, name, total, progress)
                fetched.flush()
                held = Held(os.dup(fetched.fileno()))
        else:
            with Path(os.devnull).open("wb") as nowhere:
                digest, size = _copied(stream, nowhere, name, total, progress)
            held = Held(os.dup(stream.fileno()))
    site.pretended[digest] = held
    return Stored(digest, size, name)


def _path(source: str, where: str) -> str:
    if "://" not in source:
        return source
    if not source.isascii() or not source.isprintable() or " " in source:
        raise InvalidInput(f"{source[:200]!r} is not a URL", where=where, hint="write odd characters as %XX (RFC 3986)")
    try:
        return urllib.parse.urlsplit(source).path
    except ValueError as error:
        raise InvalidInput(f"{source[:200]!r} is not a URL: {error}", where=where, hint="check the host") from error


def _store(
    site: Site, stream: BinaryIO | fetching.Body, name: str, total: int | None, progress: Progress | None
) -> Stored:
    incoming = site.media_dir / f".incoming-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with translated(incoming), incoming.open("xb") as file:
            digest, size = _copied(stream, file, name, total, progress)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        path = path_of(site, digest)
        with translated(path):
            path.parent.mkdir(mode=0o755, exist_ok=True)
            incoming.replace(path)
            sync_directory(path.parent)
    finally:
        incoming.unlink(missing_ok=True)
    return Stored(digest, size, name)


def _copied(
    stream: BinaryIO | fetching.Body, file: BinaryIO, name: str, total: int | None, progress: Progress | None
) -> tuple[str, int]:
    """SHA-256 and bytes of all that the stream gave. Raises MediaMissing if some did not arrive."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
        if progress is not None:
            progress(size, total)
    if total is not None and size != total:
        raise MediaMissing(f"{name}: {size} of {total} bytes arrived", hint="try again")
    return digest.hexdigest(), size


@contextmanager
def _opened(source: str, where: str, most: int | None) -> Iterator[tuple[BinaryIO | fetching.Body, int | None]]:
    if "://" not in source:
        with _open_file(Path(source), where) as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    with fetching.opened(source, where, most) as found:
        yield found


def _open_file(path: Path, where: str) -> BinaryIO:
    try:
        # O_NONBLOCK: opening a FIFO must not hang; O_NOFOLLOW is not wanted, admins do link their kernels.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MediaMissing(f"{path}: {error.strerror}", where=where, hint="check the path") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise MediaMissing(f"{path} is not a regular file", where=where, hint="check the path")
    return os.fdopen(handle, "rb")


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and part != ".treeinfo"


def open_beneath(root: Path, path: str) -> int | None:
    """A descriptor of the regular file ``path`` below ``root``, or None.

    No ``..``, no dotfile but ``.treeinfo`` (Anaconda asks every tree for it first), and no link may lead out: the
    opened descriptor itself is asked where it is, so nothing can be swapped between the check and the use. The caller
    closes it. Raises OSError when this process has no descriptor left.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or "\0" in path or "\\" in path or any(map(_is_hidden, parts)):
        return None
    try:
        base = os.path.realpath(root)
        handle = os.open(os.path.join(base, *parts), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # noqa: PTH118
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise  # that says nothing about the file: "not found" would end a boot that can be served in a moment
        return None
    except ValueError:
        return None
    real = Path(f"/proc/self/fd/{handle}").readlink()
    if not stat.S_ISREG(os.fstat(handle).st_mode) or not real.is_relative_to(base):
        os.close(handle)
        return None
    return handle
