"""A finished machine in a directory of this host: it has few programs, and an address of its own to ask from."""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from provisioner.core.markers import BUILD_URLS, fill
from provisioner.handoff import Prepared, handoff_script

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
# No apt-get, dnf or zypper, and no systemctl: what a test wants of those it adds itself.
_PROGRAMS = ("awk", "cat", "chmod", "cp", "date", "dirname", "env", "grep", "head", "id", "kill", "ls", "mkdir", "mv")
_MORE = ("openssl", "rm", "sed", "sh", "sleep", "sync", "tail", "timeout", "touch", "tr", "true", "uname", "wc")


@dataclass
class OnHost:
    """``root`` is where the machine's files lie; ``address`` the loopback address that it asks from."""

    root: Path
    address: str = "127.0.0.1"
    shell: str = "dash"
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.bin.mkdir(parents=True)
        for name in (*_PROGRAMS, *_MORE):
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.program("curl", f'#!/bin/sh\nexec {shutil.which("curl")} --interface {self.address} "$@"\n')

    @property
    def bin(self) -> Path:
        """Where all its programs are."""
        return self.root / "bin"

    @property
    def etc(self) -> Path:
        """What the installer left."""
        return self.root / "etc/provisioner"

    @property
    def secrets(self) -> Path:
        """The unwrapped secrets."""
        return self.etc / "secrets"

    def program(self, name: str, text: str) -> Path:
        """Add a program, or put it in the place of another."""
        path = self.bin / name
        path.unlink(missing_ok=True)  # it may be a link to the host's own, which must not be written through
        path.write_text(text)
        path.chmod(0o755)
        return path

    def install(self, script: str, secrets: dict[str, str]) -> None:
        """What the installer does: the script as it was fetched, and the secrets as they were unwrapped."""
        self.etc.mkdir(parents=True, exist_ok=True)
        (self.etc / "handoff.sh").write_text(script)
        (self.etc / "handoff.sh").chmod(0o700)
        for name, value in secrets.items():
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            (self.secrets / name).write_text(f"{value}\n")
            (self.secrets / name).chmod(0o600)

    def install_tool(
        self, name: str, prepared: Prepared, secrets: dict[str, str], url: str = "http://127.0.0.1:1"
    ) -> None:
        """The same without a service: the script of a tool, reporting to a URL."""
        text = handoff_script(name, prepared, BUILD_URLS)
        values = {"boot_url": url, "handoff_token": "HANDOFF", "event_token": "EVENT", "answer_token": "ANSWER"}
        self.install(fill(text, values), secrets)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Begin to run handoff.sh."""
        told = {"PATH": str(self.bin), "PROVISIONER_ROOT": str(self.root), "PROVISIONER_NETWORK_WAIT": "0"}
        told |= {"PROVISIONER_STREAM_PAUSE": "0"} | self.environment | environment
        shell = [str(shutil.which(SHELLS[self.shell][0])), *SHELLS[self.shell][1:]]
        with (self.root / "console").open("wb") as console:
            return subprocess.Popen(
                [*shell, str(self.etc / "handoff.sh"), *arguments],
                env=told,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                process_group=0,
            )

    def boot(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run handoff.sh to its end: its exit status, and what it wrote to the console."""
        process = self.start(*arguments, **environment)
        code = process.wait(300)
        return code, (self.root / "console").read_text()

    def log(self) -> str:
        """What the tool said."""
        path = self.root / "var/log/provisioner-handoff.log"
        return path.read_text() if path.exists() else ""

    def left(self) -> list[Path]:
        """Every file of it that is no program."""
        return [path for path in sorted(self.root.rglob("*")) if path.is_file() and self.bin not in path.parents]


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """What systemd does to a unit: every process of it gets the signal."""
    os.killpg(process.pid, number)


def members(process: subprocess.Popen[bytes]) -> dict[int, str]:
    """The processes of its group that are not it, with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            group = int((entry / "stat").read_text().rpartition(")")[2].split()[2])
            if group == process.pid != int(entry.name):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found
