"""A text that fails is kept for its author and never served: the last good one stays in force (R24)."""

from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from forced import in_force_without_validation
from world import ACTOR, World

from provisioner.core.lifecycle import MachineState
from provisioner.errors import InputsChanged, ProvisionerError, Stale, TemplateError
from provisioner.services import (
    arming,
    asof,
    check,
    machines,
    media,
    profiles,
    records,
    samples,
    templates,
    validating,
)
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Distro, Profile, now

pytestmark = pytest.mark.slow

OWN = "kickstart/own.ks.j2"
GOOD = "text\n{% include 'snippets/lang' %}\n"
BAD = "text\n\nnonsense --option {{ machine.hostname }}\n"


@pytest.fixture
def own(site: Site, world: World) -> World:
    """web01 with a profile and a template of its own, which includes a snippet."""
    world.ready()
    templates.add(site, ACTOR, "snippets/lang", "lang en_US.UTF-8\n")
    templates.add(site, ACTOR, OWN, GOOD)
    profiles.add(site, ACTOR, {"name": "own", "parent": "rocky9", "template": OWN})
    machines.edit(site, ACTOR, "web01", {"profile": "own"})
    return world


@both_engines
def test_r24_a_text_that_fails_is_a_draft_and_the_good_one_stays_in_force(site: Site, own: World) -> None:
    before = arming.preview(site, "web01")
    saved = templates.edit(site, ACTOR, OWN, BAD)
    assert (saved["text"], saved["draft"]) == (GOOD, BAD)
    (problem,) = saved["problems"]
    assert problem["where"] == f"{OWN}:3"
    assert "line 3: " in problem["message"]
    assert "'nonsense --option web01'" in problem["message"], "the offending line of the output"
    assert "profile own, rendered for web01" in problem["message"]
    assert problem["hint"]
    assert templates.show(site, OWN) == saved
    assert [each["name"] for each in templates.listing(site) if each["draft"]] == [OWN]
    assert arming.preview(site, "web01") == before
    arming.start(site, ACTOR, "web01")
    newest = records.listing(site, limit=20)
    assert any(each["name"] == OWN and each["action"] == "edit" for each in newest), "the draft is in the history"
    good = templates.edit(site, ACTOR, OWN, GOOD + "keyboard us\n")
    assert (good["text"], good["draft"], good["problems"]) == (GOOD + "keyboard us\n", None, [])


@both_engines
def test_r24_a_first_text_that_fails_is_never_served(site: Site, own: World) -> None:
    added = templates.add(site, ACTOR, "kickstart/new.ks.j2", "text\n{% if %}\n")
    assert (added["text"], added["problems"][0]["where"]) == ("", "kickstart/new.ks.j2:2")
    with pytest.raises(TemplateError) as caught:
        profiles.edit(site, ACTOR, "own", {"template": "kickstart/new.ks.j2"})
    assert "has only a draft" in caught.value.message
    with write(site.engine) as session:  # as if somebody had assigned it while it was good
        session.query(Profile).filter_by(name="own").one().template = "kickstart/new.ks.j2"
    for refused in (lambda: arming.start(site, ACTOR, "web01"), lambda: arming.preview(site, "web01")):
        with pytest.raises(TemplateError) as caught:
            refused()
        assert "kickstart/new.ks.j2 has only a draft" in caught.value.message
    assert machines.show(site, "web01")["state"] == MachineState.READY
    templates.edit(site, ACTOR, "kickstart/new.ks.j2", "text\n")
    assert arming.preview(site, "web01")["answer"] == "text\n"


def test_r24_a_snippet_that_was_never_good_is_named_by_whoever_includes_it(site: Site, own: World) -> None:
    templates.add(site, ACTOR, "snippets/more", "{% endif %}")
    saved = templates.edit(site, ACTOR, OWN, "text\n{% include 'snippets/more' %}\n")
    assert "snippets/more has only a draft" in saved["problems"][0]["message"]
    assert arming.preview(site, "web01")["answer"] == "text\nlang en_US.UTF-8\n"


@both_engines
def test_s34_a_template_cannot_say_what_a_database_does_not_keep(site: Site, own: World) -> None:
    saved = templates.edit(site, ACTOR, OWN, '{{ fail("a\\x00b\\ud800c" ~ ("d" * 900)) }}')
    assert saved["problems"][0]["message"].startswith("a\\x00b\\ud800cddd")
    assert templates.show(site, OWN)["problems"] == saved["problems"]


def test_a_mistake_in_a_snippet_is_told_at_the_snippet(site: Site, own: World) -> None:
    saved = templates.edit(site, ACTOR, "snippets/lang", "\n\nlang --nonsense=1\n")
    assert [each["where"] for each in saved["problems"]] == ["snippets/lang:3"]
    assert saved["text"] == "lang en_US.UTF-8\n"


