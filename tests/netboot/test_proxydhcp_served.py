"""`provisioner serve` with a subnet in proxy mode, beside a plain dnsmasq: what an administrator and a machine see."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from world import World

from provisioner.netboot.dhcp.status import ProxyState, read_status
from provisioner.services import arming, builds
from provisioner.services.site import open_site
from provisioner.settings import load
from tests.netboot import netns
from tests.netboot.netns import poll
from tests.netboot.office import FOREIGN, INTERFACE, MACHINE, US, Office, office

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not netns.available() or shutil.which("dnsmasq") is None, reason="needs root, iproute2 and dnsmasq"
    ),
]
BOX, OTHER, STRANGER = (f"52:54:00:00:00:0{last}" for last in "9ab")


@dataclass
class Service:
    """A running `provisioner serve` in the office."""

    wire: Office
    environment: dict[str, str]
    state: Path
    process: subprocess.Popen[bytes] | None = None

    def cli(self, *arguments: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "provisioner", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.wire.server, sys.executable, "-m", "provisioner", "serve"],
            env=os.environ | self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.answering()

    def answering(self, *, instead_of: int | None = None) -> ProxyState:
        """Wait until a proxy that lives is open; ``instead_of``: another process than this."""

        def state() -> ProxyState | None:
            status = read_status(self.state)
            now = status.proxy if status is not None else ProxyState()
            alive = now.pid is not None and now.pid != instead_of and Path(f"/proc/{now.pid}").exists()
            return now if alive and now.interfaces == (INTERFACE,) else None

        found: ProxyState = poll(state, 60)
        return found

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def fetch(self, url: str) -> bytes:
        """What a machine in the office gets from this URL."""
        command = ["ip", "netns", "exec", self.wire.machines, "curl", "-sSf", "--max-time", "20", url]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def events(self) -> set[tuple[str, str]]:
        site = open_site(load(environ=self.environment))
        try:
            return {(event["kind"], event["message"]) for event in builds.show(site, "web01")["events"]}
        finally:
            site.engine.dispose()


@pytest.fixture(scope="module")
def service(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    base = tmp_path_factory.mktemp("office")
    shutil.copytree(_template, base / "state")
    environment = {
        "PROVISIONER_STATE_DIR": str(base / "state"),
        "PROVISIONER_BOOT_BIND": "0.0.0.0:8180",
        "PROVISIONER_MEDIA_BIND": "0.0.0.0:8181",
        "PROVISIONER_HTTP_BIND": "127.0.0.1:8443",
        "PROVISIONER_TFTP_BIND": "0.0.0.0:69",
        "PROVISIONER_TLS": "off",
    }
    with office(base) as wire:
        this = Service(wire, environment, base / "state")
        opened = open_site(load(environ=environment))
        world = World(opened, base)
        world.subnet("office", "10.0.3.0/24", dhcp="proxy")
        world.distro()
        for name, mac, ip in (("web01", BOX, "10.0.3.11"), ("web02", OTHER, "10.0.3.12")):
            world.machine(name, mac, ip)
            arming.start(opened, world.actor, name)
        opened.engine.dispose()
        this.start()
        try:
            yield this
        finally:
            this.stop()


def asks(kind: str, mac: str = STRANGER) -> dict[str, Any]:
    return {"mac": mac, "kind": kind}


def test_each_stage_of_a_boot_gets_its_file_and_the_build_s_timeline_tells(service: Service) -> None:
    """ROM, EDK2, HTTP boot and iPXE; what they are told is there, under the address that they asked."""
    rom, uefi, http, ipxe = service.wire.ours(*(asks(kind, BOX) for kind in ("rom", "uefi", "http", "ipxe")))
    assert [each["file"] for (each,) in (rom, uefi)] == ["undionly.kpxe", "snponly.efi"]
    ((loader,), (script,)) = http, ipxe
    assert service.fetch(loader["file"]) == Path("/usr/lib/ipxe/snponly.efi").read_bytes()
    first = service.fetch(script["file"]).decode()
    assert first.startswith("#!ipxe")
    assert f"http://{US}:8180/boot/ipxe/${{netX/mac:hexhyp}}" in first
    expected = ["undionly.kpxe", "snponly.efi", "snponly.efi by HTTP", "the first script"]
    poll(lambda: {("dhcp", f"boot information: {each}") for each in expected} <= service.events())


def test_an_address_that_is_not_the_assigned_one_is_admitted_and_flagged(service: Service) -> None:
    """The foreign server chose it."""
    script = service.fetch(f"http://{US}:8180/boot/ipxe/{OTHER}?platform=pcbios").decode()
    assert "installing" in script
    assert MACHINE in json.loads(service.cli("machine", "show", "web02", "--output", "json"))["flag"]


def test_a_killed_child_is_started_again_and_answers(service: Service) -> None:
    before = service.answering()
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    service.answering(instead_of=before.pid)
    (ours,) = service.wire.ours(asks("rom"))
    assert ours[0]["file"] == "undionly.kpxe"


def test_the_commands_tell_what_to_expect_and_how_it_fares(service: Service) -> None:
    shown = service.cli("dhcp", "show", "--subnet", "office")
    assert "nothing to configure on the DHCP server there" in shown
    assert "http://ADDRESS:8180/boot/ipxe" in shown
    checked = service.cli("dhcp", "check")
    assert f"the proxy runs on {INTERFACE}" in checked
    explained = service.cli("boot", "explain", "web01", "--arch", "uefi")
    assert "another server gives the address; our proxy names snponly.efi" in explained
    assert "DHCP proxy" not in service.cli("check", code=None)


def test_foreign_offers_are_never_touched(service: Service) -> None:
    (replies,) = service.wire.ask(asks("os"))
    assert [each["server"] for each in replies] == [FOREIGN]
