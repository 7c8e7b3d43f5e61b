"""A machine's first day on this host, without namespaces: for tools whose client is a stand-in, and for scripts.

It is built through the running service from its own loopback address, as `played` does it, and then its handoff script
runs in a directory (see `onhost`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import Reply, Served, wait_for
from world import ACTOR, token_in

from provisioner.services import profiles
from tests.handoff.firstday import secret_names
from tests.handoff.onhost import OnHost


class HostDay:
    """One machine in the subnet ``lab``, with a profile of its own."""

    def __init__(
        self, served: Served, base: Path, number: int, handoff: Mapping[str, Any], shell: str = "dash"
    ) -> None:
        self.served = served
        self.name, self.mac, self.ip = f"m{number}", f"52:54:00:c4:ef:{number:02x}", f"127.0.2.{number + 30}"
        self.machine = OnHost(base / self.name, address=self.ip, shell=shell)
        self.change(handoff, new=True)
        where = ["--mac", self.mac, "--ip", self.ip, "--profile", f"day-{self.name}"]
        served.cli("machine", "add", self.name, *where)

    def change(self, handoff: Mapping[str, Any], *, new: bool = False) -> None:
        """Put another handoff into the machine's profile."""
        content = {"name": f"day-{self.name}", "parent": "rocky9", "handoff": dict(handoff)}
        site = self.served.site
        profiles.put_text(site, ACTOR, content["name"], yaml.safe_dump(content), new=new)
        site.engine.dispose()

    def install(self) -> dict[str, str]:
        """Arm a build and do what firmware and installer do, up to `built`; the secrets by name."""
        self.served.cli("build", "start", self.name)
        return self.boot_installer()

    def boot_installer(self) -> dict[str, str]:
        """The part of the firmware and the installer."""
        answer = token_in(self._get(f"/boot/ipxe/{self.mac}?platform=pcbios").text, "answer")
        event = token_in(self._get(f"/build/{answer}/answer").text, "event")
        script = self._get(f"/build/{answer}/handoff").text
        secrets = {}
        for name in secret_names(script):
            reply = self._post(f"/build/{answer}/secret/{name}", nonce=f"nonce-of-{name}")
            secrets[name] = reply.text
        self.machine.install(script, secrets)
        for step in ("started", "disk", "built"):
            self._post(f"/build/{event}/event", step=step)
        return secrets

    def boot(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the handoff script as the first-boot unit does."""
        return self.machine.boot(*arguments, **environment)

    def build(self) -> dict[str, Any]:
        """The latest build."""
        shown: dict[str, Any] = self.served.cli_json("build", "show", self.name)
        return shown

    def state(self) -> str:
        """The machine's state."""
        return str(self.served.cli_json("machine", "show", self.name)["state"])

    def kinds(self) -> list[str]:
        """What happened in the latest build."""
        return [each["kind"] for each in self.build()["events"]]

    def until(self, kind: str) -> None:
        """Wait until something happened in it."""
        wait_for(lambda: kind in self.kinds(), what=f"{kind} in the build of {self.name}")

    def _get(self, path: str) -> Reply:
        reply = self.served.http(path, source=self.ip)
        assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
        return reply

    def _post(self, path: str, **form: str) -> Reply:
        reply = self.served.http(path, source=self.ip, method="POST", form=form)
        assert reply.status == 200, f"{path}: {reply.status} {reply.text}"
        return reply


def at_debug(served: Served) -> Served:
    """The same service at its most talkative."""
    served.stop()
    served.environment["PROVISIONER_LOG_LEVEL"] = "debug"
    served.start()
    return served
