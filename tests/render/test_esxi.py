"""ESXi 7 and 8: the installation script, the boot.cfg of one machine, and what hostile values do to them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import BuildNotPossible, InvalidInput, ProvisionerError, TemplateError
from provisioner.render.bootscripts import esxi_boot_cfg, install_esxi_ipxe
from tests.render.context import DISTROS, NETWORKS, URLS
from tests.render.goldens import FIRMWARES, hold
from tests.render.recorder import Asked, recorder
from tests.render.structural import arguments, data_of, found, in_this_process, made, mistake, quickly, with_value

pytestmark = pytest.mark.slow

PROFILES = ("esxi7", "esxi8")
SHIPPED = """bootstate=0
title=Loading ESXi installer
timeout=5
prefix=
kernel=/b.b00
kernelopt=runweasel cdromBoot
modules=/jumpstrt.gz --- /useropts.gz --- /features.gz --- /k.b00 --- /s.v00 --- /imgpayld.tgz
build=8.0.2-0.0.22380479
updated=0
"""
DISKS = {
    "naa.600508b1001c0001": {"Size": 953869, "Model": "LOGICAL VOLUME", "Vendor": "HPE", "Is SSD": "false"},
    "naa.55cd2e404b660002": {"Size": 228936, "Model": "INTEL SSDSC2BB24", "Vendor": "ATA", "Is SSD": "true"},
    "t10.NVMe____SAMSUNG0003": {"Size": 476940, "Model": "SAMSUNG MZVLB512", "Vendor": "NVMe", "Is SSD": "true"},
    "mpx.vmhba32:C0:T0:L0": {"Size": 61440, "Model": "Cruzer", "Vendor": "SanDisk", "Is USB": "true"},
    "naa.600a098000000004": {"Size": 40960, "Model": "LUN C-Mode", "Vendor": "NETAPP", "Is Local": "false"},
    "naa.5000c50000000005": {"Size": 8192, "Model": "ST8", "Vendor": "SEAGATE"},
}
PARAMETERS: dict[str, Any] = {"ntp": ["ntp.example.com"], "serial_number": "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE", "ssh": True}


def listed(disks: dict[str, dict[str, Any]]) -> str:
    """As `localcli storage core device list` prints them."""
    text = ""
    for name, facts in disks.items():
        full = {"Device Type": "Direct-Access", "Is Local": "true", "Is Removable": "false", "Is USB": "false"} | facts
        text += f"{name}\n   Display Name: Local Disk ({name})\n" + "".join(f"   {k}: {v}\n" for k, v in full.items())
    return text


def section(text: str, name: str) -> str:
    """The lines of one section of the script."""
    return re.split(r"(?m)^%(?:pre|post|firstboot)\b.*\n", text)[1 + ["%pre", "%post", "%firstboot"].index(name)]


def ran(
    script: str, place: Path, disks: dict[str, dict[str, Any]], status: int = 200
) -> tuple[int, str, list[str], str]:
    """The %pre script with a stand-in for localcli: exit status, output, the steps told, what it left to include."""
    (place / "bin").mkdir(exist_ok=True)
    tool = place / "bin/localcli"
    tool.write_text(f"#!/bin/sh\ncat {place}/list\n")
    tool.chmod(0o755)
    (place / "list").write_text(listed(disks))
    path, include = place / "pre.py", place / "disk.ks"

    def answer(_asked: Asked, _before: int) -> tuple[int, bytes]:
        return status, b"{}"

    with recorder(answer) as server:
        filled = re.sub(r"@@provisioner:(\w+)@@", lambda each: server.url if each[1] == "boot_url" else each[1], script)
        path.write_text("import time\ntime.sleep = lambda _: None\n" + filled)
        done = subprocess.run(
            [sys.executable, str(path)],
            env={
                "PATH": f"{place}/bin:{os.environ['PATH']}",
                "provisioner_include": str(include),
                "provisioner_hold": "no",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        steps = server.steps()
    return done.returncode, done.stdout + done.stderr, steps, include.read_text() if include.exists() else ""


def golden(name: str, firmware: str, links: str, place: Path) -> str:
    """What ESXi's installer is told for this firmware and network."""
    # Of two addresses ESXi's installer can set up one.
    parameters = PARAMETERS | ({"management": "eth0"} if links == "static" else {})
    data = data_of(name, links, parameters=parameters)
    try:
        text = made(name, links, parameters=parameters)
    except ProvisionerError as error:
        return f"refused: {error.message}\n"
    assert found(name, text) == []
    status, output, steps, include = ran(section(text, "%pre"), place, DISKS)
    assert (status, steps) == (0, ["installer", "disk"]), output
    seed, tree = f"{URLS['seed']}boot.cfg", DISTROS[name][3]
    media = "@@provisioner:media_url@@/media/sha256/HASH"
    script = install_esxi_ipxe(f"{media}/bootx64.efi", f"{media}/mboot.c32", seed, "web01")
    kernels = re.findall(r"(?m)^kernel .*", script)
    return (
        f"# iPXE\n{kernels[FIRMWARES.index(firmware) - 1]}\n"
        f"\n# boot.cfg\n{esxi_boot_cfg(SHIPPED, tree, arguments(name, data))}"
        f"\n# answer\n{text.split('%pre')[0]}\n# /tmp/provisioner-disk.ks\n{include}"
        f"\n# first boot\n{section(text, '%firstboot').split('import subprocess')[1]}"
    )


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_the_shipped_profiles_match_their_golden_files(
    name: str, firmware: str, links: str, tmp_path: Path
) -> None:
    hold(name, firmware, links, golden(name, firmware, links, tmp_path))


