"""A directory of a site's content, such as a git checkout, as files that were read and checked one by one."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.content import ProfileContent, load_yaml, parse_profile, place
from provisioner.core.names import SNIPPETS, TEMPLATE_KINDS, template_name
from provisioner.errors import MalformedContent, MalformedName, NotFound, ProvisionerError

PROFILES, TEMPLATES = "profiles", "kickstarts"
_LARGEST = 1 << 20
_MOST_FILES = 10_000
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class ProfileFile:
    """One profile of the directory; ``path`` is relative to it."""

    content: ProfileContent
    text: str
    path: str

    def place(self, key: str) -> str:
        """``PATH:LINE`` of a top-level key."""
        return place(self.path, self.text, key)


@dataclass(frozen=True)
class Loaded:
    """A directory's content: profiles and the texts of templates, by name."""

    profiles: Mapping[str, ProfileFile]
    templates: Mapping[str, str]


def load(directory: Path) -> Loaded:
    """Everything below ``profiles`` (files of YAML, in folders as you like) and ``kickstarts/KIND``.

    Hidden files and READMEs are left alone; any other file that is neither is an error, since one that is silently left
    out is missed on a machine's console. Raises MalformedContent or MalformedName with the path and line; NotFound when
    the directory holds nothing of ours.
    """
    root = _root(directory)
    found: dict[str, ProfileFile] = {}
    for path in _files(root, PROFILES):
        if not path.endswith(_YAML):
            raise MalformedContent(
                "not a profile", where=path, hint="profiles end in .yaml; move other files elsewhere"
            )
        text = _text(root, path)
        content = parse_profile(text, path)
        if content.name in found:
            raise MalformedContent(
                f"the profile {content.name} stands in {found[content.name].path} too",
                where=place(path, text, "name"),
                hint="give one of them another name",
            )
        found[content.name] = ProfileFile(content, text, path)
    texts = {_template(path): _text(root, path) for path in _files(root, TEMPLATES)}
    if not found and not texts:
        raise NotFound(
            f"{directory} holds neither {PROFILES}/*.yaml nor {TEMPLATES}/KIND/*",
            hint="`provisioner export DIR` writes a directory of that shape",
        )
    return Loaded(found, texts)


def profile_paths(directory: Path) -> dict[str, str]:
    """Where the directory's profiles stand, by name, so that each is written back to its own file."""
    if not directory.is_dir():
        return {}
    root = _root(directory)
    paths: dict[str, str] = {}
    for path in _files(root, PROFILES):
        if path.endswith(_YAML):
            data = load_yaml(_text(root, path), path)
            name = data.get("name") if isinstance(data, dict) else None
            if isinstance(name, str):
                paths.setdefault(name, path)
    return paths


def inside(directory: Path, path: str) -> Path:
    """The path below the directory. Raises MalformedContent when a symbolic link leads out of it."""
    root = _root(directory)
    full = root / path
    if not full.resolve().is_relative_to(root):
        raise MalformedContent("leads out of the directory", where=path, hint="replace the symbolic link by the file")
    return full


def _root(directory: Path) -> Path:
    if not directory.is_dir():
        raise NotFound(f"{directory} is not a directory", hint=f"name the one that holds {PROFILES}/ and {TEMPLATES}/")
    return directory.resolve()


def _files(root: Path, folder: str) -> list[str]:
    """The relative paths of the folder's files, hidden ones and READMEs left out, in order."""
    found = sorted(_walk(root, folder)) if (root / folder).exists() or (root / folder).is_symlink() else []
    if len(found) > _MOST_FILES:
        raise MalformedContent(
            f"holds more than {_MOST_FILES} files", where=folder, hint="is this the right directory?"
        )
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    if not inside(root, folder).is_dir():
        raise MalformedContent("not a directory", where=folder, hint=f"it holds the {folder}")

    def unreadable(error: OSError) -> None:
        raise MalformedContent(f"cannot be read: {error.strerror}", where=folder, hint="check its owner and mode")

    for parent, folders, names in os.walk(root / folder, onerror=unreadable, followlinks=False):
        here = Path(parent).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (root / here / name).is_symlink():
                raise MalformedContent(
                    "a symbolic link to a directory", where=str(here / name), hint="put the directory itself there"
                )
        yield from (str(here / name) for name in names if not name.startswith((".", "README")))


def _template(path: str) -> str:
    """The template's name, from its path. Raises MalformedName."""
    parts = path.split("/")
    kinds = (*TEMPLATE_KINDS, SNIPPETS)
    if len(parts) != 3 or parts[1] not in kinds:
        raise MalformedName(
            "not the place of a template", where=_shown(path), hint=f"{TEMPLATES}/KIND/NAME; kinds: {', '.join(kinds)}"
        )
    try:
        return template_name(f"{parts[1]}/{parts[2]}")
    except MalformedName as error:
        error.where = _shown(path)
        error.hint = "a file name here has a-z, 0-9, dot, hyphen and underscore; at most 64 characters"
        raise


def _shown(path: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in path)


def _text(root: Path, path: str) -> str:
    """The file's text, its line endings as they are. What was checked is what is read: by the same descriptor."""
    full = inside(root, path).resolve()
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its other end. O_NOFOLLOW: the name is resolved already.
        handle = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise MalformedContent("not a regular file", where=_shown(path), hint="put a file of text there")
            data = file.read(_LARGEST + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error, path) from error
    if len(data) > _LARGEST:
        raise MalformedContent("larger than 1 MiB", where=_shown(path), hint="is this the right file?")
    if "\0" in text:
        raise MalformedContent("holds a NUL character", where=_shown(path), hint="is this the right file?")
    return text


def _unreadable(error: OSError | UnicodeDecodeError, path: str) -> ProvisionerError:
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return MalformedContent("not UTF-8 text", where=f"{_shown(path)}:{line}", hint="save the file as UTF-8")
    if error.errno == errno.ENOENT:
        return MalformedContent("a link to nothing, or gone meanwhile", where=_shown(path), hint="mend the link")
    return MalformedContent(f"cannot be read: {error.strerror}", where=_shown(path), hint="check its owner and mode")
