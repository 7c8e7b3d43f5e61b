"""A machine on the outside: it knows its MAC and its address, and talks to the real service from there."""

import socket
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from world import ACTOR, token_in

from provisioner.services import arming
from provisioner.services.lives import latest_build
from provisioner.services.machines import by_mac
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Attempt

LOADERS = {
    "local": ("sanboot --no-describe --drive 0x80", "chainloader $part$path", "LOCALBOOT 0"),
    "build": ("kernel --name kernel http", "if linux '/media/sha256/"),
    "halt": ("goto halt", "  sleep 3600\ndone", "KERNEL none"),
    "discovery": ("asking again in ",),
}


def kind_of(script: str) -> str:
    """What a boot script does: ``local``, ``build``, ``halt`` or ``discovery``, and only one of them."""
    kinds = [kind for kind, marks in LOADERS.items() if any(mark in script for mark in marks)]
    assert len(kinds) == 1, f"{kinds} in:\n{script}"
    return kinds[0]


@dataclass
class Played:
    """A machine played from its own loopback address."""

    served: Any
    site: Site
    name: str
    mac: str
    ip: str

    def ipxe(self, **options: Any) -> str:
        """The script that iPXE gets."""
        reply = self.served.http(f"/boot/ipxe/{self.mac}?platform=pcbios", source=self.ip, **options)
        assert reply.status == 200, reply.text
        return str(reply.text)

    def grub(self) -> str:
        """The script that GRUB gets over HTTP."""
        return str(self.served.http(f"/boot/grub/{self.mac}", source=self.ip).text)

    def tftp(self, name: str) -> bytes | None:
        """A file by TFTP from this machine's address; None for an ERROR."""
        return tftp_get(self.served.tftp, name, self.ip)

    def every_way(self) -> dict[str, str]:
        """What each way of asking gets, as `kind_of` names it. The iPXE question comes first."""
        hyphened = self.mac.replace(":", "-")
        return {
            "ipxe": kind_of(self.ipxe()),
            "grub": kind_of(self.grub()),
            "tftp grub": kind_of((self.tftp(f"grub/by-mac/{self.mac}") or b"").decode()),
            "tftp pxelinux": kind_of((self.tftp(f"pxelinux.cfg/01-{hyphened}") or b"").decode()),
            "tftp default": kind_of((self.tftp("pxelinux.cfg/default") or b"").decode()),
        }

    def arm(self) -> "Played":
        """Start a build."""
        arming.start(self.site, ACTOR, self.name)
        return self

    def tokens(self) -> dict[str, str]:
        """Boots, and reads the tokens out of the script and the answer file."""
        answer = token_in(self.ipxe(), "answer")
        text = self.served.http(f"/build/{answer}/answer", source=self.ip).text
        handoff = self.served.http(f"/build/{answer}/handoff", source=self.ip).text
        found = {"answer": answer, "event": token_in(text, "event")}
        return found | ({"handoff": token_in(handoff, "configured")} if "/configured" in handoff else {})

    def event(self, token: str, step: str, **form: str) -> Any:
        """Post an event."""
        return self.served.http(f"/build/{token}/event", source=self.ip, method="POST", form={"step": step} | form)

    def wait_a_minute(self) -> None:
        """As if the latest attempt had been opened more than a minute ago: asking again is a new power-on."""
        with write(self.site.engine) as session:
            machine = by_mac(session, self.mac)
            build = latest_build(session, machine) if machine is not None else None
            assert build is not None
            for attempt in session.scalars(select(Attempt).where(Attempt.build_id == build.id)):
                attempt.opened_at -= timedelta(minutes=2)

    def state(self) -> str:
        """The machine's state."""
        return str(self.served.cli_json("machine", "show", self.name)["state"])


def tftp_get(server: tuple[str, int], name: str, source: str) -> bytes | None:
    """A plain octet transfer (RFC 1350) from a chosen address, which no TFTP program lets one choose."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((source, 0))
        client.settimeout(15)
        client.sendto(b"\0\1" + name.encode() + b"\0octet\0", server)
        content, expected = b"", 1
        while True:
            packet, peer = client.recvfrom(2048)
            if packet[:2] == b"\0\5":
                return None
            assert packet[:2] == b"\0\3"
            block = int.from_bytes(packet[2:4], "big")
            client.sendto(b"\0\4" + packet[2:4], peer)
            if block == expected % 65536:
                content, expected = content + packet[4:], expected + 1
                if len(packet) < 516:
                    return content


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The real curl; its exit code is the caller's to judge."""
    return subprocess.run(["curl", "-sS", "--max-time", "60", *arguments], capture_output=True, check=False)


def processes(state: Path) -> dict[int, str]:
    """All processes of this service, which its state directory in their environment tells, with each child's name."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        if f"PROVISIONER_STATE_DIR={state}".encode() + b"\0" in environment + b"\0" and " serve" in line:
            found[int(entry.name)] = name.removeprefix("prov-") if name.startswith("prov-") else "serve"
    return found
