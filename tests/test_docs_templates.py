"""docs/templates.md holds to the code: each variable, filter, global, snippet, parameter, profile and block."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from trees import write_tree
from world import ACTOR, World

from provisioner.core.firmware import TIERS, family_of
from provisioner.core.names import SNIPPETS, TEMPLATE_KINDS
from provisioner.render.confined import Limits
from provisioner.render.filters import QUOTING
from provisioner.render.sandbox import MAX_INTEGER_BITS, MAX_REPEAT, Sandbox
from provisioner.services import arming, content, machines, sealing
from provisioner.services.resolve import BuildRequest, gather
from provisioner.store.engine import read

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/templates.md").read_text()
OPEN = ("parameters", "handoff", "distro.files")
"""Mappings whose keys are up to people."""


def section(title: str) -> str:
    """The text under a heading of the page."""
    found = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE)
    assert found is not None, title
    return found[1]


def first_column(text: str) -> list[str]:
    """What stands in backticks in the first cell of each row of the tables."""
    rows = re.findall(r"(?m)^\| ([^|]*`[^|]*) \|", text)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def once(names: list[str]) -> set[str]:
    """The names, none of which stands twice."""
    assert sorted(set(names)) == sorted(names)
    return set(names)


def paths(value: Any, at: str = "") -> set[str]:
    """Every leaf of plain data as the page writes it."""
    if at in OPEN:
        return {at}
    if isinstance(value, dict):
        return {path for key, item in value.items() for path in paths(item, f"{at}.{key}" if at else key)}
    if isinstance(value, list | tuple):
        return {path for item in value for path in paths(item, f"{at}[]")} or {f"{at}[]"}
    return {at}


def profiles() -> dict[str, dict[str, Any]]:
    """The shipped profiles by name."""
    found = [yaml.safe_load(path.read_text()) for path in (ROOT / "profiles").glob("*.yaml")]
    return {each["name"]: each for each in found}


def test_every_variable_of_the_context_is_there_and_no_other(world: World) -> None:
    links = [
        {"name": "bond0", "kind": "bond", "over": "all"},
        {"name": "v30", "kind": "vlan", "over": "bond0", "id": 30, "addresses": ["10.0.30.11/24"], "dns": "10.0.30.1"},
    ]
    world.subnet(gateway="127.0.2.1", dns=["127.0.2.1"])
    world.distro()
    world.machine(parameters={"network": "static", "links": links}, kernel_options=["nomodeset"])
    world.secret()
    with read(world.site.engine) as session:
        gathered = gather(session, machines.find(session, "web01"), BuildRequest())
    prepared = sealing.prepare(world.site, sealing.Order(gathered, 1, ("root_password",)))
    fields = ("name", "kind", "os", "version", "arch", "sha256", "size", "file_name", "format", "root")
    image = sealing._image(SimpleNamespace(image=dict.fromkeys(fields, "x")))  # type: ignore[arg-type]
    assert image is not None
    known = paths(dict(prepared.context) | {"image": image})
    known = {path for path in known if not any(other.startswith(f"{path}.") for other in known)}  # some were empty
    assert once(first_column(section("Every variable"))) == known


def test_the_example_works_as_it_is_written(world: World, tmp_path: Path) -> None:
    files = dict(re.findall(r"(?ms)^\$ cat (\S+)\n(.*?\n)(?=\n\$ )", PAGE))
    assert set(files) == {"kickstarts/kickstart/web.ks.j2", "profiles/web.yaml"}
    world.ready()
    content.apply(world.site, ACTOR, write_tree(tmp_path / "site", files))
    machines.edit(world.site, ACTOR, "web01", {"profile": "web"})
    answer = arming.preview(world.site, "web01")["answer"]
    assert "systemctl enable nginx\necho 'Served by the web team' >/etc/motd\n" in answer
    shown = re.search(r"(?ms)^```yaml\n(parameters:.*?)^```", PAGE)
    assert shown is not None
    machines.edit(world.site, ACTOR, "web01", yaml.safe_load(shown[1]))
    again = arming.preview(world.site, "web01")["answer"]
    assert "10.0.30.11" in again and "the smallest fixed SSD of at least 204800 MiB" in again


def test_every_filter_and_global_is_there_and_no_other() -> None:
    text = section("Quote every value, for the language it stands in")
    sandbox = Sandbox({})
    tables = first_column(text)
    assert once([name for name in tables if name in sandbox.filters]) == set(QUOTING)
    assert once([name for name in tables if name not in sandbox.filters]) == set(sandbox.globals)
    told = re.search(r"Of Jinja's own filters there are: (.*?)\. All", text, re.DOTALL)
    assert told is not None
    assert once(re.findall(r"`(\w+)`", told[1])) == set(sandbox.filters) - set(QUOTING)


def test_every_snippet_is_there_and_says_what_it_needs() -> None:
    files = {f"snippets/{path.name}": path.read_text() for path in (ROOT / "kickstarts/snippets").iterdir()}
    assert once(first_column(section("Snippets"))) == set(files)
    for name, text in files.items():
        header = re.search(r"{##(.*?)##}", text, re.DOTALL)
        assert header is not None, f"{name} has no header"
        asked = set(re.findall(r"\bparameters\.([a-z_]+)", text.replace(header[0], "")))
        assert {each for each in asked if each not in header[1]} == set(), f"{name} does not name its parameters"


def test_every_parameter_of_the_shipped_profiles_and_templates_is_there_and_no_other() -> None:
    given = {name for profile in profiles().values() for name in profile.get("parameters") or {}}
    texts = [path.read_text() for path in (ROOT / "kickstarts").rglob("*.j2")]
    asked = {name for text in texts for name in re.findall(r"\bparameters\.([a-z_]+)", text)}
    assert once(first_column(section("Parameters of the shipped profiles"))) == given | asked


def test_every_family_is_in_its_tier_with_its_profiles() -> None:
    rows = re.findall(
        r"(?m)^\| (validated|structure-checked) \| `(\w+)` \| (.*?) \|", section("Families, in two tiers")
    )
    assert {family: tier for tier, family, _ in rows} == TIERS
    shipped = profiles()
    by_family: dict[str, set[str]] = {family: set() for family in TIERS}
    for name, profile in shipped.items():
        if profile.get("distro"):
            by_family[family_of(profile["distro"]["os"])].add(name)
            assert profile.get("tested_with"), f"{name} does not say what it was tested with"
    assert {family: once(re.findall(r"`([^`]+)`", names)) for _, family, names in rows} == by_family
    others = {name for name, profile in shipped.items() if not profile.get("distro")}
    assert others <= set(re.findall(r"`([a-z-]+)`", section("Families, in two tiers")))


def test_the_blocks_that_it_names_are_there_and_no_other() -> None:
    rows = re.findall(r"(?m)^\| (`(?:kickstart|preseed)/.*?) \| (.*?) \|$", PAGE)
    assert rows
    for templates, blocks in rows:
        there: set[str] = set()
        for name in re.findall(r"`([^`]+)`", templates):
            text = (ROOT / "kickstarts" / name).read_text()
            parents = re.findall(r'{% extends "([^"]+)" %}', text)
            for each in (text, *((ROOT / "kickstarts" / parent).read_text() for parent in parents)):
                there |= set(re.findall(r"(?m)^{%-? block (\w+)", each))
        assert set(re.findall(r"`(\w+)`", blocks)) == there, templates


def test_kinds_and_limits_are_those_of_the_code() -> None:
    told = re.search(r"The kinds are (.*?)\. ", PAGE, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"`(\w+)`", told[1])) == set(TEMPLATE_KINDS)
    assert f"a snippet's is `{SNIPPETS}/NAME`" in PAGE
    limits, text = Limits(), section("Limits")
    for number in (
        f"{limits.cpu_seconds:g} s",
        f"{limits.memory_bytes >> 20} MiB of memory",
        f"{limits.output_bytes >> 20} MiB of output",
        f"{MAX_REPEAT:,} characters",
        f"{MAX_INTEGER_BITS} bits",
    ):
        assert number in " ".join(text.split()), number


@pytest.mark.parametrize("name", re.findall(r"`((?:kickstart|preseed|autoinstall|snippets)/[a-z0-9.-]+\.j2)`", PAGE))
def test_a_template_that_it_names_is_there(name: str) -> None:
    assert (ROOT / "kickstarts" / name).is_file()
