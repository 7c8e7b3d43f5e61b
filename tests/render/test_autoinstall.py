"""Ubuntu by autoinstall: 22.04, 24.04 and 26.04, from the same base."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.errors import BuildNotPossible, MissingParameter, TemplateError
from provisioner.render import bootscripts
from provisioner.render.confined import Job, render
from provisioner.render.validate import findings
from tests.render.autoinstalls import (
    COMMANDS,
    PARAMETERS,
    PROFILES,
    LiveSystem,
    all_well,
    answer_of,
    checked,
    data_of,
    kernel_line,
    made,
    netplan_of,
    parsed,
    script_of,
    section_of,
    template_of,
)
from tests.render.context import NETWORKS, machine, profile, sources
from tests.render.goldens import FIRMWARES, hold
from tests.render.recorder import recorder

pytestmark = pytest.mark.slow

HOSTILE = [
    "web01\nautoinstall:\n  version: 2",
    "x\n- a: b",
    "}, evil: {",
    "web01' --bad",
    'web01" ; reboot',
    "web01 # x",
    "{{ 7 * 7 }}",
    "web01\x00",
    "web01\u2028  storage: {}",
    "$(reboot)",
    "`reboot`",
    "web01\\",
    "- a: b",
    "NETPLAN",
    "TARGET",
    "!!python/object/apply:os.system ['true']",
    "*alias",
    "PROVISIONER_DISK_0",
]


STORAGES: dict[str, dict[str, Any]] = {
    "dhcp": {},
    "static": {"partitioning": "plain", "var_size": "20G", "swap_size": "4G"},
    "bond-vlan": {"raid1": True, "encrypt": True, "var_size": "20G"},
}

# --- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("name", PROFILES)
def test_r30_golden_files(name: str, firmware: str, links: str, tmp_path: Path) -> None:
    """What the installer is told after the early commands ran under this firmware, and how it is started."""
    data = data_of(name, links, parameters=PARAMETERS | STORAGES[links])
    text = made(template_of(name), data)
    live = LiveSystem(tmp_path, firmware=firmware)
    live.take(text)
    with recorder(all_well) as server:
        ran = live.run(script_of(text, "early-commands"), server)
    assert ran.status == 0, ran.output
    section = yaml.safe_load(live.autoinstall.read_text())
    told = "#cloud-config\n" + yaml.safe_dump({"autoinstall": section})
    assert checked(name, told) == []
    hold(name, firmware, links, _golden(data, text, {key: section[key] for key in section if key not in COMMANDS}))


def _golden(data: dict[str, Any], text: str, section: dict[str, Any]) -> str:
    seed = "".join(made(f"autoinstall/{each}.j2", data) for each in ("meta-data", "network-config"))
    parts = {
        "kernel command line": "\n".join(kernel_line(data)) + "\n",
        "meta-data and network-config of the seed": seed,
        "/autoinstall.yaml after the early commands, without commands": _storage_on_lines(section),
        "/etc/netplan/60-provisioner.yaml of the new system": netplan_of(text),
    }
    return "\n".join(f"# --- {name}\n{part}" for name, part in parts.items())


def _storage_on_lines(section: dict[str, Any]) -> str:
    """YAML with an action a line, which is how people read storage."""
    storage = dict(section["storage"])
    actions = storage.pop("config", [])
    shown = yaml.safe_dump(section | {"storage": storage}, sort_keys=True)
    lines = [yaml.safe_dump(each, default_flow_style=True, width=1000, sort_keys=False) for each in actions]
    return shown + "storage.config:\n" + "".join(f"- {line}" for line in lines)


@pytest.mark.parametrize("links", NETWORKS)
@pytest.mark.parametrize("name", PROFILES)
def test_s34_rendered_files_are_valid(name: str, links: str) -> None:
    assert checked(name, answer_of(name, links, parameters=PARAMETERS)) == []


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_need_no_parameter_of_ones_own(name: str) -> None:
    """Nothing but the profile's defaults, no secret, no handoff: the first boot still reports."""
    data = data_of(name, handoff={"tool": "none"}) | {"secrets": []}
    text = made(template_of(name), data)
    assert checked(name, text) == []
    assert "root_password" not in text and "disk_passphrase" not in text
    assert "provisioner-handoff.service" in text
    assert section_of(text)["storage"]["layout"]["name"] == "lvm"
    assert profile(name)["tested_with"].startswith("cloud-init's schema")


