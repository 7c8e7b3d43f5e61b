"""From EDK2's network stack to the system on the disk, by the small loader that iPXE chains."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from labkit.run import Lab, Plan, lab

from provisioner.services import loaders

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]
SECONDS = 120
# How EDK2's ">>Start PXE over IPv6" ends, or its words that it could not load "UEFI PXEv6": that depends on its age.
NEXT_BOOT_DEVICE = "v6"
VENDOR, REMOVABLE = "the loader of the vendor runs", "the loader of removable media runs"


def speaking(text: str) -> bytes:
    """An EFI application that says so for ever."""
    return loaders.image(f"while true; do\n  echo '{text}'\n  sleep 1\ndone\n".encode())


def install(disk: Path, **files: bytes) -> None:
    """A disk with an EFI system partition that holds these files (path with _ for /)."""
    with disk.open("wb") as created:
        created.truncate(40 << 20)
    layout = "label: gpt\nstart=1MiB, size=36MiB, type=uefi\n"
    subprocess.run(["sfdisk", "--quiet", str(disk)], input=layout.encode(), check=True)
    partition = f"{disk}@@1M"
    subprocess.run(["mformat", "-i", partition, "-T", str(36 * 2048), "-h", "16", "-s", "63", "::"], check=True)
    subprocess.run(["mmd", "-i", partition, "::/EFI"], check=True)
    for name, content in files.items():
        folder, file = name.split("_")
        (disk.parent / file).write_bytes(content)
        subprocess.run(["mmd", "-i", partition, f"::/EFI/{folder}"], check=True)
        subprocess.run(["mcopy", "-i", partition, disk.parent / file, f"::/EFI/{folder}/{file}.efi"], check=True)


def power_cycle(room: Lab, *texts: str) -> str:
    """Off and on again; the console since then, once it has shown each of the texts."""
    room.machine.power_off()
    mark = room.machine.console_size()
    room.machine.power_on()
    for text in texts:
        room.machine.wait_for_console(text, SECONDS, mark)
    return room.machine.console_text(mark)


def test_a_uefi_machine_finds_the_vendors_loader_and_goes_on_when_there_is_none(tmp_path: Path) -> None:
    """A registered machine that nothing is to be built on, switched on again and again."""
    with lab(Plan(profile="debian12", firmware="uefi", disk="40M", logs=tmp_path)) as room:
        first, second = room.machine.disk, room.directory / "second.disk"
        # No firmware looks at a vendor's path by itself; and where there are both, the vendor's counts.
        install(first, debian_grubx64=speaking(VENDOR), BOOT_BOOTX64=speaking(REMOVABLE))
        install(second, BOOT_BOOTX64=speaking(REMOVABLE))
        drive = ("-drive", f"if=none,id=second,file={second},format=raw,cache=unsafe")
        qemu = (*drive, "-device", "virtio-blk-pci,drive=second,bootindex=3")
        room.machine.hardware = replace(room.machine.hardware, qemu=qemu)
        console = power_cycle(room, "Provisioner: booting the local disk", VENDOR)
        assert "Provisioner: starting (hd0,gpt1)/EFI/debian/grubx64.efi" in console
        assert REMOVABLE not in console

        room.server.cli("machine", "edit", "lab01", "--local-boot", "second-disk")
        console = power_cycle(room, "Provisioner: booting the local disk", REMOVABLE)
        assert "Provisioner: starting (hd1,gpt1)/EFI/BOOT/BOOTX64.EFI" in console
        assert VENDOR not in console

        room.server.cli("machine", "edit", "lab01", "--local-boot", "auto")
        for disk in (first, second):
            with disk.open("wb") as empty:
                empty.truncate(40 << 20)
        power_cycle(room, "no boot loader was found on any disk", "BdsDxe: failed to start", NEXT_BOOT_DEVICE)

        # What Secure Boot does to a loader that nobody signed: it is fetched, and refused.
        (room.server.state_dir / "loaders/localdisk.efi").write_bytes(b"not an EFI application" * 100)
        asked = "Provisioner: booting the local disk"
        console = power_cycle(room, asked, "BdsDxe: failed to start", NEXT_BOOT_DEVICE)
        assert "Provisioner: looking for the local disk" not in console
