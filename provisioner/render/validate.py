"""Rendered answer files, held against the grammar of the installer that will read them.

A syntax error is the admin's, at once, with its line; never the installer's in the middle of the night. pykickstart is
GPL-2, so its ``ksvalidator`` runs as a program.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from provisioner.errors import AnswerInvalid
from provisioner.render.debconftrap import trapped

TIMEOUT_SECONDS = 30
MAX_SCRIPTS = 50
"""Scripts checked in one file: each costs a process."""


@dataclass(frozen=True)
class Finding:
    """One remark about a rendered file; ``line`` counts from 1, 0 is the whole file; ``text`` is that line."""

    level: Literal["error", "warning"]
    line: int
    text: str
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.message}" + (f": {self.text.strip()[:200]!r}" if self.text else "")


def validate(kind: str, text: str, *, os: str, version: str, template: str) -> list[Finding]:
    """The warnings about an answer file of this kind; AnswerInvalid if there is any error.

    ``kind`` is the template's (``kickstart``, ``preseed``, ``autoinstall``, ``script``, ...); kinds without a
    validator give no findings. ``template`` names the file in messages.
    """
    match kind:
        case "kickstart":
            findings = [*_kickstart(text, kickstart_version(os, version)), *_kickstart_scripts(text)]
        case "preseed":
            findings = [*_preseed(text), *_debconf(text), *_preseed_scripts(text), *_preseed_commands(text)]
        case "autoinstall":
            findings = list(_autoinstall(text))
        case "script":
            findings = list(_shell(text, 0))
        case _:
            findings = []
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise AnswerInvalid(f"the rendered file is wrong: {_summary(errors)}", where=template)
    return findings


def kickstart_version(os: str, version: str) -> str | None:
    """The syntax version pykickstart knows for this os, such as RHEL9 or F41; None if it has none."""
    major = re.match(r"\d+", version)
    if major is None:
        return None
    if os in {"rocky", "rhel", "alma", "centos", "oracle"}:
        return f"RHEL{major[0]}"
    return f"F{major[0]}" if os == "fedora" else None


def _summary(errors: list[Finding]) -> str:
    lines = [str(error) for error in errors[:5]]
    if len(errors) > 5:
        lines.append(f"and {len(errors) - 5} more")
    return "; ".join(lines)


def _finding(text: str, line: int, message: str, level: Literal["error", "warning"] = "error") -> Finding:
    lines = text.splitlines()
    return Finding(level, line, lines[line - 1] if 0 < line <= len(lines) else "", message)


def _run(argv: list[str], text: str, suffix: str) -> tuple[int, str] | None:
    """Exit status and output of a checker given the text as a file; None if the program is missing or hangs."""
    program = _program(argv[0])
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="provisioner-validate-") as place:
        path = Path(place, f"answer{suffix}")
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(
                [program, *argv[1:], str(path)],
                cwd=place,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": place},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 124, f"{argv[0]} did not end within {TIMEOUT_SECONDS} s"
        said = done.stdout.decode(errors="replace").replace(f"Checking kickstart file {path}\n", "")
        return done.returncode, said.replace(str(path), "answer")


def _program(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _kickstart(text: str, syntax: str | None) -> Iterator[Finding]:
    if syntax is None:
        yield Finding("warning", 0, "", "not validated: no kickstart syntax is known for this os and version")
        return
    ran = _run(["ksvalidator", "-v", syntax], text, ".ks")
    if ran is None:
        yield Finding("warning", 0, "", "not validated: install the extra `validate` (pykickstart)")
    elif "is not supported by pykickstart" in ran[1]:
        yield Finding("warning", 0, "", f"not validated: ksvalidator knows no version {syntax}")
    elif ran[0] != 0:
        yield from _ksvalidator_findings(text, ran[1])


def _ksvalidator_findings(text: str, output: str) -> Iterator[Finding]:
    problems = re.split(r"The following problem occurred on line (\d+) of the kickstart file:", output)
    if len(problems) < 3:
        yield Finding("error", 0, "", "ksvalidator: " + " ".join(output.split())[:500])
    for line, problem in zip(problems[1::2], problems[2::2], strict=True):
        yield _finding(text, int(line), " ".join(problem.split())[:500])


def _kickstart_scripts(text: str) -> Iterator[Finding]:
    """``bash -n`` on every script section that a shell runs; Anaconda's /bin/sh is bash."""
    start, body, shell, checked = 0, list[str](), False, 0
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"%(pre|post|pre-install|onerror|traceback)\b", line):
            interpreter = re.search(r"--interpreter[= ]\s*[\"']?(\S+?)[\"']?(\s|$)", line)
            shell = interpreter is None or Path(interpreter[1]).name in {"sh", "bash", "dash", "ksh"}
            start, body = number, []
        elif line.startswith("%end") and start:
            if shell and checked < MAX_SCRIPTS:
                checked += 1
                yield from _shell("\n".join(body) + "\n", start, text)
            start = 0
        elif start:
            body.append(line)


