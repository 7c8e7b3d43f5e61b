"""What a medium is, by the metadata of real ones; and by anything at all (property)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mediums import CASPER, FIXTURES, NETBOOT, RED_HAT, SUSE

from provisioner.core.mediatree import WANTED, Answers, identify
from provisioner.errors import InvalidInput, MediaMissing, ProvisionerError

ESXI = ("boot.cfg", "mboot.c32", "efi/boot/bootx64.efi", "b.b00")
COREOS = ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img", "images/pxeboot/rootfs.img", "coreos/igninfo.json")
DVD = ("install.amd/vmlinuz", "install.amd/initrd.gz", "pool/main/a.deb")
MIRROR = ("dists/bookworm/InRelease", *NETBOOT)
FLATCAR = ("flatcar_production_pxe.vmlinuz", "flatcar_production_pxe_image.cpio.gz")


def texts(fixture: str) -> dict[str, str]:
    """The fixture's metadata by path."""
    root = FIXTURES / fixture
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("fixture", "files", "os", "version", "kernel", "tree"),
    [
        ("rocky-9.6", RED_HAT, "rocky", "9.6", "images/pxeboot/vmlinuz", True),
        ("rhel-9.4", RED_HAT, "rhel", "9.4.0", "images/pxeboot/vmlinuz", True),
        ("alma-9", RED_HAT, "alma", "9", "images/pxeboot/vmlinuz", True),
        ("centos-9", RED_HAT, "centos", "9", "images/pxeboot/vmlinuz", True),
        ("centos-10", RED_HAT, "centos", "10", "images/pxeboot/vmlinuz", True),
        ("oracle-9.4", RED_HAT, "oracle", "9.4", "images/pxeboot/vmlinuz", True),
        ("fedora-44", RED_HAT, "fedora", "44", "images/pxeboot/vmlinuz", True),
        ("rhel-9.2-discinfo", RED_HAT, "rhel", "9.2", "images/pxeboot/vmlinuz", True),
        ("debian-12.5", DVD, "debian", "12.5.0", "install.amd/vmlinuz", False),
        ("debian-12.5", MIRROR, "debian", "12.5.0", "debian-installer/amd64/linux", True),
        ("debian-12-netboot", NETBOOT, "debian", "12", "debian-installer/amd64/linux", False),
        ("ubuntu-24.04.1", CASPER, "ubuntu", "24.04.1", "casper/vmlinuz", False),
        ("ubuntu-22.04.4", CASPER, "ubuntu", "22.04.4", "casper/vmlinuz", False),
        ("sles-15.6", SUSE, "sles", "15.6", "boot/x86_64/loader/linux", True),
        ("opensuse-15.6", SUSE, "opensuse", "15.6", "boot/x86_64/loader/linux", True),
        ("esxi-8.0.3", ESXI, "esxi", "8.0.3", "efi/boot/bootx64.efi", True),
        ("flatcar-4081.2.0", FLATCAR, "flatcar", "4081.2.0", "flatcar_production_pxe.vmlinuz", False),
    ],
)
def test_a_medium_says_what_it_is(
    fixture: str, files: tuple[str, ...], os: str, version: str, kernel: str, tree: bool
) -> None:
    found = identify([*files, *texts(fixture)], texts(fixture))
    assert (found.os, found.version, found.arch, found.kernel, found.tree) == (os, version, "x86_64", kernel, tree)
    assert found.initrd
    assert found.name == f"{os}-{version}"
    assert found.found_by in {*texts(fixture), *WANTED}


def test_fedora_coreos_is_known_by_its_label_or_by_its_file_names() -> None:
    found = identify(COREOS, {}, "fedora-coreos-42.20250609.3.0")
    assert (found.os, found.version, found.files) == ("fcos", "42.20250609.3.0", {"rootfs": COREOS[2]})
    stem = "fedora-coreos-42.20250609.3.0-live-"
    names = [f"{stem}kernel-x86_64", f"{stem}initramfs.x86_64.img", f"{stem}rootfs.x86_64.img"]
    loose = identify(names, {})
    assert (loose.version, loose.kernel, loose.initrd, dict(loose.files)) == (
        found.version,
        *names[:2],
        {"rootfs": names[2]},
    )


def test_ubuntu_needs_the_iso_and_nothing_else_of_the_tree() -> None:
    found = identify([*CASPER, ".disk/info"], texts("ubuntu-24.04.1"))
    assert found.iso
    assert not found.tree
    assert found.needed == ("casper/vmlinuz", "casper/initrd")


