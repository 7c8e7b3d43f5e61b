"""Autoinstalls: cloud-init's own check of what is its, and the structure that Subiquity documents for the rest."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from provisioner.render.validate import curtin, netplan, subiquity
from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell
from provisioner.render.validate.yamlmarks import Marked, Path, Unreadable, load

AT = subiquity.AT
_COMMANDS = ("early-commands", "late-commands", "error-commands")
_NOT_THERE = (
    "not validated by cloud-init: install its package on this server, after `touch /etc/cloud/cloud-init.disabled`, "
    "so that it does nothing else there"
)
# What follows the problems, by the version of cloud-init (22.4, 25.1).
_AFTERWARDS = re.compile("Cloud config schema deprecations:|Error: Invalid schema:")
_NETPLAN = re.compile(r"<<-?\s*(['\"]?)NETPLAN\1\s*$")


def check(text: str, version: str = "") -> Iterator[Finding]:
    """What is wrong with the user-data of an autoinstall for this version of Ubuntu."""
    if text.split("\n", 1)[0].strip() != "#cloud-config":
        yield finding(text, 1, "the first line must be #cloud-config, or cloud-init ignores the file")
    try:
        marked = load(text)
    except Unreadable as unreadable:
        yield unreadable.finding
        return
    yield from marked.duplicates()
    section = marked.value.get(AT) if isinstance(marked.value, dict) else None
    if not isinstance(section, dict):
        yield marked.error((), "the file needs a mapping with the key autoinstall")
        return
    yield from subiquity.check(marked, version)
    yield from _wholeness(marked, section)
    if isinstance(section.get("storage"), dict):
        yield from curtin.check(marked, (AT, "storage"))
    if isinstance(section.get("network"), dict):
        yield from netplan.check(marked, (AT, "network"))
    yield from _commands(marked, section)
    yield from _cloud_init(marked, section)


def _wholeness(marked: Marked, section: Mapping[str, Any]) -> Iterator[Finding]:
    if "identity" not in section and "user-data" not in section:
        yield marked.error((AT,), "autoinstall needs identity or user-data, or the installer asks for a user")
    if "storage" not in section:
        yield marked.warning((AT,), "autoinstall.storage is missing: the installer takes the largest disk")
    if section.get("interactive-sections"):
        yield marked.warning((AT, "interactive-sections"), "somebody must answer at the console")


def _commands(marked: Marked, section: Mapping[str, Any]) -> Iterator[Finding]:
    for key in _COMMANDS:
        commands = section.get(key)
        for place, command in enumerate(commands[:MAX_SCRIPTS] if isinstance(commands, list) else []):
            if isinstance(command, str):
                yield from _script(marked, (AT, key, place), key, command)
            elif isinstance(command, list) and [*map(type, command)] == [str] * 3 and _is_shell(command):
                yield from _script(marked, (AT, key, place, 2), key, command[2])


def _is_shell(command: list[str]) -> bool:
    return command[1] == "-c" and command[0].rsplit("/", 1)[-1] in {"sh", "bash", "dash"}


def _script(marked: Marked, path: Path, key: str, command: str) -> Iterator[Finding]:
    block = path in marked.blocks
    line = marked.line(path)
    for each in shell(command, line if block else 0, marked.text):
        # Lines of scripts that are not literal blocks have nothing to do with those of the file.
        yield finding(marked.text, each.line if block else line, f"{key}: {each.message}", each.level)
    if block:
        yield from _written_netplan(marked, line, command)


def _written_netplan(marked: Marked, before: int, command: str) -> Iterator[Finding]:
    """A here-document that ends in NETPLAN is netplan."""
    lines = command.splitlines()
    for place, line in enumerate(lines):
        if not _NETPLAN.search(line) or "NETPLAN" not in lines[place + 1 :]:
            continue
        body = lines[place + 1 : lines.index("NETPLAN", place + 1)]
        try:
            inside = load(marked.text, inside="\n".join(body) + "\n", first=before + place + 2)
        except Unreadable as unreadable:
            yield unreadable.finding
            continue
        yield from inside.duplicates()
        yield from netplan.check(inside, ())


def _cloud_init(marked: Marked, section: Mapping[str, Any]) -> Iterator[Finding]:
    """The keys beside ``autoinstall`` are for the live system, those of ``user-data`` for the new one.

    Subiquity holds ``user-data`` against the schema of its own cloud-init, and stops when it does not fit.
    """
    inner = section.get("user-data")
    outer = {key: value for key, value in marked.value.items() if key != AT}
    told = {**outer, **(inner if isinstance(inner, dict) else {})}
    try:
        document = "#cloud-config\n" + yaml.safe_dump(told, allow_unicode=True)
    except (yaml.YAMLError, RecursionError):
        yield marked.error((AT, "user-data"), "holds what cannot be written as YAML")
        return
    ran = run(["cloud-init", "schema", "--config-file"], document, ".yaml")
    if ran is None:
        yield Finding("warning", 0, "", _NOT_THERE)
    elif ran[0] != 0:
        yield from _schema_errors(marked, told, inner, ran[1])


def _schema_errors(marked: Marked, told: Mapping[str, Any], inner: Any, output: str) -> Iterator[Finding]:
    said = " ".join(output.split())
    _, found, problems = said.partition("schema errors:")
    problems = _AFTERWARDS.split(problems)[0]
    keys = "|".join(re.escape(str(key)) for key in told) or "$^"
    parts = re.split(rf"(?:^|, )(?=(?:{keys})[.\w]*: )", problems.strip()) if found else []
    seen = set()
    for part in parts:
        path, _, message = part.strip().partition(": ")
        if not path or part.strip() in seen:
            continue
        seen.add(part.strip())
        steps = tuple(int(step) if step.isdigit() else step for step in path.split("."))
        at: Path = (AT, "user-data") if isinstance(inner, dict) and steps[0] in inner else ()
        yield marked.error((*at, *steps), f"cloud-init: {message}")
    if not seen:
        yield marked.error((AT, "user-data"), f"cloud-init: {said[:500]}")
