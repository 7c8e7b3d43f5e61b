"""A real machine, from power-on to configured, on the real product; nothing is played here.

In every run others go the same way: `test_killed_children` on BIOS, `test_installer` on UEFI.
"""

import os
import re
import shutil
from pathlib import Path

import pytest
from labkit.network import BRIDGE
from labkit.processes import spawn, stop
from labkit.run import Plan, boot, boot_in, lab

from tests.lab.pcap import ERROR, OACK, RRQ, Datagram, datagrams

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]


def in_order(lines: list[str], *patterns: str) -> None:
    """Each pattern is found in a line after the one that the pattern before was found in."""
    rest = iter(lines)
    for pattern in patterns:
        assert any(re.search(pattern, line) for line in rest), f"{pattern!r} is not in its place in\n" + "\n".join(
            lines
        )


@pytest.mark.full
def test_a_bios_machine_is_made_from_a_stem_cell_image_and_boots_its_disk_ever_after(tmp_path: Path) -> None:
    told: list[str] = []
    plan = Plan(timeout=600, logs=tmp_path)
    assert boot(plan, told.append), "\n".join(told)
    in_order(told, "power on", "disk", "built", "the build is configured", "local disk", "login prompt")
    console = (tmp_path / "lab01.console").read_text(errors="replace")
    assert console.count("provisioner: writing the image to /dev/vda") == 1
    assert console.count("provisioner: handed over") == 1


@pytest.mark.full
def test_a_uefi_machine_is_made_from_the_same_image_and_boots_its_disk_ever_after(tmp_path: Path) -> None:
    """EDK2's own PXE stack, `snponly.efi` by TFTP, and to the disk by the small loader that iPXE chains."""
    told: list[str] = []
    plan = Plan(firmware="uefi", timeout=600, logs=tmp_path)
    with lab(plan) as room:
        capture = tmp_path / "tftp.pcap"
        filters = ("-i", BRIDGE, "-s", "200", "-U", "-Z", "root", "-w", capture, "udp and not port 67 and not port 68")
        tcpdump = spawn(room.server.network.inside("tcpdump", *filters), tmp_path / "tcpdump.log")
        try:
            assert boot_in(room, plan, told.append), "\n".join(told)
        finally:
            stop(tcpdump)
    in_order(told, "power on", "loader .*snponly.efi", "disk", "built", "local-boot", "the build is configured")
    in_order(told, "power off and on again", "the firmware goes to the local disk", "login prompt")
    console = (tmp_path / "lab01.console").read_text(errors="replace")
    assert console.count("provisioner: writing the image to /dev/vda") == 1
    # After the installation, and after the power cycle; the image has no vendor's path.
    assert console.count("Provisioner: starting (hd0,msdos1)/EFI/BOOT/BOOTX64.EFI") == 2
    r05_edk2_asked_for_the_size_first(list(datagrams(capture)))
    log = (tmp_path / "serve.log").read_text()
    assert not re.search(r"warning|error", log, re.IGNORECASE), log


def r05_edk2_asked_for_the_size_first(sent: list[Datagram]) -> None:
    """RRQ with tsize, OACK, ERROR, and the real RRQ from the next port: firmware's way, and no failed transfer."""
    asked = [each for each in sent if each.target_port == 69 and each.opcode == RRQ]
    probe, real = asked[0], asked[1]
    assert probe.words[0] == real.words[0] == "snponly.efi"
    assert "tsize" in probe.words and "tsize" not in real.words
    assert [each.opcode for each in sent[sent.index(probe) + 1 : sent.index(real)]] == [OACK, ERROR]
