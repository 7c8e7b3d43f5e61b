"""Kickstarts, by pykickstart's ``ksvalidator``. It is GPL-2, so it runs as a program.

What a ``%pre`` writes into files that are included on the machine no validator can see.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell

_SCRIPT = re.compile(r"\s*%(pre|post|pre-install|onerror|traceback)(\s|$)")
_SHELLS = frozenset({"sh", "bash", "dash", "ksh"})  # Anaconda's /bin/sh is bash
_PYTHON = re.compile(r"(platform-)?python(3(\.\d+)?)?")
# A VLAN has the device of the bond below it, which pykickstart takes for the same one a second time.
_WARNED = re.compile(r"deprecated|has already been defined")
_COMPILE = """
import sys
try:
    compile(open(sys.argv[1], encoding="utf-8").read(), "answer", "exec", dont_inherit=True)
except (SyntaxError, ValueError) as error:
    sys.exit(f"line {getattr(error, 'lineno', 0) or 0}: {getattr(error, 'msg', error)}")
"""


@dataclass(frozen=True)
class _Script:
    """A script section: the line of its header, its interpreter, its lines."""

    line: int
    section: str
    interpreter: str
    body: str


def check(text: str, os: str, version: str) -> Iterator[Finding]:
    """What is wrong with a kickstart for this os and version."""
    yield from _kickstart(text, syntax(os, version))
    yield from _checked_scripts(text)


def syntax(os: str, version: str) -> str | None:
    """The syntax version pykickstart knows for this os, such as RHEL9 or F41; None if it has none."""
    major = re.match(r"\d+", version)
    if major is None:
        return None
    if os in {"rocky", "rhel", "alma", "centos", "oracle"}:
        return f"RHEL{major[0]}"
    return f"F{major[0]}" if os == "fedora" else None


def _kickstart(text: str, version: str | None) -> Iterator[Finding]:
    if version is None:
        yield Finding("warning", 0, "", "not validated: no kickstart syntax is known for this os and version")
        return
    ran = run(["ksvalidator", "-v", version], text, ".ks")
    if ran is None:
        yield Finding("warning", 0, "", "not validated: install the extra `validate` (pykickstart)")
    elif "is not supported by pykickstart" in ran[1]:
        yield Finding("warning", 0, "", f"not validated: ksvalidator knows no version {version}")
    elif ran[0] != 0:
        yield from _ksvalidator_findings(text, ran[1])


def _ksvalidator_findings(text: str, output: str) -> Iterator[Finding]:
    """ksvalidator's exit status counts its warnings too, with which the installer reads the file all the same."""
    warned = [line for line in output.splitlines() if _WARNED.search(line)]
    for line in warned:
        place = re.search(r"on line (\d+)", line)
        said = re.sub(r"Ignoring deprecated \w+ on line \d+:\s*", "", line).strip()[:500]
        yield finding(text, int(place[1]) if place else 0, said, "warning")
    rest = "\n".join(line for line in output.splitlines() if line not in warned)
    problems = re.split(r"The following problem occurred on line (\d+) of the kickstart file:", rest)
    if problems[0].strip() or not (warned or problems[1:]):
        yield Finding("error", 0, "", "ksvalidator: " + " ".join(problems[0].split())[:500])
    for line, problem in zip(problems[1::2], problems[2::2], strict=True):
        yield finding(text, int(line), " ".join(problem.split())[:500])


def _checked_scripts(text: str) -> Iterator[Finding]:
    """Syntax errors of each script section, by the interpreter that its header names."""
    for count, script in enumerate(_scripts(text), 1):
        name = Path(script.interpreter).name
        if count > MAX_SCRIPTS:
            message = f"not checked: only the first {MAX_SCRIPTS} scripts are"
            yield finding(text, script.line, message, "warning")
            return
        if name in _SHELLS:
            yield from shell(script.body, script.line, text)
        elif _PYTHON.fullmatch(name):
            yield from _python(script, text)
        else:
            yield finding(text, script.line, f"the {script.section} script is not checked: it is {name}'s", "warning")


def _scripts(text: str) -> Iterator[_Script]:
    start, header, body = 0, "", list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not start and _SCRIPT.match(line):
            start, header, body = number, line, []
        elif start and line.split()[:1] == ["%end"]:
            yield _Script(start, header.split()[0], _interpreter(header), "\n".join(body) + "\n")
            start = 0
        elif start:
            body.append(line)


def _interpreter(header: str) -> str:
    """What a section's header says; ksvalidator tells of a header that no shell could split."""
    try:
        words = shlex.split(header, comments=True)
    except ValueError:
        return "/bin/sh"
    for place, word in enumerate(words):
        if word == "--interpreter":
            return words[place + 1] if place + 1 < len(words) else "/bin/sh"
        if word.startswith("--interpreter="):
            return word.partition("=")[2]
    return "/bin/sh"


def _python(script: _Script, text: str) -> Iterator[Finding]:
    ran = run(["python3", "-I", "-c", _COMPILE], script.body, ".py")
    if ran is None:
        yield finding(text, script.line, "not validated: there is no python3 here", "warning")
    elif ran[0] != 0:
        found = re.search(r"line (\d+): (.*)", ran[1])
        line = script.line + int(found[1]) if found else script.line
        yield finding(text, line, f"python: {found[2] if found else ran[1].strip()[:300]}")
