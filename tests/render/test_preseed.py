"""Preseeds: golden files, every way of disks and links, and the scripts run by real shells on faked machines."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import ContentError, MissingParameter, TemplateError
from provisioner.render.bootargs import kernel_args
from provisioner.render.confined import Job, render
from provisioner.render.validate import findings, validate
from tests.render.context import NETWORKS, URLS, context, machine, profile, sources
from tests.render.debian import HASH, PASSPHRASE, SHELLS, Machine, all_well, answers, installed, made, part
from tests.render.goldens import FIRMWARES, hold
from tests.render.recorder import Asked

pytestmark = pytest.mark.slow

PROFILES = {"debian12": "bookworm", "debian13": "trixie"}
PARAMETERS: dict[str, Any] = {
    "packages": ["vim", "tmux"],
    "ntp": ["ntp.example.com", "ntp2.example.com"],
    "ssh_keys": ["ssh-ed25519 AAAAC3Nza admin@example.com"],
    "users": [{"name": "ops", "ssh_keys": ["ssh-ed25519 AAAAC3Nzb ops@example.com"], "sudo": True}],
    "repos": [{"name": "Ours", "url": "http://mirror.example.com/ours", "key": "http://mirror.example.com/ours.asc"}],
    "serial_console": "ttyS1,115200n8",
    "swap_size": "4G",
}
slow = pytest.mark.slow


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"needs {request.param}")
    return str(request.param)


def problems(text: str, name: str) -> list[str]:
    """All that our checks and Debian's own program say."""
    return [str(each) for each in findings("preseed", text, os="debian", version=name.removeprefix("debian"))]


# --- golden files ----------------------------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_golden_files(name: str, firmware: str, links: str, tmp_path: Path) -> None:
    """What the installer is told, what its scripts tell it further, and what they write, each as on a real machine."""
    text = made(name, links=links, parameters=PARAMETERS)
    assert problems(text, name) == []
    here = Machine(tmp_path, uefi=firmware == "uefi")
    ran = installed(here, name, links=links, parameters=PARAMETERS)
    assert ran.status == 0, ran.output
    told = [line for line in here.fakes() if line.startswith("debconf-set ") and "preseed/" not in line]
    server = ran.server.url.removeprefix("http://")
    data = context(name, links=links, parameters=PARAMETERS)
    options = kernel_args("preseed", URLS, data["machine"], data["distro"], None, data["parameters"], ("quiet",))
    sections = {
        "the kernel's command line": "\n".join(options),
        "the preseed, without its scripts": answers(text),
        "what the scripts tell debconf": "\n".join(told).replace(server, "SERVER"),
        "/etc/network/interfaces": here.read("etc/network/interfaces"),
        "/etc/resolv.conf": here.read("etc/resolv.conf") if links != "dhcp" else "(DHCP's)",
    }
    hold(name, firmware, links, "".join(f"--- {title}\n{body.strip()}\n\n" for title, body in sections.items()))


