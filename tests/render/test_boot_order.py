"""The network stays first in the firmware's boot order: the snippet, run by real shells against a played firmware."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pykickstart.parser import KickstartParser
from pykickstart.version import makeVersion

from provisioner.render.confined import Job, render
from provisioner.render.validate import validate
from tests.render.context import context, profile, sources

pytestmark = pytest.mark.slow

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
# What efibootmgr of Debian 12 prints under OVMF.
LISTED = """\
BootCurrent: {current}
Timeout: 0 seconds
BootOrder: {order}
Boot0000* UiApp\tFvVol(7cb8bdc9)/FvFile(462caa21)
Boot0002* UEFI PXEv4 (MAC:525400770001)\tPciRoot(0x0)/Pci(0x3,0x0)/MAC(525400770001,1)/IPv4(0.0.0.0,0,0)
Boot0004* debian\tHD(1,GPT,1f37a734)/File(\\EFI\\debian\\shimx64.efi)
"""


class Firmware:
    """A new system at ``root``, a machine's /sys at ``sys``, and programs that note how they are called."""

    def __init__(self, place: Path, shell: str) -> None:
        self.place, self.shell = place, SHELLS[shell]
        self.root, self.sys, self.log = place / "target", place / "sys", place / "log"
        (self.root / "sys/firmware/efi/efivars").mkdir(parents=True)
        (self.root / "sys/firmware/efi/efivars/BootOrder-x").write_text("")
        (self.sys / "firmware/efi").mkdir(parents=True)
        (place / "listed").write_text("")

    def says(self, current: str, order: str) -> None:
        (self.place / "listed").write_text(LISTED.format(current=current, order=order))

    def run(self, status: int = 0) -> list[str]:
        """Runs the snippet; the programs that it called."""
        (text,) = render([Job("snippets/boot-order.sh.j2", context())], sources())
        assert isinstance(text, str), text
        fakes = "".join(f'{name}() {{ echo "{name} $*" >>{self.log}; }}\n' for name in ("mount", "umount"))
        fakes += (
            f'chroot() {{ echo "chroot $*" >>{self.log}; if [ $# = 2 ]; then cat {self.place}/listed; '
            f'else return {status}; fi; }}\nprovisioner_say() {{ echo "$1" >>{self.place}/said; }}\n'
        )
        script = self.place / "script.sh"
        script.write_text(f"set -e\n{fakes}root={self.root}\n{text}\necho the installation goes on\n")
        done = subprocess.run(
            [str(shutil.which(self.shell[0])), *self.shell[1:], str(script)],
            env={"PATH": "/usr/bin:/bin", "provisioner_sys": str(self.sys)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "the installation goes on\n", "")
        return self.log.read_text().splitlines() if self.log.exists() else []

    def said(self) -> str:
        path = self.place / "said"
        return path.read_text() if path.exists() else ""


@pytest.fixture(params=SHELLS)
def firmware(request: pytest.FixtureRequest, tmp_path: Path) -> Firmware:
    return Firmware(tmp_path, request.param)


@pytest.mark.parametrize(
    ("current", "order", "wanted"),
    [
        ("0002", "0004,0000,0002", "0002,0004,0000"),
        ("0002", "0004,0002,0000", "0002,0004,0000"),
        ("0002", "0004,0002", "0002,0004"),
        ("0002", "0004", "0002,0004"),
        ("000A", "0000,0004,00A0,000A", "000A,0000,0004,00A0"),
    ],
)
def test_the_entry_of_this_boot_becomes_the_first(firmware: Firmware, current: str, order: str, wanted: str) -> None:
    """The installer had put its own there; the others keep their order. A one-time entry need not be in the list."""
    firmware.says(current, order)
    called = firmware.run()
    assert called == [
        f"chroot {firmware.root} efibootmgr",
        f"chroot {firmware.root} efibootmgr --quiet --bootorder {wanted}",
    ]
    assert f"the network first again: {wanted} instead of {order}" in firmware.said()


@pytest.mark.parametrize("order", ["0002", "0002,0004,0000"])
def test_an_order_that_is_right_is_left_alone(firmware: Firmware, order: str) -> None:
    firmware.says("0002", order)
    assert firmware.run() == [f"chroot {firmware.root} efibootmgr"]
    assert firmware.said() == ""


def test_under_bios_nothing_is_touched(firmware: Firmware) -> None:
    shutil.rmtree(firmware.sys / "firmware/efi")
    assert firmware.run() == []
    assert firmware.said() == ""


def test_what_the_variables_need_is_mounted_and_taken_down(firmware: Firmware) -> None:
    shutil.rmtree(firmware.root / "sys")
    firmware.says("0002", "0004,0002")
    variables = f"{firmware.root}/sys/firmware/efi/efivars"
    called = firmware.run()
    assert called[:2] == [f"mount -t sysfs sysfs {firmware.root}/sys", f"mount -t efivarfs efivarfs {variables}"]
    assert called[-2:] == [f"umount {variables}", f"umount {firmware.root}/sys"]


def test_a_system_without_efibootmgr_is_told_and_installed_all_the_same(firmware: Firmware) -> None:
    assert len(firmware.run()) == 1
    assert "cannot be read; is the network still first?" in firmware.said()


def test_a_firmware_that_refuses_is_told_and_installed_all_the_same(firmware: Firmware) -> None:
    firmware.says("0002", "0004,0002")
    assert len(firmware.run(status=5)) == 2
    assert "keeps its boot order 0004,0002; is the network still first?" in firmware.said()


# --- the shipped templates -------------------------------------------------------------------------------------------


def answer(name: str) -> str:
    (text,) = render([Job(profile(name)["template"], context(name))], sources())
    assert isinstance(text, str), text
    return text


@pytest.mark.parametrize("name", ["debian12", "ubuntu2404"])
def test_installers_put_the_order_back_before_they_report(name: str) -> None:
    """After `built` the machine may be switched off any time."""
    text = answer(name)
    assert text.count("provisioner_network_first() {") == 1
    assert text.index("provisioner_network_first 2>/dev/null") < text.rindex("provisioner_built")
    marks = {
        "debian12": "d-i grub-installer/update-nvram boolean false\n",
        "ubuntu2404": "grub: {reorder_uefi: false}\n",
    }
    assert marks[name] in text


@pytest.mark.parametrize("version", ["8.10", "9.6", "10.0"])
def test_kickstarts_leave_the_order_alone_in_every_version(version: str) -> None:
    """`--leavebootorder` is old enough for each."""
    text = answer("rocky9")
    validate("kickstart", text, os="rocky", version=version, template="el9.ks.j2")
    handler = makeVersion(f"RHEL{version.split('.', maxsplit=1)[0]}")
    line = next(line for line in text.splitlines() if line.startswith("bootloader"))
    KickstartParser(handler, missingIncludeIsFatal=False).readKickstartFromString(f"{line}\n")
    assert handler.bootloader.leavebootorder
