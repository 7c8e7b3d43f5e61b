"""Install trees that were imported: each in a directory of the media store that is called by the SHA-256 of what it
came from, so that the distro's record says which medium it is, and the same medium lies there once.

A tree is made in a hidden directory, synced and renamed: until then nobody sees it. Whoever makes one holds a lock on
its directory; what is not locked was left by a process that was killed, and goes with the next import or `check`.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.errors import StorageFull
from provisioner.services import treeneeds
from provisioner.services.files import sync_directory, translated
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Distro

_INCOMING = ".incoming-"
_REMOVED = ".removed"
_SPARE_BYTES = 64 << 20


def directory(site: Site) -> Path:
    """Where imported trees are."""
    return site.media_dir / "trees"


def path_of(site: Site, sha256: str) -> Path:
    """Where the tree is that came from this."""
    return directory(site) / sha256


def is_there(site: Site, tree: Path) -> bool:
    """Whether the directory is there, or would be after what is rehearsed."""
    return tree.is_dir() or any(tree == path_of(site, each) for each in site.pretended)


@dataclass(frozen=True)
class Staging:
    """A tree in the making, seen by nobody."""

    path: Path
    handle: int
    """Its descriptor, locked; other processes may have it too."""


@contextmanager
def staging(site: Site) -> Iterator[Staging]:
    """An empty hidden directory; what is still there at the end is removed."""
    root = directory(site)
    with translated(root):
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        with locked(site):
            clean(site)
            path = root / f"{_INCOMING}{os.urandom(8).hex()}"
            path.mkdir(mode=0o700)
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield Staging(path, handle)
    finally:
        os.close(handle)
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """No other process adds or removes trees meanwhile."""
    handle = os.open(directory(site) / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def clean(site: Site) -> list[str]:
    """Remove what killed imports left; the names. The caller holds the lock.

    That is hidden directories that nobody holds, and trees that no distro has, no removed one had and no build that has
    not ended was sealed with.
    """
    gone = []
    for path in sorted(directory(site).glob(f"{_INCOMING}*")):
        if _is_free(path):
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path.name)
    _unlink_others(site)
    named = _named(site) | {each.resolve() for each in (directory(site) / _REMOVED).glob("*")}
    for path in sorted(directory(site).glob("[0-9a-f]*")):
        if path.resolve() not in named:
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path.name)
    return gone


def leftovers(site: Site) -> list[str]:
    """What `clean` removes, removed."""
    if not directory(site).is_dir():
        return []
    with locked(site):
        return clean(site)


def _is_free(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def _unlink_others(site: Site) -> None:
    """A directory of somebody else is not published any longer than builds need it."""
    with read(site.engine) as session:
        needed = {each.distro for each in treeneeds.needs(session, site)}
    for link in (directory(site) / _REMOVED).glob("[!.]*"):
        if link.name not in needed and not is_imported(site, link.readlink()):
            link.unlink(missing_ok=True)


def _named(site: Site) -> set[Path]:
    """The directories that distros have, and those that builds which have not ended were sealed with."""
    with read(site.engine) as session:
        trees = [*session.scalars(select(Distro.tree)), *(each.tree for each in treeneeds.needs(session, site))]
    return {Path(tree).resolve() for tree in trees if tree.startswith("/")}


def settle(site: Site, staged: Staging, sha256: str) -> Path:
    """Give the finished tree its place; one that is there already is the same and stays. The caller holds the lock."""
    path = path_of(site, sha256)
    with translated(path):
        _own(staged.path)
        os.sync()
        if not path.exists():
            staged.path.rename(path)
            sync_directory(path.parent)
    return path


def _own(root: Path) -> None:
    """All of it is ours, readable by all and writable by nobody else; links are left as they are."""
    user, group = os.geteuid(), os.getegid()
    for _, directories, files, handle in os.fwalk(root):
        os.fchown(handle, user, group)
        os.fchmod(handle, 0o755)
        for name in (*files, *directories):
            os.chown(name, user, group, dir_fd=handle, follow_symlinks=False)


def is_imported(site: Site, tree: Path | str) -> bool:
    """Whether the tree is one of the media store, and no directory of somebody else."""
    return str(tree).startswith(f"{directory(site)}/")


def keep_for_builds(session: Session, site: Site, name: str, tree: str) -> None:
    """The distro's name leads to its tree also when nobody registers it any more: builds sealed with it go on.

    So it is with every imported tree, and with a directory of somebody else while such a build has not ended.
    """
    needed = any((need.distro, need.tree) == (name, tree) for need in treeneeds.needs(session, site))
    if not tree.startswith("/") or not (needed or is_imported(site, tree)):
        return
    with translated(directory(site)):
        directory(site).mkdir(mode=0o755, parents=True, exist_ok=True)
    link = directory(site) / _REMOVED / name
    fresh = link.with_name(f".{name}-{os.urandom(4).hex()}")
    with translated(link):
        link.parent.mkdir(mode=0o755, exist_ok=True)
        fresh.symlink_to(tree)
        fresh.replace(link)


def kept(site: Site, name: str) -> Path | None:
    """The tree that is kept for builds under the name of a removed distro, if it is still there."""
    link = directory(site) / _REMOVED / name
    return link.resolve() if link.is_symlink() and link.is_dir() else None


def is_served(session: Session, site: Site, name: str, tree: str) -> bool:
    """Whether media serves this directory under the distro's name."""
    found = session.scalar(select(Distro.tree).where(Distro.name == name))
    path = kept(site, name) if found is None else Path(found)
    return path is not None and path.is_dir() and path.resolve() == Path(tree).resolve()


def all_kept(site: Site) -> list[tuple[str, Path]]:
    """Imported trees of removed distros that no registered one has and no build that has not ended needs, with the
    names under which they are served.
    """
    named = _named(site)
    links = [each for each in (directory(site) / _REMOVED).glob("[!.]*") if is_imported(site, each.readlink())]
    links.sort()
    return [(link.name, link.resolve()) for link in links if link.is_dir() and link.resolve() not in named]


def require_space(site: Site, needed: int) -> None:
    """Raise StorageFull unless so many bytes, and some to spare, are free where media are."""
    status = os.statvfs(directory(site))
    free = status.f_bavail * status.f_frsize
    if needed + _SPARE_BYTES > free:
        raise StorageFull(
            f"the import needs {(needed + _SPARE_BYTES) >> 20} MiB, and {free >> 20} MiB are free"
            f" for {directory(site)}",
            hint="free some space, or put the state directory's `media` on a larger disk; then try again",
        )
