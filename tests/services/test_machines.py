"""Machines: found, changed by who saw them last, and their limits."""

import re
from typing import Any

import pytest
from conftest import both_engines
from world import ACTOR, IP, MAC, World

from provisioner.errors import (
    AddressTaken,
    BuildNotPossible,
    InvalidInput,
    MacTaken,
    NameTaken,
    NotFound,
    ProvisionerError,
    Stale,
    TooLarge,
)
from provisioner.services import addresses, arming, dhcp, explain, localways, machines, records, rows, subnets
from provisioner.services.machines import InterfaceInput
from provisioner.store.engine import read


@both_engines
@pytest.mark.parametrize(
    ("fact", "found"),
    [
        ("web", ["web01", "web02"]),
        ("WEB02", ["web02"]),
        ("5254.0012.3456", ["web01"]),
        ("127.0.2.12", ["web02"]),
        ("sn-77", ["db01"]),
        ("%", []),
        ("nothing", []),
    ],
)
def test_r12_s37_machines_are_found_by_any_fact(world: World, fact: str, found: list[str]) -> None:
    """By name, any spelling of a MAC, address and serial; what SQL would take for a wildcard is itself."""
    world.subnet()
    world.machine("web01", MAC, "127.0.2.11", profile=None)
    world.machine("web02", "52:54:00:00:00:02", "127.0.2.12", profile=None)
    nics = [InterfaceInput("52:54:00:00:00:03", "127.0.2.13"), InterfaceInput("52:54:00:00:00:04", "127.0.2.14")]
    machines.add(world.site, world.actor, "db01", nics, {"serial": "SN-7712"})
    assert [each["name"] for each in machines.search(world.site, fact)] == found


def test_a_machine_with_two_matching_interfaces_is_found_once(world: World) -> None:
    """Both its addresses match, yet it is one machine."""
    world.subnet()
    nics = [InterfaceInput("52:54:00:00:00:03", "127.0.2.13"), InterfaceInput("52:54:00:00:00:04", "127.0.2.14")]
    machines.add(world.site, world.actor, "db01", nics, {})
    assert [each["name"] for each in machines.search(world.site, "127.0.2")] == ["db01"]


OTHER = "52:54:00:00:00:02"


@both_engines
def test_r17_a_change_of_what_somebody_else_changed_is_refused(world: World) -> None:
    site = world.site
    world.subnet()
    seen = world.machine(profile=None)["revision"]
    second = machines.edit(site, ACTOR, "web01", {"description": "first"}, expect=seen)["revision"]
    assert second != seen
    for change in (
        lambda expect: machines.edit(site, ACTOR, "web01", {"description": "second"}, expect=expect),
        lambda expect: machines.rename(site, ACTOR, "web01", "web02", expect=expect),
        lambda expect: machines.remove(site, ACTOR, "web01", expect=expect),
    ):
        with pytest.raises(Stale, match="web01 is at revision"):
            change(seen)
        assert machines.show(site, "web01")["description"] == "first"
    assert machines.edit(site, ACTOR, "web01", {"description": "first"}, expect=second)["revision"] == second
    third = machines.rename(site, ACTOR, "web01", "web02", expect=second)["revision"]
    machines.remove(site, ACTOR, "web02", expect=third)


@both_engines
def test_r17_subnets_likewise(world: World) -> None:
    site = world.site
    seen = world.subnet()["revision"]
    after = subnets.edit(site, ACTOR, "lab", {"domain": "lab.example"}, expect=seen)["revision"]
    assert subnets.show(site, "lab")["revision"] == after != seen
    for change in (
        lambda: subnets.edit(site, ACTOR, "lab", {"domain": "x"}, expect=seen),
        lambda: subnets.rename(site, ACTOR, "lab", "lab2", expect=seen),
        lambda: subnets.remove(site, ACTOR, "lab", expect=seen),
    ):
        with pytest.raises(Stale, match="subnet lab is at revision"):
            change()
    again = subnets.rename(site, ACTOR, "lab", "lab2", expect=after)["revision"]
    subnets.remove(site, ACTOR, "lab2", expect=again)


