"""A directory of this host as a medium: looked through and copied with the same care as an image."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.core import treepaths
from provisioner.core.mediatree import LONGEST_TEXT, WANTED
from provisioner.errors import InvalidInput, Unavailable
from provisioner.services.files import translated
from provisioner.services.unpacking import Progress, Written

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Local:
    """What is in a directory of this host: sizes by path, texts that tell what it is, links, and what is neither."""

    files: Mapping[str, int]
    texts: Mapping[str, str]
    links: Mapping[str, str]
    directories: Sequence[str]
    special: Sequence[str]


def scan(root: Path, most: int) -> Local:
    """Look through a directory, following no link. Raises InvalidInput for what no honest tree has."""
    files: dict[str, int] = {}
    links: dict[str, str] = {}
    directories: list[str] = []
    special: list[str] = []
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for item in _scanned(root / above):
            path = treepaths.path(f"{above}/{treepaths.name(item.name)}".lstrip("/"))
            if item.is_symlink():
                links[path] = os.readlink(item.path)  # noqa: PTH115 - the entry's path is text
            elif item.is_dir(follow_symlinks=False):
                directories.append(path)
                waiting.append(path)
            elif item.is_file(follow_symlinks=False):
                files[path] = item.stat(follow_symlinks=False).st_size
            else:
                special.append(path)
            if len(files) + len(links) + len(directories) + len(special) > most:
                raise InvalidInput(f"{root} has more than {most} files", hint="name the directory of the medium itself")
    return Local(files, _texts(root, files), links, directories, special)


def _scanned(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as items:
            return sorted(items, key=lambda item: item.name)
    except OSError as error:
        hint = "check the path and who may read it"
        raise InvalidInput(f"{path}: {error.strerror}", hint=hint) from error


def _texts(root: Path, files: Mapping[str, int]) -> dict[str, str]:
    found = {}
    for path in WANTED:
        if files.get(path, LONGEST_TEXT + 1) <= LONGEST_TEXT:
            with open_source(root, path) as file:
                found[path] = os.read(file, LONGEST_TEXT).decode(errors="replace")
    return found


@contextmanager
def open_source(root: Path, path: str) -> Iterator[int]:
    """A descriptor of the file below the root. Raises Unavailable, also for one that became a link meanwhile."""
    try:
        handle = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "somebody made it a link meanwhile" if error.errno == errno.ELOOP else error.strerror
        raise Unavailable(f"{root / path}: {reason}", hint="let nobody change the directory, then try again") from error
    try:
        yield handle
    finally:
        os.close(handle)


def copy(
    root: Path,
    local: Local,
    paths: Sequence[str] | None,
    to: Path,
    progress: Progress | None,
    *,
    keep: Sequence[str] | None = None,
) -> tuple[str, Written]:
    """Copy these files, or all, into an empty directory; the SHA-256 of all names and contents, and what was written.

    A copy and no link to it: somebody may change the directory tomorrow, and builds must not notice. With ``keep``, for
    a rehearsal, the rest is only read: what is told is the same.
    """
    chosen = list(local.files) if paths is None else [path for path in local.files if path in set(paths)]
    links = {path: target for path, target in local.links.items() if treepaths.stays_inside(path, target)}
    left_out = sorted([*local.special, *(local.links.keys() - links.keys())])
    whole, done, total = hashlib.sha256(), 0, sum(local.files[path] for path in chosen)
    with translated(to):
        for path in local.directories if paths is None and keep is None else ():
            (to / path).mkdir(mode=0o755)
        for path in sorted(chosen):
            kept = to / path if keep is None or path in keep else Path(os.devnull)
            kept.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            sha256, size = _copy_file(root, path, kept)
            whole.update(f"{sha256} {size} {path}\n".encode())
            done += size
            if progress is not None:
                progress(f"copying {root.name}", min(done, total), total)
        for path, target in sorted(links.items()) if paths is None else ():
            whole.update(f"-> {target} {path}\n".encode(errors="surrogateescape"))
            if keep is None:
                (to / path).symlink_to(target)
    if progress is not None:
        progress(f"copying {root.name}", total, total)
    return whole.hexdigest(), Written(len(chosen), done, left_out if paths is None else ())


def _copy_file(root: Path, path: str, to: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    nowhere = to == Path(os.devnull)
    with open_source(root, path) as source, to.open("wb" if nowhere else "xb") as copied:
        while chunk := os.read(source, _CHUNK):
            copied.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        if not nowhere:
            os.fchmod(copied.fileno(), 0o644)
    return digest.hexdigest(), size
