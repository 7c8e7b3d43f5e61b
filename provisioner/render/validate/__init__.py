"""Rendered answer files, held against the grammar of the installer that will read them.

A syntax error is the admin's, at once, with its line; never the installer's in the middle of the night.
"""

from collections.abc import Callable, Iterator, Mapping

from provisioner.errors import AnswerInvalid
from provisioner.render.validate import autoinstall, autoyast, esxi, ignition, kickstart, preseed
from provisioner.render.validate.kickstart import syntax as kickstart_version
from provisioner.render.validate.preseed import PRESEED_SCRIPT
from provisioner.render.validate.programs import Finding, installed, shell

__all__ = ["PRESEED_SCRIPT", "Finding", "findings", "kickstart_version", "missing_programs", "validate"]

_CHECKS: Mapping[str, Callable[[str, str, str], Iterator[Finding]]] = {
    "kickstart": kickstart.check,
    "preseed": lambda text, _os, _version: preseed.check(text),
    "autoinstall": lambda text, _os, version: autoinstall.check(text, version),
    "autoyast": lambda text, _os, _version: autoyast.check(text),
    "esxi": lambda text, _os, _version: esxi.check(text),
    "ignition": lambda text, _os, _version: ignition.check(text),
    "script": lambda text, _os, _version: shell(text, 0),
}


_PROGRAMS: Mapping[str, tuple[str, str]] = {
    "kickstart": ("ksvalidator", "pip install 'provisioner[validate]'"),
    "preseed": ("debconf-set-selections", "apt install debconf"),
    "autoinstall": ("cloud-init", "touch /etc/cloud/cloud-init.disabled first, then apt install cloud-init"),
    "script": ("bash", "apt install bash"),
}
"""The family's own tool, or the shell's, for each kind, and how to get it."""


def missing_programs() -> list[tuple[str, str, str]]:
    """The kinds that are only structure-checked here, each with the program that is missing and how to get it."""
    return [(kind, *program) for kind, program in _PROGRAMS.items() if not installed(program[0])]


def findings(kind: str, text: str, *, os: str, version: str) -> list[Finding]:
    """All that is wrong with, or odd in, an answer file of this kind.

    ``kind`` is the template's (``kickstart``, ``preseed``, ``autoinstall``, ``script``, ...); kinds without a
    validator give none.
    """
    check = _CHECKS.get(kind)
    return [] if check is None else list(check(text, os, version))


def validate(kind: str, text: str, *, os: str, version: str, template: str) -> list[Finding]:
    """The warnings about an answer file of this kind; AnswerInvalid if there is any error.

    ``template`` names the file in messages.
    """
    found = findings(kind, text, os=os, version=version)
    errors = [each for each in found if each.level == "error"]
    if errors:
        raise AnswerInvalid(f"the rendered file is wrong: {_summary(errors)}", where=template)
    return found


def _summary(errors: list[Finding]) -> str:
    lines = [str(error) for error in errors[:5]]
    if len(errors) > 5:
        lines.append(f"and {len(errors) - 5} more")
    return "; ".join(lines)
