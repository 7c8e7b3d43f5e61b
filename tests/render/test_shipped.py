"""What all shipped templates and profiles have in common."""

import re

import jinja2
import yaml

from tests.render.context import NETWORKS, ROOT, sources
from tests.render.goldens import FIRMWARES, GOLDEN


def test_every_snippet_and_template_says_what_it_needs() -> None:
    for name, text in sources().items():
        head = text[:1500]
        assert "{##" in head, name
        if name != "snippets/first-boot-unit.sh.j2":
            assert re.search(r"Parameters: |Uses ", head), name


def test_every_shipped_template_parses() -> None:
    """Also those that no profile of this test renders."""
    environment = jinja2.Environment(comment_start_string="{##", comment_end_string="##}", autoescape=True)
    for name, text in sources().items():
        assert environment.parse(text).body, name


def test_shipped_profiles_name_parents_and_templates_that_exist() -> None:
    names = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    assert {"linux", "rocky9", "rhel9", "debian12", "ubuntu2404", "stem-cell"} <= names
    allowed = {"name", "parent", "description", "distro", "image", "template", "kernel_options", "parameters"}
    for name in names:
        own = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
        assert own["name"] == name
        assert set(own) <= allowed | {"handoff", "local_boot", "tested_with"}
        assert own.get("parent", "linux") in names
        assert "template" not in own or own["template"] in sources()
        if "distro" in own or "image" in own:
            assert own.get("tested_with"), name
            made = {path.name for path in (GOLDEN / name).glob("*.txt")}
            assert made == {f"{firmware}-{links}.txt" for firmware in FIRMWARES for links in NETWORKS}, name
