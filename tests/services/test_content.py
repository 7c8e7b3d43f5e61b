"""Content travels as files, byte for byte, whole or not at all."""

from pathlib import Path

import pytest
from conftest import both_engines
from world import ACTOR

from provisioner.errors import InvalidInput, NotFound, ProvisionerError
from provisioner.services import content, profiles, records, templates
from provisioner.services.site import Site

PROFILE = "# a comment, and odd spacing\nname:   web\nparent: rocky9\r\nparameters: {timezone:   UTC}   \n"


def tree(directory: Path) -> dict[str, bytes]:
    """Every file below the directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def write_tree(directory: Path, files: dict[str, str]) -> Path:
    """The files, below the directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return directory


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
        ({"profiles/b.yaml": "name: a\n"}, "profiles/b.yaml"),
        ({"profiles/b.yaml": "name: b\ntemplate: kickstart/none\n"}, "profiles/b.yaml"),
        ({"profiles/b.yaml": "name: b\nparent: none\n"}, "profiles/b.yaml"),
        ({"profiles/b.yaml": "name: b\nlocal_boot: sideways\n"}, "profiles/b.yaml"),
        ({"profiles/b.yaml": "name: b\nparent: c\n", "profiles/c.yaml": "name: c\nparent: b\n"}, ""),
        ({"profiles/linux.yaml": "name: linux\nparent: rocky9\n"}, ""),
        ({"kickstarts/kickstart/b": "\0"}, "kickstart/b"),
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
    assert caught.value.where.startswith(where)
    assert where or "->" in caught.value.message, "a cycle is written out"
    assert (profiles.listing(site), templates.listing(site)) == before
    assert records.listing(site, limit=1000) == revisions


def test_bytes_that_are_no_text_are_named(site: Site, tmp_path: Path) -> None:
    directory = write_tree(tmp_path / "in", {"profiles/a.yaml": "name: a\n"})
    (directory / "profiles/b.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ProvisionerError) as caught:
        content.apply(site, ACTOR, directory)
    assert caught.value.where == "profiles/b.yaml"
    with pytest.raises(NotFound):
        content.apply(site, ACTOR, tmp_path / "nowhere")


def test_a_dry_run_plans_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    directory = write_tree(tmp_path / "in", {"profiles/web.yaml": PROFILE})
    before = profiles.listing(site)
    assert [each.name for each in content.apply(site, ACTOR, directory, dry_run=True)] == ["web"]
    assert profiles.listing(site) == before


@both_engines
def test_a_renamed_parent_is_exported_by_its_new_name(site: Site, tmp_path: Path) -> None:
    content.apply(site, ACTOR, write_tree(tmp_path / "in", {"profiles/web.yaml": PROFILE}))
    profiles.rename(site, ACTOR, "rocky9", "rocky-nine")
    content.export(site, tmp_path / "out")
    exported = tree(tmp_path / "out")
    assert b"parent: rocky-nine\n" in exported["profiles/web.yaml"]
    assert content.apply(site, ACTOR, tmp_path / "out") is not None
    assert profiles.show(site, "web")["parent"] == "rocky-nine"
