"""Broken autoinstalls are found before a machine sees them, with their line."""

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.errors import AnswerInvalid
from provisioner.render.validate import Finding, findings, validate
from provisioner.render.validate import programs as module

pytestmark = pytest.mark.slow

GOOD = """#cloud-config
autoinstall:
  version: 1
  storage:
    layout: {name: lvm, match: {path: /dev/sda}}
  user-data:
    hostname: web01
"""
STORAGE = """#cloud-config
autoinstall:
  version: 1
  user-data: {}
  storage:
    config:
    - {type: disk, id: disk0, path: /dev/sda, ptable: gpt, grub_device: true}
    - {type: partition, id: part0, device: disk0, size: 1M, flag: bios_grub}
    - {type: partition, id: part1, device: disk0, size: -1}
    - {type: dm_crypt, id: crypt0, volume: part1, dm_name: c, keyfile: /run/key}
    - {type: lvm_volgroup, id: vg0, name: vg0, devices: [crypt0]}
    - {type: lvm_partition, id: lv0, name: root, volgroup: vg0, size: 10G}
    - {type: format, id: fs0, volume: lv0, fstype: ext4}
    - {type: mount, id: mount0, device: fs0, path: /}
"""
NETWORK = (
    GOOD
    + """  network:
    version: 2
    ethernets:
      nic0: {match: {macaddress: "52:54:00:12:34:56"}, set-name: nic0}
      nic1: {match: {macaddress: "52:54:00:12:34:57"}, set-name: nic1}
    bonds:
      bond0:
        interfaces: [nic0, nic1]
        parameters: {mode: 802.3ad}
        addresses: [10.0.2.11/24, "2001:db8::11/64"]
        routes: [{to: default, via: 10.0.2.1}]
        nameservers: {addresses: [10.0.2.1], search: [example.com]}
    vlans:
      bond0.30: {id: 30, link: bond0, mtu: 1500}
"""
)


@pytest.fixture
def cloud_init() -> None:
    """The program itself is asked: a second for each file."""


