"""A small world to test in: a subnet, a distro, a machine, an armed build, and a machine's own words."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.services import arming, installables, machines, subnets
from provisioner.services.installables import DistroInput
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Actor, Site

ACTOR = Actor(who="tester", origin="tests", request="test")
MAC = "52:54:00:12:34:56"
IP = "127.0.2.11"
OTHER_IP = "127.0.2.99"
SUBNET = "127.0.2.0/24"
KERNEL, INITRD = b"kernel " * 1000, b"initrd " * 2000
_TOKEN = r"[A-Za-z0-9_-]{54}"


@dataclass
class World:
    """Builds what a test needs, with short words."""

    site: Site
    tmp: Path
    actor: Actor = field(default=ACTOR)

    def subnet(self, name: str = "lab", cidr: str = SUBNET, **fields: Any) -> dict[str, Any]:
        """A subnet; loopback ones let a whole boot be played on one host."""
        return subnets.add(self.site, self.actor, name, cidr, fields)

    def distro(self, name: str = "rocky-9.6", os: str = "rocky", version: str = "9.6") -> dict[str, Any]:
        """A distro with a kernel and an initrd made up for the test."""
        for file, content in (("vmlinuz", KERNEL), ("initrd.img", INITRD)):
            (self.tmp / file).write_bytes(content)
        given = DistroInput(os, version, str(self.tmp / "vmlinuz"), str(self.tmp / "initrd.img"), "http://mirror/tree")
        return installables.add_distro(self.site, self.actor, name, given)

    def machine(self, name: str = "web01", mac: str = MAC, ip: str | None = IP, **fields: Any) -> dict[str, Any]:
        """A machine with one interface and the profile `rocky9`, unless told otherwise."""
        fields = {"profile": "rocky9"} | fields
        return machines.add(self.site, self.actor, name, [InterfaceInput(mac, ip)], fields)

    def ready(self, **fields: Any) -> dict[str, Any]:
        """Subnet, distro and machine."""
        self.subnet()
        self.distro()
        return self.machine(**fields)

    def armed(self, **fields: Any) -> dict[str, Any]:
        """All that, and a build of the machine, armed."""
        self.ready(**fields)
        return arming.start(self.site, self.actor, "web01")

    def secret(self, value: str = "correct horse", name: str = "root_password") -> None:
        """A secret of web01."""
        machines.set_secret(self.site, self.actor, "web01", name, value)


def token_in(text: str, after: str) -> str:
    """The first token in the text that ``/build/TOKEN/after`` holds."""
    found = re.search(rf"/build/({_TOKEN})/{after}", text)
    assert found is not None, f"no /build/TOKEN/{after} in:\n{text}"
    return found.group(1)
