"""A newer program brings its shipped content up to date, and leaves what somebody changed."""

import shutil
from pathlib import Path

import pytest
from conftest import both_engines
from world import ACTOR

from provisioner.services import content, profiles, setup, templates
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

SNIPPET, TEMPLATE = "snippets/handoff.sh.j2", "kickstart/el9.ks.j2"


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped content of a newer version, which `init` takes from then on."""
    there = tmp_path / "newer"
    for name in ("profiles", "kickstarts"):
        shutil.copytree(content.shipped() / name, there / name)
    monkeypatch.setattr(content, "shipped", lambda: there)
    return there


def change(path: Path, more: str) -> None:
    path.write_text(path.read_text() + more)


def upgraded(site: Site) -> int:
    """How much `init` changed."""
    made = setup.init(site.settings, ACTOR)
    made.site.engine.dispose()
    return made.changes


@both_engines
def test_r24_init_edits_what_nobody_changed_and_nothing_else(site: Site, newer: Path) -> None:
    templates.edit(site, ACTOR, TEMPLATE, templates.show(site, TEMPLATE)["text"].replace("zerombr", "zerombr "))
    profiles.edit(site, ACTOR, "rocky9", {"description": "ours"})
    profiles.rename(site, ACTOR, "debian12", "bookworm")
    for path in (f"kickstarts/{SNIPPET}", f"kickstarts/{TEMPLATE}"):
        change(newer / path, "{## newer ##}\n")
    for name in ("rocky9", "alma9", "debian12"):
        change(newer / f"profiles/{name}.yaml", "kernel_options: [newer]\n")
    own = templates.show(site, TEMPLATE)["text"]
    upgraded(site)
    assert templates.show(site, SNIPPET)["text"].endswith("{## newer ##}\n")
    assert templates.show(site, TEMPLATE)["text"] == own
    assert profiles.show(site, "alma9")["kernel_options"] == ["newer"]
    assert profiles.show(site, "rocky9")["kernel_options"] == []
    assert profiles.show(site, "bookworm")["kernel_options"] == []
    assert upgraded(site) == 0


def test_a_profile_whose_parent_was_renamed_is_left_alone(site: Site, newer: Path) -> None:
    profiles.rename(site, ACTOR, "linux", "base")
    change(newer / "profiles/alma9.yaml", "kernel_options: [newer]\n")
    upgraded(site)
    assert profiles.show(site, "alma9")["parent"] == "base"
    assert profiles.show(site, "alma9")["kernel_options"] == []