@pytest.mark.skipif(shutil.which("debconf-set-selections") is None, reason="Debian's own program")
@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("name", PROFILES)
def test_debconf_set_selections_takes_them(name: str, links: str, tmp_path: Path) -> None:
    (tmp_path / "preseed").write_text(made(name, links=links, parameters=PARAMETERS))
    command = ["debconf-set-selections", "--checkonly", str(tmp_path / "preseed")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_releases_differ_in_their_suite_alone() -> None:
    first, second = (made(name, parameters=PARAMETERS) for name in PROFILES)
    assert first != second
    assert first.replace("bookworm", "trixie").replace("debian12", "debian13") == second


@pytest.mark.parametrize("name", PROFILES)
def test_nothing_but_the_profiles_own_parameters_is_needed(name: str) -> None:
    text = made(name, secrets=[], handoff={"tool": "none"})
    assert problems(text, name) == []
    assert "passwd/root-password-crypted password !\n" in text
    assert "root_password" not in text and "provisioner-handoff.service" in text


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("missing", ["timezone", "ssh_keys", "serial_console", "repos"])
def test_s33_a_missing_parameter_names_template_and_parameter(name: str, missing: str) -> None:
    data = context(name)
    del data["parameters"][missing]
    (error,) = render([Job(profile(name)["template"], data)], sources())
    assert isinstance(error, MissingParameter)
    assert error.message.startswith(f"no value for parameters.{missing}")
    assert re.fullmatch(r"[a-z]+/[a-z0-9.-]+\.j2:\d+", error.where)


def test_s33_a_mirror_is_needed_from_somewhere() -> None:
    """Neither a tree nor the parameter: an error at arming, not a question on the machine's console."""
    distro = context("debian12")["distro"] | {"tree": None}
    with pytest.raises(MissingParameter, match=r"parameters\.mirror"):
        made("debian12", distro=distro)
    text = made("debian12", distro=distro, parameters={"mirror": "http://mirror.example.com/debian"})
    assert "mirror='http://mirror.example.com/debian'" in text


def test_a_template_of_ones_own_extends_a_release() -> None:
    own = (
        '{% extends "preseed/debian13.cfg.j2" %}{% block answers %}d-i apt-setup/contrib boolean true\n{% endblock %}'
        "{% block late %}echo {{ suite | sh }}\n{% endblock %}"
    )
    (text,) = render([Job("preseed/own.cfg.j2", context("debian13"))], sources() | {"preseed/own.cfg.j2": own})
    assert isinstance(text, str), text
    assert "\nd-i apt-setup/contrib boolean true\n" in text
    assert "\n#late| echo 'trixie'\n" in text
    assert problems(text, "debian13") == []


def test_preseed_scripts_do_not_reach_debconf() -> None:
    """The installer drops lines that begin with #; a script's line that did not would be an answer."""
    for line in made("debian12", links="bond-vlan", parameters=PARAMETERS).splitlines():
        assert line == "" or line[0] == "#" or re.match(r"(d-i|tasksel|popularity-contest) \S+/\S+ \w+", line), line


def test_s23_secrets_are_unwrapped_early_and_never_in_the_text() -> None:
    text = made("debian12", parameters={"encrypt": True}, secrets=["root_password", "disk_passphrase"])
    assert "$6$" not in text and "$y$" not in text
    early = part(text, "early")
    assert "$(provisioner_root_hash)" in early and "$(provisioner_passphrase)" in early
    assert "partman-crypto/passphrase" not in text
    assert "/secret" not in part(made("debian12", secrets=[]), "early")


# --- disks -----------------------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"partitioning": "plain"},
    "lvm": {},
    "plain-var-swap": {"partitioning": "plain", "var_size": "20G", "swap_size": "4G"},
    "lvm-var-swap": {"var_size": "20G", "swap_size": "4G"},
    "raid1-plain": {"raid1": True, "partitioning": "plain", "var_size": "20G", "swap_size": "4G"},
    "raid1-plain-alone": {"raid1": True, "partitioning": "plain"},
    "raid1-lvm": {"raid1": True, "var_size": "20G", "swap_size": "4G"},
    "encrypted": {"encrypt": True, "swap_size": "4G"},
}
Partition = tuple[int, int, int, str, dict[str, str]]


def decoded(recipe: str) -> list[Partition]:
    """A recipe as partman's decode_recipe reads it: words up to a full stop; four, and then settings in braces."""
    assert recipe.startswith("provisioner :: ") and recipe.endswith(" .")
    found = []
    for line in recipe.removeprefix("provisioner :: ").removesuffix(" .").split(" . "):
        least, priority, most, kind, *rest = line.split()
        settings = dict(re.findall(r"(\S+)\{ (?:([^}]*) )?\}", " ".join(rest)))
        assert re.sub(r"\S+\{ (?:[^}]* )?\}", "", " ".join(rest)).split() == [], line
        found.append((int(least), int(priority), int(most), kind, settings))
    return found


def on_lvm(partition: Partition) -> bool:
    return "$lvmok" in partition[4]


