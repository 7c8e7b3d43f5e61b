"""Ignition configs: the structure of specification 3.0 to 3.5, as far as a machine that cannot ask would stop at it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, shell

VERSIONS = tuple(f"3.{minor}.0" for minor in range(6))
_SECTIONS = frozenset({"ignition", "passwd", "storage", "systemd", "kernelArguments"})
_STORAGE = frozenset({"disks", "raid", "filesystems", "files", "directories", "links", "luks"})
_KEYS: Mapping[str, frozenset[str]] = {
    "storage.files": frozenset({"path", "overwrite", "contents", "append", "mode", "user", "group"}),
    "storage.directories": frozenset({"path", "overwrite", "mode", "user", "group"}),
    "storage.links": frozenset({"path", "overwrite", "user", "group", "target", "hard"}),
    "storage.filesystems": frozenset(
        {"device", "format", "path", "wipeFilesystem", "label", "uuid", "options", "mountOptions"}
    ),
    "storage.disks": frozenset({"device", "wipeTable", "partitions"}),
    "storage.raid": frozenset({"name", "level", "devices", "spares", "options"}),
    "storage.luks": frozenset(
        {"name", "device", "keyFile", "label", "uuid", "options", "wipeVolume", "clevis", "discard", "openOptions"}
    ),
    "systemd.units": frozenset({"name", "enabled", "mask", "contents", "dropins"}),
    "passwd.users": frozenset(
        {
            "name", "passwordHash", "sshAuthorizedKeys", "uid", "gecos", "homeDir", "noCreateHome", "primaryGroup",
            "groups", "noUserGroup", "noLogInit", "shell", "shouldExist", "system",
        }
    ),
}  # fmt: skip
_TYPES: Mapping[str, type] = {
    "path": str, "target": str, "name": str, "device": str, "contents.source": str, "enabled": bool, "mask": bool,
    "overwrite": bool, "hard": bool, "mode": int, "sshAuthorizedKeys": list, "groups": list, "passwordHash": str,
    "wipeTable": bool, "partitions": list, "format": str, "level": str, "devices": list, "spares": int, "clevis": dict,
    "wipeFilesystem": bool, "wipeVolume": bool,
}  # fmt: skip
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SCHEMES = ("data:", "http://", "https://", "tftp://", "s3://", "gs://")
_DEEPEST = 3
"""Configs within configs: a live system installs another with a config of its own."""


def check(text: str, depth: int = 0) -> Iterator[Finding]:
    """What is wrong with an Ignition config, and with the configs and scripts in its files."""
    doubled: list[str] = []
    try:
        document = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, doubled), parse_constant=_constant)
    except RecursionError:
        yield Finding("error", 0, "", "JSON: nested too deeply")
        return
    except json.JSONDecodeError as error:
        yield finding(text, error.lineno, f"JSON: {error.msg}")
        return
    except ValueError as error:
        yield Finding("error", 0, "", f"JSON: {error}")
        return
    for key in doubled:
        yield _at(text, f'"{key}"', f"the key {key} stands twice in one object")
    if not isinstance(document, dict):
        yield finding(text, 1, "an Ignition config is a JSON object")
        return
    yield from _document(text, document, depth)


def _once(pairs: list[tuple[str, Any]], doubled: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            doubled.append(key)
        found[key] = value
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _document(text: str, document: Mapping[str, Any], depth: int) -> Iterator[Finding]:
    section = document.get("ignition")
    version = section.get("version") if isinstance(section, dict) else None
    if version not in VERSIONS:
        said = f"ignition.version is {VERSIONS[0]} to {VERSIONS[-1]}, not {str(version)[:40]!r}"
        yield _at(text, '"version"' if version else '"ignition"', said)
    for key in sorted(set(document) - _SECTIONS):
        yield _at(text, f'"{key}"', f"Ignition has no section {key[:60]!r}: {', '.join(sorted(_SECTIONS))}")
    for key in sorted(set(document) & _SECTIONS):
        if not isinstance(document[key], dict):
            yield _at(text, f'"{key}"', f"{key} is an object")
            return
    storage = document.get("storage", {})
    for key in sorted(set(storage) - _STORAGE):
        yield _at(text, f'"{key}"', f"storage has no {key[:60]!r}: {', '.join(sorted(_STORAGE))}")
    yield from _lists(text, document)
    yield from _paths(text, storage)
    yield from _units(text, document.get("systemd", {}))
    yield from _users(text, document.get("passwd", {}))
    for file in _objects(storage, "files"):
        yield from _file(text, file, depth)


def _objects(section: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = section.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _lists(text: str, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Every list of objects has objects, with the keys and types that the specification knows."""
    for place, known in _KEYS.items():
        section, key = place.split(".")
        value = document.get(section, {}).get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            yield _at(text, f'"{key}"', f"{place} is a list of objects")
            continue
        for each in value:
            where = json.dumps(each.get("path") or each.get("name") or each.get("device") or key)
            for odd in sorted(set(each) - known):
                yield _at(text, where, f"{place} has no key {odd[:60]!r}: {', '.join(sorted(known))}")
            for name, kind in _TYPES.items():
                given = each.get(name)
                if given is not None and (not isinstance(given, kind) or (kind is int and isinstance(given, bool))):
                    yield _at(text, where, f"{place}: {name} has the wrong type")