def test_the_defaults_and_a_root_password_are_enough() -> None:
    for name in PROFILES:
        assert found(name, made(name)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"secrets": []}, "--secret root_password=FILE"),
        ({"parameters": {"raid1": True}}, "the controller's"),
        ({"parameters": {"encrypt": True}}, "TPM"),
        ({"parameters": {"var_size": "20G"}}, "leave them empty"),
        ({"parameters": {"disk": "/dev/sda"}}, "/dev/disks/NAME"),
        ({"parameters": {"disk": {"serial": "X"}}}, "/dev/disks/naa"),
        ({"handoff": {"tool": "puppet"}}, "handoff: {tool: none}"),
        ({"links": "bond-vlan"}, "esxcli network vswitch"),
        ({"links": "static"}, "management: eth0"),
    ],
)
def test_s34_what_esxi_cannot_do_is_refused_with_what_to_do_instead(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        made("esxi8", **changes)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("disk", "taken"),
    [
        ({"at_least": "32G"}, "naa.55cd2e404b660002"),
        ({"at_least": "32G", "take": "largest"}, "naa.600508b1001c0001"),
        ({"at_least": "32G", "kind": "nvme"}, "t10.NVMe____SAMSUNG0003"),
        ({"at_least": "32G", "kind": "hdd"}, "naa.600508b1001c0001"),
        ({"at_least": "300G", "kind": "ssd"}, "t10.NVMe____SAMSUNG0003"),
        ({"model": "LOGICAL"}, "naa.600508b1001c0001"),
        ("/dev/disks/mpx.vmhba32:C0:T0:L0", "mpx.vmhba32:C0:T0:L0"),
    ],
)
def test_the_disk_is_chosen_by_the_rule_and_told_before_it_is_touched(disk: Any, taken: str, tmp_path: Path) -> None:
    script = section(made("esxi8", parameters={"disk": disk}), "%pre")
    status, output, steps, include = ran(script, tmp_path, DISKS)
    assert (status, steps) == (0, ["installer", "disk"]), output
    assert include == f"install --disk=/vmfs/devices/disks/{taken} --overwritevmfs\n"
    assert f"installing to {taken}" in output


@pytest.mark.parametrize(("status", "disks"), [(500, DISKS), (200, {"naa.5": DISKS["naa.5000c50000000005"]})])
def test_c06_without_an_acknowledged_disk_nothing_is_included(status: int, disks: Any, tmp_path: Path) -> None:
    code, output, steps, include = ran(section(made("esxi8"), "%pre"), tmp_path, disks, status)
    assert (code, include) == (1, "") and "STOPPED" in output
    assert steps[-1] == "failed"


def test_a_vlan_over_an_interface_is_the_management_network() -> None:
    links = [{"name": "mgmt", "kind": "vlan", "over": "eth0", "id": 30, "address_of": "eth0"}]
    data = data_of("esxi8", "static", parameters={"links": links, "network": "static", "management": "mgmt"})
    text = quickly("esxi8", data)
    (line,) = re.findall(r"(?m)^network .*", text)
    assert "--vlanid=30" in line and "--ip=10.0.2.11" in line and "--device=52:54:00:12:34:56" in line