@pytest.mark.slow
def test_cloud_init_itself_finds_the_mistake() -> None:
    """Subiquity stops when user-data does not fit the schema of its cloud-init; so do we, with the line."""
    text = answer_of("ubuntu2404").replace('hostname: "web01"', "hostname: [1]", 1)
    (found,) = findings("autoinstall", text, os="ubuntu", version="24.04")
    assert found.level == "error" and found.text == "    hostname: [1]"
    assert found.message == "autoinstall.user-data.hostname: cloud-init: [1] is not of type 'string'"


def test_what_22_04_does_not_know_is_left_out() -> None:
    old, new = (section_of(answer_of(name, parameters=PARAMETERS)) for name in ("ubuntu2204", "ubuntu2404"))
    assert old["apt"]["primary"] == [{"arches": ["default"], "uri": PARAMETERS["mirror"]}]
    assert new["apt"]["mirror-selection"] == {"primary": [{"uri": PARAMETERS["mirror"]}]}
    assert new["apt"]["fallback"] == "abort"
    assert "source" not in old and new["source"] == {"search_drivers": False}
    assert not {"mirror-selection", "fallback"} & set(old["apt"])
    assert new == section_of(answer_of("ubuntu2604", parameters=PARAMETERS))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("missing", ["timezone", "ssh_keys", "mirror"])
def test_s33_a_missing_parameter_names_template_and_parameter(name: str, missing: str) -> None:
    data = data_of(name)
    del data["parameters"][missing]
    with pytest.raises(MissingParameter) as caught:
        made(template_of(name), data)
    assert caught.value.message == f"no value for parameters.{missing}"
    assert re.fullmatch(r"snippets/[a-z0-9.-]+\.j2:\d+", caught.value.where)


# --- how it is started -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "source"), [*zip(PROFILES, ("nocloud-net", "nocloud", "nocloud"), strict=True)])
def test_r31_the_kernel_gets_seed_and_iso(name: str, source: str) -> None:
    """cloud-init calls nocloud-net deprecated since 24.1; the ISOs of 22.04 know no other name for a network's seed."""
    data = data_of(name)
    assert kernel_line(data) == (
        "autoinstall",
        f"ds={source};s={data['urls']['seed']}",
        "cloud-config-url=/dev/null",
        "ip=dhcp",
        "url=@@provisioner:media_url@@/media/sha256/abc/live-server.iso",
        "quiet",
    )
    assert data["urls"]["seed"].endswith("/seed/")  # cloud-init puts the names right behind it


def test_r31_the_iso_may_be_elsewhere() -> None:
    data = data_of("ubuntu2404", parameters={"iso_url": "http://other.example.com/my.iso"})
    assert "url=http://other.example.com/my.iso" in kernel_line(data)
    data = data_of("ubuntu2404")
    data["distro"] |= {"files": {}, "tree": "http://mirror.example.com/u.iso"}
    assert "url=http://mirror.example.com/u.iso" in kernel_line(data)


def test_r31_without_an_iso_nothing_is_armed() -> None:
    data = data_of("ubuntu2404")
    data["distro"]["files"] = {}
    with pytest.raises(BuildNotPossible) as caught:
        kernel_line(data)
    assert "--iso" in caught.value.hint


def test_r31_the_semicolon_is_quoted_for_grub_and_plain_for_ipxe() -> None:
    """GRUB ends a command at it; iPXE hands quotes on to the kernel."""
    arguments = kernel_line(data_of("ubuntu2404"))
    source = arguments[1]
    grub = bootscripts.install_grub("media/vmlinuz", ["media/initrd"], arguments, "web01", None)
    assert f" '{source}' " in grub
    assert not re.search(r"[^']ds=nocloud;", grub)
    ipxe = bootscripts.install_ipxe("http://x/vmlinuz", ["http://x/initrd"], arguments, "web01")
    assert f" {source} " in ipxe


