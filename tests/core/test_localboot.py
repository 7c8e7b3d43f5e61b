"""The ways to the local disk, and where loaders are looked for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.localboot import AUTO, DISKS, REMOVABLE_LOADER, VENDOR_LOADERS, WAYS, check_way, way
from provisioner.errors import InvalidInput


def test_every_way_says_what_it_does_under_both_firmwares() -> None:
    for name, each in WAYS.items():
        assert each.name == name
        assert each.bios and each.uefi
        assert (each.drive is None) == (each.bios == WAYS["exit"].bios)
        assert (each.loader is None) == (each.uefi == WAYS["exit"].uefi)
        assert each.loader is None or each.loader in DISKS
    assert {each.loader for each in WAYS.values()} - {None} == set(DISKS)


@given(st.text(max_size=20) | st.sampled_from(sorted(WAYS)))
def test_a_name_is_known_or_refused_with_the_list(name: str) -> None:
    if name in WAYS:
        assert check_way(name, "local_boot") == name
        assert way(name).name == name
        return
    assert way(name).name == AUTO, "what an older program stored must not keep a machine from its disk"
    with pytest.raises(InvalidInput) as caught:
        check_way(name, "local_boot")
    assert caught.value.where == "local_boot"
    assert all(known in caught.value.hint for known in WAYS)


def test_vendors_own_loaders_come_before_those_of_removable_media() -> None:
    """Red Hat's fallback loader in EFI/BOOT would rewrite the boot order and reboot."""
    assert REMOVABLE_LOADER not in VENDOR_LOADERS
    assert len(set(VENDOR_LOADERS)) == len(VENDOR_LOADERS)
    for vendor in ("rocky", "redhat", "almalinux", "centos", "fedora", "debian", "ubuntu"):
        shim, grub = f"/EFI/{vendor}/shimx64.efi", f"/EFI/{vendor}/grubx64.efi"
        assert VENDOR_LOADERS.index(shim) < VENDOR_LOADERS.index(grub)
    assert VENDOR_LOADERS[-1] == "/EFI/Microsoft/Boot/bootmgfw.efi"
    assert all(re.fullmatch(r"/EFI(/[A-Za-z0-9]+)+\.efi", path) for path in VENDOR_LOADERS)


def test_no_loader_looks_at_cds_or_at_itself() -> None:
    """GRUB calls disks and USB sticks hd, CDs cd; what came from the network is none of these."""
    for disks in DISKS.values():
        assert all(re.fullmatch(r"\(hd[0-9*,]+\)", disk) for group in disks for disk in group.split())
        assert disks[-1] == "(hd*)", "in the end every disk is looked at"
