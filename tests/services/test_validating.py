"""What somebody wants to save is rendered and validated for every profile that it reaches, and for no other."""

from typing import Any

import pytest
from conftest import both_engines
from forced import in_force_without_validation
from world import ACTOR, World

from provisioner.core.content import ProfileContent
from provisioner.errors import AnswerInvalid, ContentError, MissingParameter, TemplateError, UnknownReference
from provisioner.services import check, machines, profiles, samplemachines, templates, trials, validating
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.services.validating import Problem
from provisioner.store.engine import read

pytestmark = pytest.mark.slow

OWN = "kickstart/own.ks.j2"


@pytest.fixture
def own(site: Site, world: World) -> World:
    """A profile with a template of its own, and no machine."""
    world.subnet()
    templates.add(site, ACTOR, "snippets/lang", "lang en_US.UTF-8\n")
    templates.add(site, ACTOR, OWN, "text\n{% include 'snippets/lang' %}\n")
    profiles.add(site, ACTOR, {"name": "own", "parent": "rocky9", "template": OWN})
    return world


def found(site: Site, texts: dict[str, str] | None = None, **profiles: dict[str, Any]) -> list[Problem]:
    """The problems of these texts and profiles."""
    contents = {name: ProfileContent(name=name, **fields) for name, fields in profiles.items()}
    return validating.problems(site, texts or {}, contents)


def errors(problems: list[Problem]) -> list[str]:
    return [each.where for each in problems if each.level == "error"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a\n{% if %}\n", ":2"),
        ("a\n\n{{ 'x' | nonsense }}\n", ":3"),
        ("{% include 'kickstart/own' ", ":1"),
        ("{% for %}" + "x" * 10, ":1"),
    ],
)
def test_every_text_must_parse_also_one_that_nothing_reaches(site: Site, text: str, place: str) -> None:
    (problem,) = found(site, {"kickstart/alone.ks.j2": text})
    assert (problem.level, problem.where) == ("error", f"kickstart/alone.ks.j2{place}")
    assert problem.hint
    assert errors(found(site, {"snippets/alone": text})) == [f"snippets/alone{place}"]
    assert found(site, {"snippets/alone": "{{ nobody.renders.this }}"}) == []


def test_s35_a_text_that_takes_all_memory_to_parse_is_an_error_too(site: Site) -> None:
    (problem,) = found(site, {"snippets/deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"})
    assert problem.level == "error"
    assert "snippets/deep" in problem.where


@pytest.mark.parametrize(
    "through",
    [
        "{% include 'snippets/lang' %}",
        "{% include 'snippets/between' %}",
        "{% extends 'snippets/base' %}{% block b %}{% include 'snippets/lang' %}{% endblock %}",
        "{% from 'snippets/macros' import lang %}{{ lang() }}",
        "{% set n = 'lang' %}{% include 'snippets/' ~ n %}",
    ],
)
def test_a_snippet_is_validated_by_whatever_way_a_profile_reaches_it(site: Site, own: World, through: str) -> None:
    texts = {
        "snippets/between": "{% include 'snippets/lang' %}",
        "snippets/base": "{% block b %}{% endblock %}",
        "snippets/macros": "{% macro lang() %}\n{% include 'snippets/lang' %}\n{% endmacro %}",
        OWN: f"text\n{through}\n",
    }
    for name, text in texts.items():
        assert (templates.add if name != OWN else templates.edit)(site, ACTOR, name, text)["draft"] is None
    assert found(site, {"snippets/lang": "timezone UTC\n"}) == []
    assert errors(found(site, {"snippets/lang": "nonsense\n"})) == ["snippets/lang:1"]


def test_the_file_is_held_against_the_family_and_version_of_the_distro(site: Site, own: World) -> None:
    """RHEL knows `rhsm`, Fedora does not; a distro that is not registered is taken from the selector."""
    text = {OWN: "text\nrhsm --organization=1 --activation-key=x\n"}
    assert errors(found(site, text)) == []
    fedora = {"distro": {"os": "fedora", "version": "42"}, "template": OWN, "parent": "linux"}
    assert errors(found(site, text, own=fedora)) == [f"{OWN}:2"]
    own.distro("mine", "fedora", "41")
    assert errors(found(site, text, own=fedora | {"distro": "mine"})) == [f"{OWN}:2"]


