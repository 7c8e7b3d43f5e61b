"""Several builds armed together: each as if it had been started alone."""

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import both_engines
from world import ACTOR, World

from provisioner.errors import BuildNotPossible, InputsChanged, InvalidInput, NotFound
from provisioner.services import arming, builds, machines
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Site

NAMES = ["web01", "web02", "web03"]


def three(world: World) -> None:
    world.ready()
    for index, name in enumerate(NAMES[1:], 12):
        world.machine(name, f"52:54:00:12:34:{index}", f"127.0.2.{index}")


def sealed(site: Site, name: str) -> dict[str, str]:
    return dict(builds.sealed(site, name)["files"])


@both_engines
def test_the_files_are_those_of_a_build_started_alone(site: Site, world: World) -> None:
    three(world)
    results = dict(arming.start_all(site, ACTOR, NAMES))
    assert {name: result["number"] for name, result in results.items()} == dict.fromkeys(NAMES, 1)  # type: ignore[index]
    together = {name: sealed(site, name) for name in NAMES}
    for name in NAMES:
        builds.cancel(site, ACTOR, name)
        arming.start(site, ACTOR, name)
        again = sealed(site, name)
        assert {file: text.replace("build 2", "build 1") for file, text in again.items()} == together[name]
    assert len({texts["answer"] for texts in together.values()}) == 3


def test_one_that_cannot_be_built_keeps_no_other_back(site: Site, world: World) -> None:
    three(world)
    machines.edit(site, ACTOR, "web02", {"profile": None})
    machines.edit(site, ACTOR, "web03", {"parameters": {"disk": ["not", "text"]}})
    results = dict(arming.start_all(site, ACTOR, ["web02", "web01", "nobody", "web03"]))
    assert list(results) == ["web02", "web01", "nobody", "web03"]
    assert isinstance(results["web02"], BuildNotPossible)
    assert isinstance(results["nobody"], NotFound)
    assert isinstance(results["web03"], Exception)
    assert [each["machine"] for each in builds.listing(site)] == ["web01"]


def test_more_than_go_together_are_armed_in_turn(site: Site, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    three(world)
    monkeypatch.setattr(arming, "_TOGETHER", 2)
    assert [name for name, _ in arming.start_all(site, ACTOR, NAMES)] == NAMES
    assert {each["state"] for each in builds.listing(site)} == {"armed"}


def test_an_input_that_changes_meanwhile_is_noticed_for_the_machine_that_it_concerns(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(world)
    real = arming.make_all

    def slowly(site: Site, orders: Sequence[Any]) -> list[Any]:
        made = real(site, orders)
        machines.edit(site, ACTOR, "web02", {"parameters": {"timezone": "Asia/Tokyo"}})
        return made

    monkeypatch.setattr(arming, "make_all", slowly)
    results = dict(arming.start_all(site, ACTOR, NAMES))
    assert isinstance(results["web02"], InputsChanged)
    assert [each["machine"] for each in builds.listing(site)] == ["web03", "web01"]


def test_a_request_that_no_build_could_have_is_refused_at_once(site: Site, world: World) -> None:
    three(world)
    with pytest.raises(InvalidInput):
        list(arming.start_all(site, ACTOR, NAMES, BuildRequest(kernel_options=["a b"])))
    assert builds.listing(site) == []
