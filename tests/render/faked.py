"""A machine that an installer's scripts may look at and not touch: disks, interfaces and firmware in a made-up /sys."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
GIB = 2 * 1024 * 1024
"""Sectors of 512 bytes in a GiB, as /sys counts them."""


@dataclass(frozen=True)
class Disk:
    """One disk of the machine; ``page`` is SCSI's page 0x80, with the serial number after four bytes."""

    gib: float
    turns: bool = True
    model: str = ""
    serial: str = ""
    page: str = ""
    bus: str = "pci0000:00"
    removable: bool = False


@dataclass(frozen=True)
class Machine:
    """What stands in /sys."""

    disks: Mapping[str, Disk]
    nics: Mapping[str, str] = field(default_factory=dict)
    uefi: bool = False

    def build(self, place: Path) -> dict[str, str]:
        """Write it below ``place``; returns the variable that makes the scripts look there."""
        for name, disk in self.disks.items():
            self._disk(place, name, disk)
        for name, mac in self.nics.items():
            nic = place / "sys/class/net" / name
            (nic / "device").mkdir(parents=True)
            (nic / "address").write_text(f"{mac}\n")
        # Nothing of these is hardware; a bridge has the address of what is below it.
        for name, mac in (("lo", "00:00:00:00:00:00"), ("abr0", next(iter(self.nics.values()), "02:00:00:00:00:01"))):
            (place / "sys/class/net" / name).mkdir(parents=True)
            (place / "sys/class/net" / name / "address").write_text(f"{mac}\n")
        if self.uefi:
            (place / "sys/firmware/efi").mkdir(parents=True)
        return {"provisioner_sys": str(place / "sys")}

    def _disk(self, place: Path, name: str, disk: Disk) -> None:
        real = place / "sys/devices" / disk.bus / name
        (real / "queue").mkdir(parents=True)
        (real / "device").mkdir()
        facts = {
            "size": str(int(disk.gib * GIB)),
            "removable": str(int(disk.removable)),
            "ro": "0",
            "queue/rotational": str(int(disk.turns)),
        }
        facts |= {"device/model": f"{disk.model:16}"} if disk.model else {}
        facts |= {("device/serial" if name.startswith("nvme") else "serial"): disk.serial} if disk.serial else {}
        for fact, text in facts.items():
            (real / fact).write_text(f"{text}\n")
        if disk.page:
            (real / "device/vpd_pg80").write_bytes(b"\0\x80\0" + bytes([len(disk.page)]) + disk.page.encode())
        (place / "sys/block").mkdir(parents=True, exist_ok=True)
        (place / "sys/block" / name).symlink_to(real)


@dataclass(frozen=True)
class Ran:
    """How a script ended, what it said, and the reports it sent: lines ``step=...&message=...``."""

    status: int
    output: str
    reports: Sequence[str]

    def steps(self) -> list[str]:
        """The steps of the reports."""
        return [found[1] for report in self.reports if (found := re.match(r"step=(\w+)", report))]


def run(
    script: str,
    place: Path,
    variables: Mapping[str, str],
    *,
    shell: str = "bash",
    secrets: Mapping[str, str] | None = None,
) -> Ran:
    """Run a script with ``/tmp/`` below ``place`` and a server that acknowledges everything and knows ``secrets``."""
    (place / "tmp").mkdir(exist_ok=True)
    (place / "secrets").mkdir(exist_ok=True)
    for name, value in (secrets or {}).items():
        (place / "secrets" / name).write_text(value)
    posted = place / "posted"
    # A function comes before every program and before busybox's own applets.
    fakes = f"""
sleep() {{ :; }}
udevadm() {{ :; }}
curl() {{
    for last; do :; done
    for word; do case $word in @*) cat "${{word#@}}" >>{posted}; echo >>{posted} ;; esac; done
    case $last in
        */secret/*) cat {place}/secrets/"${{last##*/}}" ;;
        */handoff) for word; do [ "$before" != -o ] || echo '#!/bin/sh' >"$word"; before=$word; done ;;
    esac
}}
chroot() {{ :; }}
"""
    path = place / "script.sh"
    filled = re.sub(r"@@provisioner:(\w+)@@", r"\1", script)
    own = re.sub(r'(?<!root")/tmp/', f"{place}/tmp/", filled)  # the installer's, not the new system's
    path.write_text(fakes + own)
    done = subprocess.run(
        [str(shutil.which(SHELLS[shell][0])), *SHELLS[shell][1:], str(path)],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    reports = posted.read_text().splitlines() if posted.exists() else []
    return Ran(done.returncode, done.stdout + done.stderr, reports)