# --- the seed --------------------------------------------------------------------------------------------------------


def test_the_seed_is_yaml_and_names_the_build_by_something_that_can_be_a_directory() -> None:
    data = data_of("ubuntu2404", "static") | {"build": {"number": 3, "id": "web01/3"}}
    meta = yaml.safe_load(made("autoinstall/meta-data.j2", data))
    assert meta == {"instance-id": "provisioner-web01-3", "local-hostname": "web01"}
    vendor = made("autoinstall/vendor-data.j2", data)
    assert vendor.startswith("#cloud-config\n") and yaml.safe_load(vendor) == {}


def test_the_seeds_network_is_the_installers_own() -> None:
    """A bond of the new system would cut a live system off that is on the provisioning network."""
    dynamic = yaml.safe_load(made("autoinstall/network-config.j2", data_of("ubuntu2404", "bond-vlan")))
    assert dynamic["ethernets"] == {"installer": {"match": {"name": "e*"}, "dhcp4": True, "optional": True}}
    static = yaml.safe_load(made("autoinstall/network-config.j2", data_of("ubuntu2404", "static")))
    assert static["ethernets"]["installer"] == {
        "match": {"macaddress": "52:54:00:12:34:56"},
        "addresses": ["10.0.2.11/24"],
        "routes": [{"to": "default", "via": "10.0.2.1"}],
        "nameservers": {"addresses": ["10.0.2.1", "10.0.2.2"]},
    }
    assert "network" not in section_of(answer_of("ubuntu2404", "bond-vlan"))


# --- the network of the new system -----------------------------------------------------------------------------------

LINKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "bond": (
        [{"name": "bond0", "kind": "bond", "over": "all", "mtu": 9000}],
        {
            "bonds": {
                "bond0": {
                    "interfaces": ["eth0", "eth1"],
                    "parameters": {
                        "mode": "802.3ad",
                        "mii-monitor-interval": 100,
                        "lacp-rate": "fast",
                        "transmit-hash-policy": "layer3+4",
                    },
                    "dhcp4": False,
                    "addresses": ["10.0.2.11/24"],
                    "routes": [{"to": "default", "via": "10.0.2.1"}],
                    "nameservers": {"addresses": ["10.0.2.1", "10.0.2.2"], "search": ["example.com"]},
                    "mtu": 9000,
                }
            }
        },
    ),
    "bridge over a VLAN": (
        [
            {"name": "eth1.40", "kind": "vlan", "over": "eth1", "id": 40},
            {"name": "br40", "kind": "bridge", "over": "eth1.40", "addresses": ["10.0.40.11/24"]},
        ],
        {
            "vlans": {"eth1.40": {"id": 40, "link": "eth1", "dhcp4": False, "link-local": [], "accept-ra": False}},
            "bridges": {
                "br40": {
                    "interfaces": ["eth1.40"],
                    "parameters": {"stp": False, "forward-delay": 0},
                    "dhcp4": False,
                    "addresses": ["10.0.40.11/24"],
                }
            },
        },
    ),
    "IPv6": (
        [{"name": "eth0", "addresses": ["2001:db8::11/64"], "gateway": "2001:db8::1", "dns": ["2001:db8::53"]}],
        {
            "ethernets": {
                "eth0": {
                    "match": {"macaddress": "52:54:00:12:34:56"},
                    "dhcp4": False,
                    "addresses": ["2001:db8::11/64", "10.0.2.11/24"],
                    "routes": [{"to": "default", "via": "2001:db8::1"}, {"to": "default", "via": "10.0.2.1"}],
                    "nameservers": {
                        "addresses": ["2001:db8::53", "10.0.2.1", "10.0.2.2"],
                        "search": ["example.com"],
                    },
                }
            }
        },
    ),
}


