"""Preseeds, by debconf's own ``debconf-set-selections``, where it is there, and by what Debian's installer asks."""

import re
from collections.abc import Iterator

from provisioner.render.debconftrap import trapped
from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell


def check(text: str) -> Iterator[Finding]:
    """What is wrong with a preseed."""
    yield from _preseed(text)
    yield from _debconf(text)
    yield from _scripts(text)
    yield from _commands(text)


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
            yield finding(text, number, "not a preseed line: owner, question, type, value")
            continue
        owner, question, kind = parts[:3]
        value = parts[3] if len(parts) > 3 else ""
        if kind == "seen":
            continue
        if (owner, question) in seen:
            yield finding(text, number, f"{question} is already answered on line {seen[owner, question]}")
        seen[owner, question] = number
        if kind == "boolean" and value.strip() not in {"true", "false"}:
            yield finding(text, number, f"{question} is true or false")
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
    ran = run(["debconf-set-selections", "--checkonly"], text, ".cfg")
    if ran is None:
        return  # Debian's own program; elsewhere our checks must do
    if ran[0] != 0:
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
        yield from shell(script, before, text)
        if name not in _INSIDE:
            yield from (finding(text, before + number, _TRAPPED) for number, _ in trapped(script))


def _commands(text: str) -> Iterator[Finding]:
    """Commands that are the value of a question, on one line."""
    for number, line in _preseed_lines(text):
        parts = line.split(None, 3)
        if len(parts) == 4 and parts[1].endswith("_command") and any(trapped(parts[3])):
            yield finding(text, number, _TRAPPED)