def test_a_missing_loader_is_said_on_the_console() -> None:
    script = install_esxi_ipxe("http://m/bootx64.efi", None, "http://b/boot.cfg", "web01")
    assert "no mboot.c32" in script.split(":bios")[1] and "kernel" not in script.split(":bios")[1]
    assert "kernel --name kernel http://m/bootx64.efi -c http://b/boot.cfg" in script.split(":bios")[0]
    assert (
        "no mboot.efi" in install_esxi_ipxe(None, "http://m/mboot.c32", "http://b/boot.cfg", "web01").split(":bios")[0]
    )


def test_boot_cfg_keeps_the_mediums_modules_without_their_slashes() -> None:
    text = esxi_boot_cfg(SHIPPED, "http://media/esxi/", ["ks=http://boot/answer", "netdevice=52:54:00:12:34:56"])
    said = dict(line.split("=", 1) for line in text.splitlines())
    assert said["prefix"] == "http://media/esxi" and said["kernel"] == "b.b00"
    assert said["modules"] == "jumpstrt.gz --- useropts.gz --- features.gz --- k.b00 --- s.v00 --- imgpayld.tgz"
    assert said["kernelopt"] == "ks=http://boot/answer netdevice=52:54:00:12:34:56"


@pytest.mark.parametrize(
    "shipped", ["", "kernel=b.b00\n", SHIPPED.replace("/k.b00", "../../etc/x"), SHIPPED.replace("/k.b00", "k b00")]
)
def test_s34_what_is_no_boot_cfg_is_refused(shipped: str) -> None:
    with pytest.raises(InvalidInput):
        esxi_boot_cfg(shipped, "http://media/esxi", [])


def test_static_installers_need_an_address() -> None:
    data = data_of("esxi8", parameters={"installer_network": "static"})
    with pytest.raises(BuildNotPossible):
        arguments("esxi8", data)


def structure(text: str) -> list[str]:
    """Commands and sections in order, each with its options, and the scripts without their constants."""
    lines = text.split("%pre", maxsplit=1)[0].splitlines()
    told = [re.sub(r"=\S*", "", line.split("'")[0]) if not line.startswith("#") else "#" for line in lines]
    told = [" ".join(line.split()[:1] + [word for word in line.split() if word.startswith("--")]) for line in told]
    for name in ("%pre", "%post", "%firstboot"):
        tree = ast.parse(section(text, name))
        told += [type(node).__name__ for node in ast.walk(tree) if not isinstance(node, ast.Constant)]
    return told


HOSTILE = st.one_of(
    st.sampled_from(
        ["a\nrootpw x", "%post", "x'\n%pre", '"); import os; ("', "x --ip=1.2.3.4", "$(id)", "\\", "'", '"', "\u2028x"]
    ),
    st.text(max_size=20),
)


@in_this_process
@given(value=HOSTILE, field=st.sampled_from(["keyboard", "serial_number", "ntp", "fqdn"]))
def test_s34_no_value_opens_a_command_or_a_section(value: str, field: str) -> None:
    data = data_of("esxi8", parameters={"ntp": ["x"], "serial_number": "x"})
    text = with_value("esxi8", data, field, value)
    if value and text is not None:
        assert structure(text) == structure(quickly("esxi8", data))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("vmaccepteula\n", "", "an accepted licence is missing"),
        ("vmaccepteula\n", "vmaccepteula\naccepteula\n", "is said twice"),
        ("reboot\n", "reboot\nbootloader\n", "'bootloader' is no command"),
        ("--iscrypted ", "", "in clear"),
        ("@@provisioner:secret_root_password@@", "hunter2", "no crypt hash"),
        ("--bootproto=dhcp", "--bootproto=static", "needs --ip"),
        ("--addvmportgroup=0", "--addvmportgrup=0", "no option"),
        ("%include /tmp/provisioner-disk.ks\n", "", "what to install to is missing"),
        ("%include /tmp/provisioner-disk.ks\n", "install --overwritevmfs\n", "needs --disk="),
        ("%include /tmp/provisioner-disk.ks\n", "install --firstdisk\n", "happens to find"),
        ("%post --interpreter=python", "%post --interpreter=perl", "python or busybox"),
        ("%post --interpreter=python", "%last --interpreter=python", "no section '%last'"),
        ('provisioner_event("installer"', 'provisioner_event "installer"', "python: "),
        ("keyboard 'US Default'", "keyboard 'US", "quotes are not closed"),
    ],
)
def test_s33_mistakes_are_found_with_their_line(before: str, after: str, message: str) -> None:
    first, line = mistake("esxi8", before, after, message)
    assert first.level == ("warning" if "happens" in message else "error")
    if "missing" not in message:
        assert abs(first.line - line) <= 2
