"""Distros and images: what a profile's selector finds, and the media they bring along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.choices import ARCHES, IMAGE_FORMATS, IMAGE_KINDS
from provisioner.core.firmware import family_of
from provisioner.core.names import few, object_name
from provisioner.core.versions import newest
from provisioner.errors import BuildNotPossible, InvalidInput, StillInUse
from provisioner.services import media, objects, treeneeds, trees
from provisioner.services.site import Actor, Site
from provisioner.store.engine import is_dry_run, read, write
from provisioner.store.models import Distro, Image, Profile
from provisioner.store.snapshots import snapshot

Installable = TypeVar("Installable", Distro, Image)
FILE_ROLES = ("iso", "rootfs")
"""The further files of a distro that people may give; each is copied into the media store."""


@dataclass(frozen=True)
class DistroInput:
    """A distro to add: kernel and initrd are files or URLs, the tree is a URL or a directory of this host.

    ``iso`` and ``rootfs`` are files or URLs too, for installers that load a whole system over the network: Ubuntu's
    ISO, Fedora CoreOS's root file system.
    """

    os: str
    version: str
    kernel: str
    initrd: str
    tree: str = ""
    arch: str = "x86_64"
    iso: str = ""
    rootfs: str = ""


@dataclass(frozen=True)
class ImageInput:
    """An image to add; ``root`` is where its root file system is: ``LABEL=...`` or a partition's number."""

    file: str
    os: str
    version: str
    kind: str = "stem-cell"
    format: str = "raw.gz"
    root: str = ""
    arch: str = "x86_64"


def add_distro(
    site: Site, actor: Actor, name: str, given: DistroInput, progress: media.Progress | None = None
) -> dict[str, Any]:
    """Fetch kernel and initrd into the media store and register the distro."""
    _check(name, given.os, given.arch)
    with read(site.engine) as session:
        objects.refuse_taken(session, Distro, name)
    tree = _tree(given.tree)
    kernel = media.ingest(site, given.kernel, "kernel", progress)
    initrd = media.ingest(site, given.initrd, "initrd", progress)
    files = _further(site, {role: getattr(given, role) for role in FILE_ROLES}, progress)
    with write(site.engine) as session:
        objects.refuse_taken(session, Distro, name)
        treeneeds.refuse_other_tree(session, site, name, tree)
        distro = Distro(name=name, os=given.os, os_version=given.version, arch=given.arch, tree=tree)
        distro.kernel_sha256, distro.kernel_name = kernel.sha256, kernel.name
        distro.initrd_sha256, distro.initrd_name = initrd.sha256, initrd.name
        distro.files = files or None
        return objects.save(session, actor, distro, None)


def _further(site: Site, sources: Mapping[str, str], progress: media.Progress | None) -> dict[str, dict[str, Any]]:
    stored = {role: media.ingest(site, source, role, progress) for role, source in sources.items() if source}
    return {role: {"sha256": file.sha256, "name": file.name, "size": file.size} for role, file in stored.items()}


def edit_distro(
    site: Site,
    actor: Actor,
    name: str,
    change: Mapping[str, str],
    progress: media.Progress | None = None,
    *,
    expect: str | None = None,
) -> dict[str, Any]:
    """Change os, version, kernel, initrd, tree, iso or rootfs; an empty tree, iso or rootfs takes it away.

    Sealed builds keep the files they were sealed with. Raises StillInUse for another tree while a build that has not
    ended installs from one on this host.
    """
    stored = {key: media.ingest(site, change[key], key, progress) for key in ("kernel", "initrd") if change.get(key)}
    further = {role: change[role] for role in FILE_ROLES if role in change}
    files = _further(site, further, progress)
    with write(site.engine) as session:
        distro = objects.get(session, Distro, name)
        objects.expect(distro, expect)
        before = snapshot(distro)
        distro.os = change.get("os") or distro.os
        family_of(distro.os)
        distro.os_version = change.get("version") or distro.os_version
        if "tree" in change:
            distro.tree = _tree(change["tree"])
            treeneeds.refuse_other_tree(session, site, name, distro.tree)
        for key, file in stored.items():
            setattr(distro, f"{key}_sha256", file.sha256)
            setattr(distro, f"{key}_name", file.name)
        if further:
            kept = {role: file for role, file in (distro.files or {}).items() if role not in further}
            distro.files = (kept | files) or None
        return objects.save(session, actor, distro, before)


def add_image(
    site: Site, actor: Actor, name: str, given: ImageInput, progress: media.Progress | None = None
) -> dict[str, Any]:
    """Copy the image into the media store and register it."""
    _check(name, given.os, given.arch)
    _choice(given.kind, IMAGE_KINDS, "kind")
    _choice(given.format, IMAGE_FORMATS, "format")
    with read(site.engine) as session:
        objects.refuse_taken(session, Image, name)
    file = media.ingest(site, given.file, "file", progress)
    with write(site.engine) as session:
        objects.refuse_taken(session, Image, name)
        image = Image(
            name=name,
            kind=given.kind,
            os=given.os,
            os_version=given.version,
            arch=given.arch,
            format=given.format,
            root=given.root,
            sha256=file.sha256,
            file_name=file.name,
            size=file.size,
        )
        return objects.save(session, actor, image, None)


