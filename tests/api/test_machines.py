"""Machines through the API: the whole life of one, upsert by identity, and two administrators at once."""

from dataclasses import replace
from typing import Any

import pytest
from asking import Api
from conftest import both_engines
from world import World

MAC = "52:54:00:12:34:56"
SPELLINGS = ("52-54-00-12-34-56", "525400123456", "5254.0012.3456", "52:54:00:12:34:56", "01-52-54-00-12-34-56")


def machine(name: str = "web01", mac: str = MAC, **more: Any) -> dict[str, Any]:
    """A machine's body."""
    return {"name": name, "interfaces": [{"mac": mac}], **more}


@both_engines
def test_a_machine_is_added_shown_changed_renamed_and_removed(api: Api) -> None:
    added = api.ask("POST", "/machines", machine(profile="rocky9", tags=["rack-12"]))
    assert added.status == 201
    assert added.response.headers["Location"] == "/api/v1/machines/web01"
    for spelling in ("web01", *SPELLINGS):
        shown = api.ask("GET", f"/machines/{spelling}")
        assert (shown.status, shown.json()["name"], shown.etag) == (200, "web01", added.etag)
    changed = api.ask("PATCH", "/machines/web01", {"parameters": {"a": 1}, "description": "x"}, match=added.etag)
    assert (changed.status, changed.json()["parameters"]) == (200, {"a": 1})
    merged = api.ask("PATCH", "/machines/web01", {"parameters": {"b": 2, "a": None}}, match=changed.etag)
    assert merged.json()["parameters"] == {"b": 2}
    renamed = api.ask("POST", "/machines/web01:rename", {"name": "web02"}, match=merged.etag)
    assert (renamed.status, renamed.json()["name"]) == (200, "web02")
    assert api.ask("GET", "/machines/web01").status == 404
    assert api.ask("DELETE", "/machines/web02", match=renamed.etag).status == 204
    assert api.ask("GET", "/machines/web02").status == 404
    rows = api.ask("GET", "/history?object=web02").json()["items"]
    assert [row["action"] for row in rows][:1] == ["remove"]
    assert rows[0]["actor"] == "admin-user"
    assert "token-admin" in rows[0]["origin"]


@both_engines
def test_r17_a_stale_write_is_412_and_one_that_does_not_say_is_428(api: Api) -> None:
    etag = api.ask("POST", "/machines", machine()).etag
    first = api.ask("PATCH", "/machines/web01", {"description": "first"}, match=etag)
    assert first.status == 200
    for method, path, body in (
        ("PATCH", "/machines/web01", {"description": "second"}),
        ("DELETE", "/machines/web01", None),
        ("POST", "/machines/web01:rename", {"name": "other"}),
    ):
        stale = api.ask(method, path, body, match=etag)
        assert (stale.status, stale.json()["code"]) == (412, "stale")
        missing = api.ask(method, path, body)
        assert (missing.status, missing.json()["code"]) == (428, "needs-match")
        assert api.ask(method, path, body, match='W/"1.1"').status == 412
    assert api.ask("GET", "/machines/web01").json()["description"] == "first"
    assert api.ask("PATCH", "/machines/web01", {"description": "forced"}, match="*").status == 200


def test_r17_a_removed_and_added_machine_is_another_one(api: Api) -> None:
    etag = api.ask("POST", "/machines", machine()).etag
    assert api.ask("DELETE", "/machines/web01", match=etag).status == 204
    api.ask("POST", "/machines", machine())
    assert api.ask("PATCH", "/machines/web01", {"description": "x"}, match=etag).status == 412


@both_engines
def test_r12_the_upsert_finds_one_machine_by_any_spelling(api: Api) -> None:
    body = {"name": "web01", "serial": "CZ1", "tags": ["a"]}
    first = api.ask("PUT", f"/machines/by-mac/{MAC}", body)
    assert first.status == 201
    for spelling in SPELLINGS:
        again = api.ask("PUT", f"/machines/by-mac/{spelling}", body)
        assert (again.status, again.etag) == (200, first.etag), "the same body again changes nothing"
    assert len(api.ask("GET", "/machines").json()["items"]) == 1
    assert len(api.ask("GET", "/history?object=web01").json()["items"]) == 1


@both_engines
def test_r15_a_contradiction_is_409_with_both_sides(api: Api) -> None:
    api.ask("PUT", f"/machines/by-mac/{MAC}", {"name": "web01", "serial": "CZ1"})
    api.ask("PUT", "/machines/by-mac/52:54:00:00:00:02", {"name": "web02", "serial": "CZ2"})
    new_card = api.ask("PUT", "/machines/by-mac/52:54:00:00:00:03", {"serial": "CZ1"})
    assert (new_card.status, new_card.json()["code"]) == (409, "identity-conflict")
    moved = api.ask("PUT", f"/machines/by-mac/{MAC}", {"serial": "CZ2"})
    assert moved.status == 409
    assert {"web01", "web02"} <= set(str(moved.json()).replace("'", " ").split()) or "web02" in str(moved.json())
    assert api.ask("GET", "/machines/web01").json()["serial"] == "CZ1"


