"""What the pages of profiles, templates and distros look at: the tree, users, tiers, old revisions, YAML kept."""

import pytest
from conftest import both_engines
from uicontent import TEXT, TINY, tiny
from world import ACTOR, World

from provisioner.core.firmware import TIERS
from provisioner.errors import MalformedContent, NameTaken, NotFound, Stale
from provisioner.services import (
    contenthistory,
    families,
    mediaviews,
    profiles,
    profileviews,
    records,
    templates,
    templateviews,
)
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


@both_engines
def test_the_tree_counts_machines_and_says_what_is_built_now(site: Site, world: World) -> None:
    tiny(world)
    profiles.add(site, ACTOR, {"name": "tiny10", "parent": "tiny"})
    profiles.add(site, ACTOR, {"name": "tiny9", "parent": "tiny", "image": {"os": "debian", "version": "12"}})
    rows = {row["name"]: row for row in profileviews.tree(site)}
    names = list(rows)
    assert names.index("tiny") < names.index("tiny9") < names.index("tiny10")
    assert (rows["tiny"]["depth"], rows["tiny9"]["depth"]) == (0, 1)
    assert (rows["tiny"]["machines"], rows["tiny"]["machines_below"]) == (2, 0)
    assert (rows["tiny10"]["kind"], rows["tiny10"]["means"]) == ("distro", "rocky-9.6")
    assert (rows["tiny9"]["kind"], rows["tiny9"]["means"]) == ("image", None)
    assert "no image fits" in rows["tiny9"]["why_none"]
    assert rows["tiny10"]["template"] == TINY
    assert rows["tiny10"]["template_from"] == "profile tiny"
    assert rows["rocky9"]["wanted"] == "rocky 9"
    assert rows["linux"]["machines_below"] == 0


def test_a_search_finds_by_name_template_and_what_is_built(site: Site) -> None:
    assert [row["name"] for row in profileviews.tree(site, "ESXI7")] == ["esxi", "esxi7"]
    assert {row["name"] for row in profileviews.tree(site, "sles15.xml") if not row["aside"]} == {"leap15", "sles15"}
    assert profileviews.tree(site, "no such words") == []


def test_one_profile_with_all_around_it(site: Site, world: World) -> None:
    tiny(world)
    profiles.add(site, ACTOR, {"name": "child", "parent": "tiny", "kernel_options": ["!quiet", "nosmt"]})
    found = profileviews.shown(site, "child")
    assert found["lineage"] == ["tiny", "child"]
    assert {"what": "parameter", "name": "motd", "value": "hi", "source": "profile tiny", "overrides": []} in found[
        "values"
    ]
    assert profileviews.shown(site, "tiny")["children"] == ["child"]
    assert profileviews.inherited(site, "nosuch") == []
    with pytest.raises(NotFound):
        profileviews.shown(site, "nosuch")


def test_a_family_without_its_tool_is_only_structure_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [("preseed", "debconf-set-selections", "apt install debconf"), ("script", "bash", "apt install bash")]
    monkeypatch.setattr(families.validate, "missing_programs", lambda: gone)
    tiers = families.tiers()
    assert tiers.keys() == TIERS.keys()
    assert tiers["preseed"] == families.Tier(
        "preseed", "structure-checked", "debconf-set-selections", "apt install debconf"
    )
    assert tiers["kickstart"].tier == "validated"
    assert tiers["esxi"].tier == "structure-checked"
    assert [each.family for each in families.missing()] == ["preseed"]
    assert families.tier_of("debian", tiers) == tiers["preseed"]
    assert families.tier_of("plan9", tiers) is None


@both_engines
def test_a_profile_is_what_its_yaml_says_byte_for_byte(site: Site, world: World) -> None:
    tiny(world)
    before = profiles.show(site, "tiny")["revision"]
    text = f"# words\nname: tiny\ndistro: rocky-9.6\ntemplate: {TINY}\nparameters: {{motd: new}}  # so\n"
    saved = profiles.put_text(site, ACTOR, "tiny", text, expect=before)
    assert saved["description"] == "", "what the text leaves out stayed"
    assert profileviews.shown(site, "tiny")["yaml"] == text
    with pytest.raises(Stale):
        profiles.put_text(site, ACTOR, "tiny", text, expect=before)
    with pytest.raises(MalformedContent) as refused:
        profiles.put_text(site, ACTOR, "tiny", text.replace("name: tiny", "name: other"))
    assert refused.value.where == "tiny.yaml:2"
    with pytest.raises(NameTaken):
        profiles.put_text(site, ACTOR, "tiny", text, new=True)
    with pytest.raises(NotFound):
        profiles.put_text(site, ACTOR, "none", "name: none\n")
    profiles.put_text(site, ACTOR, "fresh", "name: fresh  # first\n", new=True)
    assert profileviews.shown(site, "fresh")["yaml"] == "name: fresh  # first\n"