def edit_image(
    site: Site,
    actor: Actor,
    name: str,
    change: Mapping[str, str],
    progress: media.Progress | None = None,
    *,
    expect: str | None = None,
) -> dict[str, Any]:
    """Change file, version, kind, format or root; sealed builds keep the file they were sealed with."""
    file = media.ingest(site, change["file"], "file", progress) if change.get("file") else None
    with write(site.engine) as session:
        image = objects.get(session, Image, name)
        objects.expect(image, expect)
        before = snapshot(image)
        image.os_version = change.get("version") or image.os_version
        image.kind = _choice(change.get("kind") or image.kind, IMAGE_KINDS, "kind")
        image.format = _choice(change.get("format") or image.format, IMAGE_FORMATS, "format")
        image.root = change.get("root", image.root)
        if file is not None:
            image.sha256, image.file_name, image.size = file.sha256, file.name, file.size
        return objects.save(session, actor, image, before)


def rename(
    site: Site, actor: Actor, model: type[Installable], name: str, new_name: str, *, expect: str | None = None
) -> dict[str, Any]:
    """Give a distro or image another name, unless a profile names it."""
    with write(site.engine) as session:
        thing = objects.get(session, model, name)
        objects.expect(thing, expect)
        _refuse_used(session, model, name)
        before = snapshot(thing)
        objects.refuse_taken(session, model, object_name(new_name))
        if isinstance(thing, Distro):
            treeneeds.refuse_other_tree(session, site, new_name, thing.tree)
        _keep_tree(session, site, thing)
        thing.name = new_name
        return objects.save(session, actor, thing, before)


def remove(site: Site, actor: Actor, model: type[Installable], name: str, *, expect: str | None = None) -> None:
    """Remove a distro or image that no profile names; its files stay, for the builds sealed with them."""
    with write(site.engine) as session:
        thing = objects.get(session, model, name)
        objects.expect(thing, expect)
        _refuse_used(session, model, name)
        _keep_tree(session, site, thing)
        objects.remove(session, actor, thing)


def _keep_tree(session: Session, site: Site, thing: Installable) -> None:
    if isinstance(thing, Distro) and not is_dry_run(site.engine):
        trees.keep_for_builds(session, site, thing.name, thing.tree)


def show(site: Site, model: type[Installable], name: str) -> dict[str, Any]:
    """One distro or image."""
    with read(site.engine) as session:
        return objects.view(objects.get(session, model, name))


def listing(site: Site, model: type[Installable]) -> list[dict[str, Any]]:
    """All distros or images."""
    with read(site.engine) as session:
        return [objects.view(thing) for thing in objects.listing(session, model)]


def select_newest(session: Session, model: type[Installable], selector: Mapping[str, str], where: str) -> Installable:
    """What a profile's selector means: the one it names, or the newest registered that fits.

    Raises UnknownReference or BuildNotPossible that says what to add.
    """
    if "name" in selector:
        return objects.refer(session, model, selector["name"], where)
    things = {thing.name: thing for thing in session.scalars(select(model))}
    shown = [snapshot(thing) for thing in things.values()]
    return things[newest_fit(objects.KIND[model], shown, selector, where)["name"]]


def newest_fit(
    kind: str, shown: Sequence[Mapping[str, Any]], selector: Mapping[str, str], where: str
) -> Mapping[str, Any]:
    """The newest of these distros or images, as snapshots, that fits the selector. Raises BuildNotPossible."""
    fits = [each for each in shown if _fits(each, selector)]
    if not fits:
        wanted = " ".join(f"{key} {value}" for key, value in selector.items())
        how = "`provisioner distro import ISO`, or " if kind == objects.KIND[Distro] else ""
        raise BuildNotPossible(
            f"no {kind} fits {wanted}", where=where, hint=f"register one: {how}`provisioner {kind} add --help`"
        )
    return newest(fits, lambda each: each["version"])


def _fits(shown: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    version = selector.get("version")
    return (
        selector.get("os") in {None, shown["os"]}
        and selector.get("arch") in {None, shown["arch"]}
        and selector.get("kind") in {None, shown.get("kind")}
        and (version is None or shown["version"] == version or shown["version"].startswith(f"{version}."))
    )


def _check(name: str, os: str, arch: str) -> None:
    object_name(name)
    family_of(os)
    _choice(arch, ARCHES, "arch")


def _choice(value: str, choices: tuple[str, ...], where: str) -> str:
    if value not in choices:
        raise InvalidInput(f"{value!r} is not a {where}", where=where, hint=f"choose one of {', '.join(choices)}")
    return value


def _tree(tree: str) -> str:
    if not tree or tree.startswith(("http://", "https://")):
        return tree.rstrip("/")
    path = Path(tree).resolve()
    if not path.is_dir():
        raise InvalidInput(f"{tree} is neither a URL nor a directory", where="tree", hint="check the path")
    return str(path)


def _refuse_used(session: Session, model: type[Installable], name: str) -> None:
    column = Profile.distro if model is Distro else Profile.image
    rows = session.execute(select(Profile.name, column).where(column.is_not(None))).all()
    users = [profile for profile, selector in rows if (selector or {}).get("name") == name]
    if users:
        raise StillInUse(f"{objects.KIND[model]} {name} is named by profile {few(users)}")