def _paths(text: str, storage: Mapping[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for key in ("files", "directories", "links"):
        for each in _objects(storage, key):
            yield from (_at(text, json.dumps(each.get("path")), said) for said in _path(key, each, seen))
    for key, needed in (("filesystems", "device"), ("disks", "device"), ("luks", "device"), ("raid", "devices")):
        for each in _objects(storage, key):
            if not each.get(needed):
                yield _at(text, f'"{key}"', f"storage.{key}: each needs its {needed}")


def _path(key: str, each: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    path, mode = each.get("path"), each.get("mode")
    if not isinstance(path, str) or not path.startswith("/") or "/../" in f"{path}/":
        yield f"storage.{key}: {str(path)[:80]!r} is not an absolute path"
        return
    if path in seen:
        yield f"{path} is written twice"
    seen.add(path)
    if type(mode) is int and not 0 <= mode <= 0o7777:
        yield f"{path}: mode {mode} is no file mode (decimal: 420 is 0644)"
    if key == "links" and not each.get("target"):
        yield f"{path}: a link needs a target"


def _units(text: str, systemd: Mapping[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for each in _objects(systemd, "units"):
        name = each.get("name")
        where = json.dumps(name)
        if not isinstance(name, str) or not _UNIT.fullmatch(name):
            yield _at(text, where, f"{str(name)[:80]!r} is no name of a systemd unit")
            continue
        if name in seen:
            yield _at(text, where, f"the unit {name} stands twice")
        seen.add(name)
        contents = each.get("contents")
        if contents is not None and not isinstance(contents, str):
            yield _at(text, where, f"{name}: contents is a text")
        elif contents:
            yield from (_at(text, where, f"{name}: {said}") for said in _unit_file(contents, each.get("enabled")))


def _unit_file(contents: str, enabled: Any) -> Iterator[str]:
    sections = []
    for number, line in enumerate(contents.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("["):
            sections.append(stripped)
        elif not sections or "=" not in stripped:
            yield f"line {number} is neither a section nor an assignment: {stripped[:80]!r}"
    if enabled is True and "[Install]" not in sections:
        yield "enabled, but without a section [Install] it is never started"


def _users(text: str, passwd: Mapping[str, Any]) -> Iterator[Finding]:
    seen: set[str] = set()
    for each in _objects(passwd, "users"):
        name = each.get("name")
        if not isinstance(name, str) or not _USER.fullmatch(name):
            yield _at(text, json.dumps(name), f"{str(name)[:80]!r} is no name of a user")
            continue
        if name in seen:
            yield _at(text, json.dumps(name), f"the user {name} stands twice")
        seen.add(name)
        keys = each.get("sshAuthorizedKeys")
        keys = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
        if len(keys) != len(set(keys)):
            yield _at(text, json.dumps(name), f"{name}: an SSH key stands twice")


def _file(text: str, file: Mapping[str, Any], depth: int) -> Iterator[Finding]:
    contents, path = file.get("contents"), str(file.get("path"))
    where = json.dumps(file.get("path"))
    source = contents.get("source") if isinstance(contents, dict) else None
    if contents is None:
        return
    if not isinstance(source, str) or not source.startswith(_SCHEMES):
        yield _at(text, where, f"{path}: contents.source is a URL: {', '.join(_SCHEMES)}")
        return
    if not source.startswith("data:"):
        return
    head, comma, body = source.partition(",")
    if not comma or re.search(r"%(?![0-9A-Fa-f]{2})", body) or not body.isascii():
        yield _at(text, where, f"{path}: contents.source is no data: URL (RFC 2397)")
        return
    if head.endswith(";base64"):
        return
    inner = unquote_to_bytes(body).decode(errors="replace")
    line = _line(text, where)
    if path.endswith(".ign"):
        if depth >= _DEEPEST:
            yield _at(text, where, f"{path}: configs are nested too deeply")
            return
        found = check(inner, depth + 1)
    elif re.match(r"#!\s*/\S*/(env\s+)?(ba|da)?sh\b", inner) and depth < MAX_SCRIPTS:
        found = shell(inner, 0)
    else:
        return
    for each in found:
        inside = f" line {each.line}" if each.line else ""
        yield Finding(each.level, line, each.text, f"in {path}{inside}: {each.message}")


def _line(text: str, needle: str) -> int:
    """The first line that holds the text; 0 for none."""
    return next((number for number, line in enumerate(text.splitlines(), 1) if needle in line), 0)


def _at(text: str, needle: str, message: str) -> Finding:
    line = _line(text, needle)
    return Finding("error", line, "", message) if not line else finding(text[:200_000], line, message)