def test_the_sample_is_the_first_machine_of_the_profile(site: Site, own: World) -> None:
    own.distro()
    text = {OWN: "text\n{% if machine.name == 'web07' %}\nnonsense\n{% endif %}\n"}
    assert found(site, text) == []
    for name, last in (("web08", 8), ("web07", 7)):
        nic = InterfaceInput(f"52:54:00:00:00:0{last}", f"127.0.2.{last}")
        machines.add(site, ACTOR, name, [nic], {"profile": "own"})
    # One that cannot boot yet says nothing about those that can.
    machines.add(site, ACTOR, "web01", [InterfaceInput(None, "127.0.2.1")], {"profile": "own"})
    (problem,) = found(site, text)
    assert "(profile own, rendered for web07)" in problem.message
    machines.edit(site, ACTOR, "web07", {"retired": True})
    assert found(site, text) == []


def fleet_of(own: World, count: int, **fields: Any) -> list[str]:
    """Machines of the profile `own`, alike but for who they are."""
    names = [f"n{number:03d}" for number in range(count)]
    for number, name in enumerate(names):
        nic = InterfaceInput(f"52:54:00:00:01:{number:02x}", f"127.0.2.{number + 100}")
        machines.add(own.site, ACTOR, name, [nic], {"profile": "own"} | fields)
    return names


TONGUE = {OWN: "text\nlang {{ parameters.tongue | default('de_DE.UTF-8') | ks }}\n"}


@both_engines
def test_a_machine_whose_own_parameters_break_the_answer_is_named(site: Site, own: World) -> None:
    own.distro()
    fleet_of(own, 8)
    machines.edit(site, ACTOR, "n005", {"parameters": {"tongue": "%end"}})
    machines.edit(site, ACTOR, "n006", {"parameters": {"tongue": "%end"}})
    (problem,) = found(site, TONGUE)
    assert (problem.level, problem.where) == ("error", f"{OWN}:2")
    assert "(profile own, rendered for n005, and 1 other machine)" in problem.message
    kept = templates.edit(site, ACTOR, OWN, TONGUE[OWN])
    assert "n005" in kept["problems"][0]["message"]
    assert kept["text"] != TONGUE[OWN], "kept as a draft"