@pytest.fixture(autouse=True)
def no_cloud_init(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests that want `cloud_init` ask it."""
    find = module._program
    if "cloud_init" not in request.fixturenames:
        monkeypatch.setattr(module, "_program", lambda name: None if name == "cloud-init" else find(name))


def every(text: str, version: str = "24.04") -> list[Finding]:
    """Without the word that cloud-init is not here."""
    found = findings("autoinstall", text, os="ubuntu", version=version)
    return [each for each in found if not each.message.startswith("not validated by cloud-init")]


@pytest.mark.parametrize("text", [GOOD, STORAGE, NETWORK], ids=["layout", "storage", "network"])
def test_good_files_pass(text: str) -> None:
    assert every(text) == []


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD.replace("#cloud-config\n", ""), 1, "#cloud-config"),
        (GOOD.replace("version: 1", "version: 2"), 3, "autoinstall.version: must be 1"),
        (GOOD.replace("version: 1", "version: '1'"), 3, "autoinstall.version: must be 1"),
        (GOOD.replace("  version: 1\n", ""), 2, "autoinstall.version: must be 1"),
        (GOOD[: GOOD.index("  user-data")], 2, "identity or user-data"),
        ("#cloud-config\nhostname: x\n", 2, "the key autoinstall"),
        ("#cloud-config\nautoinstall: {version: [\n", 3, "YAML"),
        ("#cloud-config\n- a\n", 2, "the key autoinstall"),
        ("#cloud-config\n", 1, "the key autoinstall"),
        (GOOD + "  packages: vim\n", 8, "autoinstall.packages: is a list"),
        (GOOD + "  packages: [vim, 3]\n", 8, "autoinstall.packages[1]: is a text"),
        (GOOD + "  locale: [a]\n", 8, "autoinstall.locale: is a text"),
        (GOOD + "  locale: a\n  locale: b\n", 9, "autoinstall.locale: this key stands twice"),
        (GOOD + "  keyboard: {variant: x}\n", 8, "autoinstall.keyboard.layout: is needed"),
        (GOOD + "  keyboard: {layout: us, modell: x}\n", 8, "autoinstall.keyboard.modell: is no key here"),
        (GOOD + "  ssh: {install-server: 'yes'}\n", 8, "autoinstall.ssh.install-server: is true or false"),
        (GOOD + "  shutdown: halt\n", 8, "autoinstall.shutdown: Input should be 'reboot' or 'poweroff'"),
        (GOOD + "  early-commands: true\n", 8, "autoinstall.early-commands: is a list"),
        (GOOD + "  early-commands: ['if true; then']\n", 8, "early-commands: shell"),
        (GOOD + "  late-commands:\n  - |\n    echo a\n    if true; then\n    fi\n", 12, "late-commands: shell"),
        (GOOD + "  late-commands:\n  - [sh, -c, 'echo (']\n", 9, "late-commands: shell"),
        ("#cloud-config\n" + "[" * 5000, 0, "YAML"),
        ("#cloud-config\nautoinstall: !!python/object/apply:os.system ['true']\n", 2, "YAML"),
        ("#cloud-config\nautoinstall: !!timestamp x\n", 0, "YAML"),
    ],
)
def test_errors_have_their_line(text: str, line: int, said: str) -> None:
    found = [each for each in every(text) if each.level == "error"]
    assert any(each.line == line and said in each.message for each in found), found
    with pytest.raises(AnswerInvalid) as caught:
        validate("autoinstall", text, os="ubuntu", version="24.04", template="autoinstall/x.yaml.j2")
    assert caught.value.where == "autoinstall/x.yaml.j2" and said in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("device: disk0, size: -1", "device: disk1, size: -1", "nothing above has the id 'disk1'"),
        ("volume: lv0", "volume: vg0", "vg0 is a lvm_volgroup"),
        ("id: lv0,", "id: vg0,", "the id vg0 is taken by a lvm_volgroup"),
        ("id: fs0, ", "", "a format needs an id"),
        ("volume: lv0, ", "", "a format needs volume"),
        ("keyfile: /run/key", "label: x", "needs keyfile or key"),
        ("size: 10G", "size: ten", "'ten' is not a size"),
        ("size: 1M", "size: -1", "disk0 has nothing left"),
        ("path: /}", "path: /srv}", "mounts nothing at /"),
        ("type: mount", "type: mout", "'mout' is not a type of action"),
        (", grub_device: true", "", ""),
        (", flag: bios_grub", "", ""),
        ("devices: [crypt0]", "devices: [[crypt0]]", "nothing above has the id"),
    ],
)
def test_storage_actions_refer_to_what_stands_above(old: str, new: str, said: str) -> None:
    text = STORAGE.replace(old, new, 1)
    assert text != STORAGE
    found = [each for each in every(text) if said and said in each.message]
    assert bool(found) is bool(said)
    for each in found:
        assert each.level == "error"
        assert each.line == (6 if "mounts nothing" in said else each.line) and 5 < each.line <= 14


def test_storage_needs_a_place_for_the_boot_loader() -> None:
    text = STORAGE.replace(", grub_device: true", "").replace(", flag: bios_grub", "")
    (found,) = every(text)
    assert found.line == 6 and "no place for the boot loader" in found.message


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("version: 2\n", "version: 1\n", 9, "netplan's version must be 2"),
        ("ethernets:", "ethernet:", 10, "is no key of netplan"),
        ("interfaces: [nic0, nic1]", "interfaces: [nic0, nic2]", 15, "there is no device 'nic2'"),
        ("interfaces: [nic0, nic1]", "interfaces: [nic0, nic0]", 15, "nic0 is already part of bond0"),
        ("mode: 802.3ad", "mode: lacp", 16, "'lacp' is not one of"),
        ("10.0.2.11/24", "10.0.2.11", 17, "is not an address with its prefix"),
        ("via: 10.0.2.1}", "via: 10.0.2.256}", 18, "is not an address"),
        ("to: default", "to: everywhere", 18, "neither default nor a network"),
        ("{addresses: [10.0.2.1]", "{addresses: [dns]", 19, "'dns' is not an address"),
        ("id: 30", "id: 4095", 21, "an id from 0 to 4094"),
        ("link: bond0", "link: bond1", 21, "there is no device 'bond1'"),
        ("mtu: 1500", "mtu: jumbo", 21, "'jumbo' is not a number from 68"),
        ("bond0.30:", "nic1:", 21, "a device of this name in ethernets too"),
        ("match: {macaddress", "match: {mac", 11, "match has driver, macaddress, name"),
        ("set-name: nic0", "dhcp4: 'yes'", 11, "is true or false"),
        ("set-name: nic0", "set-name: averyveryverylongname", 11, "at most 15 characters"),
    ],
)
def test_netplan_refers_to_what_is_there(old: str, new: str, line: int, said: str) -> None:
    text = NETWORK.replace(old, new, 1)
    assert any(each.line == line and said in each.message for each in every(text)), every(text)


def test_netplan_that_a_command_writes_is_checked_where_it_stands() -> None:
    lines = ["  late-commands:", "  - |", "    cat >/target/etc/netplan/x.yaml <<'NETPLAN'", "    network:"]
    lines += ["      version: 2", "      vlans:", "        v30: {id: 30, link: eth0}", "    NETPLAN", ""]
    (found,) = every(GOOD + "\n".join(lines))
    assert found.message == "network.vlans.v30.link: there is no device 'eth0'"
    assert found.line == 14 and found.text == "        v30: {id: 30, link: eth0}"
    (found,) = every(GOOD + "\n".join(lines).replace("{id: 30,", "{id: 30"))
    assert found.line == 14 and "YAML" in found.message


@pytest.mark.parametrize(
    ("text", "version", "said"),
    [
        (GOOD + "  lokale: x\n", "24.04", "ignored; locale is one"),
        (GOOD + "  interactive-sections: [storage]\n", "24.04", "somebody must answer"),
        (GOOD.replace("storage:", "snaps: []\n  x:"), "24.04", "storage is missing"),
        (GOOD.replace(", match: {path: /dev/sda}", ""), "24.04", "takes the largest disk"),
        (GOOD.replace("lvm,", "lvm, password: secret,"), "24.04", "in clear in the answer file"),
        (STORAGE.replace("keyfile: /run/key", "key: secret"), "24.04", "in clear in the answer file"),
        (NETWORK.replace("set-name: nic0", "gateway4: 10.0.2.1"), "24.04", "is deprecated"),
        (GOOD + "  kernel-crash-dumps: {enabled: false}\n", "24.04", "known to the installer since 24.10"),
        (GOOD + "  apt: {fallback: abort}\n", "22.04", "known to the installer since 23.04"),
    ],
)
def test_what_is_odd_is_a_warning(text: str, version: str, said: str) -> None:
    found = every(text, version)
    assert {each.level for each in found} == {"warning"}
    assert any(said in each.message for each in found), found


def test_keys_are_not_too_new_for_a_newer_release() -> None:
    assert every(GOOD + "  kernel-crash-dumps: {enabled: false}\n", "26.04") == []
    assert every(GOOD + "  apt: {fallback: abort}\n", "24.04") == []


@pytest.mark.usefixtures("cloud_init")
@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("hostname: web01", "runcmd: []", 7, "autoinstall.user-data.runcmd: cloud-init: [] is too short"),
        ("hostname: web01", "ntp: {enabled: 3}", 7, "autoinstall.user-data.ntp.enabled: cloud-init: 3 is not of type"),
        ("autoinstall:\n", "ntp: {servers: x}\nautoinstall:\n", 2, "ntp.servers: cloud-init: 'x' is not of type"),
    ],
)
def test_cloud_init_checks_what_is_its(old: str, new: str, line: int, said: str) -> None:
    """By the program itself; Subiquity does the same with user-data, and stops."""
    found = every(GOOD.replace(old, new, 1))
    assert [each.line for each in found] == [line] and said in found[0].message, found


def test_without_cloud_init_there_is_a_warning() -> None:
    (found,) = findings("autoinstall", GOOD, os="ubuntu", version="24.04")
    assert found.level == "warning" and "install" in found.message and "cloud-init" in found.message


@pytest.mark.usefixtures("cloud_init")
def test_a_cloud_init_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.01)
    with pytest.raises(AnswerInvalid, match="cloud-init did not end within"):
        validate("autoinstall", GOOD, os="ubuntu", version="24.04", template="autoinstall/x.yaml.j2")


def test_s36_an_alias_bomb_is_not_unfolded() -> None:
    lines = ["#cloud-config", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (found,) = every("\n".join(lines))
    assert "more than 100000 values" in found.message


_KEYS = st.sampled_from([
    "a", "type", "id", "device", "volume", "path", "match", "name", "config", "layout", "size", "interfaces", "via",
    "addresses", "routes", "to", "nameservers", "parameters", "mode", "link", "set-name", "flag", "devices", "network",
    "ethernets", "bonds", "vlans", "bridges", "version",
])  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5000) | st.sampled_from(["", "disk0", "10.0.0.1/8", "-1", "default"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_s36_no_structure_breaks_the_checks(data: st.DataObject) -> None:
    """Whatever YAML says, the answer is findings."""
    section: dict[str, Any] = {"version": 1}
    for key in data.draw(st.sets(st.sampled_from(["storage", "network", "apt", "user-data", "packages", "snaps"]))):
        section[key] = data.draw(PLAIN)
    kinds = st.sampled_from(["disk", "partition", "format", "mount", "raid", "lvm_partition", "dm_crypt", ["x"]])
    actions = st.dictionaries(_KEYS, PLAIN, max_size=5)
    if data.draw(st.booleans()):
        section["storage"] = {"config": [data.draw(actions) | {"type": data.draw(kinds)} for _ in range(3)]}
    if data.draw(st.booleans()):
        device = st.dictionaries(_KEYS, PLAIN, max_size=6)
        section["network"] = {
            "version": 2,
            **{each: {"eth0": data.draw(device)} for each in ("ethernets", "bonds", "vlans")},
        }
    text = "#cloud-config\n" + yaml.safe_dump({"autoinstall": section})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_program", lambda _name: None)
        for found in findings("autoinstall", text, os="ubuntu", version="24.04"):
            assert 0 <= found.line <= len(text.splitlines())
