"""Objects and renderings as they were at some moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import update
from world import ACTOR, IP, MAC, World

from provisioner.errors import BuildNotPossible, InvalidInput, NotFound, UnknownReference
from provisioner.services import arming, asof, builds, catalogue, machines, profiles, subnets, templates
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Build


def instant() -> datetime:
    """A moment between what was done and what is done next."""
    return datetime.now(UTC)


def own(world: World) -> None:
    """A machine with a profile, a parent profile and a template of their own, whose answer says what went in."""
    world.subnet(parameters={"where": "cellar"})
    world.distro()
    text = "# {{ machine.name }} {{ parameters.mood }} {{ parameters.where }} {{ distro.name }}"
    text += " {{ machine.domain or 'nowhere' }}\n"
    templates.add(world.site, ACTOR, "script/own", text)
    parent = {"name": "base", "distro": {"os": "rocky"}, "template": "script/own", "parameters": {"mood": "calm"}}
    profiles.add(world.site, ACTOR, parent)
    profiles.add(world.site, ACTOR, {"name": "web", "parent": "base"})
    world.machine(profile="web")


def unstamped(machine: dict[str, Any]) -> dict[str, Any]:
    """A machine without its two moments: a revision's is a little later than that of its row."""
    return {key: value for key, value in machine.items() if not key.endswith("_at")}


def answer(site: Site, at: datetime, name: str = "web01", **asked: Any) -> str:
    """The answer file of then."""
    return str(asof.render(site, name, at, **asked)["files"]["answer"])


@both_engines
def test_a_machine_and_a_profile_are_shown_as_they_were(world: World) -> None:
    world.ready(description="one")
    machine, profile, first = machines.show(world.site, "web01"), profiles.show(world.site, "rocky9"), instant()
    machines.edit(world.site, ACTOR, "web01", {"description": "two", "parameters": {"a": 1}, "tags": ["x"]})
    profiles.edit(world.site, ACTOR, "rocky9", {"description": "changed"})
    second, later = machines.show(world.site, "web01"), instant()
    machines.edit(world.site, ACTOR, "web01", {"description": "three", "parameters": {"a": None}})
    assert unstamped(asof.machine(world.site, "web01", first)) == unstamped(machine)
    assert asof.machine(world.site, "web01", first).keys() == machine.keys()
    shown = asof.machine(world.site, "web01", later)
    assert (shown["description"], shown["parameters"], shown["tags"]) == ("two", {"a": 1}, ["x"])
    assert shown["revision"] == second["revision"] != machine["revision"]
    assert asof.profile(world.site, "rocky9", first) == profile
    assert asof.profile(world.site, "rocky9", later) == profiles.show(world.site, "rocky9")
    assert unstamped(asof.machine(world.site, "web01", instant())) == unstamped(machines.show(world.site, "web01"))


@both_engines
def test_objects_are_found_by_the_name_and_mac_of_then(world: World) -> None:
    """Renamed and removed since, and their names taken by others."""
    world.ready()
    first = instant()
    machines.rename(world.site, ACTOR, "web01", "old")
    machines.edit(world.site, ACTOR, "old", {}, [machines.InterfaceInput("52:54:00:00:00:99", IP)])
    second = instant()
    machines.remove(world.site, ACTOR, "old")
    world.machine("web01", MAC, "127.0.2.12", profile=None)
    for spelled in ("web01", "WEB01", MAC, MAC.upper().replace(":", "-")):
        shown = asof.machine(world.site, spelled, first)
        assert (shown["name"], shown["interfaces"][0]["ip"], shown["profile"]) == ("web01", IP, "rocky9")
    assert asof.machine(world.site, "old", second)["interfaces"][0]["mac"] == "52:54:00:00:00:99"
    assert asof.machine(world.site, "5254.0000.0099", second)["name"] == "old"
    assert asof.machine(world.site, "web01", instant())["interfaces"][0]["ip"] == "127.0.2.12"
    with pytest.raises(NotFound):
        asof.machine(world.site, MAC, second)


