"""The small EFI loaders: what is in them, when they are made, and what happens where they cannot be."""

import struct
from pathlib import Path

import pytest
from conftest import served_environment
from world import ACTOR

from provisioner.core.localboot import DISKS, REMOVABLE_LOADER, VENDOR_LOADERS
from provisioner.errors import ProgramFailed, ProgramMissing
from provisioner.services import check, loaders
from provisioner.services.setup import init
from provisioner.services.site import Site
from provisioner.settings import Settings


def stand_in(place: Path, name: str, text: str) -> Path:
    """A program in ``place`` that is called instead of the real one."""
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)
    return place


@pytest.mark.parametrize("name", DISKS)
def test_init_makes_an_efi_application_that_knows_where_to_look(site: Site, name: str) -> None:
    image = loaders.find(site, name)
    assert image is not None
    assert image[:2] == b"MZ"
    header = struct.unpack_from("<I", image, 0x3C)[0]
    assert image[header : header + 6] == b"PE\0\0" + struct.pack("<H", 0x8664), "x86-64"
    magic, subsystem = struct.unpack_from("<H", image, header + 24)[0], struct.unpack_from("<H", image, header + 92)[0]
    assert (magic, subsystem) == (0x20B, 10), "PE32+, EFI application"
    for path in [*VENDOR_LOADERS, REMOVABLE_LOADER, *DISKS[name]]:
        assert path.encode() in image, path
    assert len(image) < 1 << 20, "every machine fetches it at every boot"


def test_what_is_there_and_current_is_left_alone(site: Site) -> None:
    before = {path: path.stat().st_ino for path in (site.settings.state_dir / "loaders").iterdir()}
    assert len(before) == len(DISKS)
    assert loaders.make(site) == []
    assert {path: path.stat().st_ino for path in before} == before
    assert sorted(loaders.make(site, anew=True)) == sorted(DISKS)


def test_a_missing_one_and_one_of_another_configuration_are_made_again(site: Site) -> None:
    place = site.settings.state_dir / "loaders"
    good = (place / "localdisk.efi").read_bytes()
    (place / "localdisk.efi").write_bytes(good.replace(b"/EFI/rocky/", b"/EFI/rokky/"))
    (place / "seconddisk.efi").unlink()
    assert loaders.missing(site) == list(DISKS)
    loaders.try_to_make(site)
    assert loaders.missing(site) == []
    assert (place / "localdisk.efi").read_bytes() == good
    assert [path.name for path in place.iterdir() if path.name not in DISKS] == []


def test_only_our_loaders_have_a_name(site: Site) -> None:
    assert [loaders.find(site, name) for name in ("", "..", "../keys/master.key", "other.efi")] == [None] * 4


def test_without_grub_init_goes_on_and_check_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(loaders, "MODULE_DIRS", (tmp_path,))
    made = init(Settings(state_dir=tmp_path / "state"), ACTOR)
    assert isinstance(made.without, ProgramMissing)
    assert made.without.hint == "apt install grub-common grub-efi-amd64-bin"
    loaders.try_to_make(made.site)
    (finding,) = check.local_loaders(made.site)
    assert finding.level == "warning"
    assert finding.remedy.startswith("apt install grub-common grub-efi-amd64-bin, then")
    made.site.engine.dispose()


def test_a_grub_that_fails_leaves_what_was_there(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaders.find(site, "localdisk.efi")
    monkeypatch.setenv("PATH", str(stand_in(tmp_path / "bin", "grub-mkimage", "echo 'no such module' >&2; exit 1")))
    with pytest.raises(ProgramFailed, match="no such module"):
        loaders.make(site, anew=True)
    loaders.try_to_make(site)
    assert loaders.find(site, "localdisk.efi") == before


@pytest.mark.slow
def test_serve_makes_them_before_it_serves(site: Site, tmp_path: Path) -> None:
    from conftest import Served

    state = site.settings.state_dir
    for name in DISKS:
        (state / "loaders" / name).unlink()
    (state / "loaders").rmdir()
    service = Served(served_environment(state), state, log=tmp_path / "serve.log")
    service.start()
    try:
        assert service.http("/boot/loader/localdisk.efi").status == 200
    finally:
        service.stop()
    assert loaders.missing(site) == []
