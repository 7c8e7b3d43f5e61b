"""Several machines at once, as the pages of issue 6 choose and change them."""

from dataclasses import replace
from typing import Any

import pytest
from conftest import both_engines
from world import MAC, World

from provisioner.errors import InvalidInput, ProvisionerError, TooLarge, TooMany
from provisioner.services import arming, builds, listing, machines, plans, records, selection
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(world: World) -> World:
    """web01 to web12 in the subnet lab, every third one tagged `third`; db01 is protected, spare01 has no profile."""
    world.subnet()
    world.distro()
    for number in range(1, 13):
        tags = ["web", "third"] if number % 3 == 0 else ["web"]
        world.machine(f"web{number:02}", f"52:54:00:00:00:{number:02x}", f"127.0.2.{100 + number}", tags=tags)
    world.machine("db01", "52:54:00:00:01:01", "127.0.2.201", protected=True, serial="SN-77")
    world.machine("spare01", "52:54:00:00:02:01", None, profile=None)
    return world


FILTERS: list[dict[str, Any]] = [
    {},
    {"q": "web"},
    {"q": "52-54-00-00-00"},
    {"q": "we"},
    {"tag": "third"},
    {"tag": "third", "q": "web0"},
    {"profile": "rocky9"},
    {"subnet": "lab", "protected": False},
    {"protected": True},
    {"flagged": False, "state": "ready"},
    {"q": "nosuch"},
]