@both_engines
def test_what_was_not_there_then_is_not_found_and_the_hint_tells_what_is_known(world: World) -> None:
    before = instant()
    world.ready()
    there = instant()
    machines.rename(world.site, ACTOR, "web01", "db01")
    renamed = instant()
    machines.remove(world.site, ACTOR, "db01")
    for name, at, hint in [
        ("web01", before, "it was added at 20"),
        ("db01", there, "it was called web01 until 20"),
        ("web01", renamed, "by then it was called db01"),
        ("db01", instant(), "it was removed at 20"),
        ("nosuch", there, "there never was one"),
    ]:
        with pytest.raises(NotFound) as caught:
            asof.machine(world.site, name, at)
        assert hint in caught.value.hint, name
        assert name in caught.value.message


@pytest.mark.parametrize("at", ["2999-01-01", "tomorrow", "", "2026-02-30"])
def test_a_moment_that_is_none_or_still_to_come_is_refused(world: World, at: str) -> None:
    world.ready()
    for ask in (asof.machine, asof.render):
        with pytest.raises(InvalidInput) as caught:
            ask(world.site, "web01", at)
        assert caught.value.where == "as_of"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert asof.machine(world.site, "web01", today)["name"] == "web01"


@both_engines
def test_a_rendering_of_then_takes_every_input_as_it_was(world: World) -> None:
    """Machine, both profiles, subnet, template and the newest distro of that moment; then the same renders as now."""
    own(world)
    first, now_first = instant(), arming.preview(world.site, "web01")
    templates.edit(world.site, ACTOR, "script/own", "# other {{ machine.name }} {{ parameters.mood }}\n")
    profiles.edit(world.site, ACTOR, "base", {"parameters": {"mood": "wild"}})
    subnets.edit(world.site, ACTOR, "lab", {"parameters": {"where": "roof"}, "domain": "example.org"})
    world.distro("rocky-9.7", version="9.7")
    machines.edit(world.site, ACTOR, "web01", {"serial": "X1"})
    second, now_second = instant(), arming.preview(world.site, "web01")
    machines.edit(world.site, ACTOR, "web01", {"parameters": {"mood": "tired"}})
    told = asof.render(world.site, "web01", first)
    assert told["files"] == now_first
    assert told["files"]["answer"] == "# web01 calm cellar rocky-9.6 nowhere\n"
    assert (told["source"], told["build"], told["machine"]) == ("revisions", None, "web01")
    assert "rendered from" in told["because"]
    assert asof.render(world.site, "web01", second)["files"] == now_second != now_first
    assert answer(world.site, instant()) == "# other web01 tired\n"


@both_engines
def test_what_was_renamed_or_removed_since_still_renders(world: World) -> None:
    own(world)
    first = instant()
    profiles.rename(world.site, ACTOR, "web", "www")
    profiles.rename(world.site, ACTOR, "base", "ground")
    subnets.rename(world.site, ACTOR, "lab", "cellar")
    second = instant()
    machines.edit(world.site, ACTOR, "web01", {"profile": "rocky9"})
    profiles.remove(world.site, ACTOR, "www")
    profiles.remove(world.site, ACTOR, "ground")
    templates.remove(world.site, ACTOR, "script/own")
    catalogue.remove_distro(world.site, ACTOR, "rocky-9.6")
    for at, profile, subnet in ((first, "web", "lab"), (second, "www", "cellar")):
        assert answer(world.site, at) == "# web01 calm cellar rocky-9.6 nowhere\n"
        shown = asof.machine(world.site, "web01", at)
        assert (shown["profile"], shown["interfaces"][0]["subnet"]) == (profile, subnet)
    assert asof.profile(world.site, "www", second)["parent"] == "ground"
    with pytest.raises(BuildNotPossible, match="no distro fits"):
        asof.render(world.site, "web01", instant())