def test_the_text_in_force_takes_the_draft_back(site: Site, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is not validated anew: it is what machines get anyway."""
    templates.edit(site, ACTOR, OWN, "{% if %}")
    monkeypatch.setattr(validating, "when_saved", None)
    back = templates.edit(site, ACTOR, OWN, GOOD)
    assert (back["text"], back["draft"]) == (GOOD, None)


def test_a_draft_keeps_the_rules_of_every_change(site: Site, own: World) -> None:
    old = templates.show(site, OWN)["revision"]
    kept = templates.edit(site, ACTOR, OWN, "{% if %}", expect=old)
    assert kept["revision"] != old
    with pytest.raises(Stale):
        templates.edit(site, ACTOR, OWN, GOOD, expect=old)
    rehearsed = templates.edit(site.rehearsing(), ACTOR, OWN, BAD)
    assert rehearsed["draft"] == BAD
    assert templates.show(site, OWN)["draft"] == "{% if %}"
    assert asof.render(site, "web01", now().isoformat())["files"]["answer"] == "text\nlang en_US.UTF-8\n"


def test_a_change_that_somebody_else_makes_meanwhile_is_validated_against(
    site: Site, own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snippet that a text needs goes away while it is validated: it is validated again, and fails."""
    templates.add(site, ACTOR, "snippets/brief", "\n")
    real, seen = validating.when_saved, []

    def meanwhile(*words: Any) -> list[validating.Problem]:
        found = real(*words)
        if not seen:
            templates.remove(site, ACTOR, "snippets/brief")
        seen.append([each.level for each in found])
        return found

    monkeypatch.setattr(validating, "when_saved", meanwhile)
    saved = templates.edit(site, ACTOR, OWN, "text\n{% include 'snippets/brief' %}\n")
    assert seen == [[], ["error"]]
    assert "no template or snippet 'snippets/brief'" in saved["problems"][0]["message"]


def test_content_that_changes_all_the_time_is_given_up(site: Site, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))

    def meanwhile(*_: Any) -> list[validating.Problem]:
        with write(site.engine) as session:
            templates.put(session, ACTOR, "snippets/busy", str(next(numbers)))
        return []

    monkeypatch.setattr(validating, "when_saved", meanwhile)
    with pytest.raises(InputsChanged, match="changed while"):
        templates.edit(site, ACTOR, OWN, "text\n")
    with pytest.raises(InputsChanged, match="changed while"):
        profiles.edit(site, ACTOR, "own", {"description": "x"})


def test_check_lists_drafts_and_what_each_kind_lacks(site: Site, own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    templates.edit(site, ACTOR, OWN, BAD)
    templates.add(site, ACTOR, "kickstart/new.ks.j2", "{% if %}")
    found = {each.what.split(":")[0]: each for each in check.drafts(site)}
    assert found[f"template {OWN} has a draft that fails"].why == "machines still get the last good text"
    assert found["template kickstart/new.ks.j2 has a draft that fails"].why == "no build can be armed with it"
    assert all("--draft" in each.remedy for each in found.values())
    monkeypatch.setattr("provisioner.render.validate.programs._program", lambda _name: None)
    lacking = " ".join(each.what for each in check.validators(site))
    assert "ksvalidator is not installed: each kickstart is checked for its structure alone" in lacking
    assert "debconf-set-selections" in lacking
    assert "cloud-init" in lacking


@both_engines
def test_r24_one_broken_thing_leaves_all_others_as_they_are(site: Site, own: World, tmp_path: Path) -> None:
    """A template, a parent link, a kernel: what else there is renders to the same bytes; each says its own error."""
    for number, profile in enumerate(("rocky9", "debian12", "own", "rhel9"), 20):
        profile_of = {"profile": profile}
        nic = InterfaceInput(f"52:54:00:00:00:{number}", f"127.0.2.{number}")
        machines.add(site, ACTOR, f"m-{profile}", [nic], profile_of)
    own.distro("debian-12", "debian", "12")
    (tmp_path / "other").mkdir()
    World(site, tmp_path / "other").distro("rhel-9.4", "rhel", "9.4")
    with write(site.engine) as session:
        rhel = session.query(Distro).filter_by(name="rhel-9.4").one()
        gone = media.path_of(site, rhel.kernel_sha256).with_name("ff" * 32)
        rhel.kernel_sha256 = "ff" * 32
    good = {name: arming.preview(site, name) for name in ("m-rocky9", "m-debian12")}
    assert not gone.exists()
    in_force_without_validation(site, OWN, "text\n{% if %}\n")
    with write(site.engine) as session:
        loop = Profile(name="loop", kernel_options=[], parameters={}, description="")
        session.add(loop)
        session.flush()
        loop.parent_id = loop.id
    machines.edit(site, ACTOR, "web01", {"profile": "loop"})
    assert {name: arming.preview(site, name) for name in good} == good
    said = {name: _error(site, name) for name in ("m-own", "web01", "m-rhel9")}
    assert said["m-own"].where == f"{OWN}:2"
    assert "inherit from itself" in said["web01"].message
    assert said["m-rhel9"].code == "media-missing"
    # And none of it stands in the way of content that has nothing to do with it.
    assert templates.edit(site, ACTOR, "snippets/lang", "lang de_DE.UTF-8\n")["draft"] is None
    profiles.edit(site, ACTOR, "rocky9", {"parameters": {"timezone": "Europe/Berlin"}})
    with read(site.engine) as session:
        assert "loop" in samples.every(samples.load(session))[1]


def _error(site: Site, name: str) -> ProvisionerError:
    with pytest.raises(ProvisionerError) as caught:
        arming.preview(site, name)
    return caught.value
