"""Slips that would be noticed on the machine's console, or never: told when a build is armed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import ACTOR, World

from provisioner.core.parameters import Level, resolve
from provisioner.core.unread import REQUEST, unread
from provisioner.errors import InvalidInput
from provisioner.services import arming, builds, machines, radius
from provisioner.services.resolve import BuildRequest

UNREAD = "no template or snippet reads the parameter nonsense"


def test_a_parameter_that_nothing_reads_is_told_when_it_is_armed(world: World) -> None:
    world.ready(parameters={"rack": 7})  # an inventory's own, which nothing reads either
    told = arming.start(world.site, ACTOR, "web01", BuildRequest({"nonsense": 1, "rack": 8, "keyboard": "de"}))
    assert told["warnings"] == [UNREAD]
    assert builds.sealed(world.site, "web01")["inputs"]["warnings"] == [UNREAD]


def test_one_that_is_nearly_another_s_name_says_which(world: World) -> None:
    world.ready()
    told = arming.start(world.site, ACTOR, "web01", BuildRequest({"keybord": "de"}))
    assert told["warnings"] == ["no template or snippet reads the parameter keybord; did you mean keyboard?"]


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berlim", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("America/New York", "did you mean America/New_York?"),
        ("Nowhere/At_All/Xyzzy", "timedatectl list-timezones"),
        ("", "write it as Europe/Berlin or UTC"),
        ("../../etc/passwd", "list-timezones"),
    ],
)
def test_a_time_zone_that_there_is_not_is_refused_by_each_door_of_a_build(world: World, zone: str, hint: str) -> None:
    world.ready()
    with pytest.raises(InvalidInput) as caught:
        arming.start(world.site, ACTOR, "web01", BuildRequest({"timezone": zone}))
    assert caught.value.where == "parameters.timezone"
    assert repr(zone) in str(caught.value)
    assert hint in caught.value.hint
    watch = radius.Watch(world.site)
    machines.edit(world.site.rehearsing(watch), ACTOR, "web01", {"parameters": {"timezone": zone}})
    report = radius.report(world.site, watch)
    assert report is not None
    assert [each["machines"] for each in report["errors"]] == [["web01"]]


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_those_that_there_are_are_taken(world: World, zone: str) -> None:
    world.ready()
    assert arming.start(world.site, ACTOR, "web01", BuildRequest({"timezone": zone}))["warnings"] == []


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)


@given(st.lists(NAMES, max_size=6, unique=True), st.lists(NAMES, max_size=6), st.lists(NAMES, max_size=6))
def test_only_what_the_request_alone_gives_and_no_text_names(asked: list[str], had: list[str], read: list[str]) -> None:
    levels = [Level("profile a", dict.fromkeys(had, 1)), Level(REQUEST, dict.fromkeys(asked, 2))]
    told = unread(resolve(levels), [f"x {{{{ parameters.{name} }}}}" for name in read])
    named = [line.partition(";")[0].rpartition(" ")[2] for line in told]
    words = {"x", "parameters", *read} if read else set()
    assert named == sorted(set(asked) - set(had) - words)
