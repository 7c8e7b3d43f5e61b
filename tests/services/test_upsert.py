"""Item 2: machines as an inventory knows them."""

from typing import Any

import pytest
from conftest import both_engines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import ACTOR, IP, MAC, World

from provisioner.core.addresses import normal_mac
from provisioner.core.facts import from_query
from provisioner.errors import AddressTaken, IdentityConflict, InvalidInput, MalformedMac, NameTaken, ProvisionerError
from provisioner.services import dhcp, machines, records
from provisioner.services.discovery import Sighting, record
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Site
from provisioner.services.upsert import upsert

NEW = "52:54:00:00:00:77"
UUID = "4c4c4544-0037-3310-8052-b4c04f4d3732"
ZERO = "00000000-0000-0000-0000-000000000000"


def revisions(site: Site) -> int:
    """How many there are."""
    return len(records.listing(site, None, 1000))


@both_engines
def test_the_same_body_twice_leaves_no_second_revision(world: World) -> None:
    site = world.site
    world.subnet()
    body = {
        "name": "Web01",
        "interfaces": [
            {"mac": MAC.upper(), "ip": IP, "name": "eth0"},
            {"mac": "5254.0000.0002", "ip": "next", "subnet": "lab"},
        ],
        "profile": "rocky9",
        "description": "from the inventory",
        "parameters": {"timezone": "UTC"},
        "kernel_options": ["quiet"],
        "tags": ["Rack-12", "web"],
        "serial": "SN-1",
        "uuid": UUID.upper(),
        "inventory": "netbox/17",
        "local_boot": None,
        "protected": False,
        "retired": False,
    }
    first, created = upsert(site, ACTOR, "01-" + MAC.replace(":", "-"), body)
    assert created
    assert first["tags"] == ["rack-12", "web"]
    assert [nic["ip"] for nic in first["interfaces"]] == [IP, "127.0.2.1"]
    assert first["inventory"] == "netbox/17"
    count, generation = revisions(site), dhcp.generation(site)
    for spelled in (MAC, "525400000002", "52-54-00-00-00-02"):
        again, created = upsert(site, ACTOR, spelled, body)
        assert (again, created) == (first, False)
    assert (revisions(site), dhcp.generation(site)) == (count, generation)
    changed, _ = upsert(site, ACTOR, MAC, body | {"parameters": {"timezone": None, "disk": "/dev/sda"}})
    assert changed["parameters"] == {"disk": "/dev/sda"}
    assert changed["revision"] != first["revision"]
    assert revisions(site) == count + 1


@both_engines
def test_what_is_left_out_stays(world: World) -> None:
    site = world.site
    world.subnet()
    world.machine(description="by hand", tags=["web"], serial="SN-1")
    shown, created = upsert(site, ACTOR, MAC, {"inventory": "netbox/3"})
    assert not created
    assert (shown["description"], shown["tags"], shown["serial"]) == ("by hand", ["web"], "SN-1")
    shown, _ = upsert(site, ACTOR, MAC, {"interfaces": [{"mac": MAC}, {"mac": NEW}]})
    assert [(nic["mac"], nic["ip"]) for nic in shown["interfaces"]] == [(MAC, IP), (NEW, None)]
    shown, _ = upsert(site, ACTOR, NEW, {"interfaces": [{"mac": MAC, "ip": None}], "name": "web09"} | _with(NEW))
    assert shown["name"] == "web09"
    assert [nic["ip"] for nic in shown["interfaces"]] == [None, None]


def _with(mac: str) -> dict[str, Any]:
    return {"interfaces": [{"mac": MAC, "ip": None}, {"mac": mac}]}


@both_engines
def test_a_machine_without_a_name_is_called_after_its_mac(world: World) -> None:
    shown, created = upsert(world.site, ACTOR, "5254.0000.0077", {})
    assert (shown["name"], created) == ("m-525400000077", True)
    assert shown["interfaces"][0]["mac"] == NEW
    assert upsert(world.site, ACTOR, NEW, {}) == (shown, False)


@both_engines
@pytest.mark.parametrize(
    ("mac", "body", "other"),
    [
        (NEW, {"serial": "sn-1"}, None),
        (NEW, {"uuid": UUID}, None),
        (NEW, {"name": "web01"}, "web01"),
        (MAC, {"interfaces": [{"mac": MAC}, {"mac": "52:54:00:00:00:02"}]}, "db01"),
        (MAC, {"serial": "SN-2"}, "db01"),
        (MAC, {"serial": "SN-3"}, None),
    ],
)
def test_r15_a_contradiction_is_refused_with_both_sides(world: World, mac: str, body: Any, other: str | None) -> None:
    site = world.site
    world.subnet()
    world.machine(serial="SN-1", uuid=UUID)
    world.machine("db01", "52:54:00:00:00:02", "127.0.2.12", serial="SN-2")
    before, count = machines.listing(site), revisions(site)
    with pytest.raises(IdentityConflict) as caught:
        upsert(site, ACTOR, mac, body)
    told = caught.value.as_dict()
    assert told["matched"] == {"name": "web01", "macs": [MAC], "serial": "SN-1", "uuid": UUID}
    assert told["other"]["name"] == other
    assert told["where"].startswith("/")
    assert (machines.listing(site), revisions(site)) == (before, count)


