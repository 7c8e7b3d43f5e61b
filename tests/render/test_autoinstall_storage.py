"""Storage of Ubuntu's autoinstall: every combination of the parameters, for both firmwares."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import TemplateError
from provisioner.render.confined import Job, render
from provisioner.render.validate import curtin
from provisioner.render.validate.yamlmarks import load
from tests.render.autoinstalls import COMMANDS, data_of, disks_program, errors, made, section_of, template_of
from tests.render.context import sources
from tests.render.goldens import FIRMWARES

pytestmark = pytest.mark.slow

MATRIX = [
    {"partitioning": partitioning, "raid1": raid1, "encrypt": encrypt, "var_size": var, "swap_size": swap}
    for partitioning, raid1, encrypt, var, swap in itertools.product(
        ("lvm", "plain"), (False, True), (False, True), ("", "20G"), ("", "4G")
    )
]


@pytest.mark.slow
def test_r32_every_storage_is_valid_and_boots_from_each_disk(tmp_path: Path) -> None:
    """All combinations are valid files; for both firmwares what they boot from."""
    jobs = [Job(template_of("ubuntu2404"), data_of("ubuntu2404", parameters=case)) for case in MATRIX]
    for case, result in zip(MATRIX, render(jobs, sources()), strict=True):
        assert isinstance(result, str), result
        assert errors(list(curtin.check(load(result), ("autoinstall", "storage")))) == []
        for firmware in FIRMWARES:
            _check_storage(case, firmware, _written(tmp_path, result, firmware, 1 + case["raid1"]))


def _written(place: Path, text: str, firmware: str, count: int) -> dict[str, Any]:
    path = place / "autoinstall.yaml"
    section = {key: value for key, value in section_of(text).items() if key not in COMMANDS}
    path.write_text(yaml.safe_dump(section))
    disks = ["/dev/sda", "/dev/nvme0n1"][:count]
    with pytest.MonkeyPatch.context() as patch:  # test_autoinstall_commands.py runs it as a program of its own
        patch.setattr(sys, "argv", ["-", str(path), firmware, *disks])
        exec(compile(disks_program(text), "early-commands", "exec"), {})
    section = yaml.safe_load(path.read_text())
    told = load("#cloud-config\n" + yaml.safe_dump({"autoinstall": section}))
    assert errors(list(curtin.check(told, ("autoinstall", "storage")))) == []
    storage: dict[str, Any] = section["storage"]
    return storage


def _check_storage(case: dict[str, Any], firmware: str, storage: dict[str, Any]) -> None:
    assert "PROVISIONER_DISK" not in json.dumps(storage)
    assert storage["grub"] == {"reorder_uefi": False}
    if "layout" in storage:
        assert storage["layout"]["match"] == {"path": "/dev/sda"}
        assert not any(case[key] for key in ("raid1", "encrypt", "var_size", "swap_size"))
        return
    of = {kind: [each for each in storage["config"] if each["type"] == kind] for kind in curtin._REFERENCES}
    assert [disk["path"] for disk in of["disk"]] == ["/dev/sda", "/dev/nvme0n1"][: 1 + case["raid1"]]
    assert all(disk["grub_device"] is (firmware == "bios") for disk in of["disk"])
    flags = [part["flag"] for part in of["partition"] if "flag" in part]
    assert flags == ["bios_grub" if firmware == "bios" else "boot"] * (1 + case["raid1"])
    mounted = {each["path"] for each in of["mount"]}
    assert {"/", "/boot/efi", "/boot", "/var", ""} & mounted == mounted
    assert ("/boot/efi" in mounted) is (firmware == "uefi")
    assert ("/var" in mounted) is bool(case["var_size"])
    assert ("/boot" in mounted) is (case["partitioning"] == "lvm" or case["encrypt"])
    assert ([each["fstype"] for each in of["format"]].count("swap") == 1) is bool(case["swap_size"])
    alone = [each for each in ("swap", "var") if case["partitioning"] == "plain" and case[f"{each}_size"]]
    names = [*(f"crypt{each}" for each in alone), "crypt0"] if case["encrypt"] else []
    assert [each["dm_name"] for each in of["dm_crypt"]] == names
    assert all(each["keyfile"] == "/run/provisioner/disk_passphrase" for each in of["dm_crypt"])
    clear = {each["volume"] for each in of["format"]} - {each["id"] for each in (*of["dm_crypt"], *of["lvm_partition"])}
    if case["encrypt"]:
        assert {each.removesuffix("0").removesuffix("-mirror").rstrip("1") for each in clear} <= {"esp", "boot"}
    assert bool(of["raid"]) is case["raid1"] and all(each["raidlevel"] == 1 for each in of["raid"])
    assert bool(of["lvm_volgroup"]) is (case["partitioning"] == "lvm")


def test_encrypted_disks_need_their_secret() -> None:
    data = data_of("ubuntu2404", parameters={"encrypt": True}) | {"secrets": ["root_password"]}
    with pytest.raises(TemplateError) as caught:
        made(template_of("ubuntu2404"), data)
    assert "--secret disk_passphrase=" in caught.value.message
