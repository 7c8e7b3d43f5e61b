"""What iPXE, GRUB and PXELINUX are told."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.localboot import DISKS, REMOVABLE_LOADER, VENDOR_LOADERS, WAYS
from provisioner.errors import InvalidInput
from provisioner.render import bootscripts as scripts

BOOT_URL = "http://10.0.2.1:8080"
URL = "@@provisioner:boot_url@@/boot/ipxe"
KERNEL = "http://10.0.2.1:8081/media/sha256/abc/vmlinuz"
INITRD = "http://10.0.2.1:8081/media/sha256/def/initrd.img"
HOSTILE = [
    "a\nreboot",
    "${net0/mac}",
    "a || shell",
    "a && reboot",
    "'; reboot; '",
    'x" y',
    "a\x00",
    "\x1b[2J",
    "é\u2028",
]

# Commands of Debian 12's iPXE (a 2019 build); params, vcreate and poweroff came later.
KNOWN = {"echo", "set", "isset", "inc", "iseq", "chain", "sleep", "goto", "exit", "reboot", "imgfree", "kernel"}
KNOWN |= {"initrd", "boot", "sanboot", "dhcp"}


def all_ipxe() -> list[str]:
    return [
        scripts.first_ipxe("http://10.0.2.1:8080"),
        scripts.install_ipxe(KERNEL, [INITRD, INITRD], ("inst.ks=http://x/", "quiet"), "web01"),
        scripts.local_ipxe("pcbios"),
        scripts.local_ipxe("efi"),
        *(scripts.local_ipxe(platform, way, BOOT_URL) for platform in ("pcbios", "efi") for way in WAYS),
        scripts.halt_ipxe(["stopped", "because"]),
        scripts.discovery_ipxe(["52:54:00:12:34:56"], URL, 5, "adding"),
    ]


@pytest.mark.parametrize("script", all_ipxe())
def test_ipxe_scripts_use_only_what_the_2019_build_knows(script: str) -> None:
    assert script.startswith("#!ipxe\n") and script.endswith("\n")
    for line in script.splitlines()[1:]:
        for command in re.split(r" (?:\|\||&&)(?: |$)", line):
            words = command.split()
            assert not words or words[0] in KNOWN or re.fullmatch(r":\w+", words[0]), line
    labels = set(re.findall(r"(?m)^:(\w+)$", script))
    assert set(re.findall(r"goto (\w+)", script)) <= labels


def test_r11_the_first_script_reports_the_open_nic_and_escapes_what_firmware_says() -> None:
    script = scripts.first_ipxe("http://10.0.2.1:8080/")
    assert (
        "chain --replace http://10.0.2.1:8080/boot/ipxe/${netX/mac:hexhyp}?uuid=${uuid}&serial=${serial:uristring}"
        "&manufacturer=${manufacturer:uristring}&product=${product:uristring}&asset=${asset:uristring}"
        "&arch=${buildarch}&platform=${platform}&ip=${netX/ip} || goto wait\n"
    ) in script
    assert "net0" not in script


def test_install_boots_what_it_loaded() -> None:
    script = scripts.install_ipxe(KERNEL, [INITRD], ("inst.ks=@@provisioner:boot_url@@/x", "quiet"), "web01: rocky9")
    assert "echo Provisioner: installing web01: rocky9\n" in script
    kernel = f"kernel --name kernel {KERNEL} initrd=initrd BOOTIF=01-${{netX/mac:hexhyp}} "
    assert f"{kernel}inst.ks=@@provisioner:boot_url@@/x quiet || goto wait\n" in script
    assert f"initrd --name initrd {INITRD} || goto wait\nboot || goto wait\n" in script
    assert script.endswith("reboot\n")


def test_every_initrd_is_named_for_efi_kernels() -> None:
    script = scripts.install_ipxe(KERNEL, [INITRD, INITRD], (), "x")
    assert " initrd=initrd initrd=initrd1 " in script
    assert script.count("initrd --name initrd") == 2


def test_s02_local_and_halt_scripts_load_nothing() -> None:
    """No data is never an installation."""
    for script in (scripts.local_ipxe("pcbios"), scripts.local_ipxe("efi"), scripts.halt_ipxe(["x"])):
        assert not re.search(r"(?m)^(kernel|initrd|boot|chain)\b", script)
    assert "sanboot --no-describe --drive 0x80 ||\nexit 1\n" in scripts.local_ipxe("pcbios")
    assert "sanboot" not in scripts.local_ipxe("efi")
    for script in (scripts.local_grub(), scripts.halt_grub(["x"]), scripts.local_pxelinux(), scripts.halt_pxelinux([])):
        assert not re.search(r"(?m)^\s*(linux|initrd|APPEND)\b", script)


LOCAL = {
    ("pcbios", "auto"): "sanboot --no-describe --drive 0x80 ||\nexit 1\n",
    ("pcbios", "sanboot"): "sanboot --no-describe --drive 0x80 ||\nexit 1\n",
    ("pcbios", "second-disk"): "sanboot --no-describe --drive 0x81 ||\nexit 1\n",
    ("pcbios", "exit"): "exit 1\n",
    ("efi", "auto"): f"chain {BOOT_URL}/boot/loader/localdisk.efi ||\nexit 1\n",
    ("efi", "second-disk"): f"chain {BOOT_URL}/boot/loader/seconddisk.efi ||\nexit 1\n",
    ("efi", "sanboot"): "exit 1\n",
    ("efi", "exit"): "exit 1\n",
    ("efi", "a way of another version"): f"chain {BOOT_URL}/boot/loader/localdisk.efi ||\nexit 1\n",
}


@pytest.mark.parametrize(("platform", "way"), LOCAL)
def test_each_way_to_the_local_disk_ends_in_the_firmware(platform: str, way: str) -> None:
    """With status 1: an EFI boot option that ends well makes the firmware stop in its menu."""
    expected = f"#!ipxe\necho Provisioner: booting the local disk\n{LOCAL[platform, way]}"
    assert scripts.local_ipxe(platform, way, BOOT_URL) == expected
    assert scripts.local_ipxe(platform, way, f"{BOOT_URL}/") == expected


def test_without_a_url_efi_is_left_to_the_firmware() -> None:
    assert scripts.local_ipxe("efi").endswith("disk\nexit 1\n")


@pytest.mark.parametrize("way", WAYS)
def test_grub_looks_where_the_small_loader_looks(way: str) -> None:
    """Vendors' own loaders on every disk, then EFI/BOOT; `exit` and `sanboot` mean the firmware under UEFI."""
    script = scripts.local_grub(way)
    assert script.endswith("exit\n")
    loader = WAYS[way].loader
    if loader is None:
        assert script == "echo 'Provisioner: booting the local disk'\nexit\n"
        return
    places = [path for line in re.findall(r"for path in (.*); do", script) for path in line.split()]
    assert places == [*VENDOR_LOADERS, REMOVABLE_LOADER] * len(DISKS[loader])
    assert [disks for disks in re.findall(r"for part in (.*); do", script) if disks[0] == "("] == [*DISKS[loader]]
    assert script.split("\n", 1)[1].removesuffix("exit\n") in scripts.localdisk_grub(DISKS[loader])


