"""Which way to the local disk a machine has: its own, its profile's, the nearest ancestor's, else `auto`."""

from typing import Any

import pytest
from conftest import both_engines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from world import ACTOR, World

from provisioner.core.localboot import WAYS
from provisioner.core.parameters import resolve
from provisioner.errors import InvalidInput, MalformedContent
from provisioner.services import arming, localways, looks, machines, profiles
from provisioner.services.machines import InterfaceInput
from provisioner.services.resolve import BuildRequest, levels
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Machine, Revision

CHAIN = ("root", "middle", "leaf")


def way_of(site: Site, name: str) -> str:
    with read(site.engine) as session:
        machine = session.scalars(select(Machine).where(Machine.name == name)).one()
        seen = looks.world(session.connection(), machine.interfaces[0].mac or "").machine
        assert seen is not None
        return seen.way


def chain(site: Site, ways: tuple[str | None, ...]) -> None:
    """Profiles, each the child of the one before; a way of None says nothing."""
    parent = None
    for name, way in zip(CHAIN, ways, strict=True):
        profiles.add(site, ACTOR, {"name": name, "parent": parent, "local_boot": way})
        parent = name


@both_engines
def test_the_nearest_that_says_one_wins(site: Site, world: World) -> None:
    world.subnet()
    chain(site, ("exit", None, None))
    world.machine(profile="leaf")
    assert way_of(site, "web01") == "exit"
    profiles.edit(site, ACTOR, "middle", {"local_boot": "second-disk"})
    assert way_of(site, "web01") == "second-disk"
    machines.edit(site, ACTOR, "web01", {"local_boot": "auto"})
    assert way_of(site, "web01") == "auto"
    machines.edit(site, ACTOR, "web01", {"local_boot": None})
    assert way_of(site, "web01") == "second-disk"
    machines.edit(site, ACTOR, "web01", {"profile": None})
    assert way_of(site, "web01") == "auto"


@both_engines
def test_the_exceptions_are_the_odd_machines_alone_by_each_mac(site: Site, world: World) -> None:
    world.subnet()
    chain(site, (None, "exit", None))
    world.machine("plain", "52:54:00:00:00:01", None)
    world.machine("odd", "52:54:00:00:00:02", None, profile="leaf")
    world.machine("back", "52:54:00:00:00:03", None, profile="leaf", local_boot="auto")
    world.machine("bare", "52:54:00:00:00:04", None, profile=None)
    two = [InterfaceInput("52:54:00:00:00:05"), InterfaceInput("52:54:00:00:00:06")]
    machines.add(site, ACTOR, "two", two, {"profile": "rocky9", "local_boot": "second-disk"})
    with read(site.engine) as session:
        assert localways.exceptions(session) == {
            "52:54:00:00:00:02": "exit",
            "52:54:00:00:00:05": "second-disk",
            "52:54:00:00:00:06": "second-disk",
        }


maybe_way = st.none() | st.sampled_from(sorted(WAYS))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(maybe_way, maybe_way, maybe_way), maybe_way)
def test_all_who_answer_agree(site: Site, world: World, ways: tuple[str | None, ...], own: str | None) -> None:
    """The boot path, the cache for a stopped database, and `profile explain`."""
    with read(site.engine) as session:
        first = session.scalars(select(Machine)).first() is None
    if first:
        chain(site, (None, None, None))
        world.subnet()
        world.machine(profile="leaf")
    for name, way in zip(CHAIN, ways, strict=True):
        profiles.edit(site, ACTOR, name, {"local_boot": way})
    machines.edit(site, ACTOR, "web01", {"local_boot": own})
    expected = next((way for way in (own, *reversed(ways)) if way is not None), "auto")
    assert way_of(site, "web01") == expected
    with read(site.engine) as session:
        machine = session.scalars(select(Machine)).one()
        resolved = resolve(levels(session, machine, BuildRequest()))
        assert resolved.field("local_boot") == expected
        assert localways.exceptions(session).get(machine.interfaces[0].mac, "auto") == expected


@pytest.mark.parametrize("way", ["sideways", "AUTO", " exit", "0x80"])
def test_an_unknown_way_is_refused_with_the_list(site: Site, world: World, way: str) -> None:
    world.subnet()
    world.machine()
    calls: list[Any] = [
        lambda: machines.edit(site, ACTOR, "web01", {"local_boot": way}),
        lambda: world.machine("web02", "52:54:00:00:00:02", None, local_boot=way),
        lambda: profiles.edit(site, ACTOR, "rocky9", {"local_boot": way}),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert not isinstance(caught.value, MalformedContent)
        assert "auto, exit, sanboot, second-disk" in caught.value.hint


def test_a_change_is_a_revision_and_is_explained(site: Site, world: World) -> None:
    world.ready()
    assert machines.edit(site, ACTOR, "web01", {"local_boot": "exit"})["local_boot"] == "exit"
    with read(site.engine) as session:
        last = session.scalars(select(Revision).where(Revision.kind == "machine").order_by(Revision.id.desc())).first()
        assert last is not None and last.before is not None and last.after is not None
        assert (last.before["local_boot"], last.after["local_boot"]) == (None, "exit")
    (row,) = [row for row in arming.explain(site, "web01")["values"] if row["name"] == "local_boot"]
    assert (row["value"], row["source"]) == ("exit", "machine web01")
    assert row["overrides"] == ["built-in defaults", "profile linux"]
