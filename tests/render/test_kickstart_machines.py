"""What a kickstart's scripts make of a machine: its disks, its network, its failures, and what they leave behind."""

import json
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from provisioner.errors import TemplateError
from tests.render.context import machine
from tests.render.faked import SHELLS, Disk, Machine, run
from tests.render.kickstarts import HASH, PASSPHRASE, answer, one, parsed, prepared, scripts, server, whole

pytestmark = pytest.mark.slow

LUKS = '["root_password", "disk_passphrase"]'
MATRIX = list(product(("plain", "lvm"), (False, True), (False, True), ("", "20G"), (False, True)))


@pytest.mark.parametrize(("partitioning", "raid1", "encrypt", "var", "uefi"), MATRIX)
def test_storage_is_divided_as_the_parameters_say(
    partitioning: str, raid1: bool, encrypt: bool, var: str, uefi: bool
) -> None:
    """On the chosen disks alone, with what the firmware needs on each, everything but /boot encrypted."""
    parameters = {"partitioning": partitioning, "raid1": raid1, "encrypt": encrypt, "var_size": var, "swap_size": "2G"}
    text = answer("rocky9", "dhcp", json.dumps(parameters | {"disk": "smallest-ssd"}), LUKS)
    handler = parsed(whole(text, uefi=uefi), "RHEL9")
    disks = ["sdb", "sdc"] if raid1 else ["sdb"]
    parts, arrays, volumes = handler.partition.partitions, handler.raid.raidList, handler.logvol.lvList
    assert handler.ignoredisk.onlyuse == disks
    assert handler.clearpart.drives == disks and handler.clearpart.initAll
    assert {part.disk for part in parts} == set(disks)
    assert not handler.autopart.seen

    holders = {each.mountpoint: each for each in arrays or parts}
    mounted = set(holders) | {each.mountpoint for each in volumes}
    wanted = {"/", "swap"} | ({"/var"} if var else set())
    wanted |= {"/boot"} if raid1 else set()
    wanted |= {"/boot/efi"} if raid1 and uefi else set()
    assert {name for name in mounted if name in {"swap", "biosboot"} or name.startswith("/")} - {"biosboot"} == wanted
    assert handler.reqpart.addBoot is not raid1
    if raid1:
        on = {disk: [part.mountpoint for part in parts if part.disk == disk] for disk in disks}
        assert all(("biosboot" in names) is not uefi for names in on.values())
        for array in arrays:
            assert array.level == "RAID1" and len(array.members) == 2
            assert {disk for disk in disks for member in array.members if member in on[disk]} == set(disks)
        assert handler.clearpart.disklabel == "gpt"
    locked = {name for name, each in holders.items() if each.encrypted}
    assert locked == (({"pv.01"} if partitioning == "lvm" else wanted - {"/boot", "/boot/efi"}) if encrypt else set())
    assert {holders[name].passphrase for name in locked} <= {PASSPHRASE}
    assert bool(volumes) is (partitioning == "lvm")
    sizes = {each.mountpoint: each.size for each in [*parts, *volumes]}
    assert sizes["/var"] == 20480 if var and (not raid1 or volumes) else True


@pytest.mark.parametrize("shell", SHELLS)
def test_pre_writes_the_same_in_every_shell_and_for_nobody_else(tmp_path: Path, shell: str) -> None:
    text = answer("rocky9", "bond-vlan", '{"raid1": true, "encrypt": true}', LUKS)
    ran = prepared(text, tmp_path, server(uefi=True), shell=shell)
    assert ran.status == 0, ran.output
    assert ran.steps() == ["installer", "disk"]
    assert HASH not in ran.output and PASSPHRASE not in ran.output
    files = {path.name: path for path in (tmp_path / "tmp/provisioner").iterdir()}
    assert set(files) == {"network.ks", "root.ks", "storage.ks"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files.values())
    kept = whole(text, uefi=True)
    assert all(path.read_text() in kept for path in files.values())


# --- network ----------------------------------------------------------------------------------------------------------


def network(links: list[dict[str, Any]], *, static: bool = True, **changes: Any) -> list[str]:
    parameters = {"network": "static" if static else "dhcp", "links": links} | changes
    text = one("rocky9", machine=machine(static=static), parameters=parameters)
    full = whole(text, uefi=False)
    parsed(full, "RHEL9")
    lines = full.partition("%pre ")[0].splitlines()
    return [line.removeprefix("network ") for line in lines if line.startswith("network --device")]


