"""Content travels as files: `apply` loads profiles and templates from a directory, `export` writes them back."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.parameters import ancestry
from provisioner.errors import InputsChanged, MalformedContent
from provisioner.services import checkout, contentchanges, objects, profiles, templates, validating
from provisioner.services.checkout import PROFILES, TEMPLATES, Loaded
from provisioner.services.contentchanges import Change
from provisioner.services.files import replacing, translated
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Profile, Template

Counting = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What `apply` would do with a directory, and what stands against it."""

    changes: Sequence[Change]
    problems: Sequence[validating.Problem]
    """What validation found, errors first; their ``where`` are files of the directory where they can be."""
    kept: Sequence[str]
    """Shipped content that was changed here and is not in the directory: `--prune` leaves it."""
    loaded: Loaded
    prune: bool
    stamp: tuple[Any, ...]
    """See `validating.stamp`: what it was planned for."""


@dataclass(frozen=True)
class Exported:
    """The files of a directory that `export` filled."""

    written: Sequence[Path]
    same: Sequence[Path]
    """Those that had these bytes already."""
    drafts: Sequence[str]
    """Templates of which no text was ever good: there is nothing in force to write."""


def shipped() -> Path:
    """The content that comes with the package: beside it in a checkout, inside it in a wheel."""
    inside = Path(str(resources.files("provisioner"))) / "_content"
    return inside if inside.is_dir() else inside.parent.parent


def plan(site: Site, directory: Path, *, prune: bool = False, progress: Counting | None = None) -> Plan:
    """What must change so that the profiles and templates are those of the directory; nothing is changed.

    Without ``prune`` nothing is removed. With it all goes that is not in the directory, but for shipped content: that
    would come back with the next `init`. Everything is validated as if it were in force already; ``progress`` hears
    of that. Raises MalformedContent and the like with file and line, and StillInUse with all that is.
    """
    loaded = checkout.load(directory)
    with read(site.engine) as session:
        contentchanges.check(session, loaded)
        ours = _ours(prune)
        changes = contentchanges.changes(session, loaded, ours)
        contentchanges.refuse_used(session, loaded, [change for change in changes if change.action == "remove"])
        kept = contentchanges.kept(session, loaded, ours) if ours is not None else ()
        stamp = validating.stamp(session)
    texts = {each.name: each.after for each in changes if each.kind == "template" and each.action != "remove"}
    edited = [each.name for each in changes if each.kind == "profile" and each.action != "remove"]
    contents = {name: loaded.profiles[name].content for name in edited}
    found = validating.problems(site, texts, contents, progress=progress) if texts or contents else []
    problems = [replace(each, where=_file_of(loaded, each)) for each in found]
    return Plan(changes, problems, kept, loaded, prune, stamp)


def refuse(planned: Plan) -> None:
    """Raise the first error that validation found, told where it stands in the directory, and how many there are."""
    validating.refuse(planned.problems)


def carry_out(site: Site, actor: Actor, planned: Plan) -> None:
    """Do what was planned, whole or not at all.

    Raises AnswerInvalid for the plan's first error, and InputsChanged when somebody changed content since.
    """
    refuse(planned)
    rehearse(site, actor, planned)


def rehearse(site: Site, actor: Actor, planned: Plan) -> None:
    """The same without a look at what validation found: for a `Site.rehearsing`, which takes it back at its end."""
    if planned.changes:
        _write(site, actor, planned.loaded, prune=planned.prune, stamp=planned.stamp)


def apply(
    site: Site,
    actor: Actor,
    directory: Path,
    *,
    dry_run: bool = False,
    upgrade: bool = False,
    prune: bool = False,
) -> Sequence[Change]:
    """Plan and carry out at once. Returns what changed, or would (``dry_run``).

    ``upgrade`` adds what is not there, leaves what an administrator changed since it was shipped, and validates
    nothing: as `init` must with shipped content.
    """
    if upgrade:
        loaded = checkout.load(directory)
        with read(site.engine) as session:
            changes = contentchanges.changes(session, loaded, upgrade=True)
        if changes and not dry_run:
            _write(site, actor, loaded, upgrade=True)
        return changes
    planned = plan(site, directory, prune=prune)
    if not dry_run:
        carry_out(site, actor, planned)
    return planned.changes