def _shell(script: str, before: int, whole: str = "") -> Iterator[Finding]:
    """Syntax errors of a shell script that stands ``before`` lines down in the whole file."""
    ran = _run(["bash", "-n"], script, ".sh")
    if ran is None:
        yield Finding("warning", before, "", "not validated: there is no bash here")
        return
    if ran[0] == 0:
        return
    found = re.search(r"line (\d+): (.*)", ran[1])
    line = before + int(found[1]) if found else before
    yield _finding(whole or script, line, f"shell: {found[2] if found else ran[1][:300]}")


_TYPES = frozenset({"string", "boolean", "select", "multiselect", "note", "text", "password", "title", "error", "seen"})
# Without these the installer asks at once, whatever the priority.
_MANDATORY = ("debian-installer/locale", "keyboard-configuration/xkb-keymap")
# And without these later, unless an early_command writes the whole disk.
_EXPECTED = ("partman-auto/method", "partman/confirm", "partman/confirm_nooverwrite", "passwd/make-user")
PRESEED_SCRIPT = re.compile(r"#(\w+)\| ?(.*)")
"""Scripts travel in comments of the preseed, one line each: ``#early| command``; early_command takes them out."""
_INSIDE = frozenset({"target"})  # the part that late.sh runs inside the new system, in an environment of its own
_TRAPPED = "a package that asks debconf would wait for ever here: use in-target, or env -i ... </dev/null 3>&-"


def _preseed(text: str) -> Iterator[Finding]:
    seen: dict[tuple[str, str], int] = {}
    for number, line in _preseed_lines(text):
        parts = line.split(None, 3)
        if len(parts) < 3 or parts[2] not in _TYPES:
            yield _finding(text, number, "not a preseed line: owner, question, type, value")
            continue
        owner, question, kind = parts[:3]
        value = parts[3] if len(parts) > 3 else ""
        if kind == "seen":
            continue
        if (owner, question) in seen:
            yield _finding(text, number, f"{question} is already answered on line {seen[owner, question]}")
        seen[owner, question] = number
        if kind == "boolean" and value.strip() not in {"true", "false"}:
            yield _finding(text, number, f"{question} is true or false")
    questions = {question for _, question in seen}
    for question in _MANDATORY:
        if question not in questions:
            yield Finding("error", 0, "", f"{question} is not answered: the installer would ask")
    for question in _EXPECTED:
        if question not in questions:
            yield Finding("warning", 0, "", f"{question} is not answered: the installer may ask")


def _preseed_lines(text: str) -> Iterator[tuple[int, str]]:
    """Line number and content of each answer, continued lines joined as the installer joins them."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        start = start or number
        pending = f"{pending} {line.strip()}".strip()
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip()
            continue
        yield start, pending
        pending, start = "", 0
    if pending:
        yield start, pending


def _debconf(text: str) -> Iterator[Finding]:
    ran = _run(["debconf-set-selections", "--checkonly"], text, ".cfg")
    if ran is None:
        return  # Debian's own program; elsewhere our checks must do
    if ran[0] != 0:
        found = re.search(r"on line (\d+)", ran[1])
        yield _finding(text, int(found[1]) if found else 0, "debconf: " + " ".join(ran[1].split())[:300])


def _preseed_scripts(text: str) -> Iterator[Finding]:
    scripts: dict[str, list[str]] = {}
    lines = text.splitlines()
    for line in lines:
        found = PRESEED_SCRIPT.fullmatch(line)
        if found:
            scripts.setdefault(found[1], []).append(found[2])
    for name, body in list(scripts.items())[:MAX_SCRIPTS]:
        before = next(number for number, line in enumerate(lines) if line.startswith(f"#{name}|"))
        script = "\n".join(body) + "\n"
        yield from _shell(script, before, text)
        if name not in _INSIDE:
            yield from (_finding(text, before + number, _TRAPPED) for number, _ in trapped(script))


def _preseed_commands(text: str) -> Iterator[Finding]:
    """Commands that are the value of a question, on one line."""
    for number, line in _preseed_lines(text):
        parts = line.split(None, 3)
        if len(parts) == 4 and parts[1].endswith("_command") and any(trapped(parts[3])):
            yield _finding(text, number, _TRAPPED)


def _autoinstall(text: str) -> Iterator[Finding]:
    if text.split("\n", 1)[0].strip() != "#cloud-config":
        yield _finding(text, 1, "the first line must be #cloud-config, or cloud-init ignores the file")
    try:
        document = yaml.safe_load(text)
    except RecursionError:
        yield Finding("error", 0, "", "YAML: nested too deeply")
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        yield _finding(text, mark.line + 1 if mark else 0, f"YAML: {getattr(error, 'problem', None) or error}")
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
                yield from (Finding(f.level, 0, f.text, f"{key}: {f.message}") for f in _shell(command, 0))


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
