"""Provenance: each value with the level that gave it, and for one that is missing the levels that were looked at."""

import pytest
from trees import write_tree
from world import ACTOR, World

from provisioner.errors import MissingParameter
from provisioner.services import arming, content, machines, profiles, subnets, templates
from provisioner.services.resolve import BuildRequest
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

LINKS = [{"name": "bond0", "kind": "bond", "over": "all"}, {"name": "v30", "kind": "vlan", "over": "bond0", "id": 30}]
CHAIN = {
    "profiles/base.yaml": "name: base\nparent: rocky9\nkernel_options: [console=tty0, nomodeset]\n"
    "parameters: {motd: base, site_proxy: {url: http://a, user: b}, packages: [vim]}\n",
    "profiles/web.yaml": "name: web\nparent: base\nkernel_options: ['!quiet', console=ttyS0, console=ttyS1]\n"
    "parameters: {motd: web, site_proxy: {url: http://c}, disk: {kind: ssd, at_least: 100G}}\n",
}


@pytest.fixture
def chain(site: Site, world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """web01 with a profile that inherits through base, rocky9 and linux; subnet and machine give something too."""
    content.apply(site, ACTOR, write_tree(tmp_path_factory.mktemp("chain"), CHAIN))
    world.ready(profile="web", parameters={"links": LINKS}, kernel_options=["!nomodeset"])
    subnets.edit(site, ACTOR, "lab", {"parameters": {"motd": "lab"}})
    return world


def told(site: Site) -> dict[tuple[str, str], tuple[object, str, list[str]]]:
    """The rows of `profile explain`, by what they are and their name, or their value where they have none."""
    rows = arming.explain(site, "web01")["values"]
    return {(row["what"], row["name"] or row["value"]): (row["value"], row["source"], row["overrides"]) for row in rows}


def test_each_value_says_which_level_gave_it_and_which_it_overrides(site: Site, chain: World) -> None:
    rows = told(site)
    assert rows["parameter", "motd"] == ("lab", "subnet lab", ["profile base", "profile web"])
    assert rows["parameter", "timezone"] == ("UTC", "profile linux", [])
    assert rows["parameter", "packages"] == (["vim"], "profile base", ["profile linux"]), "lists replace"
    assert rows["parameter", "site_proxy"] == ({"url": "http://c"}, "profile web", ["profile base"]), (
        "mappings replace as a whole too"
    )
    assert rows["parameter", "disk"] == ({"kind": "ssd", "at_least": "100G"}, "profile web", ["profile linux"])
    assert rows["parameter", "links"] == (LINKS, "machine web01", ["profile linux"])
    assert rows["field", "handoff"] == ({"tool": "none"}, "profile linux", ["built-in defaults"])
    assert rows["field", "template"][1] == "profile rocky9"


def test_a_kernel_option_that_was_taken_away_says_by_whom(site: Site, chain: World) -> None:
    rows = told(site)
    assert rows["removed kernel option", "quiet"] == ("quiet", "profile web", ["profile linux"])
    assert rows["removed kernel option", "nomodeset"] == ("nomodeset", "machine web01", ["profile base"])
    assert rows["kernel option", "console=ttyS0"] == ("console=ttyS0", "profile web", ["profile base"])
    assert rows["kernel option", "console=ttyS1"] == ("console=ttyS1", "profile web", ["profile base"])
    assert ("kernel option", "quiet") not in rows and ("kernel option", "console=tty0") not in rows
    machines.edit(site, ACTOR, "web01", {"kernel_options": ["quiet"]})
    again = told(site)
    assert again["kernel option", "quiet"] == ("quiet", "machine web01", [])
    assert ("removed kernel option", "quiet") not in again, "given again further down"
    assert again["kernel option", "nomodeset"][1] == "profile base"


def test_a_machine_that_cannot_be_built_yet_is_explained_too(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None, parameters={"motd": "own"})
    rows = told(site)
    assert rows["parameter", "motd"] == ("own", "machine web01", [])
    machines.edit(site, ACTOR, "web01", {"profile": "rocky9"})
    assert told(site)["parameter", "timezone"][1] == "profile linux", "although there is no distro that fits"


def own_template(site: Site, more: str) -> None:
    """The chain's template with something more."""
    text = templates.show(site, "kickstart/el9.ks.j2")["text"]
    templates.add(site, ACTOR, "kickstart/own.ks.j2", text + more)
    profiles.edit(site, ACTOR, "base", {"template": "kickstart/own.ks.j2"})


def test_a_missing_parameter_names_template_line_and_levels(site: Site, chain: World) -> None:
    templates.add(site, ACTOR, "snippets/own", "\n# {{ parameters.time_zone }}\n")
    machines.edit(site, ACTOR, "web01", {"parameters": {"time_zone": "own"}})
    own_template(site, "{% include 'snippets/own' %}\n")
    machines.edit(site, ACTOR, "web01", {"parameters": {"time_zone": None}})
    with pytest.raises(MissingParameter) as caught:
        arming.start(site, ACTOR, "web01", BuildRequest({"motd": "x"}))
    levels = ["built-in defaults", "profile linux", "profile rocky9", "profile base", "profile web", "subnet lab"]
    levels += ["machine web01", "build request"]
    assert caught.value.where == "snippets/own:2"
    assert caught.value.message == f"no value for parameters.time_zone; looked at {', '.join(levels)}"
    assert caught.value.details["levels"] == levels
    assert "did you mean timezone?" in caught.value.hint
    assert "`provisioner machine edit web01 --param time_zone=VALUE`" in caught.value.hint
    assert "`provisioner profile edit web --param time_zone=VALUE`" in caught.value.hint
    with pytest.raises(MissingParameter, match="build request"):
        arming.preview(site, "web01")
    assert "# motd" in arming.preview(site, "web01", BuildRequest({"time_zone": "motd"}))["answer"]


def test_a_missing_parameter_is_told_when_it_is_saved_too(site: Site, chain: World) -> None:
    saved = templates.edit(site, ACTOR, "kickstart/el9.ks.j2", "lang C\n# {{ parameters.nobody_gives_this }}\n")
    (problem,) = [each for each in saved["problems"] if each["where"] == "kickstart/el9.ks.j2:2"]
    assert "looked at built-in defaults, profile linux" in problem["message"]
    assert "--param nobody_gives_this=VALUE" in problem["hint"]


def test_a_key_that_is_missing_in_a_parameter_names_who_gave_it(site: Site, chain: World) -> None:
    machines.edit(site, ACTOR, "web01", {"parameters": {"site_proxy": {"url": "http://d", "user": "e"}}})
    own_template(site, "# {{ parameters.site_proxy.user }}\n")
    machines.edit(site, ACTOR, "web01", {"parameters": {"site_proxy": None}})
    with pytest.raises(MissingParameter) as caught:
        arming.start(site, ACTOR, "web01")
    assert caught.value.message == "no value for parameters.site_proxy.user, and profile web gives site_proxy"
    assert caught.value.where.startswith("kickstart/own.ks.j2:")