@both_engines
def test_old_revisions_are_found_under_every_name_and_never_those_of_others(site: Site, world: World) -> None:
    tiny(world, machines=0)
    first = records.page(site, object="profile/tiny")["items"][0]["id"]
    profiles.rename(site, ACTOR, "tiny", "small")
    profiles.edit(site, ACTOR, "small", {"parameters": {"motd": "later"}})
    items = contenthistory.page(site, "profile", "small")["items"]
    assert [each["action"] for each in items] == ["edit", "edit", "add"]
    assert "+  motd: later" in items[0]["diff"]
    then = contenthistory.content(site, "profile", "small", first)
    assert then["name"] == "tiny"
    assert "motd: hi" in then["text"]
    profiles.remove(site, ACTOR, "small")
    removed = contenthistory.page(site, "profile", "small")["items"][0]
    assert removed["action"] == "remove"
    for number in (removed["id"], 1, 10**6):
        with pytest.raises(NotFound):
            contenthistory.content(site, "profile", "small", number)


def test_the_text_of_a_draft_is_the_newest(site: Site, world: World) -> None:
    tiny(world, machines=0)
    templates.edit(site, ACTOR, TINY, "{% if %}\n")
    item = contenthistory.page(site, "template", TINY)["items"][0]
    then = contenthistory.content(site, "template", TINY, item["id"])
    assert (then["text"], then["draft"]) == ("{% if %}\n", True)
    assert "+{% if %}" in item["diff"]
    assert contenthistory.text_of("template", None) == ""


def test_who_renders_a_template_and_what_it_includes(site: Site, world: World) -> None:
    tiny(world, machines=0)
    templates.add(site, ACTOR, "snippets/part.sh.j2", "echo part\n")
    templates.edit(site, ACTOR, TINY, TEXT + '{% include "snippets/part.sh.j2" %}\n{% block end %}{% endblock %}\n')
    profiles.add(site, ACTOR, {"name": "child", "parent": "tiny"})
    part, main = (templateviews.shown(site, name) for name in ("snippets/part.sh.j2", TINY))
    assert part["included_by"] == [TINY]
    assert part["rendered_by"] == ["child", "tiny"]
    assert main["named_by"] == ["tiny"]
    assert main["includes"] == ["snippets/part.sh.j2"]
    assert main["blocks"] == ["end"]
    counted = {row["name"]: row["profiles"] for row in templateviews.listing(site)}
    assert counted["snippets/part.sh.j2"] == 2
    assert counted["autoinstall/network-config.j2"] == 3
    assert templateviews.shown(site, "autoinstall/network-config.j2")["rendered_by"][0] == "ubuntu2204"
    assert templateviews.shown(site, "kickstart/el9.ks.j2")["included_by"].count("kickstart/el9.ks.j2") == 0


def test_what_extends_a_shipped_template_parses(site: Site) -> None:
    text = templateviews.starter("kickstart/el9.ks.j2", templates.show(site, "kickstart/el9.ks.j2")["text"])
    saved = templates.add(site, ACTOR, "kickstart/own.ks.j2", text)
    assert saved["draft"] is None
    assert templateviews.starter("snippets/x.j2", "words") == '{% include "snippets/x.j2" %}\n'


def test_which_profiles_mean_a_distro(site: Site, world: World) -> None:
    tiny(world)
    world.distro("rocky-9.5", version="9.5")
    found = {row["name"]: row for row in mediaviews.listing(site, "distro")}
    assert found["rocky-9.6"]["profiles"] == ["rocky9", "tiny"]
    assert found["rocky-9.6"]["named_by"] == ["tiny"]
    assert found["rocky-9.6"]["machines"] == 2
    assert found["rocky-9.5"]["profiles"] == []
    assert found["rocky-9.5"]["tier"].tier == "validated"
    assert [row["name"] for row in mediaviews.listing(site, "distro", "9.5")] == ["rocky-9.5"]
    assert mediaviews.shown(site, "distro", "rocky-9.5")["family"] == "kickstart"