@slow
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("way", WAYS)
def test_partman_is_told_a_whole_recipe(way: str, firmware: str, shell: str, tmp_path: Path) -> None:
    here = Machine(tmp_path, shell, uefi=firmware == "uefi")
    parameters = WAYS[way]
    secrets = ["disk_passphrase"]
    ran = installed(here, "debian12", parameters=parameters, secrets=secrets) if firmware == "bios" else None
    if ran is None:
        (tmp_path / "tmp/passphrase").write_text(PASSPHRASE)
        ran = here.run(made("debian12", parameters=parameters, secrets=secrets), "disk")
    assert ran.status == 0, ran.output
    mirrored, lvm = "raid1" in parameters, parameters.get("partitioning") != "plain"
    disks = "/dev/sda /dev/sdb" if mirrored else "/dev/sda"
    assert here.told("partman-auto/disk") == here.told("grub-installer/bootdev") == disks
    partitions = decoded(here.told("partman-auto/expert_recipe") or "")
    # One grows on the disk, and with LVM one in the group; each is the last, since partman gives the last all the rest.
    for group in ([each for each in partitions if on_lvm(each)], [each for each in partitions if not on_lvm(each)]):
        growing = [place for place, each in enumerate(group) if each[2] == -1]
        assert growing in ([len(group) - 1], []), group
        assert all(each[0] == each[1] == each[2] for each in group[:-1])
    first = partitions[0]
    assert first[4]["method"] == ("efi" if firmware == "uefi" else "biosgrub") and first[4]["$iflabel"] == "gpt"
    mirrors = here.told("partman-auto-raid/recipe") or ""
    roots = [each for each in partitions if each[4].get("mountpoint") == "/"]
    mirrored_roots = re.findall(r"1 2 0 ext4 / raidid=1 \.", mirrors)
    assert len(roots) + len(mirrored_roots) == 1
    boot = "/boot raidid=" in mirrors or any(each[4].get("mountpoint") == "/boot" for each in partitions)
    assert boot == lvm, "GRUB cannot read a disk that is encrypted, and partman asks when LVM has /boot too"
    sizes = {each[4].get("mountpoint") or each[4]["method"]: each[0] for each in partitions}
    if "var_size" in parameters:
        assert sizes.get("/var", 0) * 10**6 >= 20 << 30 or "/var raidid=2" in mirrors
    if "swap_size" in parameters:
        assert sizes.get("swap", 0) * 10**6 >= 4 << 30 or "swap - raidid=3" in mirrors
    else:
        assert "partman-basicfilesystems/no_swap boolean false" in made(
            "debian12", parameters=parameters, secrets=secrets
        )
    used = set(re.findall(r"raidid=(\d)", mirrors))
    assert {each[4]["raidid"] for each in partitions if "raidid" in each[4]} == used
    assert mirrored == bool(used)


@pytest.mark.parametrize("way", WAYS)
def test_the_installers_method_for_each_way(way: str) -> None:
    methods = {"plain": "regular", "lvm": "lvm", "raid1": "raid", "encrypted": "crypto"}
    text = made("debian12", parameters=WAYS[way], secrets=["disk_passphrase"])
    assert f"partman-auto/method string {methods[way.split('-', 1)[0]]}\n" in text
    assert problems(text, "debian12") == []