@pytest.mark.parametrize("case", LINKS)
def test_netplan_of_links(case: str) -> None:
    links, expected = LINKS[case]
    booted = machine(True)
    if case != "IPv6":
        booted["interfaces"][1] |= {"ip": None, "prefix": None, "netmask": None}
    text = answer_of("ubuntu2404", machine=booted, parameters={"network": "static", "links": links})
    assert checked("ubuntu2404", text) == []
    network = yaml.safe_load(netplan_of(text))["network"]
    for section, devices in expected.items():
        for name, device in devices.items():
            assert network[section][name] == device


def test_interfaces_that_carry_others_are_renamed() -> None:
    """A bond gives its parts its own MAC address: settings that went by the MAC would meet all of them."""
    network = yaml.safe_load(netplan_of(answer_of("ubuntu2204", "bond-vlan")))["network"]
    for name, mac in (("eth0", "52:54:00:12:34:56"), ("eth1", "52:54:00:12:34:57")):
        assert network["ethernets"][name]["match"] == {"macaddress": mac}
        assert network["ethernets"][name]["set-name"] == name
    plain = yaml.safe_load(netplan_of(answer_of("ubuntu2204", "static")))["network"]
    assert all("set-name" not in device for device in plain["ethernets"].values())


# --- whatever the data is --------------------------------------------------------------------------------------------


def keys(value: object) -> object:
    """What must not depend on any value."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value] if isinstance(value, list) else type(value)


def shape(text: str) -> object:
    section = section_of(text)
    lengths = [len(str(script).splitlines()) for key in COMMANDS for script in section[key]]
    return keys(section), keys(parsed(netplan_of(text))), lengths


def hostile_contexts() -> list[dict[str, Any]]:
    """Each hostile value in each place where data of people and machines comes in."""
    contexts = []
    for value in HOSTILE:
        contexts += [
            data_of("ubuntu2404", parameters=PARAMETERS, machine=machine() | {field: value})
            for field in ("name", "hostname", "fqdn")
        ]
        changes: list[dict[str, Any]] = [
            {field: value} for field in ("timezone", "locale", "keyboard", "proxy", "mirror", "serial_console")
        ]
        changes += [{"packages": [value, "tmux"]}, {"ntp": [value]}, {"ssh_keys": [value]}]
        changes += [{"users": [PARAMETERS["users"][0] | {"name": value}]}]
        proxy = {"proxy": "http://proxy.example.com:3128"}
        contexts += [data_of("ubuntu2404", parameters=PARAMETERS | proxy | change) for change in changes]
    return contexts


@pytest.mark.slow
def test_s34_hostile_values_open_nothing() -> None:
    """A file of the same structure, or a refusal that names the template: nothing in between."""
    proxy = {"proxy": "http://proxy.example.com:3128"}
    with_proxy = shape(answer_of("ubuntu2404", parameters=PARAMETERS | proxy))
    without = shape(answer_of("ubuntu2404", parameters=PARAMETERS))
    contexts = hostile_contexts()
    results = render([Job(template_of("ubuntu2404"), data) for data in contexts], sources())
    texts = [result for result in results if isinstance(result, str)]
    assert all(isinstance(result, str | TemplateError) for result in results)
    assert len(texts) > len(contexts) // 2
    for text in texts:
        assert shape(text) in (with_proxy, without)


@pytest.mark.slow
@settings(deadline=None, max_examples=5, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(*[st.text(min_size=1, max_size=20)] * 4), min_size=20, max_size=40))
def test_s34_no_value_opens_a_key_or_a_command(values: list[tuple[str, str, str, str]]) -> None:
    jobs = []
    for host, key, package, fact in values:
        data = data_of("ubuntu2404", machine=machine() | {"fqdn": host, "name": host, "serial": fact})
        data["parameters"] |= {"ssh_keys": [key], "packages": [package], "timezone": fact}
        jobs.append(Job(template_of("ubuntu2404"), data))
    plain = shape(answer_of("ubuntu2404", parameters={"ssh_keys": ["k"], "packages": ["p"]}))
    for result in render(jobs, sources()):
        if isinstance(result, str):
            assert shape(result) == plain
