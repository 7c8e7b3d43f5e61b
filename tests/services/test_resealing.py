"""What changed since a build was armed, and sealing it again (DESIGN, decision 2)."""

import pytest
from conftest import both_engines
from world import ACTOR, IP, MAC, World

from provisioner.core.lifecycle import NextBoot
from provisioner.errors import IllegalTransition, ProvisionerError
from provisioner.services import arming, boot, builds, machines, profiles, records, resealing, templates
from provisioner.services.boot import BootRequest
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


def edited(site: Site, **parameters: object) -> None:
    profiles.edit(site, ACTOR, "rocky9", {"parameters": parameters})


def test_nothing_changed_is_said_as_nothing(site: Site, world: World) -> None:
    armed = world.armed()
    assert resealing.changed(site, armed["id"]) == {"inputs": [], "again": True, "error": None}
    assert resealing.difference(site, armed["id"]) == ""


def test_a_changed_profile_is_named_and_its_difference_shown(site: Site, world: World) -> None:
    armed = world.armed()
    edited(site, timezone="Asia/Tokyo")
    assert resealing.changed(site, armed["id"])["inputs"] == ["profile rocky9"]
    text = resealing.difference(site, armed["id"])
    assert "+timezone 'Asia/Tokyo' --utc" in text
    assert text.count("\n+") == 1 + 1, "the header and this one line; its number is the sealed build's"


def test_templates_that_it_is_not_made_of_do_not_count(site: Site, world: World) -> None:
    armed = world.armed()
    templates.add(site, ACTOR, "script/other.sh.j2", "#!/bin/sh\n")
    assert resealing.changed(site, armed["id"])["inputs"] == []
    name = "snippets/secret.sh.j2"
    templates.edit(site, ACTOR, name, templates.show(site, name)["text"] + "\n# more\n")
    assert resealing.changed(site, armed["id"])["inputs"] == [f"template {name}"]


@both_engines
def test_sealing_again_takes_the_place_of_the_armed_build(site: Site, world: World) -> None:
    world.ready()
    first = arming.start(site, ACTOR, "web01", BuildRequest({"keyboard": "de"}, ["quiet"]))
    edited(site, timezone="Asia/Tokyo")
    second = resealing.again(site, ACTOR, first["id"])
    assert second["number"] == 2
    assert builds.show(site, first["id"])["state"] == "cancelled"
    assert builds.show(site, first["id"])["events"][-1]["message"] == "sealed again as build 2"
    sealed = builds.sealed(site, "web01")
    assert "Asia/Tokyo" in sealed["files"]["answer"]
    assert sealed["inputs"]["request"] == {"parameters": {"keyboard": "de"}, "kernel_options": ["quiet"]}
    assert machines.show(site, "web01")["state"] == "building"
    assert resealing.changed(site, second["id"])["inputs"] == []
    told = [(each["name"], each["action"]) for each in records.listing(site, "web01") if each["kind"] == "build"]
    assert told[:2] == [("web01/2", "add"), ("web01/1", "edit")]


def test_once_the_machine_asked_it_is_shown_and_not_sealed_again(site: Site, world: World) -> None:
    armed = world.armed()
    assert boot.boot_script(site, BootRequest(MAC, IP)).decision.next_boot is NextBoot.BUILD
    edited(site, timezone="Asia/Tokyo")
    assert resealing.changed(site, armed["id"]) == {"inputs": ["profile rocky9"], "again": False, "error": None}
    with pytest.raises(IllegalTransition, match="booting"):
        resealing.again(site, ACTOR, armed["id"])
    assert builds.show(site, armed["id"])["state"] == "booting"


def test_a_machine_that_asks_while_it_is_sealed_again_is_not_robbed_of_its_build(
    site: Site, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    armed = world.armed()
    made = arming.make

    def asked_meanwhile(*given: object, **more: object) -> object:
        boot.boot_script(site, BootRequest(MAC, IP))
        return made(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(arming, "make", asked_meanwhile)
    with pytest.raises(IllegalTransition, match="not armed any more"):
        resealing.again(site, ACTOR, armed["id"])
    assert builds.show(site, "web01")["state"] == "booting"
    assert builds.show(site, "web01")["number"] == 1


def test_what_cannot_be_sealed_now_leaves_the_armed_build(site: Site, world: World) -> None:
    armed = world.armed()
    machines.edit(site, ACTOR, "web01", {"profile": None})
    told = resealing.changed(site, armed["id"])
    assert isinstance(told["error"], ProvisionerError)
    assert "has no profile" in told["error"].message
    with pytest.raises(ProvisionerError, match="has no profile"):
        resealing.again(site, ACTOR, armed["id"])
    assert builds.show(site, armed["id"])["state"] == "armed"


def test_a_repeated_build_is_old_on_purpose(site: Site, world: World) -> None:
    world.armed()
    builds.cancel(site, ACTOR, "web01")
    edited(site, timezone="Asia/Tokyo")
    repeated = arming.repeat(site, ACTOR, "web01")
    assert resealing.changed(site, repeated["id"])["inputs"] == []