def test_r01_a_halt_never_ends() -> None:
    """Not by itself, not by Ctrl-C, and not in a reboot that would come back to an installer."""
    script = scripts.halt_ipxe(["the third attempt", "click to go on"])
    assert script.endswith(":halt\nsleep 3600 || goto halt\ngoto halt\n")
    assert "echo the third attempt\necho click to go on\n" in script
    assert "exit" not in script and "reboot" not in script
    assert scripts.halt_grub(["x"]).endswith("while true; do\n  sleep 3600\ndone\n")
    assert "TIMEOUT 0" in scripts.halt_pxelinux(["x"])


def test_discovery_asks_again() -> None:
    script = scripts.discovery_ipxe(["who", "waits to be added"], "http://10.0.2.1:8080/", 20, "adding")
    again = "http://10.0.2.1:8080/boot/ipxe/${netX/mac:hexhyp}?uuid=${uuid}&serial=${serial:uristring}&"
    # While no DHCP server answers the NIC is closed; another one would be taken for another machine.
    assert "echo who\necho waits to be added\nset nic ${netX/ifname}\n:again\n" in script
    # A fresh lease first: the machine may have been given an address of its own meanwhile.
    assert f"sleep 20 ||\ndhcp ${{nic}} ||\nchain --replace {again}" in script
    assert script.endswith("&wait=20&for=adding || goto again\ngoto again\n"), "it asks for ever"
    assert "exit" not in script and "boot\n" not in script


