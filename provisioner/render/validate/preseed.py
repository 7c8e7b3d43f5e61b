"""Preseeds, by debconf's own ``debconf-set-selections``, where it is there, and by what Debian's installer asks.

The installer reads a preseed with a script of its own that takes nearly everything: a misspelt question is an answer to
nothing, and the machine then waits at its console.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.render.debconftrap import trapped
from provisioner.render.validate.debianquestions import BOOLEANS, CHOICES, INSTALLER, PACKAGES
from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell


@dataclass(frozen=True)
class _Answer:
    """One line of a preseed; ``line`` is where it begins."""

    line: int
    owner: str
    question: str
    kind: str
    value: str


def check(text: str) -> Iterator[Finding]:
    """What is wrong with, or odd in, a preseed."""
    answers = list[_Answer]()
    for line, content in _preseed_lines(text):
        parts = content.split(None, 3)
        if len(parts) < 3 or parts[2] not in _TYPES:
            yield finding(text, line, "not a preseed line: owner, question, type, value")
            continue
        owner, question, kind, *value = parts
        answers.append(_Answer(line, owner, question, kind, "".join(value).strip()))
    told = [answer for answer in answers if answer.kind != "seen"]
    yield from _end(text)
    yield from _values(text, told)
    yield from _twice(text, told)
    yield from _owners(text, told)
    yield from _missing({answer.question for answer in told})
    yield from _debconf(text)
    yield from _scripts(text)
    yield from _commands(text, told)


_TYPES = frozenset({"string", "boolean", "select", "multiselect", "note", "text", "password", "title", "error", "seen"})
# Without these the installer asks at once, whatever the priority.
_MANDATORY = ("debian-installer/locale", "keyboard-configuration/xkb-keymap")
# And without these later, unless an early_command writes the whole disk.
_EXPECTED = ("partman-auto/method", "partman/confirm", "partman/confirm_nooverwrite", "passwd/make-user")
PRESEED_SCRIPT = re.compile(r"#(\w+)\| ?(.*)")
"""Scripts travel in comments of the preseed, one line each: ``#early| command``; early_command takes them out."""
_INSIDE = frozenset({"target"})  # the part that late.sh runs inside the new system, in an environment of its own
_TRAPPED = "a package that asks debconf would wait for ever here: use in-target, or env -i ... </dev/null 3>&-"
# Whoever reads the answer file, and the disk afterwards, reads these.
_CLEAR = re.compile(r"passwd/(root|user)-password(-again)?|partman-crypto/passphrase(-again)?|.*/password(-again)?")


def _values(text: str, answers: list[_Answer]) -> Iterator[Finding]:
    for answer in answers:
        known = answer.question in BOOLEANS
        if (known or answer.kind == "boolean") and answer.value not in {"true", "false"}:
            yield finding(text, answer.line, f"{answer.question} is true or false")
        elif known and answer.kind != "boolean":
            yield finding(text, answer.line, f"{answer.question} is a boolean, not a {answer.kind}", "warning")
        choices = CHOICES.get(answer.question)
        if choices and answer.value not in choices:
            yield finding(text, answer.line, f"{answer.question} is one of {', '.join(sorted(choices))}")
        if answer.kind == "password" and answer.value and _CLEAR.fullmatch(answer.question):
            message = f"{answer.question} stands here for everybody to read: make it a secret of the machine"
            yield finding(text, answer.line, message, "warning")


def _twice(text: str, answers: list[_Answer]) -> Iterator[Finding]:
    """The installer knows questions, not owners: of two answers it takes the last, whoever's they are."""
    seen: dict[str, _Answer] = {}
    for answer in answers:
        before = seen.setdefault(answer.question, answer)
        if before is answer:
            continue
        by = f" for {before.owner}" if before.owner != answer.owner else ""
        yield finding(text, answer.line, f"{answer.question} is already answered{by} on line {before.line}")


def _owners(text: str, answers: list[_Answer]) -> Iterator[Finding]:
    installed = {
        package for answer in answers if answer.question == "pkgsel/include" for package in answer.value.split()
    }
    for answer in answers:
        first = answer.question.split("/", 1)[0]
        if answer.owner == "d-i" and first not in INSTALLER:
            message = f"the installer asks nothing that begins with {first}/: is it misspelt?"
            yield finding(text, answer.line, message, "warning")
        if answer.owner != "d-i" and answer.owner not in PACKAGES | installed:
            message = f"unknown owner {answer.owner}: no package of that name is installed by this preseed"
            yield finding(text, answer.line, message, "warning")


def _missing(questions: set[str]) -> Iterator[Finding]:
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


def _end(text: str) -> Iterator[Finding]:
    """The installer drops comments and empty lines first, and an answer that never ends with the file."""
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if lines and lines[-1][1].rstrip().endswith("\\"):
        yield finding(text, lines[-1][0], "the last answer is continued, but nothing follows: the installer drops it")


def _debconf(text: str) -> Iterator[Finding]:
    ran = run(["debconf-set-selections", "--checkonly"], text, ".cfg")
    if ran is None:
        message = "not validated by debconf-set-selections, which only Debian and Ubuntu have: by our own checks alone"
        yield Finding("warning", 0, "", message)
    elif ran[0] != 0:
        found = re.search(r"on line (\d+)", ran[1])
        yield finding(text, int(found[1]) if found else 0, "debconf: " + " ".join(ran[1].split())[:300])


def _scripts(text: str) -> Iterator[Finding]:
    scripts: dict[str, list[str]] = {}
    lines = text.splitlines()
    for line in lines:
        found = PRESEED_SCRIPT.fullmatch(line)
        if found:
            scripts.setdefault(found[1], []).append(found[2])
    for name, body in list(scripts.items())[:MAX_SCRIPTS]:
        before = next(number for number, line in enumerate(lines) if line.startswith(f"#{name}|"))
        script = "\n".join(body) + "\n"
        yield from _posix(script, before, text)
        if name not in _INSIDE:
            yield from (finding(text, before + number, _TRAPPED) for number, _ in trapped(script))


def _commands(text: str, answers: list[_Answer]) -> Iterator[Finding]:
    """Commands that are the value of a question, on one line."""
    for answer in [each for each in answers if each.question.endswith("_command")][:MAX_SCRIPTS]:
        for found in _posix(f"{answer.value}\n", 0):
            yield finding(text, answer.line, f"{answer.question}: {found.message}", found.level)
        if any(trapped(answer.value)):
            yield finding(text, answer.line, _TRAPPED)


def _posix(script: str, before: int, whole: str = "") -> Iterator[Finding]:
    """Syntax errors as dash sees them, which like the installer's busybox knows no more than POSIX; else bash's."""
    ran = run(["dash", "-n"], script, ".sh")
    if ran is None:
        yield from shell(script, before, whole)
    elif ran[0] != 0:
        found = re.search(r"answer: (\d+): (.*)", ran[1])
        # Of what never ends dash names the line after the last.
        line = min(int(found[1]), script.count("\n")) if found else 0
        yield finding(whole or script, before + line, f"shell: {found[2] if found else ran[1][:300]}")
