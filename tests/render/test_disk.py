"""Which disk an installation takes, decided by the snippet disk.sh on a machine's disks in each installer's shell."""

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from provisioner.render.confined import Job, render
from tests.render.context import context, sources
from tests.render.faked import SHELLS, Disk, Machine, Ran, run

pytestmark = pytest.mark.slow

BODY = '{% include "snippets/events.sh.j2" %}\n{% include "snippets/disk.sh.j2" %}\necho "took=$disk of $disks"\n'
SERVER = Machine({
    "sda": Disk(4000, model="ST4000NM", page="     00123"),
    "sdb": Disk(480, turns=False, model="INTEL SSDSC2KB24", page="PHYF1   "),
    "sdc": Disk(480, turns=False, model="SAMSUNG MZ7LH480", page="S3Z X1"),
    "sdd": Disk(16, turns=False, model="Ultra Fit", bus="pci0000:00/usb1"),
    "sde": Disk(4, turns=False),
    "sdf": Disk(0, removable=False),
    "sdz": Disk(20, removable=True),
    "nvme0n1": Disk(1000, turns=False, model="Samsung PM9A3 2.5 inch", serial="S64G 17   "),
    "cciss!c0d0": Disk(300, serial="VIRT1"),
    "loop0": Disk(100),
    "md127": Disk(100),
})  # fmt: skip


@cache
def script(parameters: str) -> str:
    """The snippet for parameters in JSON; starting the confined process is what takes time."""
    job = Job("script/disk.sh.j2", context(parameters=json.loads(parameters)))
    (text,) = render([job], sources() | {job.template: BODY})
    assert isinstance(text, str), text
    return f"set -u\n{text}"


def chosen(place: Path, parameters: dict[str, Any], shell: str = "bash", machine: Machine = SERVER) -> Ran:
    return run(script(json.dumps(parameters)), place, machine.build(place), shell=shell)


def message(ran: Ran) -> str:
    return parse_qs(ran.reports[-1])["message"][0]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("parameters", "taken", "why"),
    [
        ({}, "/dev/cciss/c0d0", "the smallest fixed disk of at least 8192 MiB"),
        ({"disk": "smallest-ssd"}, "/dev/sdb", "the smallest fixed SSD of at least 8192 MiB"),
        ({"disk": "largest-ssd"}, "/dev/nvme0n1", "the largest fixed SSD of at least 8192 MiB"),
        ({"disk": "largest-hdd"}, "/dev/sda", "the largest fixed HDD of at least 8192 MiB"),
        ({"disk": "smallest-nvme"}, "/dev/nvme0n1", "the smallest fixed NVME of at least 8192 MiB"),
        ({"disk": {"serial": "00123"}}, "/dev/sda", ", serial 00123"),
        ({"disk": {"serial": "S3Z X1"}}, "/dev/sdc", ", serial S3Z X1"),
        ({"disk": {"serial": "S64G 17"}}, "/dev/nvme0n1", ", serial S64G 17"),
        ({"disk": {"serial": "VIRT1"}}, "/dev/cciss/c0d0", ", serial VIRT1"),
        ({"disk": {"model": "SAMSUNG MZ"}}, "/dev/sdc", ", model SAMSUNG MZ"),
        ({"disk": {"at_least": "500G", "at_most": "2T"}}, "/dev/nvme0n1", "512000 MiB and at most 2097152 MiB"),
        ({"disk": {"kind": "ssd", "at_least": "1G"}}, "/dev/sde", "the smallest fixed SSD of at least 1024 MiB"),
        ({"disk": {"take": "largest", "at_most": "480G"}}, "/dev/sdb", "the largest fixed disk"),
        ({"disk": "/dev/sde"}, "/dev/sde", "named as /dev/sde"),
    ],
)  # fmt: skip
def test_a_rule_takes_one_disk_and_says_how(
    tmp_path: Path, shell: str, parameters: dict[str, Any], taken: str, why: str
) -> None:
    ran = chosen(tmp_path, parameters, shell)
    assert ran.status == 0, ran.output
    assert f"took={taken} of {taken}\n" in ran.output
    assert f"provisioner: installing to {taken}, " in ran.output
    assert ran.steps() == ["disk"]
    assert message(ran).startswith(f"installing to {taken}, ") and why in message(ran)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("disk", "taken"),
    [
        ("smallest-ssd", "/dev/sdb /dev/sdc"),
        ("largest-ssd", "/dev/nvme0n1 /dev/sdb"),
        (["/dev/sdc", "/dev/sda"], "/dev/sdc /dev/sda"),
    ],
)
def test_a_mirror_takes_two(tmp_path: Path, shell: str, disk: Any, taken: str) -> None:
    ran = chosen(tmp_path, {"disk": disk, "raid1": True}, shell)
    assert f"took={taken.split(maxsplit=1)[0]} of {taken}\n" in ran.output


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "parameters",
    [
        {"disk": {"at_least": "5T"}},
        {"disk": {"serial": "123"}},  # a number equal to 00123, and another text
        {"disk": {"serial": "PHY"}},
        {"disk": "/dev/sdb1"},
        {"disk": "/dev/nosuch/disk"},
        {"disk": "smallest-nvme", "raid1": True},
        {"disk": ["/dev/sdc", "/dev//sdc"], "raid1": True},
    ],
    ids=str,
)
def test_nothing_that_fits_is_a_failure_before_the_disk_step(
    tmp_path: Path, shell: str, parameters: dict[str, Any]
) -> None:
    """The message names the rule and lists the machine's disks; nothing was reported as chosen."""
    ran = chosen(tmp_path, parameters, shell)
    assert ran.status == 1
    assert ran.steps() == ["failed"]
    assert "fit" in message(ran) and "No disk was touched" in message(ran)
    assert "/dev/sdb (491520 MiB, ssd, model INTEL SSDSC2KB24, serial PHYF1)" in message(ran)
    assert "/dev/sde (4096 MiB, ssd, model ?, serial ?)" in message(ran)
    assert "sdd" not in message(ran) and "sdz" not in message(ran) and "loop0" not in message(ran)
    assert "took=" not in ran.output


def test_a_machine_without_disks_says_so(tmp_path: Path) -> None:
    ran = chosen(tmp_path, {}, machine=Machine({"sdd": Disk(64, bus="pci/usb2")}))
    assert ran.status == 1 and message(ran).endswith("There are: no fixed disks")


def test_a_smaller_disk_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    """Controllers bring their disks one after another; the first one seen need not be the smallest."""
    variables = Machine({"sdb": Disk(480)}).build(tmp_path)
    Machine({"sda": Disk(100)}).build(tmp_path / "late")
    variables |= {"late": str(tmp_path / "late/sys/devices/pci0000:00/sda")}
    sleep = 'sleep() { [ ! -e "$late" ] || mv "$late" "$provisioner_sys/block/sda"; }\n'
    ran = run(sleep + script("{}"), tmp_path, variables)
    assert "took=/dev/sda of /dev/sda\n" in ran.output