def test_discovery_by_grub_asks_again_in_one_loop() -> None:
    script = scripts.discovery_grub(["who"], "/grub/by-mac/x", (5, 10, 60))
    assert "echo 'who'\n" in script
    assert 'elif [ "$provisioner_wait" = 10 ]; then set provisioner_wait=60\n' in script
    assert "    source '/grub/by-mac/x'\n  done\nfi\n" in script
    assert "configfile" not in script, "nested files would use up the stack"


@pytest.mark.parametrize("value", HOSTILE)
def test_s34_hostile_text_stays_on_its_line(value: str) -> None:
    """Names and messages hold what firmware and people wrote; on a console they are only shown."""
    plain = scripts.halt_ipxe(["x"]).count("\n")
    for script in (
        scripts.halt_ipxe([value]),
        scripts.discovery_ipxe([value], URL, 1, "adding"),
        scripts.install_ipxe(KERNEL, [INITRD], (), value),
    ):
        assert script.isascii()
        assert all(line.isprintable() for line in script.splitlines())
        assert "${net0" not in script
    assert scripts.halt_ipxe([value]).count("\n") == plain
    for grub in (scripts.halt_grub([value]), scripts.install_grub("/a", [], (), value), scripts.halt_pxelinux([value])):
        assert grub.isascii() and all(line.isprintable() for line in grub.splitlines())
    assert scripts.halt_grub([value]).count("'") == 2


@given(st.text(max_size=300))
def test_s54_shown_text_is_inert(value: str) -> None:
    text = scripts.shown(value)
    assert len(text) <= 160
    assert re.fullmatch(r"[ -~]*", text)
    assert not set(text) & set("$'\"\\`|&;<>")


@pytest.mark.parametrize("value", ["a b", "a\nb", "${x}", "'a'", '"', "a\\b", "", "||", "a||b", "#x", ";", "é", "\x00"])
def test_s34_kernel_options_that_break_the_line_are_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        scripts.install_ipxe(KERNEL, [], (value,), "x")
    with pytest.raises(InvalidInput):
        scripts.install_grub("/vmlinuz", [], (value,), "x")


@pytest.mark.parametrize("value", ["http://x/a b", "http://x/${y}", "http://x/\nreboot", "http://x/'", ""])
def test_s34_urls_that_break_the_line_are_refused(value: str) -> None:
    for call in (
        lambda: scripts.first_ipxe(value),
        lambda: scripts.install_ipxe(value, [], (), "x"),
        lambda: scripts.install_ipxe(KERNEL, [value], (), "x"),
        lambda: scripts.local_ipxe("efi", "auto", value or " "),
        lambda: scripts.discovery_ipxe(["x"], value, 1, "adding"),
    ):
        with pytest.raises(InvalidInput):
            call()


def test_grub_names_the_nic_as_installers_read_it() -> None:
    script = scripts.install_grub(
        "media/vmlinuz", ["media/initrd"], ("ds=nocloud-net;s=http://x/",), "x", "52:54:00:AB:34:56"
    )
    line = "if linux '/media/vmlinuz' 'BOOTIF=01-52-54-00-ab-34-56' 'ds=nocloud-net;s=http://x/'; then\n"
    assert f"{line}  if initrd '/media/initrd'; then boot; fi\n" in script


@pytest.mark.skipif(shutil.which("grub-script-check") is None, reason="grub-script-check is not installed")
@pytest.mark.parametrize(
    "script",
    [
        scripts.install_grub("/media/vmlinuz", ["/media/initrd"], ("a=b;c", "d={e}", "f=$g"), "it's web01"),
        scripts.install_grub("/media/vmlinuz", [], (), "x"),
        *(scripts.local_grub(way) for way in WAYS),
        *(scripts.localdisk_grub(disks) for disks in DISKS.values()),
        scripts.halt_grub(["a", "b (c)"]),
        scripts.discovery_grub(["it's x"], "/grub/by-mac/52:54:00:12:34:56", (5, 10, 60)),
    ],
)
def test_grub_scripts_parse(script: str) -> None:
    done = subprocess.run(["grub-script-check"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