@both_engines
@pytest.mark.parametrize(
    ("serial", "uuid"), [("To be filled by O.E.M.", ZERO), ("None", ZERO.replace("0", "f")), ("0", "")]
)
def test_r14_machines_with_the_same_fillers_are_never_merged(world: World, serial: str, uuid: str) -> None:
    body = {"serial": serial, "uuid": uuid}
    assert upsert(world.site, ACTOR, MAC, body)[1]
    assert upsert(world.site, ACTOR, NEW, body)[1]
    assert not upsert(world.site, ACTOR, NEW, body)[1]
    assert len(machines.listing(world.site)) == 2


@both_engines
@pytest.mark.parametrize("body", [{"name": "n001"}, {"serial": "SN-1"}, {"name": "n001", "interfaces": [{}]}])
def test_a_prepared_machine_is_filled_in_and_keeps_its_address(world: World, body: dict[str, Any]) -> None:
    site = world.site
    world.subnet()
    machines.add(site, ACTOR, "n001", [InterfaceInput(ip=IP)], {"serial": "SN-1", "profile": "rocky9"})
    shown, created = upsert(site, ACTOR, MAC, body)
    assert not created
    assert [(nic["mac"], nic["ip"], nic["subnet"]) for nic in shown["interfaces"]] == [(MAC, IP, "lab")]
    assert upsert(site, ACTOR, MAC, body) == (shown, False)
    with pytest.raises(IdentityConflict):
        upsert(site, ACTOR, NEW, body)


@both_engines
def test_a_machine_in_quarantine_is_adopted(world: World) -> None:
    site = world.site
    world.subnet()
    record(site, [Sighting(MAC, "127.0.2.50", _facts())])
    shown, created = upsert(site, ACTOR, MAC, {"name": "web01", "interfaces": [{"mac": MAC, "ip": IP}]})
    assert created
    assert (shown["state"], shown["serial"]) == ("discovered", "SN-77")
    assert upsert(site, ACTOR, MAC, {"ready": True})[0]["state"] == "ready"


def _facts() -> Any:
    return from_query({"serial": "SN-77"})


@both_engines
@pytest.mark.parametrize(
    ("mac", "body", "kind", "where"),
    [
        ("nonsense", {}, MalformedMac, "/mac"),
        (MAC, {"interfaces": [{"mac": NEW}]}, InvalidInput, "/interfaces"),
        (MAC, {"interfaces": [{"mac": MAC, "ip": "127.0.2.12"}]}, AddressTaken, "/interfaces/0/ip"),
        (MAC, {"interfaces": [{"mac": MAC, "ip": "10.9.9.9"}]}, InvalidInput, "/interfaces/0/ip"),
        (MAC, {"interfaces": [{"mac": MAC, "ip": "next"}]}, InvalidInput, "/interfaces/0/ip"),
        (MAC, {"interfaces": [{"mac": MAC, "speed": 1}]}, InvalidInput, "/interfaces/0"),
        (MAC, {"profile": "nobody"}, InvalidInput, "/profile"),
        (MAC, {"name": "db01"}, NameTaken, "/name"),
        (MAC, {"color": "red"}, InvalidInput, "/color"),
        (MAC, {"parameters": {"A b": 1}}, InvalidInput, "/parameters"),
        (MAC, {"tags": ["a b"]}, InvalidInput, "/tags/0"),
        (MAC, {"protected": "yes"}, InvalidInput, "/protected"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(
    world: World, mac: str, body: Any, kind: type[ProvisionerError], where: str
) -> None:
    site = world.site
    world.subnet()
    world.machine("db01", "52:54:00:00:00:02", "127.0.2.12", profile=None)
    if body.get("name") == "db01":
        world.machine(profile=None)
    count = revisions(site)
    with pytest.raises(kind) as caught:
        upsert(site, ACTOR, mac, body)
    assert caught.value.where == where
    assert caught.value.hint
    assert revisions(site) == count


def spellings(octets: bytes) -> list[str]:
    """Ways to write a MAC."""
    bare = octets.hex()
    dotted = ".".join(bare[at : at + 4] for at in range(0, len(bare), 4))
    return [octets.hex(":"), octets.hex("-").upper(), bare, dotted, f"01-{octets.hex('-')}", f" {octets.hex(':')} "]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(st.binary(min_size=6, max_size=6).filter(lambda octets: any(octets) and not octets[0] & 1), st.data())
def test_r12_every_spelling_is_one_machine(site: Site, octets: bytes, data: st.DataObject) -> None:
    written = data.draw(st.lists(st.sampled_from(spellings(octets)), min_size=2, max_size=4))
    names = {upsert(site, ACTOR, mac, {})[0]["name"] for mac in written}
    assert names == {f"m-{octets.hex()}"}
    found = machines.show(site, octets.hex("-"))
    assert [nic["mac"] for nic in found["interfaces"]] == [normal_mac(octets.hex())]
