"""Content travels as files, byte for byte, whole or not at all."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import both_engines
from trees import tree, write_tree
from world import ACTOR, World

from provisioner.errors import ContentError, InputsChanged, InvalidInput, NotFound, ProvisionerError, StillInUse
from provisioner.services import content, profiles, records, templates
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

PROFILE = "# a comment, and odd spacing\nname:   web\nparent: rocky9\r\nparameters: {timezone:   UTC}   \n"


@both_engines
def test_what_was_applied_is_exported_byte_for_byte(site: Site, tmp_path: Path) -> None:
    files = {
        "profiles/web.yaml": PROFILE,
        "kickstarts/snippets/motd": "Grüße\r\n\n  \n",
        "kickstarts/script/x.sh.j2": "x",
    }
    directory = write_tree(tmp_path / "in", files)
    changes = content.apply(site, ACTOR, directory)
    assert {(each.name, each.action) for each in changes} == {
        ("web", "add"),
        ("snippets/motd", "add"),
        ("script/x.sh.j2", "add"),
    }
    content.export(site, tmp_path / "out")
    exported = tree(tmp_path / "out")
    for name, data in tree(directory).items():
        assert exported[name] == data
    revisions = len(records.listing(site, limit=1000))
    assert content.apply(site, ACTOR, directory) == [] == content.apply(site, ACTOR, tmp_path / "out")
    assert len(records.listing(site, limit=1000)) == revisions
    content.export(site, tmp_path / "again")
    assert tree(tmp_path / "again") == exported


@both_engines
def test_what_is_shipped_is_exported_as_it_is(site: Site, tmp_path: Path) -> None:
    content.export(site, tmp_path / "out")
    for name, data in tree(tmp_path / "out").items():
        assert (content.shipped() / name).read_bytes() == data


@both_engines
@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"profiles/b.yaml": "name: b\nparent: rocky9\ncolour: red\n"}, "profiles/b.yaml:3"),
        ({"profiles/b.yaml": "name: b\n\nparameters: {x: *y}\n"}, "profiles/b.yaml:3"),
        ({"profiles/b.yaml": "# two\nname: a\n"}, "profiles/b.yaml:2"),
        ({"profiles/b.yaml": "name: b\n\ntemplate: kickstart/none\n"}, "profiles/b.yaml:3"),
        ({"profiles/b.yaml": "name: b\nparent: none\n"}, "profiles/b.yaml:2"),
        ({"profiles/b.yaml": "name: b\nlocal_boot: sideways\n"}, "profiles/b.yaml:2"),
        ({"profiles/b.yaml": "name: b\nhandoff: {tool: owl}\n"}, "profiles/b.yaml:2"),
        ({"profiles/b.yaml": "name: b\ndistro: {os: plan9}\n"}, "profiles/b.yaml:2"),
        ({"profiles/b.yaml": "name: b\nparent: c\n", "profiles/c.yaml": "name: c\n\nparent: b\n"}, "profiles/b.yaml:2"),
        ({"profiles/linux.yaml": "name: linux\nparent: rocky9\n"}, "profiles/linux.yaml:2"),
        ({"profiles/deep/er/b.yaml": "name: b\ncolour: red\n"}, "profiles/deep/er/b.yaml:2"),
        ({"profiles/b.json": "{}"}, "profiles/b.json"),
        ({"kickstarts/kickstart/b": "\0"}, "kickstarts/kickstart/b"),
        ({"kickstarts/kickstart/b.ks.j2~": "x"}, "kickstarts/kickstart/b.ks.j2~"),
        ({"kickstarts/kickstart/B c.j2": "x"}, "kickstarts/kickstart/B c.j2"),
        ({"kickstarts/kickstart/a\nb": "x"}, "kickstarts/kickstart/a\\nb"),
        ({"kickstarts/kickstart/{{ 7 }}": "x"}, "kickstarts/kickstart/{{ 7 }}"),
        ({"kickstarts/kickstart/more/b": "x"}, "kickstarts/kickstart/more/b"),
        ({"kickstarts/kickstarts/b": "x"}, "kickstarts/kickstarts/b"),
        ({"kickstarts/b.ks.j2": "x"}, "kickstarts/b.ks.j2"),
        ({"kickstarts/script/large": "x" * (1 << 20) + "x"}, "kickstarts/script/large"),
        ({"profiles/large.yaml": "#" * (1 << 20) + "#"}, "profiles/large.yaml"),
    ],
)
def test_a_broken_file_changes_nothing_and_is_named(
    site: Site, tmp_path: Path, files: dict[str, str], where: str
) -> None:
    good = {"profiles/a.yaml": "name: a\nparent: rocky9\n", "kickstarts/snippets/good": "good"}
    directory = write_tree(tmp_path / "in", good | files)
    before, revisions = (profiles.listing(site), templates.listing(site)), records.listing(site, limit=1000)
    with pytest.raises(InvalidInput) as caught:
        content.apply(site, ACTOR, directory)
    assert caught.value.where == where
    assert caught.value.hint
    assert (profiles.listing(site), templates.listing(site)) == before
    assert records.listing(site, limit=1000) == revisions


def test_bytes_that_are_no_text_are_named(site: Site, tmp_path: Path) -> None:
    directory = write_tree(tmp_path / "in", {"profiles/a.yaml": "name: a\n"})
    (directory / "profiles/b.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ProvisionerError) as caught:
        content.apply(site, ACTOR, directory)
    assert caught.value.where == "profiles/b.yaml:1"
    with pytest.raises(NotFound):
        content.apply(site, ACTOR, tmp_path / "nowhere")


def test_a_dry_run_plans_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    directory = write_tree(tmp_path / "in", {"profiles/web.yaml": PROFILE})
    before = profiles.listing(site)
    assert [each.name for each in content.apply(site, ACTOR, directory, dry_run=True)] == ["web"]
    assert profiles.listing(site) == before


@both_engines
@pytest.mark.parametrize(
    ("text", "line"),
    [("lang {{ parameters.timezone }}\n{% if %}\n", 2), ("x\n\n{{ nothing }}\n", 3), ("reboot\ncolour red\n", 2)],
)
def test_r24_a_template_that_fails_changes_nothing_and_is_named(
    site: Site, world: World, tmp_path: Path, text: str, line: int
) -> None:
    world.ready()
    good = {"kickstarts/kickstart/own.ks.j2": templates.show(site, "kickstart/el9.ks.j2")["text"]}
    good |= {"profiles/own.yaml": "name: own\nparent: rocky9\ntemplate: kickstart/own.ks.j2\n"}
    content.apply(site, ACTOR, write_tree(tmp_path / "in", good))
    before = tree(tmp_path / "in"), records.listing(site, limit=1000)
    directory = write_tree(tmp_path / "in", {"kickstarts/kickstart/own.ks.j2": text, "kickstarts/snippets/x": "new"})
    with pytest.raises(ContentError) as caught:
        content.apply(site, ACTOR, directory)
    assert caught.value.where == f"kickstarts/kickstart/own.ks.j2:{line}"
    content.export(site, tmp_path / "out")
    assert records.listing(site, limit=1000) == before[1]
    assert (tmp_path / "out/kickstarts/kickstart/own.ks.j2").read_bytes() == before[0]["kickstarts/kickstart/own.ks.j2"]
    assert not (tmp_path / "out/kickstarts/snippets/x").exists()


@pytest.mark.parametrize(
    "link",
    ["profiles/web.yaml", "kickstarts/script/web.sh.j2", "kickstarts/snippets/passwd", "profiles", "kickstarts/script"],
)
def test_s41_a_link_out_of_the_directory_is_refused(site: Site, tmp_path: Path, link: str) -> None:
    """Neither read from nor written to: somebody else may have committed it."""
    outside = write_tree(tmp_path / "outside", {"web.yaml": "name: web\n", "secret": "secret"})
    directory = write_tree(tmp_path / "in", {"profiles/a.yaml": "name: a\nparent: rocky9\n"} if "/" in link else {})
    (directory / link).parent.mkdir(parents=True, exist_ok=True)
    target = outside if link in {"profiles", "kickstarts/script"} else outside / "web.yaml"
    (directory / link).symlink_to(target)
    before = tree(outside)
    with pytest.raises(InvalidInput) as caught:
        content.apply(site, ACTOR, directory)
    assert caught.value.where == link
    with contextlib.suppress(InvalidInput):
        content.export(site, directory)
    assert tree(outside) == before


def test_s41_what_is_no_regular_file_is_refused_at_once(site: Site, tmp_path: Path) -> None:
    directory = write_tree(tmp_path / "in", {"profiles/a.yaml": "name: a\nparent: rocky9\n"})
    os.mkfifo(directory / "profiles/pipe.yaml")
    with pytest.raises(InvalidInput, match="not a regular file"):
        content.apply(site, ACTOR, directory)
    (directory / "profiles/pipe.yaml").unlink()
    (directory / "profiles/pipe.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(InvalidInput, match="link to nothing"):
        content.apply(site, ACTOR, directory)
    (directory / "profiles/pipe.yaml").unlink()
    (directory / "kickstarts/script").mkdir(parents=True)
    (directory / "kickstarts/script/b.j2").write_text("b")
    (directory / "kickstarts/script/c.j2").symlink_to("b.j2")
    assert {each.name for each in content.apply(site, ACTOR, directory)} == {"a", "script/b.j2", "script/c.j2"}


@both_engines
def test_export_goes_to_the_files_that_are_there_and_leaves_others(site: Site, tmp_path: Path) -> None:
    files = {
        "profiles/web/tier.yml": PROFILE,
        "profiles/README.md": "ours",
        "profiles/.hidden": "x",
        "README.md": "ours",
        "kickstarts/README": "ours",
        "kickstarts/script/x": "no newline at its end",
    }
    directory = write_tree(tmp_path / "in", files)
    before = tree(directory)
    content.apply(site, ACTOR, directory)
    exported = content.export(site, directory)
    after = tree(directory)
    assert {name: after[name] for name in before} == before
    assert not (directory / "profiles/web.yaml").exists()
    assert directory / "profiles/web/tier.yml" in exported.same
    assert content.apply(site, ACTOR, directory) == []
    profiles.edit(site, ACTOR, "web", {"description": "changed here"})
    content.export(site, directory)
    assert "changed here" in (directory / "profiles/web/tier.yml").read_text()
    (directory / "profiles/web/tier.yml").unlink()
    write_tree(directory, {"profiles/web.yaml": "name: another\n"})
    with pytest.raises(InvalidInput, match="holds the profile another"):
        content.export(site, directory)


SITE = {
    "profiles/web.yaml": "name: web\nparent: rocky9\n",
    "profiles/web-big.yaml": "name: web-big\nparent: web\ntemplate: script/own.sh.j2\n",
    "kickstarts/script/own.sh.j2": "{% include 'snippets/own' %}\n",
    "kickstarts/snippets/own": "echo own\n",
}


@both_engines
def test_prune_removes_what_is_ours_in_one_go_and_nothing_that_is_shipped(site: Site, tmp_path: Path) -> None:
    content.apply(site, ACTOR, write_tree(tmp_path / "in", SITE))
    templates.edit(site, ACTOR, "kickstart/el9.ks.j2", templates.show(site, "kickstart/el9.ks.j2")["text"] + "# more\n")
    left = write_tree(tmp_path / "left", {"profiles/other.yaml": "name: other\nparent: rocky9\n"})
    assert [each.action for each in content.apply(site, ACTOR, left, dry_run=True)] == ["add"]
    planned = content.plan(site, left, prune=True)
    assert {(each.kind, each.name, each.action) for each in planned.changes} == {
        ("profile", "other", "add"),
        ("profile", "web", "remove"),
        ("profile", "web-big", "remove"),
        ("template", "script/own.sh.j2", "remove"),
        ("template", "snippets/own", "remove"),
    }
    assert planned.kept == ["template kickstart/el9.ks.j2"]
    content.carry_out(site, replace(ACTOR, reason="ticket 4711"), planned)
    assert {each["name"] for each in profiles.listing(site)} >= {"other", "rocky9", "linux"}
    assert not {each["name"] for each in profiles.listing(site)} & {"web", "web-big"}
    assert not {each["name"] for each in templates.listing(site)} & {"script/own.sh.j2", "snippets/own"}
    assert [each["reason"] for each in records.listing(site, limit=5)] == ["ticket 4711"] * 5
    assert content.apply(site, ACTOR, left, prune=True) == []


@both_engines
def test_prune_says_all_that_is_in_use_at_once(site: Site, world: World, tmp_path: Path) -> None:
    content.apply(site, ACTOR, write_tree(tmp_path / "in", SITE))
    world.ready(profile="web-big")
    kept = {name: SITE[name] for name in ("profiles/web-big.yaml",)}
    directory = write_tree(tmp_path / "left", kept)
    before = tree(tmp_path / "in"), records.listing(site, limit=1000)
    with pytest.raises(StillInUse) as caught:
        content.apply(site, ACTOR, directory, prune=True)
    assert "profile web by profile web-big" in caught.value.message
    assert "template script/own.sh.j2 by profile web-big" in caught.value.message
    write_tree(directory, {"profiles/x.yaml": "name: x\nparent: rocky9\n"})
    (directory / "profiles/web-big.yaml").unlink()
    with pytest.raises(StillInUse, match="profile web-big by machine web01"):
        content.apply(site, ACTOR, directory, prune=True)
    assert records.listing(site, limit=1000) == before[1]
    without = write_tree(
        tmp_path / "b", {name: text for name, text in SITE.items() if name != "kickstarts/snippets/own"}
    )
    with pytest.raises(StillInUse, match=r"template snippets/own by template script/own\.sh\.j2"):
        content.apply(site, ACTOR, without, prune=True)


def test_a_plan_that_others_overtook_is_not_carried_out(site: Site, tmp_path: Path) -> None:
    planned = content.plan(site, write_tree(tmp_path / "in", SITE))
    profiles.edit(site, ACTOR, "rocky9", {"description": "another"})
    before = records.listing(site, limit=1000)
    with pytest.raises(InputsChanged):
        content.carry_out(site, ACTOR, planned)
    assert records.listing(site, limit=1000) == before


def test_each_change_has_its_reason_and_its_difference(site: Site, tmp_path: Path) -> None:
    content.apply(site, ACTOR, write_tree(tmp_path / "in", SITE | {"profiles/a.yaml": "name: a\nparent: rocky9\n"}))
    edited = {
        "profiles/web.yaml": "name: web\nparent: rocky9\ndescription: The web\n",
        "profiles/a.yaml": "# for people\nname: a\nparent: rocky9\n",
        "profiles/new.yaml": "name: new\nparent: web",
    }
    planned = content.plan(site, write_tree(tmp_path / "in", edited))
    told = {each.name: (each.why, each.diff()[2:]) for each in planned.changes}
    assert told == {
        "web": ("file differs", ["@@ -1,2 +1,3 @@", " name: web", " parent: rocky9", "+description: The web"]),
        "a": ("only its wording differs", ["@@ -1,2 +1,3 @@", "+# for people", " name: a", " parent: rocky9"]),
        "new": ("new", ["@@ -0,0 +1,2 @@", "+name: new", "+parent: web\n\\ No newline at end of file"]),
    }


@both_engines
def test_a_renamed_parent_is_exported_by_its_new_name(site: Site, tmp_path: Path) -> None:
    content.apply(site, ACTOR, write_tree(tmp_path / "in", {"profiles/web.yaml": PROFILE}))
    profiles.rename(site, ACTOR, "rocky9", "rocky-nine")
    content.export(site, tmp_path / "out")
    exported = tree(tmp_path / "out")
    assert b"parent: rocky-nine\n" in exported["profiles/web.yaml"]
    assert content.apply(site, ACTOR, tmp_path / "out") is not None
    assert profiles.show(site, "web")["parent"] == "rocky-nine"
