"""Autoinstalls rendered, and their commands run by real shells where nothing real can be touched."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provisioner.render import bootargs
from provisioner.render.confined import Job, render
from provisioner.render.validate import Finding, validate
from tests.render.context import context, sources
from tests.render.recorder import Asked, Recorder

PROFILES = ("ubuntu2204", "ubuntu2404", "ubuntu2604")
COMMANDS = ("early-commands", "late-commands", "error-commands")
HASH = "$6$salt$hash./XYZ"
PASSPHRASE = "it's a $long `phrase` \\ %s"
PARAMETERS: dict[str, Any] = {
    "packages": ["vim", "tmux"],
    "ntp": ["ntp.example.com"],
    "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"],
    "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": True}],
    "mirror": "http://mirror.example.com/ubuntu",
    "serial_console": "ttyS0,115200n8",
}
_REAL = (
    "cat",
    "tr",
    "sed",
    "head",
    "awk",
    "mktemp",
    "rm",
    "tail",
    "sort",
    "readlink",
    "mkdir",
    "chmod",
    "ln",
    "dd",
    "ls",
    "sh",
)
_FAKE = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >>"$FAKES/log"\n'


def version_of(profile: str) -> str:
    return f"{profile[6:8]}.{profile[8:]}"


def template_of(profile: str) -> str:
    return f"autoinstall/{profile}.yaml.j2"


def made(template: str, data: dict[str, Any]) -> str:
    """The rendered text; the error, if there is one, is raised."""
    (answer,) = render([Job(template, data)], sources())
    if not isinstance(answer, str):
        raise answer
    return answer


def data_of(profile: str, links: str = "dhcp", **changes: Any) -> dict[str, Any]:
    """The context with an ISO in our media store; the machine has both secrets."""
    data = context(profile, links=links, secrets=["disk_passphrase", "root_password"], **changes)
    data["distro"] |= {"tree": None, "files": {"iso": "@@provisioner:media_url@@/media/sha256/abc/live-server.iso"}}
    return data


def answer_of(profile: str, links: str = "dhcp", **changes: Any) -> str:
    return made(template_of(profile), data_of(profile, links, **changes))


def kernel_line(data: dict[str, Any]) -> tuple[str, ...]:
    return bootargs.kernel_args(
        "autoinstall", data["urls"], data["machine"], data["distro"], None, data["parameters"], ["quiet"]
    )


def parsed(text: str) -> Any:
    """By libyaml: these files are long, and there are hundreds of them."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def section_of(text: str) -> dict[str, Any]:
    section: dict[str, Any] = parsed(text)["autoinstall"]
    return section


def errors(found: list[Finding]) -> list[Finding]:
    """All but that cloud-init is not installed here."""
    return [each for each in found if not each.message.startswith("not validated by cloud-init")]


def checked(profile: str, text: str) -> list[Finding]:
    """What validation says of it, short of an error; that is raised."""
    template = template_of(profile)
    return errors(validate("autoinstall", text, os="ubuntu", version=version_of(profile), template=template))


def script_of(text: str, key: str) -> str:
    (command,) = section_of(text)[key]
    return str(command)


def netplan_of(text: str) -> str:
    """What the late commands write for the new system."""
    found = re.search(r"(?s)<<'NETPLAN'\n(.*?)^NETPLAN$", script_of(text, "late-commands").replace("\t", " "), re.M)
    assert found is not None
    return found[1]


def disks_program(text: str) -> str:
    """The Python of the early commands that writes disks and firmware into the installer's file."""
    return re.findall(r"(?ms)<<'PYTHON' \|\|[^\n]*\n(.*?)^PYTHON$", script_of(text, "early-commands"))[0]


def all_well(asked: Asked, before: int) -> tuple[int, bytes]:
    """A server to which everything is fine."""
    if asked.path.endswith("/secret/root_password"):
        return 200, HASH.encode()
    if asked.path.endswith("/secret/disk_passphrase"):
        return 200, PASSPHRASE.encode()
    return 200, b"#!/bin/sh\ntrue\n" if asked.path.endswith("/handoff") else b"ok"


def fake_sys(place: Path, firmware: str, sizes: Mapping[str, int]) -> Path:
    """A /sys with disks (GiB by name) under this firmware."""
    for name, size in sizes.items():
        disk = place / "sys/block" / name
        disk.mkdir(parents=True)
        (disk / "size").write_text(f"{size * 2 * 1024 * 1024}\n")
        (disk / "removable").write_text("0\n")
        (disk / "ro").write_text("0\n")
    if firmware == "uefi":
        (place / "sys/firmware/efi").mkdir(parents=True)
    return place / "sys"


@dataclass(frozen=True)
class Ran:
    """How a script ended, what it said, and which fakes it called."""

    status: int
    output: str
    fakes: str


class LiveSystem:
    """Ubuntu's live system as its commands see it, in a directory: /autoinstall.yaml, /run, /target, /var/log."""

    def __init__(self, place: Path, shell: str = "dash", client: str = "curl", firmware: str = "uefi") -> None:
        self.place, self.shell = place, shell
        self.autoinstall, self.target, self.logs = place / "autoinstall.yaml", place / "target", place / "log.d"
        self.run_dir, self.tools = place / "run", place / "bin"
        for each in (self.target / "root", self.target / "etc/netplan", self.logs / "installer", self.tools):
            each.mkdir(parents=True)
        self.sys = fake_sys(place, firmware, {"sda": 500, "sdb": 240, "sdc": 1000})
        for name in ("sleep", "chroot", "mount", "umount", "curtin", "cryptsetup"):
            (self.tools / name).write_text(_FAKE)
            (self.tools / name).chmod(0o755)
        for name in [*_REAL, *([client] if client else []), "basename"]:
            (self.tools / name).symlink_to(str(shutil.which(name)))
        (self.tools / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (self.tools / "python3").chmod(0o755)

    def take(self, text: str) -> None:
        """What cloud-init and Subiquity make of the user-data before the early commands: no comments, other lines."""
        self.autoinstall.write_text(yaml.safe_dump(section_of(text), default_flow_style=False))

    def run(self, script: str, server: Recorder) -> Ran:
        script = re.sub(
            r"@@provisioner:(\w+)@@", lambda found: server.url if found[1] == "boot_url" else found[1], script
        )
        script = script.replace("/run/provisioner", str(self.run_dir)).replace("/tmp/provisioner", f"{self.place}/tmp-")
        path = self.place / "script.sh"
        path.write_text(script)
        places = {
            "provisioner_autoinstall": self.autoinstall,
            "provisioner_root": self.target,
            "provisioner_logs": self.logs,
            "provisioner_sys": self.sys,
            "FAKES": self.place,
            "PATH": self.tools,
        }
        done = subprocess.run(
            [str(shutil.which(self.shell)), str(path)],
            env={name: str(value) for name, value in places.items()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        log = self.place / "log"
        return Ran(done.returncode, done.stdout + done.stderr, log.read_text() if log.exists() else "")