@pytest.mark.parametrize(
    ("parameters", "secrets", "said"),
    [
        ({"encrypt": True, "raid1": True}, ["disk_passphrase"], "LUKS on a mirror"),
        ({"encrypt": True, "partitioning": "plain"}, ["disk_passphrase"], "set partitioning to lvm"),
        ({"encrypt": True}, [], "--secret disk_passphrase=FILE"),
        ({"repos": [{"name": "x", "url": "http://x"}] * 11}, [], "ten repositories"),
        ({"links": [{"name": "eth0.30", "kind": "vlan", "over": "eth0", "id": 31}]}, [], "call it eth0.31"),
    ],
)
def test_what_the_installer_cannot_do_is_refused_with_what_to_do(
    parameters: dict[str, Any], secrets: list[str], said: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        made("debian12", parameters=parameters, secrets=secrets)
    assert said in str(caught.value)


@slow
def test_a_disk_that_is_too_small_stops_it_before_partman_takes_a_recipe_of_its_own(shell: str, tmp_path: Path) -> None:
    here = Machine(tmp_path, shell, {"sda": 20})
    ran = here.run(made("debian12", parameters={"var_size": "20G"}, secrets=[]), "disk")
    assert ran.status == 1
    assert ran.server.steps() == ["disk", "failed"]
    assert "/dev/sda has 20480 MiB: too small" in ran.server.asked[-1].form["message"]
    assert here.told("partman-auto/disk") is None


@slow
def test_s28_the_passphrase_of_the_disk_goes_to_cryptsetup_and_nowhere_else(shell: str, tmp_path: Path) -> None:
    """partman takes it from the program that we put in the place of its own; debconf never hears of it."""
    here = Machine(tmp_path, shell)
    text = made("debian12", parameters={"encrypt": True}, secrets=["root_password", "disk_passphrase"])
    text = text.replace("'http://mirror.example.com/debian'", "@@provisioner:boot_url@@/debian")
    ran = here.run(text, "target", "early", "disk")
    assert ran.status == 0, ran.output
    assert here.holding(PASSPHRASE) == {"tmp/passphrase"}
    assert (tmp_path / "tmp/passphrase").stat().st_mode & 0o777 == 0o600
    key = tmp_path / "key"
    subprocess.run([str(tmp_path / "keygen"), "the disk", "passphrase", str(key)], check=True, timeout=60)
    assert key.read_text() == PASSPHRASE, "typed at the console it has no newline"
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    ran = here.run(text, "target", "late")
    assert ran.status == 0, ran.output
    assert here.holding(PASSPHRASE) == set() and here.holding(HASH) == set()


@slow
def test_without_partman_crypto_nothing_is_encrypted_by_halves(tmp_path: Path) -> None:
    here = Machine(tmp_path)
    (tmp_path / "keygen").unlink()
    ran = here.run(made("debian12", parameters={"encrypt": True}, secrets=["disk_passphrase"]), "disk")
    assert ran.status == 1 and "no partman-crypto" in ran.server.asked[-1].form["message"]


def second_disk(place: Path, sizes: tuple[int, int] = (64, 64)) -> list[Path]:
    """Two disks, each with a system partition; the first one's is mounted."""
    disks = [place / "dev" / name for name in ("sda", "sdb")]
    (place / "dev").mkdir()
    for disk, size in zip(disks, sizes, strict=True):
        for folder in (f"sys/block/{disk.name}/{disk.name}1", f"sys/class/block/{disk.name}1"):
            (place / folder).mkdir(parents=True)
            (place / folder / "partition").write_text("1\n")
            (place / folder / "size").write_text(f"{size}\n")
    (place / "mounts").write_text(f"{disks[0]}1 {place}/target/boot/efi vfat rw 0 0\n")
    (place / "tmp/disks").write_text(f"{disks[0]} {disks[1]}\n")
    esps = [Path(f"{disk}1") for disk in disks]
    esps[0].write_bytes(b"system partition" * 2048)
    esps[1].write_bytes(b"\0" * 32768)
    return esps


@slow
@pytest.mark.parametrize("uefi", [True, False])
def test_a_mirror_starts_from_either_disk(shell: str, uefi: bool, tmp_path: Path) -> None:
    """BIOS: GRUB on both, told by bootdev. UEFI: the second system partition is a copy of the first."""
    here = Machine(tmp_path, shell, uefi=uefi)
    first, second = second_disk(tmp_path)
    ran = here.run(made("debian12", parameters={"raid1": True}, secrets=[]), "target", "late")
    assert ran.status == 0, ran.output
    assert (second.read_bytes() == first.read_bytes()) == uefi


@slow
def test_a_second_system_partition_that_does_not_fit_is_a_failure(tmp_path: Path) -> None:
    here = Machine(tmp_path, uefi=True)
    second_disk(tmp_path, (64, 63))
    ran = here.run(made("debian12", parameters={"raid1": True}, secrets=[]), "target", "late")
    assert ran.status == 1 and ran.server.steps() == ["failed"]


# --- links -----------------------------------------------------------------------------------------------------------


def interfaces(here: Machine, links: list[dict[str, Any]], *, network: str = "static") -> list[str]:
    """The stanzas that late.sh writes, without the loopback's."""
    data = {"parameters": {"network": network, "links": links}, "machine": machine(static=True), "secrets": []}
    ran = here.run(made("debian12", **data), "target", "late")
    assert ran.status == 0, ran.output
    head, *stanzas = here.read("etc/network/interfaces").split("\n\n")
    assert head == "source /etc/network/interfaces.d/*"
    assert stanzas.pop(0) == "auto lo\niface lo inet loopback"
    return [re.sub(r"\n +", "; ", stanza.strip()) for stanza in stanzas]


VLAN = (
    "pre-up ip link set dev {0} up; "
    "pre-up ip link show dev {1} >/dev/null 2>&1 || ip link add link {0} name {1} type vlan id {2}"
)
LACP = "bond-mode 802.3ad; bond-miimon 100; bond-lacp-rate fast; bond-xmit-hash-policy layer3+4"
BRIDGE = "bridge_ports bond0; bridge_stp off; bridge_fd 0"
DNS = "dns-nameservers 10.0.2.1 10.0.2.2"
FIRST = f"auto enp1s0\niface enp1s0 inet static; address 10.0.2.11/24; {DNS}; gateway 10.0.2.1"
LINKS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "several interfaces": (
        [],
        [
            FIRST,
            "auto enp2s0\niface enp2s0 inet static; address 10.0.3.11/24",
        ],
    ),
    "IPv6, more addresses, mtu": (
        [{"name": "eth1", "addresses": ["2001:db8::11/64", "10.0.3.12/24"], "gateway": "2001:db8::1", "mtu": 9000}],
        [
            FIRST,
            "auto enp2s0\niface enp2s0 inet static; address 10.0.3.12/24; up ip link set dev enp2s0 mtu 9000",
            "iface enp2s0 inet static; address 10.0.3.11/24",
            "iface enp2s0 inet6 static; address 2001:db8::11/64; gateway 2001:db8::1",
        ],
    ),
    "a VLAN on an interface, whatever the kernel calls that": (
        [{"name": "store", "kind": "vlan", "over": "eth1", "id": 40, "addresses": ["10.0.40.11/24"]}],
        [
            FIRST,
            "auto enp2s0\niface enp2s0 inet static; address 10.0.3.11/24",
            "auto store\niface store inet static; address 10.0.40.11/24; "
            + VLAN.format("enp2s0", "store", 40)
            + "; post-down ip link del dev store",
        ],
    ),
    "a bridge over a bond": (
        [
            {"name": "bond0", "kind": "bond", "over": "all", "mode": "active-backup"},
            {"name": "br0", "kind": "bridge", "over": "bond0", "address_of": "eth0"},
        ],
        [
            "auto bond0\niface bond0 inet manual; bond-slaves enp1s0 enp2s0; bond-mode active-backup; bond-miimon 100",
            f"auto br0\niface br0 inet static; address 10.0.2.11/24; {BRIDGE}; {DNS}; gateway 10.0.2.1",
            "iface br0 inet static; address 10.0.3.11/24",
        ],
    ),
}