FIRST = "--bootproto=static --ip=10.0.2.11 --netmask=255.255.255.0 --gateway=10.0.2.1 --nameserver=10.0.2.1,10.0.2.2"
SECOND = "--bootproto=static --ip=10.0.3.11 --netmask=255.255.255.0"


def test_an_interface_that_nothing_is_said_of_is_left_alone() -> None:
    assert network([], static=False) == ["--device=enp1s0f0 --bootproto=dhcp --onboot=yes --activate"]


def test_a_vlan_over_an_interface_keeps_that_one_up() -> None:
    lines = network([{"name": "storage", "kind": "vlan", "over": "eth1", "id": 7, "address_of": "eth1"}])
    assert lines == [
        f"--device=enp1s0f0 {FIRST} --onboot=yes --activate",
        "--device=enp1s0f1 --noipv4 --noipv6 --onboot=yes --no-activate",
        f"--device=enp1s0f1 --vlanid=7 --interfacename=storage {SECOND} --nodefroute --onboot=yes --no-activate",
    ]


def test_a_bridge_over_a_bond_carries_the_address() -> None:
    links = [
        {"name": "bond0", "kind": "bond", "over": "all", "mode": "active-backup", "mtu": 9000},
        {"name": "br0", "kind": "bridge", "over": "bond0", "address_of": "eth0", "mtu": 9000},
    ]
    parameters = machine(static=True)
    parameters["interfaces"][1] |= {"ip": None, "prefix": None, "netmask": None}
    text = one("rocky9", machine=parameters, parameters={"network": "static", "links": links})
    lines = [line for line in whole(text, uefi=False).partition("%pre ")[0].splitlines() if "--device" in line]
    bond, bridge = lines
    assert bond.startswith(
        "network --device=bond0 --bondslaves=enp1s0f0,enp1s0f1 --bondopts=mode=active-backup,miimon=100"
    )
    assert bond.endswith(" --noipv4 --noipv6 --mtu=9000 --onboot=yes --no-activate")
    assert bridge == f"network --device=br0 --bridgeslaves=bond0 {FIRST} --mtu=9000 --onboot=yes --no-activate"


def test_both_ip_versions_on_one_link() -> None:
    links = [{"name": "eth0", "addresses": ["2001:db8::11/64"], "gateway": "2001:db8::1", "dns": "2001:db8::53"}]
    first, second = network(links)
    assert first == (
        "--device=enp1s0f0 --bootproto=static --ip=10.0.2.11 --netmask=255.255.255.0 --ipv6=2001:db8::11/64"
        " --ipv6gateway=2001:db8::1 --gateway=10.0.2.1 --nameserver=2001:db8::53,10.0.2.1,10.0.2.2"
        " --onboot=yes --activate"
    )
    assert second == f"--device=enp1s0f1 {SECOND} --nodefroute --onboot=yes --no-activate"


def test_ipv6_alone_asks_for_no_ipv4() -> None:
    links = [{"name": "eth1", "addresses": ["2001:db8::11/64"], "gateway": "2001:db8::1"}]
    assert network(links, static=False) == [
        "--device=enp1s0f0 --bootproto=dhcp --nodefroute --onboot=yes --activate",
        "--device=enp1s0f1 --noipv4 --ipv6=2001:db8::11/64 --ipv6gateway=2001:db8::1 --onboot=yes --no-activate",
    ]


def test_two_addresses_of_one_version_are_refused_with_the_link() -> None:
    with pytest.raises(TemplateError, match="link eth0: a kickstart gives a link one IPv4 address"):
        network([{"name": "eth0", "addresses": ["10.0.9.1/24"]}])


@pytest.mark.parametrize("shell", SHELLS)
def test_r11_a_machine_without_the_interface_is_stopped_before_its_disk(tmp_path: Path, shell: str) -> None:
    """Also before its secrets are unwrapped; the report names what is missing and what there is."""
    poor = Machine({"sda": Disk(100)}, {"enp1s0f0": "52:54:00:12:34:56", "virbr0": "aa:bb:cc:dd:ee:ff"})
    ran = prepared(answer("rocky9", "bond-vlan"), tmp_path, poor, shell=shell)
    assert ran.status == 1
    assert ran.steps() == ["installer", "failed"]
    (message,) = parse_qs(ran.reports[-1])["message"]
    assert "no network interface 52:54:00:12:34:57" in message and "52:54:00:12:34:56" in message
    assert not any(report.startswith("nonce=") for report in ran.reports)


