"""A machine's first day, played against the running service: registered, built, and booted into its handoff.

with wire() as lan, lan.root("web01", base(...)) as root:
    day = FirstDay(served, lan, root)
    day.register({"tool": "script", "command": "true"})
    day.install()                        # arms, boots, fetches, unwraps, reports `built`
    assert day.boot().returncode == 0    # runs /etc/provisioner/handoff.sh on the machine
    assert day.state() == "configured"
"""

import itertools
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import Reply, Served
from handoff.rootdir import Root, Wire
from labkit.processes import LabError
from world import token_in

_SECRET_NAMES = re.compile(r"(?m)^\s*for name in ([a-z0-9_ -]*); do")
_NUMBERS = itertools.count(1)


class FirstDay:
    """One machine, whose root directory is ``root``, with a subnet and profiles of its own in ``served``."""

    def __init__(self, served: Served, lan: Wire, root: Root) -> None:
        self.served, self.lan, self.root = served, lan, root
        self.name = root.name
        number = next(_NUMBERS)
        self.mac = f"52:54:00:ff:{lan.number:02x}:{number:02x}"
        self.profile = ""
        self._there = root.seen(served)

    def register(self, handoff: Mapping[str, Any], **fields: str) -> None:
        """Add the subnet, a profile with this handoff, and the machine."""
        urls = [f"--boot-url={self._there.boot}", f"--media-url={self._there.media}"]
        name = f"wire{self.lan.number}"
        if self.served.cli("subnet", "show", name, code=None).returncode:
            self.served.cli("subnet", "add", name, "--cidr", self.lan.cidr, "--gateway", self.lan.host, *urls)
        self._add_profile(handoff)
        more = [word for key, value in fields.items() for word in (f"--{key}", value)]
        where = ["--mac", self.mac, "--ip", self.root.address, "--profile", self.profile]
        self.served.cli("machine", "add", self.name, *where, *more)

    def change(self, handoff: Mapping[str, Any]) -> None:
        """Give the machine another handoff, by another profile."""
        self._add_profile(handoff)
        self.served.cli("machine", "edit", self.name, "--profile", self.profile)

    def _add_profile(self, handoff: Mapping[str, Any]) -> None:
        self.profile = f"day-{self.name}-{next(_NUMBERS)}"
        file = self.served.state.parent / f"{self.profile}.yaml"
        file.write_text(yaml.safe_dump({"name": self.profile, "parent": "rocky9", "handoff": dict(handoff)}))
        self.served.cli("profile", "add", self.profile, "--file", str(file))

    def install(self) -> None:
        """Arm a build and do what firmware and installer do, up to `built`."""
        self.served.cli("build", "start", self.name)
        answer = token_in(self._get(f"/boot/ipxe/{self.mac}?platform=pcbios").text, "answer")
        event = token_in(self._get(f"/build/{answer}/answer").text, "event")
        script = self._get(f"/build/{answer}/handoff").text
        self.root.run(["rm", "-rf", "/etc/provisioner"])
        self.root.write("/etc/provisioner/handoff.sh", script, 0o700)
        for name in secret_names(script):
            value = self._post(f"/build/{answer}/secret/{name}", nonce=f"nonce-of-{name}").text
            self.root.write(f"/etc/provisioner/secrets/{name}", value + "\n", 0o600)
        for step in ("started", "disk", "built"):
            self._post(f"/build/{event}/event", step=step)

    def boot(self, *, patience: float = 300, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the handoff script as the first-boot unit does, to its end."""
        try:
            return subprocess.run(
                self._script(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=patience,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"the handoff of {self.name} takes longer than {patience} s:\n{self.log()}") from error

    def begin(self, log: Path, **environment: str) -> Any:
        """The same, in the background: a Popen."""
        with log.open("ab") as output:
            return subprocess.Popen(self._script(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def _script(self, environment: Mapping[str, str]) -> list[str]:
        told = {"PROVISIONER_STREAM_PAUSE": "1", "PROVISIONER_NETWORK_WAIT": "0"} | dict(environment)
        return self.root.inside("/etc/provisioner/handoff.sh", env=told)

    def log(self) -> str:
        """What the tool said on the machine."""
        file = self.root.path / "var/log/provisioner-handoff.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def state(self) -> str:
        """The machine's state."""
        return str(self.served.cli_json("machine", "show", self.name)["state"])

    def build(self) -> dict[str, Any]:
        """The latest build."""
        shown: dict[str, Any] = self.served.cli_json("build", "show", self.name)
        return shown

    def build_log(self) -> str:
        """The build's log, as people read it."""
        return self.served.cli("build", "log", self.name).stdout

    def _get(self, path: str) -> Reply:
        reply = self._there.http(path, source=self.root.address)
        assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
        return reply

    def _post(self, path: str, **form: str) -> Reply:
        reply = self._there.http(path, source=self.root.address, method="POST", form=form)
        assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
        return reply


def secret_names(script: str) -> list[str]:
    """The secrets that a handoff script wants, which the installer unwraps for it."""
    found = _SECRET_NAMES.search(script)
    assert found is not None, script
    return found.group(1).split()