@both_engines
def test_tags_and_the_inventory_name(world: World) -> None:
    site = world.site
    shown = world.machine(ip=None, profile=None, tags=[" Web ", "rack-12", "web"], inventory="netbox/17")
    assert (shown["tags"], shown["inventory"]) == (["rack-12", "web"], "netbox/17")
    count = len(records.listing(site, None, 1000))
    assert machines.edit(site, ACTOR, "web01", {"tags": ["web", "RACK-12"]})["revision"] == shown["revision"]
    assert len(records.listing(site, None, 1000)) == count
    shown = machines.edit(site, ACTOR, "web01", {"tags": ["db"], "inventory": ""})
    assert (shown["tags"], shown["inventory"]) == (["db"], None)
    assert machines.edit(site, ACTOR, "web01", {"tags": []})["tags"] == []
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", shown["updated_at"])


def deep(levels: int) -> Any:
    """Lists in lists."""
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("fields", "kind", "where"),
    [
        ({"description": "x" * 4001}, TooLarge, "/description"),
        ({"description": 5}, InvalidInput, "/description"),
        ({"description": "a\0b"}, InvalidInput, "/description"),
        ({"parameters": {"a": "x" * 65536}}, TooLarge, "/parameters"),
        ({"parameters": {"a": deep(16)}}, TooLarge, "/parameters"),
        ({"parameters": {"a": deep(100_000)}}, TooLarge, "/parameters"),
        ({"parameters": [1]}, InvalidInput, "/parameters"),
        ({"kernel_options": [f"o{n}" for n in range(65)]}, TooLarge, "/kernel_options"),
        ({"kernel_options": "quiet"}, InvalidInput, "/kernel_options"),
        ({"tags": [f"t{n}" for n in range(65)]}, TooLarge, "/tags"),
        ({"tags": ["ok", "not ok"]}, InvalidInput, "/tags/1"),
        ({"tags": ["x" * 65]}, InvalidInput, "/tags/0"),
        ({"tags": [5]}, InvalidInput, "/tags/0"),
        ({"inventory": "a\nb"}, InvalidInput, "/inventory"),
        ({"inventory": "x" * 129}, TooLarge, "/inventory"),
        ({"profile": "nobody"}, InvalidInput, "/profile"),
        ({"profile": {"name": "x"}}, InvalidInput, "/profile"),
        ({"serial": "x" * 256}, TooLarge, "/serial"),
        ({"uuid": "nonsense"}, InvalidInput, "/uuid"),
        ({"local_boot": "by magic"}, InvalidInput, "/local_boot"),
        ({"protected": "yes"}, InvalidInput, "/protected"),
        ({"retired": 1}, InvalidInput, "/retired"),
    ],
)
def test_s73_fields_are_bounded_each_with_its_place(
    world: World, fields: dict[str, Any], kind: type[ProvisionerError], where: str
) -> None:
    world.machine(ip=None, profile=None)
    before = machines.show(world.site, "web01")
    with pytest.raises(kind) as caught:
        machines.edit(world.site, ACTOR, "web01", fields)
    assert caught.value.where == where
    assert 400 <= caught.value.status < 500
    assert caught.value.hint
    assert machines.show(world.site, "web01") == before


def test_s73_parameters_are_bounded_as_a_whole(world: World) -> None:
    """Many small changes must not make a large object."""
    world.machine(ip=None, profile=None)
    machines.edit(world.site, ACTOR, "web01", {"parameters": {"a": "x" * 40_000, "b": deep(15)}})
    with pytest.raises(TooLarge):
        machines.edit(world.site, ACTOR, "web01", {"parameters": {"c": "x" * 40_000}})
    machines.edit(world.site, ACTOR, "web01", {"parameters": {"a": None, "c": "x" * 40_000}})


def test_s73_so_are_interfaces(world: World) -> None:
    nics = [InterfaceInput(f"52:54:00:00:01:{n:02x}") for n in range(65)]
    with pytest.raises(TooLarge) as caught:
        machines.add(world.site, ACTOR, "web01", nics, {})
    assert caught.value.where == "/interfaces"
    assert len(machines.add(world.site, ACTOR, "web01", nics[:64], {})["interfaces"]) == 64


