"""Which names and links of a foreign tree are taken (S40, S44)."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.core import treepaths
from provisioner.errors import InvalidInput


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/etc",
        "a\\b",
        "nul\0",
        "line\nfeed",
        "\x1b[31m",
        "\x7f",
        "\x9b",
        "x" * 256,
        "\ud800",
        "é" * 128,
    ],
)
def test_s44_names_that_no_honest_tree_has(name: str) -> None:
    with pytest.raises(InvalidInput):
        treepaths.name(name)


@pytest.mark.parametrize(
    "path", ["a/../b", "a//b", "/a", "a/", "..", "a/./b", "/".join("a" * 41), "/".join(["x" * 200] * 6)]
)
def test_s44_paths_that_are_not_below_the_root(path: str) -> None:
    with pytest.raises(InvalidInput):
        treepaths.path(path)


@pytest.mark.parametrize("name", ["vmlinuz", ".treeinfo", "a b", "ümläut", "\uff0e\uff0e", "...", "-rf", "x" * 255])
def test_odd_but_honest_names_are_taken(name: str) -> None:
    assert treepaths.name(name) == name


@pytest.mark.parametrize(
    ("link", "target", "inside"),
    [
        ("dists/stable", "bookworm", True),
        ("debian", ".", True),
        ("a/b/c", "../../x", True),
        ("a/b/c", "../../../x", False),
        ("a", "..", False),
        ("a", "/etc/passwd", False),
        ("a", "b/../c", False),
        ("a/b", "./../x", True),
        ("a", "", False),
        ("a", "b\\c", False),
    ],
)
def test_s44_links_stay_inside(link: str, target: str, inside: bool) -> None:
    assert treepaths.stays_inside(link, target) is inside


_part = st.sampled_from(["a", "b", "c", ".", "..", ""])
_path = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
_links = st.lists(st.tuples(_path, st.lists(_part, min_size=1, max_size=5).map("/".join)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(_links)
def test_s44_no_set_of_links_that_are_taken_leads_out(links: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as base:
        root = Path(base, "root")
        for directory in ("a/a", "a/b", "b/a", "c"):
            (root / directory).mkdir(parents=True)
        made = []
        for link, target in links:
            # As the importer does: the directory that holds a link is never itself reached by one.
            path = root / link
            real = not any(parent.is_symlink() for parent in path.parents) and path.parent.is_dir()
            if real and not path.exists() and not path.is_symlink() and treepaths.stays_inside(link, target):
                path.symlink_to(target)
                made.append(path)
        for path in made:
            try:
                where = os.path.realpath(path, strict=True)
            except OSError:
                continue
            assert Path(where).is_relative_to(os.path.realpath(root))
