"""The tools and their settings."""

from typing import Any

import pytest

from provisioner import handoff
from provisioner.errors import InvalidInput, UnknownReference
from provisioner.handoff.protocol import Subject, Tool


@pytest.mark.parametrize("name", ["none", "script"])
def test_known_tools_fulfil_the_protocol(name: str) -> None:
    tool: Tool = handoff.tool(name)
    assert tool.name == name


def test_an_unknown_tool_lists_the_known() -> None:
    with pytest.raises(UnknownReference) as caught:
        handoff.tool("cfengine99")
    assert {"none", "script"} <= set(caught.value.hint.removeprefix("known: ").split(", "))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"command": ""},
        {"command": "   "},
        {"command": 5},
        {"command": ["a"]},
        {"command": "a\x00b"},
        {"command": "x" * 70_000},
        {"command": "true", "timeout": 0},
        {"command": "true", "timeout": 90_000},
        {"command": "true", "timeout": True},
        {"command": "true", "timeout": "5"},
        {"command": "true", "comand": "x"},
    ],
)
def test_wrong_script_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        handoff.tool("script").check(settings)
    assert caught.value.where.startswith("handoff")


def test_good_settings_pass_and_get_their_defaults() -> None:
    script = handoff.tool("script")
    script.check({"command": "true"})
    subject = Subject("web01", "web01.example.com", "web", 1)
    assert script.prepare({"command": "true"}, subject).settings == {"command": "true", "timeout": 3600}
    assert script.prepare({"command": "true", "timeout": 5}, subject).secrets == ()
    handoff.tool("none").check({})
    with pytest.raises(InvalidInput):
        handoff.tool("none").check({"command": "true"})
