"""What is worked out for a machine or subnet is answered as the document says, with real objects behind it."""

from typing import Any

import pytest
from asking import Api
from world import ACTOR, MAC, World

from provisioner.services import addresses, arming, machines, profiles
from provisioner.services.machines import InterfaceInput
from provisioner.web.api.shapes.explained import (
    AddressesView,
    AnsibleInventory,
    BootView,
    ExplainView,
    HostVariables,
    RenderView,
)


@pytest.fixture
def api(world: World) -> Api:
    """An installation with a machine that has been built, one without a profile, and an address that is held."""
    world.ready(parameters={"motd": "{{ hostile }}", "deep": {"list": [1, None]}}, tags=["db"])
    machines.add(world.site, ACTOR, "bare", [InterfaceInput("52:54:00:00:00:77")], {})
    profiles.edit(world.site, ACTOR, "rocky9", {"kernel_options": ["quiet"]})
    machines.edit(world.site, ACTOR, "web01", {"kernel_options": ["!quiet"]})
    addresses.hold(world.site, ACTOR, "lab")
    arming.start(world.site, ACTOR, "web01")
    return Api(world.site)


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        (AnsibleInventory, "/machines:ansible"),
        (HostVariables, "/machines/web01/ansible"),
        (HostVariables, "/machines/bare/ansible"),
        (ExplainView, "/machines/web01/explain"),
        (ExplainView, "/machines/bare/explain"),
        (BootView, "/machines/web01/boot"),
        (BootView, "/machines/web01/boot?arch=bios"),
        (BootView, "/machines/bare/boot"),
        (BootView, "/machines/52-54-00-99-99-99/boot?source=127.0.2.99"),
        (RenderView, "/machines/web01/render"),
        (AddressesView, "/subnets/lab/addresses"),
    ],
)
def test_get(api: Api, shape: Any, path: str) -> None:
    answer = api.ask("GET", path)
    assert answer.status == 200, answer.text()
    told = answer.json()
    again = shape.model_validate(told).model_dump(mode="json", by_alias=True)
    assert again == told


@pytest.mark.parametrize("source", ["nonsense", "0" * 64, "10.1", "127.0.2.11/24", "::1%25eth0"])
def test_a_boot_is_asked_about_from_an_address(api: Api, source: str) -> None:
    for name in ("web01", "52-54-00-99-99-99"):
        answer = api.ask("GET", f"/machines/{name}/boot?source={source}")
        assert (answer.status, answer.json()["code"]) == (400, "address-malformed")


def test_a_rendering_says_where_it_comes_from(api: Api) -> None:
    now = api.ask("GET", f"/machines/{MAC}/render").json()
    assert (now["machine"], now["source"], now["build"], now["as_of"]) == ("web01", "now", None, None)
    given = api.ask("POST", "/machines/web01:render", {"parameters": {"timezone": "Asia/Tokyo"}})
    assert "Asia/Tokyo" in RenderView.model_validate(given.json()).files["answer"]
    today = api.ask("GET", "/history").json()["items"][0]["at"][:10]
    then = api.ask("GET", f"/machines/web01/render?as_of={today}")
    told = RenderView.model_validate(then.json())
    assert (told.source, told.build) == ("build", 1)
    assert told.as_of is not None
