"""What NetBox says of a device becomes a machine, or a reason why not."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.names import machine_name
from provisioner.core.netbox import Conversion, Machines, Rule, convert

FIXTURES = Path(__file__).parent.parent / "fixtures/netbox"


def told(version: str = "4.3") -> dict[str, Any]:
    """A complete answer of each list."""
    return json.loads((FIXTURES / f"netbox-{version}.json").read_text())


def converted(data: dict[str, Any], **conversion: Any) -> Machines:
    """The machines of these answers."""
    lists = (data["dcim/devices"], data["dcim/interfaces"], data["ipam/ip-addresses"])
    return convert(*lists, Conversion(**conversion))


def machine(found: Machines, device: int) -> dict[str, Any]:
    """The machine of a device."""
    return next(each for each in found.machines if each["inventory"] == f"netbox/{device}")


def reason(found: Machines, device: int) -> str:
    """Why a device was left out."""
    return next(each.reason for each in found.left_out if each.id == device)


def test_a_device_becomes_a_machine() -> None:
    web01 = machine(converted(told(), rules=[Rule("rocky9", role="web")]), 1)
    assert web01 == {
        "name": "web01",
        "interfaces": [
            {"mac": "52:54:00:aa:00:01", "name": "eth0", "ip": "10.0.2.21"},
            {"mac": "52:54:00:aa:00:02", "name": "eth1"},
        ],
        "profile": "rocky9",
        "parameters": {
            "inventory": {
                "site": "fra1",
                "location": "hall-2",
                "rack": "R 07",
                "position": 11.0,
                "role": "web",
                "platform": "rocky-9",
                "tenant": "shop",
                "manufacturer": "dell",
                "model": "poweredge-r650",
                "asset_tag": "A-0001",
            }
        },
        "tags": ["pxe"],
        "serial": "SN0001",
        "inventory": "netbox/1",
    }


def test_every_device_is_a_machine_or_has_a_reason() -> None:
    found = converted(told())
    assert {each["name"] for each in found.machines} == {
        "web01", "db01", "v6only", "noip", "stack-1", "stack-2", "lab-server-3-old", "white01", "white02", "old01",
    }  # fmt: skip
    assert "no name" in reason(found, 7)
    assert "none of its interfaces" in reason(found, 8)
    assert "cannot be a host name" in reason(found, 10)
    assert "MAC address" in reason(found, 11)
    assert "netbox/13 at site ber1" in reason(found, 12)
    assert "netbox/12 at site fra1" in reason(found, 13)
    assert [each.id for each in found.left_out] == [7, 8, 10, 11, 12, 13]


@pytest.mark.parametrize("version", ["4.0", "4.3"])
def test_the_cards_of_a_bond_are_taken_once_and_carry_its_address(version: str) -> None:
    db01 = machine(converted(told(version)), 2)
    assert db01["interfaces"] == [
        {"mac": "52:54:00:aa:00:04", "name": "eno1", "ip": "10.0.2.22"},
        {"mac": "52:54:00:aa:00:05", "name": "eno2"},
    ], "bond0 and bond0.20 have eno1's MAC; the VLAN's address goes down through the bond"


def test_one_of_several_macs_is_primary() -> None:
    assert [nic["mac"] for nic in machine(converted(told()), 4)["interfaces"]] == [
        "52:54:00:aa:00:07",
        "52:54:00:aa:00:08",
    ]


def test_an_address_on_a_bridge_goes_to_its_member() -> None:
    data = told()
    bridge, card = copy.deepcopy(data["dcim/interfaces"][0]), data["dcim/interfaces"][1]
    bridge |= {"id": 900, "name": "br0", "type": {"value": "bridge", "label": "Bridge"}}
    bridge |= {"mac_address": None, "primary_mac_address": None, "mac_addresses": []}
    card["bridge"] = {"id": 900, "name": "br0"}
    data["dcim/interfaces"].append(bridge)
    data["dcim/devices"][0]["interface_count"] = 4
    data["ipam/ip-addresses"][0] |= {"assigned_object_id": 900}
    assert [nic.get("ip") for nic in machine(converted(data), 1)["interfaces"]] == [None, "10.0.2.21"]


def test_two_cards_with_one_mac_are_one_and_somebody_is_told() -> None:
    data = told()
    second = next(each for each in data["dcim/interfaces"] if each["id"] == 12)
    second["primary_mac_address"]["mac_address"] = "52:54:00:AA:00:01"
    found = converted(data)
    assert [nic["name"] for nic in machine(found, 1)["interfaces"]] == ["eth0"]
    assert "web01: eth0 and eth1 have one MAC; eth0 is taken" in found.notes


def test_a_primary_address_on_no_card_is_told() -> None:
    data = told()
    loopback = next(each for each in data["dcim/interfaces"] if each["id"] == 11)
    loopback["type"] = {"value": "virtual", "label": "Virtual"}
    loopback |= {"mac_address": None, "primary_mac_address": None, "mac_addresses": []}
    found = converted(data)
    assert [nic.get("ip") for nic in machine(found, 1)["interfaces"]] == [None]
    assert "web01: its primary address 10.0.2.21/24 is on none of its cards, and left out" in found.notes


def test_ipv6_alone_and_no_address_at_all() -> None:
    found = converted(told())
    assert [nic.get("ip") for nic in machine(found, 3)["interfaces"]] == ["fd00:2::23"]
    assert [nic.get("ip") for nic in machine(found, 4)["interfaces"]] == [None, None]


def test_all_addresses_but_the_shared_ones() -> None:
    data = told()
    vip = next(each for each in data["ipam/ip-addresses"] if each["address"] == "10.0.3.200/24")
    vip["id"] = 1
    nics = machine(converted(data, all_addresses=True), 1)["interfaces"]
    assert [nic.get("ip") for nic in nics] == ["10.0.2.21", "10.0.3.21"], "not the VIP, not the management card's"


def test_members_of_a_virtual_chassis_are_machines_of_their_own() -> None:
    found = converted(told())
    for device, mac in ((5, "52:54:00:aa:00:09"), (6, "52:54:00:aa:00:0a")):
        assert [nic["mac"] for nic in machine(found, device)["interfaces"]] == [mac]


def test_interfaces_that_the_token_may_not_see_are_noticed() -> None:
    data = told()
    data["dcim/interfaces"] = [each for each in data["dcim/interfaces"] if each["id"] != 12]
    found = converted(data)
    assert "NetBox counts 3 interfaces and shows 2" in reason(found, 1), "else the second card would be removed here"


def test_a_tag_that_is_none_here_does_not_stop_the_device() -> None:
    data = told()
    data["dcim/devices"][0]["tags"].append({"id": 9, "name": "Größe", "slug": "größe"})
    found = converted(data)
    assert machine(found, 1)["tags"] == ["pxe"]
    assert any("größe" in note for note in found.notes)


def test_names_made_of_more_than_the_name() -> None:
    found = converted(told(), name="{name}.{site}")
    assert machine(found, 12)["name"] == "cache01.fra1"
    assert machine(found, 13)["name"] == "cache01.ber1"
    found = converted(told(), name="node-{asset_tag}")
    assert [each["name"] for each in found.machines] == ["node-a-0001", "node-a-0007"], "no name is needed then"
    assert "no asset_tag" in reason(found, 2)


@pytest.mark.parametrize(
    ("rules", "profiles"),
    [
        ([], {1: None, 2: None}),
        ([Rule("web", role="web"), Rule("db", tag="db")], {1: "web", 2: "db"}),
        ([Rule("pxe", tag="pxe"), Rule("db", tag="db")], {1: "pxe", 2: "pxe", 5: None}),
        ([Rule("db", tag="db"), Rule("pxe", tag="PXE")], {1: "pxe", 2: "db"}),
        ([Rule("here", site="fra1", role="db"), Rule("there", site="ber1")], {1: None, 2: "here"}),
        ([Rule("el", platform="rocky-9")], {1: "el", 4: None}),
    ],
)
def test_the_first_rule_that_fits_gives_the_profile(rules: list[Rule], profiles: dict[int, str | None]) -> None:
    found = converted(told(), rules=rules)
    assert {device: machine(found, device).get("profile") for device in profiles} == profiles
    assert all("profile" in each for each in found.machines if each.get("profile")), "left alone where none fits"


def test_the_same_answer_in_any_order_gives_the_same_machines() -> None:
    data = told()
    backwards = {key: rows[::-1] if isinstance(rows, list) else rows for key, rows in data.items()}
    twice = {key: rows + rows if isinstance(rows, list) else rows for key, rows in data.items()}
    assert converted(backwards) == converted(data) == converted(twice)


@given(st.text(max_size=40))
def test_any_name_is_a_host_name_or_has_a_reason(name: str) -> None:
    data = told()
    data["dcim/devices"] = data["dcim/devices"][:1]
    data["dcim/devices"][0]["name"] = name
    found = converted(data)
    assert len(found.machines) + len(found.left_out) == 1
    for each in found.machines:
        assert machine_name(each["name"]) == each["name"]