@slow
@pytest.mark.parametrize("case", LINKS)
def test_r11_links_of_the_new_system(case: str, shell: str, tmp_path: Path) -> None:
    links, expected = LINKS[case]
    assert interfaces(Machine(tmp_path, shell), links) == expected


@slow
def test_r11_dhcp_over_a_bond_with_lacp(shell: str, tmp_path: Path) -> None:
    """The kernel's names count, found by MAC; the order of the cards may be another than ours."""
    nics = {"eno1": "52:54:00:12:34:57", "eno2": "52:54:00:12:34:56"}
    here = Machine(tmp_path, shell, nics=nics)
    # What stands over a card has its address, too.
    (tmp_path / "sys/class/net/bond9").mkdir()
    (tmp_path / "sys/class/net/bond9/address").write_text("52:54:00:12:34:56\n")
    links = [{"name": "bond0", "kind": "bond", "over": "all"}]
    assert interfaces(here, links, network="dhcp") == [
        f"auto bond0\niface bond0 inet dhcp; bond-slaves eno2 eno1; {LACP}",
    ]
    assert not (tmp_path / "target/etc/resolv.conf").exists()


@slow
def test_an_interface_that_is_not_there_is_said_and_the_rest_goes_on(shell: str, tmp_path: Path) -> None:
    here = Machine(tmp_path, shell, nics={"enp1s0": "52:54:00:12:34:56"})
    ran = here.run(made("debian12", links="static", secrets=[]), "target", "late")
    assert ran.status == 0
    assert "no interface has the address 52:54:00:12:34:57: eth1 is not in /etc/network/interfaces" in ran.output
    assert "iface enp1s0 inet static" in here.read("etc/network/interfaces")
    assert here.read("etc/resolv.conf") == "search example.com\nnameserver 10.0.2.1\nnameserver 10.0.2.2\n"


@pytest.mark.parametrize(("kind", "package"), [("bond", "ifenslave"), ("bridge", "bridge-utils"), ("vlan", "")])
def test_links_bring_the_packages_they_need_and_no_others(kind: str, package: str) -> None:
    link = {"name": "link0", "kind": kind, "over": "eth0"} | ({"id": 7} if kind == "vlan" else {})
    (line,) = [line for line in made("debian12", parameters={"links": [link]}).splitlines() if "pkgsel/include" in line]
    assert (
        line.removeprefix("d-i pkgsel/include string openssh-server ca-certificates curl sudo").split()
        == package.split()
    )