def test_each_different_output_is_validated_and_those_alike_once(
    site: Site, own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.distro()
    fleet_of(own, 9)
    for name, options in (("n003", "cmdline"), ("n004", "cmdline"), ("n007", "graphical")):
        machines.edit(site, ACTOR, name, {"parameters": {"extra": options}})
    text = {OWN: "{{ parameters.extra | default('text') }}\n# {{ machine.name }} {{ machine.ip }}\n"}
    validated: list[str] = []
    real = trials.remarks

    def counted(answers: Any, sources: Any) -> Any:
        validated.extend(each.text.split()[2] for each in answers)
        return real(answers, sources)

    monkeypatch.setattr(trials, "remarks", counted)
    assert found(site, text) == []
    assert validated == ["n000", "n003", "n007"], "one of each kind"
    monkeypatch.setattr(validating, "MOST_VALIDATED", 1)
    (warning,) = found(site, text)
    assert warning.message.endswith("and of those that came out differently 1 were not validated")
    monkeypatch.undo()
    monkeypatch.setattr(trials, "remarks", counted)
    # What a template makes of a name is another output too, although nothing else tells these machines apart.
    validated.clear()
    by_name = "text\n# {{ machine.name }}\n{% if machine.name == 'n002' %}\nnonsense\n{% endif %}\n"
    (problem,) = found(site, {OWN: by_name})
    assert "rendered for n002" in problem.message
    assert validated[:2] == ["n000", "n002"]


def test_what_a_machine_had_wrong_before_does_not_stand_in_the_way(site: Site, own: World) -> None:
    own.distro()
    fleet_of(own, 4)
    machines.edit(site, ACTOR, "n002", {"parameters": {"disk": "the big one"}})
    (warning,) = found(site, {OWN: "text\nlang de_DE.UTF-8\n"})
    assert (warning.level, "n002" in warning.message) == ("warning", True)
    assert "it was so before" in warning.message
    profiles.edit(site, ACTOR, "own", {"parameters": {"keyboard": "de"}})
    machines.edit(site, ACTOR, "n003", {"parameters": {"tongue": "%end"}})
    told = {each.level: each.message for each in found(site, TONGUE)}
    assert "n003" in told["error"]
    assert "n002" in told["warning"]


def test_kinds_of_machines_come_first_and_what_is_beyond_the_bound_is_said(
    site: Site, own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.distro()
    names = fleet_of(own, 12)
    for name in names[8:]:
        machines.edit(site, ACTOR, name, {"parameters": {"rack": name} if name != names[8] else {"serial_console": ""}})
    with read(site.engine) as session:
        some = samplemachines.others(session, {"own": "n000"}, 5)
        few = samplemachines.others(session, {"own": "n000"}, 2)
        one = samplemachines.others(session, {"own": "n000"}, 1)
    assert [machine["name"] for machine, _ in some.machines["own"]] == ["n001", "n008", "n009", "n010", "n011"]
    assert [machine["name"] for machine, _ in few.machines["own"]] == ["n008", "n009"], "one of each kind"
    assert (some.left_out, few.left_out, one.left_out) == (0, 0, 1)
    monkeypatch.setattr(validating, "MOST_MACHINES", 1)
    (warning,) = found(site, {OWN: "text\nlang de_DE.UTF-8\n"})
    assert warning.message == "besides the first of each profile 1 machine was rendered, and 1 kind of machine was not"
    assert "--dry-run" in warning.hint


def test_what_only_a_made_up_machine_lacks_is_a_warning(site: Site, own: World) -> None:
    text = {OWN: "text\nlang {{ parameters.tongue }}\n"}
    (warning,) = found(site, text)
    assert (warning.level, warning.where) == ("warning", f"{OWN}:2")
    assert "parameters.tongue" in warning.message
    assert "a sample machine" in warning.message
    own.distro()
    own.machine(profile="own")
    (error,) = found(site, text)
    assert (error.level, error.code) == ("error", MissingParameter.code)
    machines.edit(site, ACTOR, "web01", {"parameters": {"tongue": "de_DE.UTF-8"}})
    assert found(site, text) == []


@pytest.mark.parametrize("name", ["machine.hostnam", "nothing", "network.link", "storage.disc"])
def test_s33_a_name_that_no_machine_has_is_an_error_for_a_made_up_one_too(site: Site, own: World, name: str) -> None:
    (error,) = found(site, {OWN: f"text\n\n# {{{{ {name} }}}}\n"})
    assert (error.level, error.where) == ("error", f"{OWN}:3")
    assert name in error.message


def test_links_are_rendered_over_the_interfaces_that_they_name(site: Site, own: World) -> None:
    links = [
        {"name": "bond0", "kind": "bond", "over": ["ens1f0", "ens1f1"]},
        {"name": "bond0.30", "kind": "vlan", "over": "bond0", "id": 30},
        {"name": "br0", "kind": "bridge", "over": ["52:54:00:aa:bb:cc"]},
    ]
    good = {"parent": "rocky9", "template": OWN, "parameters": {"links": links}}
    assert found(site, own=good) == []
    bad = good | {"parameters": {"links": [*links, {"name": "bond0", "kind": "bond", "over": "br0"}]}}
    (problem,) = found(site, own=bad)
    assert problem.where == "profile own"
    assert "bond0: this name stands twice" in problem.message


def test_what_was_wrong_before_does_not_stand_in_the_way(site: Site, own: World) -> None:
    in_force_without_validation(site, OWN, "text\nnonsense\n{% include 'snippets/lang' %}\n")
    (warning,) = found(site, {"snippets/lang": "lang de_DE.UTF-8\n"})
    assert warning.level == "warning"
    assert "it was so before" in warning.message
    moved = found(site, {OWN: "# moved\ntext\nnonsense\n{% include 'snippets/lang' %}\n"})
    assert [each.level for each in moved] == ["warning"]
    worse = found(site, {"snippets/lang": "rubbish\n"})
    assert errors(worse) == ["snippets/lang:1"]
    assert [each.where for each in worse] == ["snippets/lang:1", f"{OWN}:2"]


@both_engines
def test_a_profile_that_fails_is_refused_with_the_place_and_changes_nothing(site: Site, own: World) -> None:
    before = profiles.listing(site)
    templates.edit(site, ACTOR, OWN, "text\nlang {{ parameters.tongue | ks }}\n")
    with pytest.raises(AnswerInvalid) as caught:
        profiles.edit(site, ACTOR, "own", {"parameters": {"tongue": "de", "disk": "the big one"}})
    assert (caught.value.where, "'the big one'" in caught.value.message) == ("profile own", True)
    assert caught.value.hint
    with pytest.raises(TemplateError) as told:
        profiles.edit(site, ACTOR, "own", {"parameters": {"tongue": "%end"}})
    assert told.value.where == f"{OWN}:2"
    with pytest.raises(ContentError):
        profiles.add(site, ACTOR, {"name": "child", "parent": "own", "parameters": {"tongue": "%packages"}})
    assert profiles.listing(site) == before
    profiles.edit(site, ACTOR, "own", {"parameters": {"tongue": "de_DE.UTF-8"}})


def test_a_parent_is_validated_for_what_inherits_from_it(site: Site, own: World) -> None:
    templates.edit(site, ACTOR, OWN, "text\nlang {{ parameters.tongue | default('de') | ks }}\n")
    with pytest.raises(TemplateError) as caught:
        profiles.edit(site, ACTOR, "rocky9", {"parameters": {"tongue": "%end"}})
    assert caught.value.where == f"{OWN}:2"
    assert "profile own" in caught.value.message


def test_a_profile_of_a_distro_that_is_not_there_is_said_not_to_be_validated(site: Site, own: World) -> None:
    (warning,) = found(site, own={"template": OWN, "distro": "rocky-99"})
    assert (warning.level, warning.where) == ("warning", "profile own")
    assert "not validated: " in warning.message
    with pytest.raises(UnknownReference):
        profiles.add(site, ACTOR, {"name": "x", "parent": "nobody", "template": OWN})


def test_texts_and_profiles_are_validated_together(site: Site, own: World) -> None:
    """As `apply` needs it: each alone would fail."""
    text = {"kickstart/new.ks.j2": "text\nlang {{ parameters.tongue }}\n{% include 'snippets/new' %}\n"}
    profile = {"parent": "own", "template": "kickstart/new.ks.j2", "parameters": {"tongue": "de_DE.UTF-8"}}
    assert errors(found(site, text, new=profile)) == ["kickstart/new.ks.j2:3"]
    assert found(site, text | {"snippets/new": "timezone UTC\n"}, new=profile) == []
    assert errors(found(site, text | {"snippets/new": "\nnonsense\n"}, new=profile)) == ["snippets/new:2"]


def test_so_many_profiles_are_validated_and_the_rest_is_said(
    site: Site, own: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        profiles.add(site, ACTOR, {"name": f"p{number}", "parent": "own"})
    text = {"snippets/lang": "lang de_DE.UTF-8\n"}
    done: list[tuple[int, int]] = []
    (warning,) = validating.problems(site, text, {}, most=2, progress=lambda *told: done.append(told))
    assert "only 2 of the 6 profiles" in warning.message
    assert done == [(2, 2)]
    monkeypatch.setattr(trials, "TOGETHER", 1)
    (warning,) = validating.problems(site, text, {}, seconds=0)
    assert "only 1 of the 6 profiles" in warning.message
    (problem,) = found(site, {"snippets/lang": "nonsense\n"})
    assert "and 5 other profiles" in problem.message, "told once"


def test_problems_are_refused_at_their_files(site: Site, own: World) -> None:
    problems = found(site, {OWN: "text\nnonsense\n\nrubbish\n"})
    with pytest.raises(AnswerInvalid) as caught:
        validating.refuse(problems, lambda where: f"kickstarts/{where}")
    assert caught.value.where == f"kickstarts/{OWN}:2"
    assert f"and 1 more, the next at kickstarts/{OWN}:4" in caught.value.message or len(errors(problems)) == 1
    validating.refuse([each for each in problems if each.level == "warning"])


def test_the_stamp_is_another_after_every_change(site: Site, own: World) -> None:
    stamps = []
    changes = [
        lambda: None,
        lambda: templates.edit(site, ACTOR, "snippets/lang", "lang de_DE.UTF-8\n"),
        lambda: templates.edit(site, ACTOR, "snippets/lang", "{% if %}"),
        lambda: profiles.edit(site, ACTOR, "own", {"description": "x"}),
        own.distro,
        lambda: profiles.remove(site, ACTOR, "own"),
        lambda: templates.remove(site, ACTOR, OWN),
    ]
    for change in changes:
        change()
        with read(site.engine) as session:
            stamps.append(validating.stamp(session))
    assert len(set(stamps)) == len(changes)
    own.machine(profile="rocky9")
    with read(site.engine) as session:
        assert validating.stamp(session) == stamps[-1], "machines are not content"


@pytest.mark.slow
def test_check_validates_everything_that_is_stored(site: Site, own: World) -> None:
    """All that is shipped is good; what got in all the same is found."""
    assert [each for each in check.rendered(site) if each.level == "error"] == []
    in_force_without_validation(site, OWN, "text\n\nnonsense\n")
    in_force_without_validation(site, "snippets/alone", "{% if %}")
    bad = [each.what for each in check.run(site, templates=True) if each.why == "builds with it are refused"]
    assert [each.split(": ")[0] for each in bad] == ["snippets/alone:1", f"{OWN}:3"]
