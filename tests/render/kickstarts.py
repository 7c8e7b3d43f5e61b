"""Kickstarts as the machine sees them: rendered, their %pre really run on a faked machine, its files put in place."""

import json
import re
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pykickstart.base import BaseHandler
from pykickstart.errors import KickstartDeprecationWarning, KickstartParseWarning
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion

from provisioner.errors import ProvisionerError
from provisioner.render.confined import Job, render
from provisioner.render.validate import kickstart_version
from tests.render.context import DISTROS, context, profile, sources
from tests.render.faked import Disk, Machine, Ran, run

PROFILES = [name for name, distro in DISTROS.items() if distro[2] == "kickstart"]
NICS = {"enp1s0f0": "52:54:00:12:34:56", "enp1s0f1": "52:54:00:12:34:57", "enp9s0": "52:54:00:99:99:99"}
DISKS = {
    "sda": Disk(960),
    "sdb": Disk(480, turns=False),
    "sdc": Disk(480, turns=False),
    "sdz": Disk(16, removable=True),
}
HASH = "$6$salt$hash./XYZ"
PASSPHRASE = 'it\'s "un\\usual" $HOME `id` #1 %end é'
SECRETS = {"root_password": HASH, "disk_passphrase": PASSPHRASE}


def server(*, uefi: bool) -> Machine:
    """The machine of these tests: two equal flash disks between a large one and a removable one."""
    return Machine(DISKS, NICS, uefi)


def version(name: str) -> str:
    """pykickstart's version for a shipped profile."""
    found = kickstart_version(*DISTROS[name][:2])
    assert found is not None
    return found


def made(jobs: list[tuple[str, Mapping[str, Any]]]) -> list[str | ProvisionerError]:
    """Render for these profiles, in one confined process."""
    return list(render([Job(profile(name)["template"], data) for name, data in jobs], sources()))


def one(name: str, **changes: Any) -> str:
    """The kickstart of a profile; the error, if there is one, is raised."""
    (text,) = made([(name, context(name, **changes))])
    if not isinstance(text, str):
        raise text
    return text


@cache
def answer(name: str, links: str, parameters: str = "{}", secrets: str = '["root_password"]') -> str:
    """The same, kept: ``parameters`` and ``secrets`` in JSON."""
    return one(name, links=links, parameters=json.loads(parameters), secrets=json.loads(secrets))


@cache
def answers(links: str, parameters: str = "{}", secrets: str = '["root_password"]') -> dict[str, str]:
    """The same for every profile: starting the confined process is what takes time."""
    changes: dict[str, Any] = {"links": links, "secrets": json.loads(secrets)}
    texts = made([(name, context(name, parameters=json.loads(parameters), **changes)) for name in PROFILES])
    assert all(isinstance(text, str) for text in texts), texts
    return dict(zip(PROFILES, map(str, texts), strict=True))


def scripts(text: str, section: str) -> list[str]:
    """The bodies of all scripts of this section."""
    return re.findall(rf"(?ms)^%{section}(?: [^\n]*)?\n(.*?)^%end$", text)


def prepared(text: str, place: Path, machine: Machine, *, shell: str = "bash") -> Ran:
    """Run %pre on a machine; its files are in ``place/tmp/provisioner``."""
    (pre,) = scripts(text, "pre")
    return run(pre, place, machine.build(place), shell=shell, secrets=SECRETS)


@cache
def _files(pre: str, *, uefi: bool) -> dict[str, str]:
    """What a %pre writes on this machine; many profiles have the same."""
    with tempfile.TemporaryDirectory(prefix="provisioner-test-") as name:
        ran = prepared(f"%pre\n{pre}%end\n", Path(name), server(uefi=uefi))
        assert ran.status == 0, ran.output
        return {path.name: path.read_text() for path in Path(name, "tmp/provisioner").iterdir()}


def whole(text: str, *, uefi: bool) -> str:
    """The kickstart with what its %pre wrote in the place of its includes."""
    files = dict(_files(scripts(text, "pre")[0], uefi=uefi))
    filled = re.sub(r"(?m)^%include /tmp/provisioner/(.+)\n", lambda found: files.pop(found[1]), text)
    assert files == {}, "a file that nobody includes"
    return filled


def parsed(text: str, syntax: str) -> BaseHandler:
    """By pykickstart. What it warns of is an error here, but that a name is there twice: a VLAN has the device of the
    link below it, and each disk of a mirror its biosboot.
    """
    handler = makeVersion(syntax)
    with warnings.catch_warnings():
        for kind in (KickstartParseWarning, KickstartDeprecationWarning):
            warnings.simplefilter("error", kind)
        for twice in (r"network device with the name \S+", "partition with the mountpoint biosboot"):
            warnings.filterwarnings("ignore", message=f"A {twice} has already been defined")
        KickstartParser(handler, missingIncludeIsFatal=True).readKickstartFromString(text)
    return handler


def told(text: str) -> str:
    """The commands, without comments, the packages, and the headers of the scripts."""
    commands, _, rest = text.partition("%pre ")
    lines = [line for line in commands.splitlines() if line and not line.startswith("#")]
    lines += re.findall(r"(?m)^%(?:pre|post|onerror|traceback).*$", f"%pre {rest}")
    return "".join(f"{line}\n" for line in lines)
