"""`distro import`: from an ISO image or a directory to a registered distro, whole or not at all."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provisioner.core.mediatree import Answers, Medium, identify, is_elsewhere
from provisioner.core.names import object_name
from provisioner.errors import BuildNotPossible, InvalidInput, MediaMissing, NameTaken, StillInUse
from provisioner.services import installables, localtrees, media, objects, remotetree, treeneeds, trees
from provisioner.services.files import Held
from provisioner.services.site import Actor, Site
from provisioner.services.unpacking import MOST_ENTRIES, Progress, Written, unpacking
from provisioner.store.engine import is_dry_run, read, write
from provisioner.store.models import Distro, Profile

_LARGEST = 4 << 30
"""Bytes of a kernel or initrd that a URL may give."""


@dataclass(frozen=True)
class Imported:
    """What came of an import."""

    distro: Mapping[str, Any]
    medium: Medium
    sha256: str
    """Of the image; of a directory, of its names and contents."""
    written: Written
    profiles: tuple[str, ...]
    """Those that now would install this distro, or could."""


@dataclass(frozen=True)
class _Staged:
    """A medium whose files are in the staging directory."""

    medium: Medium
    sha256: str
    written: Written
    iso: Path | None


def import_medium(
    site: Site,
    actor: Actor,
    source: Path,
    *,
    name: str = "",
    answers: Answers | None = None,
    sha256: str = "",
    progress: Progress | None = None,
) -> Imported:
    """Find out what the medium is, take what of it installers need into the media store, register the distro.

    ``sha256`` is what the ISO must have; answers come before what the medium says. A kernel or initrd that is an
    absolute path of this host or a URL is taken from there. A site that rehearses reads and checks all of the medium
    and leaves nothing; what it answers is what would be. Raises InvalidInput, MediaMissing, NameTaken, StorageFull,
    ProgramMissing; nothing is left then.
    """
    answers = answers or Answers()
    wanted = _wanted_sha256(sha256)
    if name:
        _refuse_taken(site, name)
    with trees.staging(site) as staged:
        if source.is_dir():
            found = _from_directory(site, staged, source, name, answers, wanted, progress)
        else:
            found = _from_image(site, staged, source, name, answers, wanted, progress)
        return _register(site, actor, staged, source, name or found.medium.name, found, progress)


def add_from_url(
    site: Site, actor: Actor, name: str, url: str, answers: Answers, progress: Progress | None = None
) -> tuple[Mapping[str, Any], Medium]:
    """Register the tree at this URL, of which only kernel and initrd are fetched: the distro, and what was found.

    A site that rehearses fetches them too, and lets them go. Raises InvalidInput, MediaMissing, NameTaken.
    """
    _refuse_taken(site, name)
    tree, medium = remotetree.look(url, answers)
    pair = (("kernel", medium.kernel), ("initrd", medium.initrd))
    stored = {role: _ingested(site, None, role, path, medium, progress) for role, path in pair}
    with write(site.engine) as session:
        objects.refuse_taken(session, Distro, name)
        treeneeds.refuse_other_tree(session, site, name, tree)
        return objects.save(session, actor, _distro(name, medium, stored, tree), None), medium


def _wanted_sha256(text: str) -> str:
    if text and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        hint = "64 hexadecimal digits, as `sha256sum` prints them and the maker publishes them"
        raise InvalidInput(f"{text[:80]!r} is not a SHA-256", where="sha256", hint=hint)
    return text.lower()


def _refuse_taken(site: Site, name: str, tree: str | None = None) -> None:
    """Raise NameTaken, and StillInUse if the name may not come to mean this tree; None is not known yet."""
    object_name(name)
    with read(site.engine) as session:
        if objects.find(session, Distro, name) is not None:
            raise NameTaken(
                f"there is a distro {name!r} already",
                hint=f"see `provisioner distro show {name}`; to import another beside it give --name",
            )
        if tree is not None:
            treeneeds.refuse_other_tree(session, site, name, tree)


def _from_directory(
    site: Site,
    staged: trees.Staging,
    source: Path,
    name: str,
    answers: Answers,
    wanted: str,
    progress: Progress | None,
) -> _Staged:
    if wanted:
        hint = "leave --sha256 out, or import the ISO itself"
        raise InvalidInput(f"{source} is a directory: nobody publishes a SHA-256 of it", where="sha256", hint=hint)
    root = source.resolve()
    local = localtrees.scan(root, MOST_ENTRIES)
    medium = _identified(source, local.files, local.texts, "", answers)
    if medium.iso:
        hint = "import the ISO file instead, or add it: `provisioner distro add --help`"
        raise InvalidInput(f"the installer of {medium.name} fetches the ISO itself, and {source} is none", hint=hint)
    _refuse_taken(site, name or medium.name)
    paths = None if medium.tree else medium.needed
    trees.require_space(site, _needed(medium, local.files, sum(local.files.values()), 0))
    keep = medium.needed if is_dry_run(site.engine) else None
    digest, written = localtrees.copy(root, local, paths, staged.path, progress, keep=keep)
    return _Staged(medium, digest, written, None)


def _from_image(
    site: Site,
    staged: trees.Staging,
    source: Path,
    name: str,
    answers: Answers,
    wanted: str,
    progress: Progress | None,
) -> _Staged:
    with _opened(source) as image, unpacking(image, staged.handle, source.name, progress) as process:
        digest = process.hashed()
        if wanted and digest != wanted:
            raise InvalidInput(
                f"{source} has the SHA-256 {digest}, not {wanted}",
                where="sha256",
                hint="nothing was imported; get it again: it is damaged, or not what its maker published",
            )
        found = process.found()
        medium = _identified(source, found.files, found.texts, found.label, answers)
        _refuse_taken(site, name or medium.name, str(trees.path_of(site, digest)) if medium.tree else "")
        trees.require_space(site, _needed(medium, found.files, found.stored, found.size if medium.iso else 0))
        whole = medium.tree and not is_dry_run(site.engine)
        total = found.stored if whole else sum(found.files[path] for path in medium.needed)
        written = process.write(None if whole else medium.needed, total)
        if medium.tree and not whole:
            written = Written(len(found.files), found.stored)
    return _Staged(medium, digest, written, source if medium.iso else None)


@contextmanager
def _opened(source: Path) -> Iterator[int]:
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MediaMissing(
            f"{source}: {error.strerror}", hint="check the path; an ISO or a directory is wanted"
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            hint = "copy the medium to a file first, or give the directory where it is mounted"
            raise MediaMissing(f"{source} is neither a file nor a directory", hint=hint)
        yield handle
    finally:
        os.close(handle)


def _identified(
    source: Path, files: Mapping[str, int], texts: Mapping[str, str], label: str, answers: Answers
) -> Medium:
    try:
        return identify(files.keys(), texts, label, answers)
    except (InvalidInput, MediaMissing) as error:
        error.message = f"{source.name}: {error.message}"
        raise


def _needed(medium: Medium, files: Mapping[str, int], whole: int, iso: int) -> int:
    """Bytes: what is unpacked, and what of it the store then has under its own SHA-256."""
    part = sum(files[path] for path in medium.needed)
    return (whole if medium.tree else part) + part + iso


def _register(
    site: Site,
    actor: Actor,
    staged: trees.Staging,
    source: Path,
    name: str,
    found: _Staged,
    progress: Progress | None,
) -> Imported:
    medium = found.medium
    stored = {
        role: _ingested(site, staged.path, role, path, medium, progress)
        for role, path in (("kernel", medium.kernel), ("initrd", medium.initrd), *medium.files.items())
    }
    if found.iso is not None:
        stored["iso"] = media.ingest(site, str(found.iso), "iso", _counting(progress, f"keeping {found.iso.name}"))
        if stored["iso"].sha256 != found.sha256:
            hint = "let nobody write to it, then try again"
            raise InvalidInput(f"{source.name}: somebody changed the image while it was read", hint=hint)
    kind = "ISO" if source.is_file() else "directory"
    actor = replace(actor, reason=actor.reason or f"imported from {kind} {source.name[:80]}, SHA-256 {found.sha256}")
    with trees.locked(site):
        tree = str(_settled(site, staged, found.sha256)) if medium.tree else ""
        try:
            with write(site.engine) as session:
                objects.refuse_taken(session, Distro, name)
                treeneeds.refuse_other_tree(session, site, name, tree)
                view = objects.save(session, actor, _distro(name, medium, stored, tree), None)
        except (NameTaken, StillInUse):
            trees.clean(site)  # the tree has no distro
            raise
    return Imported(view, medium, found.sha256, found.written, _fitting(site, view))


def _settled(site: Site, staged: trees.Staging, sha256: str) -> Path:
    """Where the tree is, or would be after what is rehearsed."""
    if not is_dry_run(site.engine):
        return trees.settle(site, staged, sha256)
    site.pretended[sha256] = Held(os.dup(staged.handle))
    return trees.path_of(site, sha256)


def _ingested(
    site: Site, root: Path | None, role: str, path: str, medium: Medium, progress: Progress | None
) -> media.Stored:
    """The file, in the store; it must have the checksum that the medium states for it."""
    if root is None or is_elsewhere(path):
        stored = media.ingest(site, path, role, _counting(progress, f"fetching {role}"), most=_LARGEST)
    else:
        # The unpacking process is gone; what it wrote is still not to be trusted with leading us elsewhere.
        if (root / path).resolve() != root.resolve() / path:
            raise InvalidInput(f"{path} is a link", hint="say where the file itself is: --kernel PATH --initrd PATH")
        stored = media.ingest(site, str(root / path), role)
    stated = medium.checksums.get(path, stored.sha256)
    if stored.sha256 != stated:
        raise MediaMissing(
            f"{path} has the SHA-256 {stored.sha256}; {medium.found_by} says {stated}",
            hint="nothing was registered; get the medium again: it is damaged",
        )
    return stored


def _counting(progress: Progress | None, what: str) -> media.Progress | None:
    return None if progress is None else lambda done, total: progress(what, done, total or 0)


def _distro(name: str, medium: Medium, stored: Mapping[str, media.Stored], tree: str) -> Distro:
    distro = Distro(name=name, os=medium.os, os_version=medium.version, arch=medium.arch, tree=tree)
    distro.kernel_sha256, distro.kernel_name = stored["kernel"].sha256, stored["kernel"].name
    distro.initrd_sha256, distro.initrd_name = stored["initrd"].sha256, stored["initrd"].name
    roles = stored.keys() - {"kernel", "initrd"}
    distro.files = {
        role: {"sha256": stored[role].sha256, "name": stored[role].name, "size": stored[role].size}
        for role in sorted(roles)
    } or None
    return distro


def fitting(site: Site, name: str) -> tuple[str, ...]:
    """The profiles whose selector takes the distro of that name, with a template to install it by."""
    with read(site.engine) as session:
        shown = objects.view(objects.get(session, Distro, name))
    return _fitting(site, shown)


def _fitting(site: Site, distro: Mapping[str, Any]) -> tuple[str, ...]:
    with read(site.engine) as session:
        return tuple(each.name for each in objects.listing(session, Profile) if _takes(each, distro))


def _takes(profile: Profile, distro: Mapping[str, Any]) -> bool:
    chain: Profile | None = profile
    selector, template = None, None
    while chain is not None:
        selector, template = selector or chain.distro, template or chain.template
        if chain.image is not None and selector is None:
            return False
        chain = chain.parent
    if not selector or not template:
        return False
    if "name" in selector:
        return bool(selector["name"] == distro["name"])
    try:
        installables.newest_fit("distro", [distro], selector, "")
    except BuildNotPossible:
        return False
    return True
