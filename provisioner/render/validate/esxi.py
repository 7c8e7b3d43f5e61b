"""ESXi's installation scripts, by the commands and options that VMware documents for ESXi 7 and 8."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from provisioner.render.validate.programs import MAX_SCRIPTS, Finding, finding, run, shell

_FLAG, _VALUE, _EITHER = "flag", "value", "either"
_DISKS = {
    "disk": _VALUE, "drive": _VALUE, "firstdisk": _EITHER, "overwritevmfs": _FLAG, "preservevmfs": _FLAG,
    "novmfsondisk": _FLAG, "ignoressd": _FLAG, "overwritevsan": _FLAG, "forceunsupportedinstall": _FLAG,
    "dpupcislots": _VALUE, "ignoreprereqwarnings": _FLAG, "ignoreprereqerrors": _FLAG,
}  # fmt: skip
_COMMANDS: Mapping[str, Mapping[str, str]] = {
    "accepteula": {}, "vmaccepteula": {}, "dryrun": {}, "paranoid": {},
    "clearpart": {
        "drives": _VALUE, "alldrives": _FLAG, "ignoredrives": _VALUE, "firstdisk": _EITHER, "overwritevmfs": _FLAG,
    },
    "install": _DISKS, "upgrade": _DISKS, "installorupgrade": _DISKS,
    "include": {}, "%include": {}, "keyboard": {},
    "serialnum": {"esx": _VALUE}, "vmserialnum": {"esx": _VALUE},
    "network": {
        "bootproto": _VALUE, "device": _VALUE, "ip": _VALUE, "gateway": _VALUE, "nameserver": _VALUE,
        "netmask": _VALUE, "hostname": _VALUE, "vlanid": _VALUE, "addvmportgroup": _VALUE,
    },
    "part": {"ondisk": _VALUE, "ondrive": _VALUE, "onfirstdisk": _EITHER},
    "partition": {"ondisk": _VALUE, "ondrive": _VALUE, "onfirstdisk": _EITHER},
    "reboot": {"noeject": _FLAG},
    "rootpw": {"iscrypted": _FLAG},
}  # fmt: skip
_SECTIONS: Mapping[str, Mapping[str, str]] = {
    "%pre": {"interpreter": _VALUE},
    "%post": {"interpreter": _VALUE, "timeout": _VALUE, "ignorefailure": _VALUE},
    "%firstboot": {"interpreter": _VALUE},
}
_ONE_OF: Mapping[str, tuple[str, ...]] = {
    "an accepted licence": ("accepteula", "vmaccepteula"),
    "a root password": ("rootpw",),
    "what to install to": ("install", "upgrade", "installorupgrade", "include", "%include"),
    "the network": ("network",),
}
_FIRST = "--firstdisk takes the first disk that ESXi happens to find; name a kind, a model, or --disk="
_CRYPT = re.compile(r"\$(1|5|6)\$[A-Za-z0-9./$=,]+|@@provisioner:secret_[a-z0-9_]+@@")


def check(text: str) -> Iterator[Finding]:
    """What is wrong with an installation script of ESXi."""
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if _section(line)), len(lines))
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[:first], 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield from _command(text, number, line, seen)
    for what, commands in _ONE_OF.items():
        given = [seen[each] for each in commands if each in seen]
        if not given:
            yield Finding("error", 0, "", f"{what} is missing: {' or '.join(commands)}")
        elif len(given) > 1:
            yield finding(text, max(given), f"{what} is said twice: {' or '.join(commands)}")
    yield from _scripts(text, lines, first)


def _section(line: str) -> bool:
    return line.startswith("%") and line.split(None, 1)[0] != "%include"


def _command(text: str, number: int, line: str, seen: dict[str, int]) -> Iterator[Finding]:
    try:
        name, *words = shlex.split(line, comments=True)
    except ValueError as error:
        yield finding(text, number, f"the quotes are not closed: {error}")
        return
    if name not in _COMMANDS:
        yield finding(text, number, f"{name[:60]!r} is no command of ESXi's: {', '.join(sorted(_COMMANDS))}")
        return
    if name in seen and name not in {"%include", "include"}:
        yield finding(text, number, f"{name} stands on line {seen[name]} already")
    seen.setdefault(name, number)
    options, rest = _options(words)
    yield from (finding(text, number, f"{name}: {said}") for said in _odd(_COMMANDS[name], options))
    rule = _RULES.get(name)
    if rule is not None:
        for said in rule(options, rest):
            yield finding(text, number, f"{name}: {said}", "warning" if said == _FIRST else "error")


def _options(words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    options: dict[str, str | None] = {}
    rest = []
    for word in words:
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
            options[key] = value if equals else None
        else:
            rest.append(word)
    return options, rest


def _odd(known: Mapping[str, str], options: Mapping[str, str | None]) -> Iterator[str]:
    for key, value in options.items():
        if key not in known:
            yield f"--{key[:40]} is no option of it" + (f": --{', --'.join(known)}" if known else "")
        elif known[key] == _VALUE and not value:
            yield f"--{key} needs a value"
        elif known[key] == _FLAG and value is not None:
            yield f"--{key} takes no value"


def _rootpw(options: Mapping[str, str | None], rest: Sequence[str]) -> Iterator[str]:
    if len(rest) != 1:
        yield "one password, or --iscrypted and its hash"
    elif "iscrypted" in options and not _CRYPT.fullmatch(rest[0]):
        yield "this is no crypt hash that ESXi reads (SHA-512: $6$)"
    elif "iscrypted" not in options:
        yield "the password stands here in clear; use --iscrypted"


def _network(options: Mapping[str, str | None], _rest: Sequence[str]) -> Iterator[str]:
    proto = options.get("bootproto", "dhcp")
    if proto not in {"dhcp", "static"}:
        yield "--bootproto is dhcp or static"
    needed = ("ip", "netmask") if proto == "static" else ()
    yield from (f"--bootproto=static needs --{key}" for key in needed if not options.get(key))
    if proto == "dhcp" and options.get("ip"):
        yield "--ip goes with --bootproto=static"
    vlan = options.get("vlanid")
    if vlan and not (vlan.isdigit() and int(vlan) <= 4095):
        yield "--vlanid is a number from 0 to 4095"


def _install(options: Mapping[str, str | None], _rest: Sequence[str]) -> Iterator[str]:
    if not {"disk", "drive", "firstdisk"} & set(options):
        yield "it needs --disk=, --drive= or --firstdisk"
    if "firstdisk" in options and not options["firstdisk"]:
        yield _FIRST
    if "overwritevmfs" in options and "preservevmfs" in options:
        yield "--overwritevmfs and --preservevmfs exclude each other"


def _one_word(_options: Mapping[str, str | None], rest: Sequence[str]) -> Iterator[str]:
    if len(rest) != 1:
        yield "it takes one argument"


def _none(_options: Mapping[str, str | None], rest: Sequence[str]) -> Iterator[str]:
    if rest:
        yield f"it takes no argument, and here is {rest[0][:60]!r}"


_RULES = {
    "rootpw": _rootpw, "network": _network, "install": _install, "upgrade": _install, "installorupgrade": _install,
    "keyboard": _one_word, "%include": _one_word, "include": _one_word, "vmaccepteula": _none, "accepteula": _none,
    "reboot": _none, "serialnum": _none, "vmserialnum": _none, "clearpart": _none,
}  # fmt: skip


def _scripts(text: str, lines: Sequence[str], first: int) -> Iterator[Finding]:
    starts = [number for number in range(first, len(lines)) if _section(lines[number])]
    for index, start in enumerate(starts):
        name, *words = lines[start].split()
        if name not in _SECTIONS:
            yield finding(text, start + 1, f"ESXi has no section {name[:40]!r}: {', '.join(_SECTIONS)}")
            continue
        options, rest = _options(words)
        yield from (finding(text, start + 1, f"{name}: {said}") for said in _odd(_SECTIONS[name], options))
        interpreter = options.get("interpreter") or "busybox"
        if rest or interpreter not in {"python", "busybox"}:
            yield finding(text, start + 1, f"{name}: --interpreter is python or busybox")
            continue
        end = starts[index + 1] if index + 1 < len(starts) else len(lines)
        if index < MAX_SCRIPTS:
            script = "\n".join(lines[start + 1 : end]) + "\n"
            yield from _python(script, start + 1, text) if interpreter == "python" else shell(script, start + 1, text)


def _python(script: str, before: int, whole: str) -> Iterator[Finding]:
    """Syntax errors of a Python script that stands so many lines down; compiled, not run."""
    ran = run([Path(sys.executable).name, "-m", "py_compile"], script, ".py")
    if ran is None or ran[0] == 0:
        return
    found = re.findall(r"line (\d+)", ran[1])
    said = ran[1].strip().splitlines()[-1][:300] if ran[1].strip() else "it does not compile"
    yield finding(whole, before + int(found[-1]) if found else before, f"python: {said}")