@both_engines
def test_counts_and_names_are_those_of_the_list(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for few in (500, 2):  # so many machines are sorted at once; of more, the walk in order answers
        monkeypatch.setattr(listing, "_FEW", few)
        for filters in FILTERS:
            listed = [each["name"] for each in listing.every(fleet.site, **filters)]
            assert listing.count(fleet.site, **filters) == len(listed), filters
            assert listing.count(fleet.site, 3, **filters) == min(len(listed), 4), filters
            assert listing.names(fleet.site, 100, **filters) == listed, filters


def test_more_machines_than_may_be_changed_at_once_are_refused_with_their_count(fleet: World) -> None:
    with pytest.raises(TooLarge, match="12 machines are more than 11"):
        listing.names(fleet.site, 11, tag="web")
    with pytest.raises(TooLarge):
        selection.named(fleet.site, [f"n{number}" for number in range(selection.MOST + 1)])
    with pytest.raises(InvalidInput):
        listing.count(fleet.site, colour="red")


@both_engines
def test_machines_are_found_by_name_and_by_any_spelling_of_a_mac(fleet: World) -> None:
    found = selection.named(fleet.site, ["web02", "5254.0000.0001", " WEB01 ", "nosuch", "52-54-00-00-00-02", "zz", ""])
    assert (found.names, list(found.missing)) == (["web01", "web02"], ["nosuch", "zz"])
    assert found.machines[0]["tags"] == ["web"] and found.machines[0]["profile"] == "rocky9"


@both_engines
def test_a_build_that_is_under_way_is_told_and_one_that_ended_is_not(fleet: World) -> None:
    arming.start(fleet.site, fleet.actor, "web01")
    arming.start(fleet.site, fleet.actor, "web02")
    builds.cancel(fleet.site, fleet.actor, "web02")
    told = {each["name"]: each["build"] for each in selection.named(fleet.site, ["web01", "web02", "web03"]).machines}
    assert told == {"web01": {"number": 1, "state": "armed", "running": True}, "web02": None, "web03": None}


def test_s72_why_a_machine_cannot_be_built_is_told_in_words(fleet: World) -> None:
    site, actor = fleet.site, fleet.actor
    arming.start(site, actor, "web01")
    machines.edit(site, actor, "web02", {"retired": True})
    machines.add(site, actor, "later01", [InterfaceInput(ip="127.0.2.99")], {"profile": "rocky9"})
    names = ["web01", "web02", "web03", "db01", "spare01", "later01"]
    told = {each["name"]: selection.why_no_build(each) for each in selection.named(site, names).machines}
    assert told == {
        "web01": "build 1 is armed",
        "web02": "retired",
        "web03": "",
        "db01": "protected: no build, no wipe",
        "spare01": "has no profile",
        "later01": "its MAC address is not known yet",
    }
    results = dict(selection.build(site, actor, names))
    refused = {name for name, each in results.items() if isinstance(each, ProvisionerError)}
    assert refused == {name for name, why in told.items() if why}, "what is said beforehand is what then happens"


@both_engines
def test_tags_are_added_and_taken_away_and_others_stay(fleet: World) -> None:
    chosen = selection.named(fleet.site, ["web02", "web03", "db01"])
    told = selection.plan_tags(fleet.site, fleet.actor, chosen, ["Canary"], ["third", "nosuch"])
    assert {each["name"] for each in told["changed"]} == {"web02", "web03", "db01"}
    plans.apply(fleet.site, fleet.actor, plan_id=told["id"])
    assert {name: machines.show(fleet.site, name)["tags"] for name in ("web02", "web03", "web06", "db01")} == {
        "web02": ["canary", "web"],
        "web03": ["canary", "web"],
        "web06": ["third", "web"],
        "db01": ["canary"],
    }
    with pytest.raises(InvalidInput):
        selection.plan_tags(fleet.site, fleet.actor, chosen, ["no tag!"], [])


def test_a_parameter_is_set_and_taken_away_and_others_stay(fleet: World) -> None:
    site, actor = fleet.site, fleet.actor
    machines.edit(site, actor, "web01", {"parameters": {"kept": 1}})
    chosen = selection.named(site, ["web01", "web02"])
    for value, after in ((["nginx"], {"kept": 1, "packages": ["nginx"]}), (None, {"kept": 1})):
        told = selection.plan_fields(site, actor, chosen, {"parameters": {"packages": value}})
        plans.apply(site, actor, plan_id=told["id"])
        assert machines.show(site, "web01")["parameters"] == after
    assert records.page(site, object="machine/web02")["items"][0]["actor"] == actor.who


def test_s72_a_bulk_build_over_the_limit_arms_nothing_at_all(fleet: World) -> None:
    few = replace(fleet.site, settings=fleet.site.settings.model_copy(update={"builds_per_minute": 3}))
    with pytest.raises(TooMany, match="4 builds are more than the 3"):
        selection.build(few, fleet.actor, ["web01", "web02", "web03", "web04"])
    assert listing.count(fleet.site, state="building") == 0
    assert len(list(selection.build(few, fleet.actor, ["web01", "web02"]))) == 2
    with pytest.raises(TooMany, match="armed 2 builds within a minute"):
        selection.build(few, fleet.actor, ["web03", "web04"])
    assert listing.count(fleet.site, state="building") == 2
    assert len(list(selection.build(few, fleet.actor, ["web03"]))) == 1, "the third is still within it"
    with pytest.raises(TooMany) as refused:
        builds.refuse_hasty(few, fleet.actor)
    assert 1 <= refused.value.details["retry_after"] <= 61


def test_cancelling_answers_for_each_machine(fleet: World) -> None:
    arming.start(fleet.site, fleet.actor, "web01")
    told = dict(selection.cancel(fleet.site, fleet.actor, ["web01", "web02"]))
    assert not isinstance(told["web01"], ProvisionerError) and told["web01"]["state"] == "cancelled"
    assert isinstance(told["web02"], ProvisionerError)


@both_engines
def test_tags_in_use_and_names_to_choose_from(fleet: World) -> None:
    assert selection.tags(fleet.site) == ["third", "web"]
    assert (selection.tags(fleet.site, "T"), selection.tags(fleet.site, "x")) == (["third"], [])
    choices = selection.choices(fleet.site)
    assert choices["subnets"] == ["lab"] and "rocky9" in choices["profiles"]


def test_states_are_those_of_the_machines_asked_for(site: Site, world: World) -> None:
    world.ready()
    number = int(machines.show(site, MAC)["revision"].partition(".")[0])
    told = selection.states(site, [number, number + 1])
    assert told == [{"id": number, "name": "web01", "state": "ready", "flag": "", "protected": False}]
