"""Runs the scripts of a preseed where nothing real can be touched: a faked /sys and new system, a real HTTP server."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.errors import ProvisionerError
from provisioner.render.confined import Job, render
from tests.render.context import BOOT, NETWORKS, context, profile, sources
from tests.render.recorder import Answer, Asked, Recorder, recorder

HASH = "$6$salt$canaryInACoalMine./XYZ"
PASSPHRASE = "correct horse's battery $taple"
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"]}
"""Debian's installer has busybox; dash is as strict, and the new system's."""
_FAKES = ("sleep", "debconf-set", "chroot", "in-target", "mount", "umount", "depmod")
_REAL = (
    "awk basename cat chmod cp cut dd env grep head ln ls mkdir mktemp mv readlink rm sed sort sync tail tr uname wget"
)
# Debian's static busybox takes its own applets before PATH; a function comes before both.
_FUNCTIONS = ("sleep", "chroot", "mount", "umount", "env", "wget")
_FAKE = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >>"$FAKES/log"\n'


def made(name: str, **changes: Any) -> str:
    """The preseed of a shipped profile; the error, if there is one, is raised."""
    (text,) = render([Job(profile(name)["template"], context(name, **changes))], sources())
    if isinstance(text, ProvisionerError):
        raise text
    assert isinstance(text, str), text
    return text


def answers(text: str) -> str:
    """What the installer is told, without the scripts."""
    return "".join(f"{line}\n" for line in text.splitlines() if line and not line.startswith("#"))


def part(text: str, name: str) -> str:
    """One script of a preseed."""
    lines = [line.removeprefix(f"#{name}| ") for line in text.splitlines() if line.startswith(f"#{name}|")]
    return "".join(f"{line}\n" for line in lines)


def all_well(asked: Asked, before: int) -> tuple[int, bytes]:
    """A server to which everything is fine."""
    if asked.path.endswith("/secret/root_password"):
        return 200, HASH.encode()
    if asked.path.endswith("/secret/disk_passphrase"):
        return 200, PASSPHRASE.encode()
    return 200, b"#!/bin/sh\ntrue\n" if asked.path.endswith("/handoff") else b"ok"


@dataclass
class Ran:
    """How a script ended, what it said, and what it asked of the server."""

    status: int
    output: str
    server: Recorder


@dataclass
class Machine:
    """A machine in an installer: ``place`` holds its /sys, its new system at ``target``, and its /tmp/provisioner."""

    place: Path
    shell: str = "dash"
    disks: dict[str, int] = field(default_factory=lambda: {"sda": 500, "sdb": 500})
    uefi: bool = False
    nics: dict[str, str] = field(default_factory=lambda: {"enp1s0": "52:54:00:12:34:56", "enp2s0": "52:54:00:12:34:57"})

    def __post_init__(self) -> None:
        self.tools = self.place / "bin"
        for folder in ("bin", "tmp", "hooks", "logs", "target/etc", "target/root"):
            (self.place / folder).mkdir(parents=True)
        for name in _FAKES:
            (self.tools / name).write_text(_FAKE)
            (self.tools / name).chmod(0o755)
        for name in _REAL.split():
            (self.tools / name).symlink_to(str(shutil.which(name)))
        self.functions = "".join(f'{name}() {{ {self.tools}/{name} "$@"; }}\n' for name in _FUNCTIONS)
        if self.uefi:
            (self.place / "sys/firmware/efi").mkdir(parents=True)
        for name, size in self.disks.items():
            self._file(f"sys/block/{name}/size", f"{size * 2 * 1024 * 1024}\n")
            self._file(f"sys/block/{name}/removable", "0\n")
        for name, mac in self.nics.items():
            (self.place / "sys/class/net" / name / "device").mkdir(parents=True)
            self._file(f"sys/class/net/{name}/address", f"{mac}\n")
        self._file("keygen", "#!/bin/sh\nasks debconf\n").chmod(0o755)
        self._file("logs/syslog", "the beginning\n" + "x" * 100_000 + "\nGET /build/answer_token/answer\nthe end\n")

    def _file(self, name: str, text: str) -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, text: str, *parts: str, answer: Answer = all_well, arguments: tuple[str, ...] = ()) -> Ran:
        """Take these scripts out of a preseed and run them one after another, as far as they succeed."""
        status, output = 0, ""
        with recorder(answer) as server:
            for name in parts:
                self._file(f"tmp/{name}.sh", self.functions + self._own(part(text, name), server.url))
            for name in (each for each in parts if each != "target"):
                done = self._run(self.place / f"tmp/{name}.sh", arguments)
                status, output = done.returncode, output + done.stdout + done.stderr
                if status:
                    break
        return Ran(status, output, server)

    def _own(self, script: str, url: str) -> str:
        script = re.sub(r"@@provisioner:(\w+)@@", lambda found: url if found[1] == "boot_url" else found[1], script)
        script = script.replace("/tmp/provisioner", f"{self.place}/tmp").replace(
            "/var/log/syslog", f"{self.place}/logs/syslog"
        )
        return script.replace("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={self.tools} FAKES={self.place}")

    def _run(self, script: Path, arguments: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        own = {"PATH": str(self.tools), "FAKES": str(self.place)}
        own |= {"provisioner_sys": str(self.place / "sys"), "provisioner_root": str(self.place / "target")}
        own |= {"provisioner_hooks": str(self.place / "hooks"), "provisioner_logs": str(self.place / "logs")}
        own |= {"provisioner_keygen": str(self.place / "keygen"), "provisioner_mounts": str(self.place / "mounts")}
        command = [str(shutil.which(SHELLS[self.shell][0])), *SHELLS[self.shell][1:], str(script), *arguments]
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60, check=False)

    def fakes(self) -> list[str]:
        """The calls of faked programs, in order."""
        log = self.place / "log"
        return log.read_text().splitlines() if log.exists() else []

    def told(self, question: str) -> str | None:
        """The last answer that a script gave to this question of the installer."""
        start = f"debconf-set {question} "
        return next((line.removeprefix(start) for line in reversed(self.fakes()) if line.startswith(start)), None)

    def read(self, path: str) -> str:
        """A file of the new system."""
        return (self.place / "target" / path).read_text()

    def holding(self, text: str) -> set[str]:
        """All files of this machine in which the text stands."""
        files = [path for path in self.place.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path.relative_to(self.place)) for path in files if text.encode() in path.read_bytes()}


def installed(machine: Machine, name: str, **changes: Any) -> Ran:
    """A whole run: early, disk, and late, for a profile whose tree is the test's own server."""
    distro = context(name)["distro"] | {"tree": f"{BOOT}/debian"}
    return machine.run(made(name, distro=distro, **changes), "target", "early", "disk", "late")


__all__ = ["NETWORKS", "Machine", "Ran", "all_well", "answers", "installed", "made", "part"]