# --- what the scripts do besides -------------------------------------------------------------------------------------


@slow
def test_what_the_new_system_gets(shell: str, tmp_path: Path) -> None:
    here = Machine(tmp_path, shell)
    ran = installed(here, "debian13", parameters=PARAMETERS)
    assert ran.status == 0, ran.output
    assert ran.server.steps() == ["installer", "disk", "built"]
    assert (
        here.read("etc/systemd/timesyncd.conf.d/provisioner.conf") == "[Time]\nNTP=ntp.example.com ntp2.example.com\n"
    )
    assert 'GRUB_SERIAL_COMMAND="serial --unit=1 --speed=115200"' in here.read("etc/default/grub.d/provisioner.cfg")
    assert "in-target update-grub" in here.fakes()
    assert [asked.path for asked in ran.server.asked if "dists" in asked.path] == ["/debian/dists/trixie/Release"]
    assert list((tmp_path / "tmp").parent.glob("tmp")) == [], "the answer file and its scripts are gone"


@slow
@pytest.mark.parametrize("name", ["early", "disk", "late"])
def test_a_script_that_breaks_is_told_with_the_end_of_the_log(name: str, shell: str, tmp_path: Path) -> None:
    """Its own mistake, or a site's: nobody reported it yet."""
    here = Machine(tmp_path, shell)
    ran = here.run(made("debian12"), "trap", arguments=(f"{name}.sh",))
    assert ran.status == 0, ran.output
    (event,) = ran.server.asked
    assert event.form["step"] == "failed" and event.form["message"] == f"the script {name}.sh ended with an error"
    assert event.form["log"].endswith("GET /build/.../answer\nthe end") and "the beginning" not in event.form["log"]


@slow
def test_a_failure_is_told_once(shell: str, tmp_path: Path) -> None:
    def no_mirror(asked: Asked, before: int) -> tuple[int, bytes]:
        return (404, b"") if "dists" in asked.path else all_well(asked, before)

    here = Machine(tmp_path, shell)
    text = made("debian12").replace("'http://mirror.example.com/debian'", "@@provisioner:boot_url@@/debian")
    first = here.run(text, "early", answer=no_mirror)
    assert first.status == 1 and first.server.steps() == ["installer", "failed"]
    again = here.run(text, "trap", arguments=("early.sh",))
    assert again.status == 0 and again.server.asked == []


@slow
def test_r01_without_an_acknowledged_disk_step_nothing_goes_on(shell: str, tmp_path: Path) -> None:
    """The guard against a second wipe rests on the server knowing of the first."""

    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        disk = asked.path.endswith("/event") and asked.form["step"] == "disk"
        return (503, b"") if disk else all_well(asked, before)

    here = Machine(tmp_path, shell)
    ran = here.run(made("debian12", secrets=[]), "disk", answer=refuses)
    assert ran.status == 1
    assert ran.server.steps() == [*["disk"] * 8, "failed"]
    assert not any("partman" in line for line in here.fakes())


@slow
@pytest.mark.parametrize("secret", ["root_password", "disk_passphrase"])
@pytest.mark.parametrize("answer", [(410, b""), (200, b""), (200, b"two\nlines")])
def test_s23_a_secret_that_is_not_to_be_had_stops_it(
    secret: str, answer: tuple[int, bytes], shell: str, tmp_path: Path
) -> None:
    def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
        return answer if asked.path.endswith(f"/secret/{secret}") else all_well(asked, before)

    here = Machine(tmp_path, shell)
    text = made("debian12", parameters={"encrypt": True}, secrets=["root_password", "disk_passphrase"])
    text = text.replace("'http://mirror.example.com/debian'", "@@provisioner:boot_url@@/debian")
    ran = here.run(text, "early", answer=refuses)
    assert ran.status == 1
    assert ran.server.steps() == ["installer", "failed"]
    asked = [each for each in ran.server.asked if each.path.endswith(f"/secret/{secret}")]
    assert len({each.body for each in asked}) == 1, "one nonce"
    assert not (tmp_path / "tmp/passphrase").exists()


