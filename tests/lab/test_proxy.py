"""Real firmware beside somebody else's plain DHCP server: the address from there, the boot information from us."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from labkit.foreign import Foreign, foreign_dhcp
from labkit.machine import Firmware, Hardware, Machine
from labkit.network import network
from labkit.processes import wait_for
from labkit.server import Server
from labkit.workspace import run_name, workspace

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]
MAC = "52:54:00:77:00:09"
# Without these OVMF tries PXE first, for two minutes.
HTTP_ONLY = tuple(
    word
    for name in ("IPv4PXESupport", "IPv6PXESupport")
    for word in ("-fw_cfg", f"name=opt/org.tianocore/{name},string=n")
)


@dataclass
class Rack:
    """A server, a foreign DHCP server, and one machine with an armed build; its power is off."""

    server: Server
    foreign: Foreign
    machine: Machine

    def events(self) -> list[dict[str, Any]]:
        """The timeline of the machine's build."""
        return list(self.server.cli_json("build", "show", "box")["events"])

    def noted(self, kind: str, text: str = "") -> dict[str, Any] | None:
        """The first event of this kind that says ``text``."""
        found = (event for event in self.events() if event["kind"] == kind and text in event["message"])
        return next(found, None)


@contextlib.contextmanager
def rack(tmp_path: Path, firmware: Firmware, *qemu: str) -> Iterator[Rack]:
    with workspace() as directory, network(run_name(directory)) as wire, foreign_dhcp(wire) as foreign:
        server = Server(wire, directory)
        machine = Machine(Hardware("box", MAC, firmware, 512, "64M", qemu=qemu), wire, directory)
        server.cli("init")
        server.cli("subnet", "add", "lab", "--cidr", str(wire.address.network), "--dhcp", "proxy")
        for file in ("vmlinuz", "initrd.img"):
            (directory / file).write_text("not a kernel: the story ends with the boot script\n")
        files = ["--kernel", directory / "vmlinuz", "--initrd", directory / "initrd.img"]
        server.cli("distro", "add", "rocky-9.6", "--os", "rocky", "--version", "9.6", "--arch", "x86_64", *files,
                   "--tree", "http://mirror.example/tree")  # fmt: skip
        server.cli("machine", "add", "box", "--mac", MAC, "--ip", wire.host(11), "--profile", "rocky9")
        server.start()
        server.cli("build", "start", "box")
        try:
            yield Rack(server, foreign, machine)
        finally:
            machine.power_off()
            server.stop()
            for log in (machine.console, server.log, foreign.log):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(log, tmp_path)


def offered(rack: Rack) -> set[str]:
    """The addresses that the foreign server handed out."""
    return set(re.findall(r"DHCPACK\(eth0\) (\S+) " + MAC, rack.foreign.log.read_text()))


def test_a_bios_ipxe_rom_takes_the_url_from_our_offer(tmp_path: Path) -> None:
    """QEMU's BIOS ROM is iPXE: no TFTP; the file name counts only together with `siaddr`."""
    with rack(tmp_path, "bios") as box:
        box.machine.power_on()
        script = wait_for(lambda: box.noted("script"), 120, "the boot script to be fetched", every=1)
        assert box.noted("dhcp", "boot information: the first script")
        assert box.noted("loader") is None
        assert {script["source"]} <= offered(box)
        assert script["source"] != box.server.network.host(11)


def test_edk2_takes_its_loader_from_our_offer(tmp_path: Path) -> None:
    """OVMF's own PXE stack: `snponly.efi` by TFTP, then iPXE asks again and gets the URL."""
    with rack(tmp_path, "uefi") as box:
        box.machine.power_on()
        script = wait_for(lambda: box.noted("script"), 200, "the boot script to be fetched", every=1)
        assert box.noted("dhcp", "boot information: snponly.efi")
        assert box.noted("dhcp", "boot information: the first script")
        assert {script["source"]} <= offered(box)


@pytest.mark.full
def test_edk2_boots_by_http_from_our_offer(tmp_path: Path) -> None:
    """UEFI HTTP boot: option 60 comes back as HTTPClient, and the loader by HTTP."""
    with rack(tmp_path, "uefi", *HTTP_ONLY) as box:
        box.machine.power_on()
        script = wait_for(lambda: box.noted("script"), 200, "the boot script to be fetched", every=1)
        assert box.noted("dhcp", "boot information: snponly.efi by HTTP")
        assert {script["source"]} <= offered(box)
