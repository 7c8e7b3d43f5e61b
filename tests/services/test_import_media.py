"""`distro import` of honest media: what is found, kept, registered and served."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mediums import CASPER, FIXTURES, NETBOOT, PXEBOOT, RED_HAT, SUSE, iso, medium, served, sha, with_texts
from world import ACTOR, World

from provisioner.core.mediatree import Answers
from provisioner.errors import InvalidInput, MediaMissing, NameTaken, StorageFull
from provisioner.services import arming, check, installables, media, mediaimport, records, trees
from provisioner.services.site import Site
from provisioner.store.models import Distro

pytestmark = pytest.mark.slow


def beside(site: Site) -> list[str]:
    """What lies where imported trees are, but for the lock."""
    return sorted(path.name for path in trees.directory(site).glob("*") if path.name not in {".lock", ".removed"})


def tree_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("names", ["rr", "joliet", "udf"])
def test_an_iso_becomes_a_distro_with_its_whole_tree(site: Site, tmp_path: Path, names: str) -> None:
    files = with_texts("rocky-9.6", RED_HAT)
    image = iso(tmp_path / "Rocky.iso", files, names=names)
    seen: list[tuple[str, int, int]] = []
    imported = mediaimport.import_medium(site, ACTOR, image, progress=lambda *each: seen.append(each))
    distro = imported.distro
    assert (distro["name"], distro["os"], distro["version"], distro["arch"]) == ("rocky-9.6", "rocky", "9.6", "x86_64")
    assert distro["kernel_sha256"] == sha(RED_HAT["images/pxeboot/vmlinuz"])
    assert distro["initrd_sha256"] == sha(RED_HAT["images/pxeboot/initrd.img"])
    assert media.path_of(site, distro["kernel_sha256"]).read_bytes() == RED_HAT["images/pxeboot/vmlinuz"]
    assert imported.sha256 == sha(image.read_bytes())
    assert distro["tree"] == str(trees.path_of(site, imported.sha256))
    assert tree_of(Path(distro["tree"])) == files
    assert served(site, "rocky-9.6", "images/install.img") == RED_HAT["images/install.img"]
    assert served(site, "rocky-9.6", ".treeinfo") == files[".treeinfo"]
    assert "rocky9" in imported.profiles
    assert "debian12" not in imported.profiles
    assert {what for what, _, _ in seen} == {"reading Rocky.iso", "unpacking Rocky.iso"}
    assert all(done <= total for _, done, total in seen)
    assert beside(site) == [imported.sha256]


def test_iso9660_names_are_read_in_lower_case(site: Site, tmp_path: Path) -> None:
    files = with_texts("esxi-8.0.3", {"mboot.c32": b"mboot" * 99, "efi/boot/bootx64.efi": b"MZ" * 99, "b.b00": b"b"})
    image = iso(tmp_path / "esxi.iso", files, names="iso9660")
    imported = mediaimport.import_medium(site, ACTOR, image)
    assert imported.distro["name"] == "esxi-8.0.3"
    assert imported.distro["kernel_sha256"] == sha(files["efi/boot/bootx64.efi"])
    assert tree_of(Path(imported.distro["tree"])) == files


def test_the_tree_is_ours_readable_and_nothing_in_it_runs(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT), links={"latest": "images"})
    root = Path(mediaimport.import_medium(site, ACTOR, image).distro["tree"])
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
        if not path.is_symlink():
            assert status.st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644)
    assert (root / "latest").readlink() == Path("images")
    assert served(site, "rocky-9.6", "latest/install.img") == RED_HAT["images/install.img"]


def test_the_iso_is_remembered_by_its_sha256_in_the_history(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "Rocky.iso", with_texts("rocky-9.6", RED_HAT))
    imported = mediaimport.import_medium(site, ACTOR, image)
    newest = records.page(site, limit=1)["items"][0]
    assert newest["reason"] == f"imported from ISO Rocky.iso, SHA-256 {imported.sha256}"


def test_s45_the_iso_must_have_the_sha256_that_is_given(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT))
    with pytest.raises(InvalidInput, match="has the SHA-256") as caught:
        mediaimport.import_medium(site, ACTOR, image, sha256="0" * 64)
    assert "nothing was imported" in caught.value.hint
    assert beside(site) == []
    with pytest.raises(InvalidInput, match="is not a SHA-256"):
        mediaimport.import_medium(site, ACTOR, image, sha256="0" * 63)
    good = sha(image.read_bytes()).upper()
    assert mediaimport.import_medium(site, ACTOR, image, sha256=good).sha256 == good.lower()


def test_s45_a_kernel_unlike_the_checksum_in_its_treeinfo_is_refused(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", with_texts("alma-9", RED_HAT))
    with pytest.raises(MediaMissing, match=r"vmlinuz has the SHA-256 .*\.treeinfo says 553e7134"):
        mediaimport.import_medium(site, ACTOR, image)
    assert beside(site) == []
    assert installables.listing(site, Distro) == []


def test_ubuntu_keeps_kernel_initrd_and_the_iso_itself(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "ubuntu-live-server.iso", with_texts("ubuntu-24.04.1", CASPER))
    imported = mediaimport.import_medium(site, ACTOR, image)
    distro = imported.distro
    assert (distro["name"], distro["tree"]) == ("ubuntu-24.04.1", "")
    assert distro["files"]["iso"] == {
        "sha256": imported.sha256,
        "name": "ubuntu-live-server.iso",
        "size": image.stat().st_size,
    }
    assert media.path_of(site, imported.sha256).read_bytes() == image.read_bytes()
    assert "ubuntu2404" in imported.profiles
    assert beside(site) == []
    directory = medium(tmp_path / "unpacked", "ubuntu-24.04.1", CASPER)
    with pytest.raises(InvalidInput, match="fetches the ISO itself"):
        mediaimport.import_medium(site, ACTOR, directory, name="again")


def test_a_directory_is_copied_and_later_changes_do_not_reach_us(site: Site, tmp_path: Path) -> None:
    source = medium(tmp_path / "dvd", "sles-15.6", SUSE)
    (source / "inside").symlink_to("boot")
    (source / "outside").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    (source / "boot/x86_64/loader/linux").chmod(0o4755)
    imported = mediaimport.import_medium(site, ACTOR, source)
    root = Path(imported.distro["tree"])
    assert imported.distro["name"] == "sles-15.6"
    assert list(imported.written.left_out) == ["outside", "pipe"]
    assert not (root / "outside").is_symlink()
    assert not (root / "pipe").exists()
    assert (root / "inside").readlink() == Path("boot")
    assert (root / "boot/x86_64/loader/linux").stat().st_mode & 0o7777 == 0o644
    (source / "media.1/media").write_text("changed")
    assert b"SLE-15-SP6" in (served(site, "sles-15.6", "media.1/media") or b"")


def test_a_netboot_directory_without_packages_keeps_no_tree(site: Site, tmp_path: Path) -> None:
    source = medium(tmp_path / "text", "debian-12-netboot", NETBOOT)
    imported = mediaimport.import_medium(site, ACTOR, source)
    assert (imported.distro["name"], imported.distro["tree"]) == ("debian-12", "")
    assert "mirror" in imported.medium.notes[0]
    assert imported.profiles == ("debian12",)
    assert beside(site) == []


def test_unknown_media_ask_and_take_the_answers(site: Site, tmp_path: Path) -> None:
    files = {"boot/k": b"kernel", "boot/i": b"initrd", "data": b"d"}
    image = iso(tmp_path / "strange.iso", files)
    with pytest.raises(InvalidInput, match=r"strange\.iso: nothing in it says what it is; looked for \.treeinfo"):
        mediaimport.import_medium(site, ACTOR, image)
    answers = Answers(os="rocky", version="9.7", kernel="boot/k", initrd="boot/i")
    imported = mediaimport.import_medium(site, ACTOR, image, answers=answers)
    assert (imported.distro["name"], imported.distro["kernel_sha256"]) == ("rocky-9.7", sha(b"kernel"))


def test_a_kernel_from_elsewhere_is_taken_from_there(site: Site, tmp_path: Path) -> None:
    other = tmp_path / "initrd.gz"
    other.write_bytes(b"netboot initrd")
    files = with_texts("debian-12.5", {"install.amd/vmlinuz": b"kernel", "install.amd/initrd.gz": b"for a CD"})
    image = iso(tmp_path / "netinst.iso", files)
    imported = mediaimport.import_medium(site, ACTOR, image, answers=Answers(initrd=str(other)))
    assert imported.distro["initrd_sha256"] == sha(b"netboot initrd")


def test_what_is_there_already_is_a_conflict_before_anything_is_unpacked(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT))
    mediaimport.import_medium(site, ACTOR, image)
    with pytest.raises(NameTaken, match=r"a distro 'rocky-9\.6' already") as caught:
        mediaimport.import_medium(site, ACTOR, image)
    assert "--name" in caught.value.hint
    second = mediaimport.import_medium(site, ACTOR, image, name="rocky-again")
    assert beside(site) == [second.sha256], "the same medium lies there once"


def test_s44_a_full_disk_is_noticed_before(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT))
    real = os.statvfs

    def full(path: Any) -> Any:
        status = real(path)
        return os.statvfs_result((*status[:4], 10, *status[5:]))

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(StorageFull, match=r"the import needs 64 MiB, and 0 MiB are free for .*trees"):
        mediaimport.import_medium(site, ACTOR, image)
    assert beside(site) == []
    assert installables.listing(site, Distro) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted")
@pytest.mark.parametrize("what", ["iso", "directory"])
def test_s44_a_disk_that_fills_while_unpacking_leaves_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    files = with_texts("rocky-9.6", RED_HAT | {"big": os.urandom(9 << 20)})
    if what == "iso":
        source = iso(tmp_path / "a.iso", files)
    else:
        source = medium(tmp_path / "dvd", "rocky-9.6", RED_HAT | {"big": os.urandom(9 << 20)})
    site.media_dir.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", site.media_dir], check=True)
    try:
        monkeypatch.setattr(trees, "require_space", lambda *_: None)  # somebody else filled it meanwhile
        with pytest.raises(StorageFull):
            mediaimport.import_medium(site, ACTOR, source)
        assert beside(site) == []
        assert shutil.disk_usage(site.media_dir).used < 100_000
    finally:
        subprocess.run(["umount", site.media_dir], check=True)
    assert installables.listing(site, Distro) == []


def test_a_removed_distro_leaves_its_tree_to_the_builds_sealed_with_it(site: Site, tmp_path: Path) -> None:
    image = iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT))
    imported = mediaimport.import_medium(site, ACTOR, image)
    installables.remove(site.rehearsing(), ACTOR, Distro, "rocky-9.6")
    assert trees.all_kept(site) == []
    assert not (trees.directory(site) / ".removed").exists(), "a dry run leaves no trace"
    installables.rename(site, ACTOR, Distro, "rocky-9.6", "rocky")
    assert served(site, "rocky-9.6", "images/install.img") is not None
    assert served(site, "rocky", "images/install.img") is not None
    installables.remove(site, ACTOR, Distro, "rocky")
    other = iso(tmp_path / "b.iso", with_texts("opensuse-15.6", SUSE))
    mediaimport.import_medium(site, ACTOR, other)  # which cleans up
    for name in ("rocky-9.6", "rocky"):
        assert served(site, name, "images/install.img") == RED_HAT["images/install.img"]
    assert served(site, "rocky-9.5", "images/install.img") is None
    findings = [each for each in check.run(site) if "is kept" in each.what]
    assert [imported.sha256 in each.remedy for each in findings] == [True, True]
    shutil.rmtree(trees.path_of(site, imported.sha256))
    assert [each for each in check.run(site) if "is kept" in each.what] == []
    assert served(site, "rocky", "images/install.img") is None


def test_check_says_when_a_tree_is_gone(site: Site, tmp_path: Path) -> None:
    imported = mediaimport.import_medium(site, ACTOR, iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT)))
    shutil.rmtree(imported.distro["tree"])
    assert [each.level for each in check.run(site) if "tree of distro rocky-9.6 is gone" in each.what] == ["error"]


def test_leftovers_of_a_killed_import_go_with_the_next_one_and_with_check(site: Site, tmp_path: Path) -> None:
    root = trees.directory(site)
    for name in (".incoming-0123", "f" * 64):
        (root / name / "sub").mkdir(parents=True)
    with trees.staging(site) as held:
        assert beside(site) == [held.path.name]
        assert trees.leftovers(site) == [], "one that somebody holds is no leftover"
    (root / ".incoming-4567").mkdir()
    assert [each.level for each in check.run(site) if "unfinished imports" in each.what] == ["warning"]
    assert beside(site) == []


COREOS = {"images/pxeboot/rootfs.img": b"rootfs " * 500, "coreos/igninfo.json": b"{}"}
BOOT_CFG = (FIXTURES / "esxi-8.0.3/boot.cfg").read_bytes()
ESXI = {"boot.cfg": BOOT_CFG, "mboot.c32": b"c32" * 99, "efi/boot/bootx64.efi": b"MZ" * 99, "b.b00": b"b"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixture", "files", "label", "profile"),
    [
        ("rocky-9.6", RED_HAT, "Rocky-9-6-x86_64-dvd", "rocky9"),
        ("rhel-9.4", RED_HAT, "RHEL-9-4-0-BaseOS-x86_64", "rhel9"),
        ("centos-10", RED_HAT, "CentOS-Stream-10-BaseOS-x86_64", "centos10"),
        ("oracle-9.4", RED_HAT, "OL-9-4-0-BaseOS-x86_64", "oracle9"),
        ("fedora-44", RED_HAT, "Fedora-S-dvd-x86_64-44", "fedora44"),
        ("debian-12.5", NETBOOT, "Debian 12.5.0 amd64 n", "debian12"),
        ("ubuntu-24.04.1", CASPER, "Ubuntu-Server 24.04.1 LTS amd64", "ubuntu2404"),
        ("sles-15.6", SUSE, "SLE-15-SP6-Full-x86_64", "sles15"),
        ("opensuse-15.6", SUSE, "openSUSE-Leap-15.6-DVD-x86_64", "leap15"),
        ("esxi-8.0.3", ESXI, "ESXI-8.0U3B-24280767-STD", "esxi8"),
        ("", PXEBOOT | COREOS, "fedora-coreos-42.20250609.3.0", "fcos"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_machine_is_armed_from_an_imported_medium_with_the_profile_that_is_offered(
    site: Site, tmp_path: Path, world: World, fixture: str, files: dict[str, bytes], label: str, profile: str
) -> None:
    image = iso(tmp_path / "a.iso", (with_texts(fixture, {}) if fixture else {}) | files, label=label[:32])
    imported = mediaimport.import_medium(site, ACTOR, image)
    assert profile in imported.profiles
    world.subnet()
    parameters = {"mirror": "http://mirror.example.com/debian"}
    world.machine(profile=profile, parameters=parameters)
    world.secret()
    assert arming.start(site, ACTOR, "web01")["state"] == "armed"


def test_profiles_that_fit_inherit_and_name_distros(site: Site, tmp_path: Path, world: World) -> None:
    from provisioner.services import profiles

    profiles.add(site, ACTOR, {"name": "web", "parent": "rocky9"})
    profiles.add(site, ACTOR, {"name": "old", "parent": "rocky9", "distro": {"os": "rocky", "version": "8"}})
    profiles.add(site, ACTOR, {"name": "bare", "distro": {"os": "rocky"}})
    imported = mediaimport.import_medium(site, ACTOR, iso(tmp_path / "a.iso", with_texts("rocky-9.6", RED_HAT)))
    assert {"rocky9", "web"} <= set(imported.profiles)
    assert not {"old", "bare"} & set(imported.profiles)