@slow
def test_r01_built_is_repeated_until_it_is_acknowledged(shell: str, tmp_path: Path) -> None:
    """And the handoff script and its unit are in the new system by then."""

    def busy(asked: Asked, before: int) -> tuple[int, bytes]:
        return (503, b"") if asked.path.endswith("/event") and before < 4 else all_well(asked, before)

    here = Machine(tmp_path, shell)
    ran = here.run(made("debian12", secrets=[]), "target", "late", answer=busy)
    assert ran.status == 0, ran.output
    assert ran.server.steps() == ["built"] * 5
    assert [line for line in here.fakes() if line.startswith("sleep")] == [f"sleep {n}" for n in (2, 4, 8, 16)]
    assert here.read("etc/provisioner/handoff.sh") == "#!/bin/sh\ntrue\n"
    assert (tmp_path / "target/etc/provisioner/handoff.sh").stat().st_mode & 0o777 == 0o700
    wants = tmp_path / "target/etc/systemd/system/multi-user.target.wants"
    assert (wants / "provisioner-handoff.service").is_symlink()
    assert not (tmp_path / "target/root/provisioner-target.sh").exists()


@pytest.mark.parametrize("question", ["preseed/early_command", "preseed/late_command", "partman/early_command"])
def test_r01_no_command_of_the_preseed_returns_when_it_fails(question: str) -> None:
    """The installer would show a dialog and then go on."""
    (line,) = [line for line in made("debian12").splitlines() if line.startswith(f"d-i {question} ")]
    assert "|| { sh /tmp/provisioner/trap.sh " in line
    assert line.endswith("; while :; do sleep 3600; done; }")


# --- whatever the data is --------------------------------------------------------------------------------------------

HOSTILE = [
    "web01\nd-i preseed/run string http://x/",
    "web01\n#late| reboot",
    "web01' --bad",
    'web01" ; reboot',
    "web01 # x",
    "{{ 7 * 7 }}",
    "web01\x00",
    "web01\u2028d-i x/y string z",
    "initrd=x",
    "$(reboot)",
    "`reboot`",
    "web01\\",
    "x ; reboot #",
]


def hostile() -> Iterator[dict[str, Any]]:
    """Each hostile value in each place where data of people and machines comes in."""
    for value in HOSTILE:
        for field in ("name", "hostname", "fqdn"):
            yield context("debian12", parameters=PARAMETERS, machine=machine() | {field: value})
        changes: list[dict[str, Any]] = [{key: value} for key in ("timezone", "locale", "keyboard", "proxy")]
        changes += [{"packages": [value, "tmux"]}, {"ntp": [value, "b"]}, {"ssh_keys": [value]}]
        changes += [{"users": [PARAMETERS["users"][0] | {"name": value}]}, {"serial_console": value}]
        changes += [{"repos": [PARAMETERS["repos"][0] | {key: value}]} for key in ("name", "url", "key", "suite")]
        for change in changes:
            yield context("debian12", parameters=PARAMETERS | change)
        odd = machine(static=True)
        odd["interfaces"][0]["domain"] = value
        yield context("debian12", parameters=PARAMETERS | {"network": "static"}, machine=odd)


def structure(text: str) -> object:
    """What must not depend on any value: the questions, and how many lines each script has."""
    scripts = [line.split("|")[0] for line in text.splitlines() if re.match(r"#\w+\|", line)]
    return [line.split()[:3] for line in answers(text).splitlines()], scripts


def test_s34_hostile_values_open_nothing() -> None:
    """A file of the same structure whose scripts still parse, or a refusal that names the template."""
    contexts = list(hostile())
    expected = {
        str(structure(made("debian12", parameters=PARAMETERS))),
        str(structure(made("debian12", parameters=PARAMETERS | {"network": "static"}, machine=machine(static=True)))),
        # A console that is not a serial line needs no settings of GRUB's.
        str(structure(made("debian12", parameters=PARAMETERS | {"serial_console": "hvc0"}))),
    }
    results = render([Job("preseed/debian12.cfg.j2", data) for data in contexts], sources())
    assert all(isinstance(result, str | ContentError) for result in results)
    texts = {result for result in results if isinstance(result, str)}
    assert len(contexts) // 10 < len(texts) < len(contexts)
    for text in texts:
        assert str(structure(text)) in expected
    for text in sorted(texts)[::10]:
        validate("preseed", text, os="debian", version="12", template="preseed/debian12.cfg.j2")
