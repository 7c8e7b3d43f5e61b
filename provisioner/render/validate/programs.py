"""Checkers that run as programs, and what they find."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TIMEOUT_SECONDS = 30
MAX_SCRIPTS = 50
"""Scripts checked in one file: each costs a process."""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
# Debconf takes its database's lock even to check a file, and fails without a word while apt or another check has it.
_DEBCONF = """\
Config: config
Templates: templates

Name: config
Driver: File
Filename: {place}/config.dat

Name: templates
Driver: File
Filename: {place}/templates.dat
"""


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


def finding(text: str, line: int, message: str, level: Literal["error", "warning"] = "error") -> Finding:
    lines = text.splitlines()
    return Finding(level, line, lines[line - 1] if 0 < line <= len(lines) else "", message)


def run(argv: list[str], text: str, suffix: str) -> tuple[int, str] | None:
    """Exit status and output of a checker given the text as a file; None if the program is missing or hangs."""
    program = _program(argv[0])
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="provisioner-validate-") as place:
        path = Path(place, f"answer{suffix}")
        path.write_text(text, encoding="utf-8")
        Path(place, "debconf.conf").write_text(_DEBCONF.format(place=place), encoding="utf-8")
        try:
            done = subprocess.run(
                [program, *argv[1:], str(path)],
                cwd=place,
                # ksvalidator leaves a copy of what it reads in TMPDIR
                env=_ENVIRONMENT | {"HOME": place, "TMPDIR": place, "DEBCONF_SYSTEMRC": f"{place}/debconf.conf"},
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


def installed(name: str) -> bool:
    """Whether the checker is there, beside this Python or on the path."""
    return _program(name) is not None


def _program(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def shell(script: str, before: int, whole: str = "") -> Iterator[Finding]:
    """Syntax errors of a shell script that stands ``before`` lines down in the whole file."""
    ran = run(["bash", "-n"], script, ".sh")
    if ran is None:
        yield Finding("warning", before, "", "not validated: there is no bash here")
        return
    if ran[0] == 0:
        return
    found = re.search(r"line (\d+): (.*)", ran[1])
    line = before + int(found[1]) if found else before
    yield finding(whole or script, line, f"shell: {found[2] if found else ran[1][:300]}")
