"""Finding machines."""

import pytest
from conftest import both_engines
from world import MAC, World

from provisioner.services import machines
from provisioner.services.machines import InterfaceInput


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