# --- failures and traces ----------------------------------------------------------------------------------------------


def logs(place: Path) -> None:
    (place / "tmp").mkdir()
    (place / "tmp/anaconda.log").write_text(
        "start of anaconda\n" + "x" * 70_000 + "\n12:01 ERR storage: no room on http://h/build/TOKEN-9_x/answer\nlast\n"
    )
    (place / "tmp/program.log").write_text("mkfs of http://h/build/TOKEN-9_x/answer\n")


@pytest.mark.parametrize(("name", "section"), [("rocky9", "onerror"), ("rocky8", "onerror"), ("rocky8", "traceback")])
def test_an_error_of_anaconda_is_reported_once_with_its_log(tmp_path: Path, name: str, section: str) -> None:
    """The last 64 KiB without tokens, and the error itself in the message."""
    logs(tmp_path)
    (script,) = scripts(answer(name, "dhcp"), section)
    ran = run(script, tmp_path, {})
    assert ran.status == 0, ran.output
    (report,) = ran.reports
    form = {key: values[0] for key, values in parse_qs(report).items()}
    assert form["step"] == "failed"
    assert form["message"].endswith("stopped with an error: 12:01 ERR storage: no room on http://h/build/.../answer")
    assert form["log"].endswith("\nlast") and "start of anaconda" not in form["log"]
    assert 65_000 < len(form["log"]) <= 65_536
    assert "TOKEN" not in report
    assert run(script, tmp_path, {}).reports == [report]


def test_a_script_that_stopped_has_told_why_itself(tmp_path: Path) -> None:
    """Anaconda runs %onerror after a %pre that failed: the reason must not be covered by a second report."""
    text = answer("rocky9", "dhcp")
    ran = prepared(text, tmp_path, Machine({}, {}))
    assert ran.steps() == ["installer", "failed"]
    assert run(scripts(text, "onerror")[0], tmp_path, {}).steps() == ["installer", "failed"]


def test_s23_nothing_of_the_build_stays_on_the_disk(tmp_path: Path) -> None:
    """No kickstart, no secret, no token; the logs are kept without them and for root alone."""
    logs(tmp_path)
    secret = tmp_path / "tmp/provisioner"
    secret.mkdir()
    (secret / "storage.ks").write_text(PASSPHRASE)
    root = tmp_path / "target"
    for folder in ("etc", "root", "tmp"):
        (root / folder).mkdir(parents=True)
    for left in ("root/anaconda-ks.cfg", "root/original-ks.cfg", "tmp/ks-script-abc"):
        (root / left).write_text(f"rootpw {HASH} http://h/build/TOKEN-9_x/answer")
    ran = run(scripts(answer("rocky9", "dhcp"), "post")[-1], tmp_path, {"provisioner_root": str(root)})
    assert ran.status == 0, ran.output
    assert ran.steps() == ["configure", "built"]
    assert not secret.exists()
    kept = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    assert {"var/log/anaconda/anaconda.log", "var/log/anaconda/program.log"} <= set(kept)
    assert kept["var/log/anaconda/program.log"].read_text() == "mkfs of http://h/build/.../answer\n"
    assert kept["var/log/anaconda/program.log"].stat().st_mode & 0o777 == 0o600
    for name, path in kept.items():
        content = path.read_text()
        assert HASH not in content and PASSPHRASE not in content and "TOKEN" not in content, name
    assert not any(name.startswith(("root/", "tmp/")) for name in kept)


def test_the_boot_menu_goes_to_the_serial_console(tmp_path: Path) -> None:
    text = answer("rocky9", "dhcp", '{"serial_console": "ttyS1,57600n8"}')
    (users, _) = scripts(text, "post")
    grub = tmp_path / "etc/default/grub"
    grub.parent.mkdir(parents=True)
    grub.write_text('GRUB_TIMEOUT=5\nGRUB_TERMINAL_OUTPUT="console"\n')
    (tmp_path / "etc/grub2.cfg").write_text("")
    script = "grub2-mkconfig() { echo made; }\n" + users.replace("/etc/", "$etc/")
    ran = run(script, tmp_path, {"etc": str(tmp_path / "etc")})
    assert ran.status == 0 and ran.output.count("made") == 1, ran.output
    assert grub.read_text() == (
        'GRUB_TIMEOUT=5\nGRUB_TERMINAL="serial console"\nGRUB_SERIAL_COMMAND="serial --unit=1 --speed=57600"\n'
    )
