"""One virtual machine: real firmware (SeaBIOS with iPXE's NIC ROM, or OVMF), a disk in memory, a console log.

QEMU emulates the processor (TCG): the lab runs the same with and without KVM, also inside virtual machines.
"""

import re
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labkit.network import Network
from labkit.processes import LabError, spawn, stop, wait_for

Firmware = Literal["bios", "uefi"]
Bus = Literal["virtio", "nvme", "sata"]
QEMU = "qemu-system-x86_64"
_OVMF = Path("/usr/share/OVMF")
_DISK_DEVICE = {"virtio": "virtio-blk-pci", "nvme": "nvme,serial=LAB", "sata": "ide-hd,bus=ide.0"}
_ESCAPES = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][0-9A-B]|c)|\r|\x00")


@dataclass(frozen=True)
class Hardware:
    """What stands in the rack. ``disk`` is a size such as ``3G``; ``memory`` is in MiB; ``qemu``: more options."""

    name: str
    mac: str
    firmware: Firmware = "bios"
    memory: int = 1024
    disk: str = "3G"
    tap: int = 0
    nic: str = "virtio-net-pci"
    disk_bus: Bus = "virtio"
    qemu: tuple[str, ...] = ()

    @property
    def uuid(self) -> uuid.UUID:
        """The SMBIOS UUID, made from the MAC."""
        return uuid.uuid5(uuid.NAMESPACE_OID, self.mac)


@dataclass
class Machine:
    """A machine on a network. Its disk and its console log outlive a power cycle."""

    hardware: Hardware
    network: Network
    directory: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)

    @property
    def disk(self) -> Path:
        """The disk, a sparse raw file."""
        return self.directory / f"{self.hardware.name}.disk"

    @property
    def console(self) -> Path:
        """All that the machine wrote to its serial port."""
        return self.directory / f"{self.hardware.name}.console"

    @property
    def running(self) -> bool:
        """Whether the power is on."""
        return self._process is not None and self._process.poll() is None

    def power_on(self) -> None:
        """Switch on; the firmware tries the network first, then the disk."""
        if self.running:
            raise LabError(f"{self.hardware.name} is on already")
        if not self.disk.exists():
            with self.disk.open("wb") as disk:
                disk.truncate(size_in_bytes(self.hardware.disk))
        command = self.network.inside(*self._command())
        self._process = spawn(command, self.directory / f"{self.hardware.name}.qemu.log", on_our_death="KILL")

    def power_off(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            stop(self._process, patience=5)
            self._process = None

    def console_text(self, start: int = 0) -> str:
        """The console from byte ``start`` on, without terminal escapes."""
        try:
            data = self.console.read_bytes()[start:]
        except FileNotFoundError:
            return ""
        return _ESCAPES.sub("", data.decode("utf-8", "replace"))

    def console_size(self) -> int:
        """How many bytes the console log has: a mark for ``start``."""
        return self.console.stat().st_size if self.console.exists() else 0

    def wait_for_console(self, text: str, timeout: float, start: int = 0) -> float:
        """Wait until the console shows ``text``; the seconds that took. LabError if the machine stops meanwhile."""
        began = time.monotonic()

        def shown() -> bool:
            if text in self.console_text(start):
                return True
            if not self.running:
                raise LabError(f"{self.hardware.name} switched itself off before its console showed {text!r}")
            return False

        wait_for(shown, timeout, f"{text!r} on the console of {self.hardware.name} ({self.console})")
        return time.monotonic() - began

    def _command(self) -> list[str]:
        box = self.hardware
        return [
            *(QEMU, "-name", box.name, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "std"),
            *("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", str(box.memory)),
            *("-uuid", str(box.uuid), "-smbios", f"type=1,manufacturer=Lab,product=Virtual,serial=LAB-{box.name}"),
            *("-device", "virtio-rng-pci"),
            *self._firmware(),
            *("-netdev", f"tap,id=wire,ifname=tap{box.tap},script=no,downscript=no"),
            # OVMF has a network stack of its own; an empty romfile keeps QEMU's iPXE from replacing it.
            *(
                "-device",
                f"{box.nic},netdev=wire,mac={box.mac},bootindex=1" + ("" if box.firmware == "bios" else ",romfile="),
            ),
            *("-drive", f"if=none,id=disk,file={self.disk},format=raw,cache=unsafe,aio=threads,discard=unmap"),
            *("-device", f"{_DISK_DEVICE[box.disk_bus]},drive=disk,bootindex=2"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *box.qemu,
        ]

    def _firmware(self) -> list[str]:
        if self.hardware.firmware == "bios":
            return ["-machine", "q35,graphics=off"]  # SeaBIOS and iPXE then talk on the serial port
        variables = self.directory / f"{self.hardware.name}.efivars"
        if not variables.exists():
            shutil.copy(_OVMF / "OVMF_VARS_4M.fd", variables)
        code = _OVMF / "OVMF_CODE_4M.fd"
        return [
            *("-machine", "q35"),
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
        ]


def size_in_bytes(text: str) -> int:
    """``3G`` or ``512M`` as bytes; LabError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]*)([MG])", text)
    if not match:
        raise LabError(f"{text!r} is not a size: write it like 3G or 512M")
    return int(match[1]) << {"M": 20, "G": 30}[match[2]]