@pytest.mark.parametrize("dummy", ["To be filled by O.E.M.", "None", "0000000", "Default string"])
def test_r14_fillers_of_firmware_match_nothing(api: Api, dummy: str) -> None:
    zeros = "00000000-0000-0000-0000-000000000000"
    for number in (1, 2, 3):
        body = {"name": f"m{number}", "serial": dummy, "uuid": zeros}
        assert api.ask("PUT", f"/machines/by-mac/52:54:00:00:01:0{number}", body).status == 201
    assert len(api.ask("GET", "/machines").json()["items"]) == 3


def test_bad_fields_are_named_by_pointer(api: Api, world: World) -> None:
    world.subnet()
    cases: list[tuple[dict[str, Any], str]] = [
        (machine(mac="nonsense"), "/interfaces/0/mac"),
        (machine(interfaces=[{"mac": MAC, "ip": "127.0.2.0"}]), "/interfaces/0/ip"),
        (machine(interfaces=[{"mac": MAC}, {"mac": "52:54:00:00:00:09", "ip": "10.9.9.9"}]), "/interfaces/1/ip"),
        (machine(profile="none-such"), "/profile"),
        (machine(name="not a name"), "/name"),
        (machine(description="x" * 5000), "/description"),
        (machine(nonsense=1), "/nonsense"),
        (machine(protected="yes"), "/protected"),
        (machine(tags=["a", 1]), "/tags/1"),
    ]
    for body, pointer in cases:
        answer = api.ask("POST", "/machines", body)
        told = answer.json()
        assert (answer.status, told["pointer"]) == (400, pointer), (body, told)
        assert told["code"] and told["detail"] and told["hint"], told
        assert answer.response.content_type == "application/problem+json"


def test_a_build_is_started_followed_and_cancelled(api: Api, world: World) -> None:
    world.ready()
    armed = api.ask("POST", "/machines/web01/builds", {"parameters": {"timezone": "Europe/Berlin"}})
    assert armed.status == 201, armed.text()
    place = armed.response.headers["Location"].removeprefix("/api/v1")
    shown = api.ask("GET", place).json()
    assert (shown["state"], shown["machine"], shown["number"]) == ("armed", "web01", 1)
    events = api.ask("GET", f"{place}/events").json()
    assert [each["kind"] for each in events["items"]] == ["armed"]
    assert api.ask("GET", f"{place}/events?after={events['items'][0]['id']}").json()["items"] == []
    assert "Europe/Berlin" in api.ask("GET", f"{place}/sealed").json()["files"]["answer"]
    assert api.ask("POST", f"{place}:cancel").json()["state"] == "cancelled"
    assert api.ask("POST", f"{place}:cancel").status == 409
    again = api.ask("POST", f"{place}:repeat")
    assert (again.status, again.json()["number"]) == (201, 2)
    assert api.ask("GET", f"/builds/{again.json()['id']}/diff").json()["diff"] == ""
    sealed = api.ask("POST", f"/builds/{again.json()['id']}:reseal")
    assert (sealed.status, sealed.json()["number"], sealed.json()["location"]) == (
        201,
        3,
        f"/builds/{sealed.json()['id']}",
    )
    assert api.ask("POST", f"{place}:reseal").status == 409
    stream = api.ask("GET", f"{place}/events", headers={"Accept": "text/event-stream"}).text()
    assert "event: armed" in stream and stream.rstrip().endswith('data: {"state": "cancelled"}')


def test_s72_a_loop_that_arms_builds_is_slowed_down(world: World) -> None:
    world.ready()
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    few = world.site.settings.model_copy(update={"builds_per_minute": 1})
    api = Api(replace(world.site, settings=few))
    assert api.ask("POST", "/machines/web01/builds", {}).status == 201
    second = api.ask("POST", "/machines/web02/builds", {})
    assert (second.status, second.json()["code"]) == (429, "too-many")
    assert 1 <= int(second.response.headers["Retry-After"]) <= 61
    assert api.ask("GET", "/machines/web02").json()["state"] == "ready", "nothing was armed"
    assert api.ask("POST", "/machines/web02/builds", {}, role="operator").status == 201, "others are not slowed down"


def test_render_and_boot_explain(api: Api, world: World) -> None:
    world.ready()
    assert "rootpw" in api.ask("GET", "/machines/web01/render").json()["files"]["answer"]
    chain = api.ask("GET", "/machines/web01/boot?arch=uefi").json()
    assert (chain["decision"], chain["firmware"]) == ("local", "uefi")
    assert any(row["name"] == "timezone" for row in api.ask("GET", "/machines/web01/explain").json()["values"])
