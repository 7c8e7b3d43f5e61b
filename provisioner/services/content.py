"""Content travels as files: `apply` loads profiles and templates from a directory, `export` writes them back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core.content import ProfileContent, dump_profile, parse_profile
from provisioner.core.names import SNIPPETS, TEMPLATE_KINDS, template_name
from provisioner.core.parameters import ancestry
from provisioner.errors import MalformedContent, NotFound, ParentCycle
from provisioner.services import profiles, templates
from provisioner.services.files import replacing, translated
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Profile, Template
from provisioner.store.snapshots import snapshot

_TEMPLATE_FOLDER = "kickstarts"


@dataclass(frozen=True)
class Change:
    """One object that `apply` adds or edits."""

    kind: str
    name: str
    action: str


@dataclass(frozen=True)
class _Loaded:
    """A directory's content, read and checked before anything is changed."""

    profiles: Mapping[str, tuple[ProfileContent, str, str]]
    templates: Mapping[str, str]


def shipped() -> Path:
    """The content that comes with the package: beside it in a checkout, inside it in a wheel."""
    inside = Path(str(resources.files("provisioner"))) / "_content"
    return inside if inside.is_dir() else inside.parent.parent


def apply(site: Site, actor: Actor, directory: Path, *, dry_run: bool = False, only_new: bool = False) -> list[Change]:
    """Load ``directory/profiles/*.yaml`` and ``directory/kickstarts/KIND/*`` whole, or not at all.

    Returns what changed, or would (``dry_run``). What is equal already is left alone; nothing is removed.
    ``only_new`` leaves what an administrator changed since, as `init` must. Raises MalformedContent and the like with
    the file and line.
    """
    loaded = _read(directory)
    with read(site.engine) as session:
        planned = _plan(session, loaded, only_new=only_new)
    if dry_run or not planned:
        return planned
    with write(site.engine) as session:
        planned = _plan(session, loaded, only_new=only_new)
        names = {(change.kind, change.name) for change in planned}
        for name, text in loaded.templates.items():
            if ("template", name) in names:
                templates.put(session, actor, name, text)
        for name in _parents_first(session, loaded):
            content, text, where = loaded.profiles[name]
            if ("profile", name) in names:
                profiles.put(session, actor, content, text, where)
    return planned


def export(site: Site, directory: Path) -> list[Path]:
    """Write every profile and template below the directory, byte for byte as they were applied."""
    with read(site.engine) as session:
        files = {
            f"profiles/{each.name}.yaml": each.source if each.source is not None else dump_profile(snapshot(each))
            for each in session.scalars(select(Profile).order_by(Profile.name))
        }
        files |= {
            f"{_TEMPLATE_FOLDER}/{each.name}": each.text
            for each in session.scalars(select(Template).order_by(Template.name))
        }
    written = []
    for name, text in files.items():
        path = directory / name
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=0o644) as file:
            file.write(text.encode())
        written.append(path)
    return written


def _read(directory: Path) -> _Loaded:
    if not directory.is_dir():
        raise NotFound(f"{directory} is not a directory", hint="name the one that holds profiles/ and kickstarts/")
    found: dict[str, tuple[ProfileContent, str, str]] = {}
    for path in sorted((directory / "profiles").glob("*.y*ml")):
        where = str(path.relative_to(directory))
        text = _text(path, where)
        content = parse_profile(text, where)
        if content.name in found:
            raise MalformedContent(f"the profile {content.name} stands in {found[content.name][2]} too", where=where)
        found[content.name] = (content, text, where)
    texts = {}
    for kind in (*TEMPLATE_KINDS, SNIPPETS):
        for path in sorted((directory / _TEMPLATE_FOLDER / kind).glob("*")):
            if path.is_file() and not path.name.startswith("."):
                texts[template_name(f"{kind}/{path.name}")] = _text(path, f"{_TEMPLATE_FOLDER}/{kind}/{path.name}")
    if not found and not texts:
        raise NotFound(
            f"{directory} holds neither profiles/*.yaml nor {_TEMPLATE_FOLDER}/KIND/*",
            hint="`provisioner export DIR` writes a directory of that shape",
        )
    return _Loaded(found, texts)


def _text(path: Path, where: str) -> str:
    try:
        # Bytes, not text: a line ending that is turned into another would not be exported byte for byte.
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedContent(f"cannot be read as UTF-8 text: {error}", where=where, hint="mend the file") from error


def _plan(session: Session, loaded: _Loaded, *, only_new: bool) -> list[Change]:
    stored_templates = {each.name: each for each in session.scalars(select(Template))}
    stored_profiles = {each.name: each for each in session.scalars(select(Profile))}
    changes = []
    for name, text in loaded.templates.items():
        template = stored_templates.get(name)
        if template is None:
            changes.append(Change("template", name, "add"))
        elif template.text != text and not only_new:
            changes.append(Change("template", name, "edit"))
    for name, (_, text, _) in loaded.profiles.items():
        profile = stored_profiles.get(name)
        if profile is None:
            changes.append(Change("profile", name, "add"))
        elif profile.source != text and not only_new:
            changes.append(Change("profile", name, "edit"))
    return changes


def _parents_first(session: Session, loaded: _Loaded) -> Sequence[str]:
    """The directory's profiles in an order in which each parent comes before its children. Raises ParentCycle."""
    parents = {name: content.parent for name, (content, _, _) in loaded.profiles.items()}
    stored = {each.name: each.parent.name if each.parent else None for each in session.scalars(select(Profile))}
    ordered: list[str] = []
    for name in parents:
        try:
            line = ancestry(name, stored | parents)
        except ParentCycle as error:
            error.where = loaded.profiles[name][2]
            raise
        ordered += [each for each in line if each not in ordered and each in parents]
    return ordered
