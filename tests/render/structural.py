"""What the tests of the structure-checked families share: rendering, and a machine for their scripts."""

from collections.abc import Mapping
from typing import Any

import jinja2
from hypothesis import HealthCheck, settings

from provisioner.errors import ProvisionerError
from provisioner.render.bootargs import kernel_args
from provisioner.render.confined import Job, render
from provisioner.render.filters import Unrepresentable
from provisioner.render.sandbox import Sandbox, TemplateRefuses, freeze
from provisioner.render.validate import Finding, findings
from tests.render.context import DISTROS, URLS, context, profile, sources
from tests.render.faked import Disk, Machine

MAC, SECOND_MAC = "52:54:00:12:34:56", "52:54:00:12:34:57"
HASH = "$6$saltsalt$" + "a1./" * 21 + "Zz"
DISKS = {
    "sda": Disk(40, turns=False, model="SAMSUNG MZ7"),
    "sdb": Disk(20, turns=False, model="INTEL SSDSC2"),
    "sdc": Disk(4, turns=False, model="BOSS"),
    "sdd": Disk(16, model="Flash Disk", bus="pci0000:00/usb1"),
}
"""The rule takes sdb, and with raid1 sda too: sdc is too small, sdd is a USB stick."""

in_this_process = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For tests that render ``quickly``, once an example."""


def a_machine(firmware: str) -> Machine:
    """The machine whose firmware is ``bios`` or ``uefi``."""
    return Machine(DISKS, {"ens1": MAC, "ens2": SECOND_MAC}, uefi=firmware == "uefi")


def data_of(name: str, links: str = "dhcp", **changes: Any) -> dict[str, Any]:
    """The context of a shipped profile; nothing but its defaults where ``changes`` say nothing."""
    return context(name, links=links, **({"handoff": {"tool": "none"}} | changes))


def made(name: str, links: str = "dhcp", **changes: Any) -> str:
    """The rendered answer; the error, if there is one, is raised."""
    return made_of(name, data_of(name, links, **changes))


def made_of(name: str, data: Mapping[str, Any]) -> str:
    """The same from a context."""
    (answer,) = render([Job(profile(name)["template"], data)], sources())
    if isinstance(answer, ProvisionerError):
        raise answer
    return answer


def quickly(name: str, data: Mapping[str, Any]) -> str:
    """The same in this process, for tests with many examples; raises Jinja's or a filter's own errors."""
    return str(Sandbox(sources()).get_template(profile(name)["template"]).render(freeze(data)))


def with_value(name: str, data: Mapping[str, Any], field: str, value: Any) -> str | None:
    """The answer with this value as a parameter or the machine's ``fqdn``; None where it is refused, which is as good.

    A parameter that is a list in ``data`` becomes a list of this one value.
    """
    if field == "fqdn":
        changed = {"machine": data["machine"] | {"fqdn": value}}
    else:
        listed = isinstance(data["parameters"].get(field), list)
        changed = {"parameters": data["parameters"] | {field: [value] if listed else value}}
    try:
        return quickly(name, {**data, **changed})
    except (Unrepresentable, TemplateRefuses, jinja2.TemplateError, ValueError):
        return None


def mistake(name: str, before: str, after: str, message: str) -> tuple[Finding, int]:
    """What the validator says with this message when ``before`` reads ``after``, and the line where that begins."""
    text = made(name)
    assert before in text
    wrong = text.replace(before, after, 1)
    line = wrong[: wrong.index(after)].count("\n") + 1
    return next(each for each in found(name, wrong) if message in each.message), line


def found(name: str, text: str) -> list[Finding]:
    """What the validator says of it."""
    os, version, kind, _ = DISTROS[name]
    return findings(kind, text, os=os, version=version)


def arguments(name: str, data: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that the boot loader passes on."""
    distro, machine = data["distro"], data["machine"]
    return kernel_args(distro["family"], URLS, machine, distro, None, data["parameters"], ())
