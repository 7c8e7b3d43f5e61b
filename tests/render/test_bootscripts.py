"""What iPXE, GRUB and PXELINUX are told."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import InvalidInput
from provisioner.render import bootscripts as scripts

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
        scripts.local_ipxe("efi", KERNEL),
        scripts.halt_ipxe(["stopped", "because"]),
        scripts.discovery_ipxe("52:54:00:12:34:56", URL, 30),
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
    assert f"chain {KERNEL} ||\nexit 1\n" in scripts.local_ipxe("efi", KERNEL)
    for script in (scripts.local_grub(), scripts.halt_grub(["x"]), scripts.local_pxelinux(), scripts.halt_pxelinux([])):
        assert not re.search(r"(?m)^\s*(linux|initrd|APPEND)\b", script)


def test_r01_a_halt_never_ends() -> None:
    """Not by itself, not by Ctrl-C, and not in a reboot that would come back to an installer."""
    script = scripts.halt_ipxe(["the third attempt", "click to go on"])
    assert script.endswith(":halt\nsleep 3600 || goto halt\ngoto halt\n")
    assert "echo the third attempt\necho click to go on\n" in script
    assert "exit" not in script and "reboot" not in script
    assert scripts.halt_grub(["x"]).endswith("while true; do\n  sleep 3600\ndone\n")
    assert "TIMEOUT 0" in scripts.halt_pxelinux(["x"])


def test_discovery_asks_again() -> None:
    script = scripts.discovery_ipxe("52:54:00:12:34:56 waits to be registered", URL, 30)
    assert f"sleep 30 ||\nchain --replace {URL} || goto again\n" in script
    assert "configfile '/grub/grub.cfg'\n" in scripts.discovery_grub("x", "/grub/grub.cfg", 30)


@pytest.mark.parametrize("value", HOSTILE)
def test_s34_hostile_text_stays_on_its_line(value: str) -> None:
    """Names and messages hold what firmware and people wrote; on a console they are only shown."""
    plain = scripts.halt_ipxe(["x"]).count("\n")
    for script in (
        scripts.halt_ipxe([value]),
        scripts.discovery_ipxe(value, URL, 1),
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
        lambda: scripts.local_ipxe("efi", value),
        lambda: scripts.discovery_ipxe("x", value, 1),
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
        scripts.local_grub(),
        scripts.halt_grub(["a", "b (c)"]),
        scripts.discovery_grub("x", "/grub/grub.cfg", 30),
    ],
)
def test_grub_scripts_parse(script: str) -> None:
    done = subprocess.run(["grub-script-check"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
