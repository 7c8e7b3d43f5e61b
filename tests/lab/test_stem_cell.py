"""A real machine, from power-on to configured, on the real product; nothing is played here."""

import os
import re
import shutil
from pathlib import Path

import pytest
from labkit.run import Plan, boot

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


def test_a_bios_machine_is_made_from_a_stem_cell_image_and_boots_its_disk_ever_after(tmp_path: Path) -> None:
    told: list[str] = []
    plan = Plan(timeout=600, logs=tmp_path)
    assert boot(plan, told.append), "\n".join(told)
    in_order(told, "power on", "disk", "built", "the build is configured", "local disk", "login prompt")
    console = (tmp_path / "lab01.console").read_text(errors="replace")
    assert console.count("provisioner: writing the image to /dev/vda") == 1
    assert console.count("provisioner: handed over") == 1


@pytest.mark.full
def test_a_uefi_machine_is_made_from_the_same_image(tmp_path: Path) -> None:
    """OVMF's own PXE stack, `snponly.efi` by TFTP; its detour to the local disk alone takes four minutes."""
    told: list[str] = []
    assert boot(Plan(firmware="uefi", timeout=1200, again=False, logs=tmp_path), told.append), "\n".join(told)
    in_order(told, "power on", "loader .*snponly.efi", "disk", "built", "the build is configured")