def test_a_debian_cd_says_that_its_initrd_wants_a_cd_until_another_is_given() -> None:
    found = identify(DVD, texts("debian-12.5"))
    assert "--initrd" in found.notes[1]
    other = identify(DVD, texts("debian-12.5"), answers=Answers(initrd="http://mirror/netboot/initrd.gz"))
    assert [note for note in other.notes if "--initrd" in note] == []
    assert other.needed == ("install.amd/vmlinuz",)


def test_a_boot_iso_without_packages_says_so() -> None:
    found = identify(["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"], texts("rocky-9.6"))
    assert "no packages" in found.notes[0]


def test_the_arch_is_one_that_is_installed() -> None:
    other = texts("rocky-9.6")[".treeinfo"].replace("x86_64", "aarch64")
    with pytest.raises(InvalidInput, match="aarch64") as caught:
        identify(RED_HAT, {".treeinfo": other})
    assert "--arch x86_64" in caught.value.hint
    assert identify(RED_HAT, {".treeinfo": other}, answers=Answers(arch="x86_64")).arch == "x86_64"


def test_unknown_media_say_what_was_looked_for_and_what_to_answer() -> None:
    with pytest.raises(InvalidInput, match=r"looked for \.treeinfo .*casper/.*media\.1/.*boot\.cfg") as caught:
        identify(["vmlinuz"], {})
    assert "--os rocky --version 9.6" in caught.value.hint
    with pytest.raises(InvalidInput, match="no kernel and initrd") as caught:
        identify(["vmlinuz"], {}, answers=Answers(os="rhel", version="9.6"))
    assert "--kernel PATH --initrd PATH" in caught.value.hint
    answers = Answers(os="rhel", version="9.6", kernel="vmlinuz", initrd="initrd")
    assert identify(["vmlinuz", "initrd"], {}, answers=answers).kernel == "vmlinuz"
    assert identify(RED_HAT, {}, answers=Answers(os="rhel", version="9.6")).kernel == "images/pxeboot/vmlinuz"


def test_answers_come_before_what_the_medium_says() -> None:
    found = identify(
        RED_HAT, texts("rocky-9.6"), answers=Answers(os="rhel", version="9.7", kernel="images/install.img")
    )
    assert (found.os, found.version, found.kernel) == ("rhel", "9.7", "images/install.img")


def test_an_answered_os_decides_what_is_kept_of_the_medium() -> None:
    other = identify([*NETBOOT, "version.info"], texts("debian-12-netboot"), answers=Answers(os="rhel"))
    assert (other.tree, other.iso, other.notes) == (True, False, ())
    ubuntu = identify(RED_HAT, texts("rocky-9.6"), answers=Answers(os="ubuntu"))
    assert (ubuntu.tree, ubuntu.iso) == (False, True)
    mirror = identify(MIRROR, {}, answers=Answers(os="debian", version="12"))
    assert mirror.tree
    assert not identify(NETBOOT, {}, answers=Answers(os="debian", version="12")).tree


def test_a_kernel_that_is_not_there_or_outside_is_refused() -> None:
    with pytest.raises(MediaMissing, match=r"\.treeinfo names images/pxeboot/vmlinuz, which is not in it"):
        identify(["images/install.img"], texts("rocky-9.6"))
    for path in ("../../../etc/shadow", "images//vmlinuz", "a/../../b", ".."):
        text = texts("rocky-9.6")[".treeinfo"].replace("images/pxeboot/vmlinuz", path)
        with pytest.raises(InvalidInput):
            identify([*RED_HAT, path], {".treeinfo": text})


def test_every_fixture_is_used() -> None:
    used = Path(__file__).read_text()
    assert [path.name for path in FIXTURES.iterdir() if f'"{path.name}"' not in used] == []


_names = st.lists(
    st.sampled_from([*RED_HAT, *CASPER, *NETBOOT, *SUSE, *ESXI, *COREOS, *DVD, *FLATCAR, *WANTED]) | st.text()
)
_line = st.sampled_from(
    [line for fixture in FIXTURES.iterdir() for text in texts(fixture.name).values() for line in text.splitlines()]
)
_texts = st.dictionaries(
    st.sampled_from(WANTED), st.lists(_line | st.text(max_size=40), max_size=30).map("\n".join) | st.text(max_size=200)
)
_answers = st.builds(Answers, *[st.sampled_from(["", "rocky", "debian", "9.6", "x86_64", "../x", "/k", "a b"])] * 5)


@given(_names, _texts, st.text(max_size=40), _answers)
def test_whatever_a_medium_says_we_find_paths_in_it_or_say_what_is_wrong(
    names: list[str], said: dict[str, str], label: str, answers: Answers
) -> None:
    try:
        found = identify(names, said, label, answers)
    except ProvisionerError as error:
        assert error.hint
        return
    for path in found.needed:
        assert path in names
        assert ".." not in path.split("/")
    assert found.version.isascii()
    assert " " not in found.version