@both_engines
def test_an_error_of_an_interface_names_its_place(world: World) -> None:
    site = world.site
    world.subnet()
    world.machine("db01", OTHER, "127.0.2.12", profile=None)
    for nic, kind, where in (
        (InterfaceInput("nonsense"), InvalidInput, "/interfaces/1/mac"),
        (InterfaceInput(OTHER), MacTaken, "/interfaces/1/mac"),
        (InterfaceInput(MAC), InvalidInput, "/interfaces/1/mac"),
        (InterfaceInput("52:54:00:00:00:03", "127.0.2.12"), AddressTaken, "/interfaces/1/ip"),
        (InterfaceInput("52:54:00:00:00:03", IP), InvalidInput, "/interfaces/1/ip"),
        (InterfaceInput("52:54:00:00:00:03", "nonsense"), InvalidInput, "/interfaces/1/ip"),
        (InterfaceInput("52:54:00:00:00:03", "10.9.9.9", subnet="lab"), InvalidInput, "/interfaces/1/ip"),
        (InterfaceInput("52:54:00:00:00:03", subnet="nowhere"), InvalidInput, "/interfaces/1/subnet"),
        (InterfaceInput("52:54:00:00:00:03", name="x" * 65), TooLarge, "/interfaces/1/name"),
    ):
        with pytest.raises(kind) as caught:
            machines.add(site, ACTOR, "web01", [InterfaceInput(MAC, IP), nic], {})
        assert caught.value.where == where
    with pytest.raises(NameTaken) as taken:
        machines.add(site, ACTOR, "db01", [InterfaceInput(MAC, IP)], {})
    assert taken.value.where == "/name"


@both_engines
def test_addresses_may_change_places(world: World) -> None:
    site = world.site
    world.subnet()
    world.machine(profile=None)
    both = [InterfaceInput(MAC, IP), InterfaceInput(OTHER, "127.0.2.12")]
    machines.edit(site, ACTOR, "web01", {}, both)
    swapped = [InterfaceInput(MAC, "127.0.2.12"), InterfaceInput(OTHER, IP)]
    shown = machines.edit(site, ACTOR, "web01", {}, swapped)
    assert [nic["ip"] for nic in shown["interfaces"]] == ["127.0.2.12", IP]
    shown = machines.edit(site, ACTOR, "web01", {}, [InterfaceInput("52:54:00:00:00:03", IP)])
    assert [(nic["mac"], nic["ip"]) for nic in shown["interfaces"]] == [("52:54:00:00:00:03", IP)]


@both_engines
def test_a_machine_whose_mac_nobody_knows_keeps_its_address_and_boots_nothing(world: World) -> None:
    site = world.site
    world.subnet(dhcp="authoritative", boot_url="http://127.0.2.1:8080")
    world.distro()
    fields = {"profile": "rocky9", "local_boot": "exit"}
    shown = machines.add(site, ACTOR, "n001", [InterfaceInput(ip=IP)], fields)
    assert [(nic["mac"], nic["ip"]) for nic in shown["interfaces"]] == [(None, IP)]
    with pytest.raises(AddressTaken, match="n001"):
        world.machine("web01", MAC, IP)
    with pytest.raises(BuildNotPossible, match="no MAC address of n001") as refused:
        arming.start(site, ACTOR, "n001")
    assert "--mac" in refused.value.hint
    with pytest.raises(InvalidInput, match="no MAC address of n001"):
        explain.boot(site, "n001", "uefi")
    assert dhcp.plan(site).reservations == ()
    with read(site.engine) as session:
        assert localways.exceptions(session) == {}
    assert machines.search(site, IP)[0]["name"] == "n001"
    shown = machines.edit(site, ACTOR, "n001", {}, [InterfaceInput(MAC)])
    assert [(nic["mac"], nic["ip"], nic["subnet"]) for nic in shown["interfaces"]] == [(MAC, IP, "lab")]
    assert [each.mac for each in dhcp.plan(site).reservations] == [MAC]
    dhcp.acknowledge(site, dhcp.generation(site))
    assert arming.start(site, ACTOR, "n001")["state"] == "armed"


@both_engines
def test_an_added_interface_takes_the_waiting_place(world: World) -> None:
    site = world.site
    world.subnet()
    machines.add(site, ACTOR, "n001", [InterfaceInput(ip=IP), InterfaceInput(ip="127.0.2.12", name="bmc")], {})
    machines.edit(site, ACTOR, "n001", {}, [InterfaceInput(MAC), InterfaceInput(ip="127.0.2.12")])
    shown = machines.show(site, "n001")["interfaces"]
    assert [(nic["mac"], nic["ip"], nic["name"]) for nic in shown] == [(MAC, IP, "nic0"), (None, "127.0.2.12", "bmc")]
    with pytest.raises(InvalidInput, match="needs a MAC"):
        machines.add(site, ACTOR, "n002", [], {})
    with pytest.raises(InvalidInput, match="needs a MAC"):
        machines.edit(site, ACTOR, "n001", {}, [])
    assert machines.add(site, ACTOR, "n002", [], {"serial": "SN-1"})["interfaces"] == []
    with pytest.raises(InvalidInput, match="no MAC address of n002"):
        explain.boot(site, "n002", "bios")


