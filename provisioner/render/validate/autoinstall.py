"""Autoinstalls: the structure that Subiquity reads."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, shell


def check(text: str) -> Iterator[Finding]:
    """What is wrong with the user-data of an autoinstall."""
    if text.split("\n", 1)[0].strip() != "#cloud-config":
        yield finding(text, 1, "the first line must be #cloud-config, or cloud-init ignores the file")
    try:
        document = yaml.safe_load(text)
    except RecursionError:
        yield Finding("error", 0, "", "YAML: nested too deeply")
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield finding(text, mark.line + 1 if mark else 0, f"YAML: {getattr(error, 'problem', None) or error}")
        return
    section = document.get("autoinstall") if isinstance(document, dict) else None
    if not isinstance(section, dict):
        yield Finding("error", 0, "", "the file needs a mapping with the key autoinstall")
        return
    yield from _autoinstall_section(section)


def _autoinstall_section(section: Mapping[str, Any]) -> Iterator[Finding]:
    if section.get("version") != 1:
        yield Finding("error", 0, "", "autoinstall.version must be 1")
    if "identity" not in section and "user-data" not in section:
        yield Finding("error", 0, "", "autoinstall needs identity or user-data, or the installer asks for a user")
    if "storage" not in section:
        yield Finding("warning", 0, "", "autoinstall.storage is missing: the installer takes the largest disk")
    for key, expected in _AUTOINSTALL_TYPES.items():
        if key in section and not isinstance(section[key], expected):
            yield Finding("error", 0, "", f"autoinstall.{key} has the wrong type")
    if section.get("interactive-sections"):
        yield Finding("warning", 0, "", "autoinstall.interactive-sections: somebody must answer at the console")
    for key in ("early-commands", "late-commands", "error-commands"):
        for command in (section.get(key) or [])[:MAX_SCRIPTS]:
            if isinstance(command, str):
                yield from (Finding(f.level, 0, f.text, f"{key}: {f.message}") for f in shell(command, 0))


_AUTOINSTALL_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "network": dict,
    "storage": dict,
    "identity": dict,
    "user-data": dict,
    "ssh": dict,
    "keyboard": dict,
    "apt": dict,
    "packages": list,
    "early-commands": list,
    "late-commands": list,
    "error-commands": list,
    "locale": str,
}
