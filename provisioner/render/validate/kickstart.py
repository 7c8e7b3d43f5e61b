"""Kickstarts, by pykickstart's ``ksvalidator``. It is GPL-2, so it runs as a program."""

import re
from collections.abc import Iterator
from pathlib import Path

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell


def check(text: str, os: str, version: str) -> Iterator[Finding]:
    """What is wrong with a kickstart for this os and version."""
    yield from _kickstart(text, syntax(os, version))
    yield from _scripts(text)


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
    problems = re.split(r"The following problem occurred on line (\d+) of the kickstart file:", output)
    if len(problems) < 3:
        yield Finding("error", 0, "", "ksvalidator: " + " ".join(output.split())[:500])
    for line, problem in zip(problems[1::2], problems[2::2], strict=True):
        yield finding(text, int(line), " ".join(problem.split())[:500])


def _scripts(text: str) -> Iterator[Finding]:
    """``bash -n`` on every script section that a shell runs; Anaconda's /bin/sh is bash."""
    start, body, by_shell, checked = 0, list[str](), False, 0
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"%(pre|post|pre-install|onerror|traceback)\b", line):
            interpreter = re.search(r"--interpreter[= ]\s*[\"']?(\S+?)[\"']?(\s|$)", line)
            by_shell = interpreter is None or Path(interpreter[1]).name in {"sh", "bash", "dash", "ksh"}
            start, body = number, []
        elif line.startswith("%end") and start:
            if by_shell and checked < MAX_SCRIPTS:
                checked += 1
                yield from shell("\n".join(body) + "\n", start, text)
            start = 0
        elif start:
            body.append(line)