@both_engines
def test_a_row_is_added_whole_or_not_at_all(world: World) -> None:
    site = world.site
    world.subnet(gateway="127.0.2.2", ranges=["127.0.2.5-127.0.2.6"])
    nics = [InterfaceInput("52:54:00:00:00:fe+", "127.0.2.1+"), InterfaceInput(None, "next", subnet="lab")]
    found = rows.add(site, ACTOR, "R[1-2]N[01-02]", nics, {"tags": ["rack"]})
    assert [each["name"] for each in found] == ["r1n01", "r1n02", "r2n01", "r2n02"]
    assert [each["interfaces"][0]["mac"][-5:] for each in found] == ["00:fe", "00:ff", "01:00", "01:01"]
    assert [each["interfaces"][0]["ip"][-1] for each in found] == ["1", "3", "4", "7"]
    assert len({nic["ip"] for each in found for nic in each["interfaces"]}) == 8
    before, held = machines.listing(site), addresses.overview(site, "lab")["counts"]
    for pattern, one, kind, said in (
        ("x[1-3]", InterfaceInput(MAC), InvalidInput, "cannot be the MAC address of 3"),
        ("x[1-3]", InterfaceInput(ip="127.0.2.20"), InvalidInput, "cannot be the address of 3"),
        ("x[1-3]", InterfaceInput("52:54:00:00:00:fc+"), MacTaken, "r1n01"),
        ("x[1-3]", InterfaceInput(ip="127.0.2.253+"), InvalidInput, "gives 2 addresses, not 3"),
        ("r2n[01-03]", InterfaceInput(ip="127.0.2.50+"), NameTaken, "r2n01"),
        ("x[1-3", InterfaceInput(ip="127.0.2.50+"), InvalidInput, "bracket"),
        ("x[1-3]", InterfaceInput(ip="127.0.2.50+", subnet="nowhere"), InvalidInput, "x1: there is no subnet"),
        ("x[1-3]", InterfaceInput(ip="10.9.9.1+"), InvalidInput, "no subnet contains"),
    ):
        with pytest.raises(kind, match=re.escape(said)):
            rows.add(site, ACTOR, pattern, [one], {})
        assert machines.listing(site) == before
    assert addresses.overview(site, "lab")["counts"] == held
    rows.add(site, ACTOR, "x[1-3]", [InterfaceInput(ip="127.0.2.50+")], {}, dry_run=True)
    assert machines.listing(site) == before
    with pytest.raises(NotFound):
        machines.show(site, "x1")


@both_engines
def test_a_long_row_goes_by_a_plan_and_is_as_whole(world: World) -> None:
    site = world.site
    world.subnet("big", "10.8.0.0/16", gateway="10.8.0.1")
    nics = [InterfaceInput("52:54:00:00:00:00+", "10.8.0.1+"), InterfaceInput(None, "next", subnet="big")]
    names = [f"n{number:03d}" for number in range(1, 151)]
    shown = rows.add(site, ACTOR, "n[001-150]", nics, {"tags": ["rack"]}, dry_run=True)
    assert [each["name"] for each in shown] == names
    assert machines.listing(site) == []
    rows.add(site, ACTOR, "n[001-150]", nics, {"tags": ["rack"]})
    found = machines.listing(site)
    assert [each["name"] for each in found] == names
    assert [found[place]["interfaces"][0]["ip"] for place in (0, 149)] == ["10.8.0.2", "10.8.0.151"]
    assert len({nic["ip"] for each in found for nic in each["interfaces"]}) == 300
    with pytest.raises(ProvisionerError, match="n150"):
        rows.add(site, ACTOR, "n[150-300]", [InterfaceInput("52:54:00:01:00:00+")], {})
    with pytest.raises(ProvisionerError, match="nobody"):
        rows.add(site, ACTOR, "x[001-150]", [InterfaceInput("52:54:00:01:00:00+")], {"profile": "nobody"})
    assert machines.listing(site) == found
    rows.add(site, ACTOR, "y[001-150]", [InterfaceInput(ip="10.8.9.0+")], {})
    assert machines.show(site, "y150")["interfaces"][0] == {
        "name": "nic0",
        "mac": None,
        "ip": "10.8.9.149",
        "subnet": "big",
    }