def _write(
    site: Site,
    actor: Actor,
    loaded: Loaded,
    *,
    upgrade: bool = False,
    prune: bool = False,
    stamp: tuple[Any, ...] | None = None,
) -> None:
    with write(site.engine) as session:
        changes = contentchanges.changes(session, loaded, _ours(prune), upgrade=upgrade)
        if stamp is not None and validating.stamp(session) != stamp:
            raise InputsChanged(
                "templates, profiles or distros changed since this was planned", hint="repeat it: it plans again"
            )
        wanted = {(change.kind, change.name) for change in changes if change.action != "remove"}
        for name, text in loaded.templates.items():
            if ("template", name) in wanted:
                templates.put(session, actor, name, text)
        for name in contentchanges.parents_first(session, loaded):
            file = loaded.profiles[name]
            if ("profile", name) in wanted:
                profiles.put(session, actor, file.content, file.text, file.path)
        _remove(session, actor, loaded, [change for change in changes if change.action == "remove"])


def _remove(session: Session, actor: Actor, loaded: Loaded, removed: Sequence[Change]) -> None:
    contentchanges.refuse_used(session, loaded, removed)
    parents = {each.name: each.parent.name if each.parent else None for each in session.scalars(select(Profile))}
    names = [each.name for each in removed if each.kind == "profile"]
    for name in sorted(names, key=lambda name: len(ancestry(name, parents)), reverse=True):
        objects.remove(session, actor, objects.get(session, Profile, name))
    for change in removed:
        if change.kind == "template":
            objects.remove(session, actor, objects.get(session, Template, change.name))


def _ours(prune: bool) -> Loaded | None:
    """The shipped content, which `--prune` leaves alone."""
    return checkout.load(shipped()) if prune else None


def _file_of(loaded: Loaded, problem: validating.Problem) -> str:
    """The file of the directory that a problem's place (``KIND/NAME:LINE``, ``profile NAME``) means."""
    kind, _, name = problem.where.partition(" ")
    if kind == "profile" and name in loaded.profiles:
        file = loaded.profiles[name]
        said = re.match(r"parameters\.([a-z0-9_]+)", problem.message)
        return file.place("parameters" if said and said[1] in file.content.parameters else "name")
    return f"{TEMPLATES}/{problem.where}" if problem.where.partition(":")[0] in loaded.templates else problem.where


def export(site: Site, directory: Path) -> Exported:
    """Write every profile and template below the directory, byte for byte as they were applied.

    A profile that the directory holds already is written to its own file there, whatever that is called; other files
    stay as they are. Raises MalformedContent where a symbolic link leads out of the directory.
    """
    with read(site.engine) as session:
        sources = {
            each.name: contentchanges.source_of(each)
            for each in session.scalars(select(Profile).order_by(Profile.name))
        }
        rows = list(session.scalars(select(Template).order_by(Template.name)))
        texts = {each.name: each.text for each in rows if each.text or each.draft is None}
        drafts = [each.name for each in rows if each.name not in texts]
    with translated(directory):
        directory.mkdir(parents=True, exist_ok=True)
    there = checkout.profile_paths(directory)
    files = {_own_path(there, name): text for name, text in sources.items()}
    files |= {f"{TEMPLATES}/{name}": text for name, text in texts.items()}
    written: list[Path] = []
    same: list[Path] = []
    for name, text in files.items():
        path = checkout.inside(directory, name)
        (written if _put(path, text.encode()) else same).append(path)
    return Exported(written, same, drafts)


def _own_path(there: Mapping[str, str], name: str) -> str:
    path = there.get(name, f"{PROFILES}/{name}.yaml")
    other = next((each for each, taken in there.items() if taken == path and each != name), None)
    if other is not None:
        raise MalformedContent(
            f"it holds the profile {other}, and {name} would be written over it", where=path, hint="rename this file"
        )
    return path


def _put(path: Path, data: bytes) -> bool:
    """Whether the file had to be written."""
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == data:
            return False
    with replacing(path.resolve(), mode=0o644) as file:
        file.write(data)
    return True