@both_engines
def test_a_machine_that_had_a_build_gives_the_sealed_bytes(world: World) -> None:
    """Of the latest build of that moment, tokens masked, whatever was changed, renamed or removed since."""
    own(world)
    before = instant()
    arming.start(world.site, ACTOR, "web01", BuildRequest(parameters={"mood": "sealed"}))
    armed = instant()
    sealed = builds.sealed(world.site, "web01")["files"]
    profiles.edit(world.site, ACTOR, "base", {"parameters": {"mood": "wild"}})
    under_way = instant()
    builds.cancel(world.site, ACTOR, "web01")
    given_up = instant()
    assert asof.render(world.site, "web01", before)["source"] == "revisions"
    for at in (armed, under_way):
        told = asof.render(world.site, "web01", at)
        assert (told["source"], told["build"]) == ("build", 1)
        assert "sealed files of build 1" in told["because"]
        assert told["files"] == sealed
        assert "# web01 sealed cellar" in told["files"]["answer"]
        assert arming.MASKED_TOKEN in told["files"]["ipxe"]
    assert asof.machine(world.site, "web01", armed)["state"] == "building"
    cancelled = asof.render(world.site, "web01", given_up)
    assert (cancelled["source"], cancelled["files"]["answer"]) == (
        "revisions",
        "# web01 wild cellar rocky-9.6 nowhere\n",
    )
    assert asof.machine(world.site, "web01", given_up)["state"] == "ready"
    machines.rename(world.site, ACTOR, "web01", "db01")
    machines.remove(world.site, ACTOR, "db01")
    world.machine(profile="web")
    assert asof.render(world.site, "web01", under_way)["files"] == sealed
    assert asof.render(world.site, "web01", instant())["source"] == "revisions"


@both_engines
def test_a_build_that_was_built_stays_what_the_machine_was_built_from(world: World) -> None:
    own(world)
    arming.start(world.site, ACTOR, "web01")
    installing = instant()
    with write(world.site.engine) as session:
        session.execute(update(Build).values(state="configured", built_at=instant(), ended_at=instant()))
    done = instant()
    profiles.edit(world.site, ACTOR, "base", {"parameters": {"mood": "wild"}})
    for at, state in ((installing, "building"), (done, "configured")):
        assert answer(world.site, at) == "# web01 calm cellar rocky-9.6 nowhere\n"
        assert asof.render(world.site, "web01", at)["build"] == 1
        assert asof.machine(world.site, "web01", at)["state"] == state
    asked = asof.render(world.site, "web01", instant(), BuildRequest())
    assert (asked["source"], asked["files"]["answer"]) == ("revisions", "# web01 wild cellar rocky-9.6 nowhere\n")
    machines.remove(world.site, ACTOR, "web01")
    world.machine(profile="web")
    assert asof.render(world.site, "web01", done)["build"] == 1
    assert asof.render(world.site, "web01", instant())["source"] == "revisions", "another machine of the same name"


def test_a_rendering_of_then_says_what_was_missing_then(world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    bare = instant()
    machines.edit(world.site, ACTOR, "web01", {"profile": "rocky9"})
    no_distro = instant()
    world.distro()
    with pytest.raises(BuildNotPossible, match="no profile"):
        asof.render(world.site, "web01", bare)
    with pytest.raises(BuildNotPossible, match="no distro fits"):
        asof.render(world.site, "web01", no_distro)
    profiles.edit(world.site, ACTOR, "rocky9", {"distro": {"name": "rocky-9.6"}})
    named = instant()
    assert asof.render(world.site, "web01", named)["source"] == "revisions"
    with pytest.raises(NotFound):
        asof.render(world.site, "web01", bare - timedelta(days=400))


@both_engines
def test_the_difference_between_two_moments_follows_renames(world: World) -> None:
    before = instant()
    world.ready()
    first = instant()
    machines.rename(world.site, ACTOR, "web01", "db01")
    machines.edit(world.site, ACTOR, "db01", {"description": "x"})
    assert asof.diff(world.site, "machine", "db01", first, instant()) == [
        {"pointer": "/description", "before": "", "after": "x"},
        {"pointer": "/name", "before": "web01", "after": "db01"},
    ]
    assert {"pointer": "/name", "before": None, "after": "db01"} in asof.diff(
        world.site, "machine", "db01", before, instant()
    )


def test_a_history_that_lost_what_it_refers_to_says_so(world: World) -> None:
    """Rows removed behind our back: no guess is made at what the profile was."""
    from sqlalchemy import text

    own(world)
    with write(world.site.engine) as session:
        session.execute(text("DELETE FROM revision WHERE kind = 'profile' AND name = 'base'"))
    with pytest.raises(UnknownReference, match="'base'"):
        asof.render(world.site, "web01", instant())
