"""Ansible's inventory from the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import event
from world import World

from provisioner.core.parameters import resolve
from provisioner.errors import NotFound
from provisioner.services import ansible, machines, profiles
from provisioner.services.machines import InterfaceInput
from provisioner.services.resolve import BuildRequest, levels
from provisioner.services.site import Site
from provisioner.store.engine import read


@contextmanager
def queries(site: Site) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(site.engine, "before_cursor_execute", note)
    yield sent
    event.remove(site.engine, "before_cursor_execute", note)


@both_engines
def test_parameters_are_those_that_a_build_gets(site: Site, world: World) -> None:
    world.subnet(parameters={"timezone": "Europe/Berlin", "ntp": "10.0.2.1"})
    world.distro()
    given = {"packages": ["nginx"], "ntp": "x"}
    profiles.add(site, world.actor, {"name": "web", "parent": "rocky9", "parameters": given})
    world.machine(profile="web", parameters={"rack": "7", "packages": ["curl"]})
    shown = ansible.host(site, "web01")
    with read(site.engine) as session:
        expected = resolve(levels(session, machines.find(session, "web01"), BuildRequest())).plain_parameters()
    assert {"timezone", "ntp", "packages", "rack"} <= set(expected)
    assert {key: shown[key] for key in expected} == expected
    assert (shown["ntp"], shown["packages"]) == ("10.0.2.1", ["curl"])


@both_engines
def test_s22_no_secret_is_in_the_inventory(site: Site, world: World) -> None:
    world.ready()
    world.secret("correct horse", "root_password")
    world.secret("battery staple", "puppet_challenge")
    text = str(ansible.inventory(site))
    assert "web01" in text
    for word in ("correct", "battery", "$6$", "root_password", "puppet_challenge"):
        assert word not in text


def test_retired_machines_only_when_asked(site: Site, world: World) -> None:
    world.ready()
    machines.edit(site, world.actor, "web01", {"retired": True})
    assert ansible.inventory(site)["_meta"]["hostvars"] == {}
    assert ansible.inventory(site, retired=True)["state_retired"] == {"hosts": ["web01"]}
    assert ansible.host(site, "web01")["provisioner"]["state"] == "retired"


def test_an_unknown_machine_is_not_found(site: Site) -> None:
    with pytest.raises(NotFound):
        ansible.host(site, "web01")


def test_the_number_of_queries_does_not_grow(site: Site, world: World) -> None:
    world.ready()
    with queries(site) as few:
        ansible.inventory(site)
    for number in range(20, 40):
        nics = [InterfaceInput(f"52:54:00:00:01:{number}", f"127.0.2.{number}")]
        machines.add(site, world.actor, f"n{number}", nics, {"profile": "rocky9"})
    with queries(site) as many:
        assert len(ansible.inventory(site)["_meta"]["hostvars"]) == 21
    assert len(many) == len(few)
