"""R26 through the API: the answer to a rehearsed change says what it would do to machines."""

import pytest
from asking import Api, table
from conftest import both_engines
from world import World

from provisioner.web.api import document
from provisioner.web.api.shapes.radius import Radius, Rehearsable

pytestmark = pytest.mark.slow

DRY = {"X-Dry-Run": "true"}
CHANGE = {"parameters": {"timezone": "Europe/Berlin"}}


@both_engines
def test_r26_each_noun_tells_the_machines_that_its_change_reaches(api: Api, world: World) -> None:
    world.ready()
    template = "/templates/kickstart/el9.ks.j2"
    text = api.ask("GET", template).json()["text"]
    for path, method, body in (
        ("/profiles/rocky9", "PATCH", CHANGE),
        ("/subnets/lab", "PATCH", CHANGE),
        ("/machines/web01", "PATCH", CHANGE),
        ("/machines/web01:rename", "POST", {"name": "web02"}),
        (template, "PUT", {"text": text.replace("firstboot --disable", "firstboot --enable")}),
    ):
        etag = api.ask("GET", path.removesuffix(":rename")).etag
        answer = api.ask(method, path, body, match=etag, headers=DRY)
        told = Radius.model_validate(answer.json()["radius"])
        assert (told.reached, told.changed, told.groups[0].machines) == (1, 1, ["web01"]), path
        assert any(line.startswith("+") for line in told.groups[0].files["answer"].splitlines()[2:])
        assert answer.etag, "it answers as the change does"
        unrehearsed = api.ask("GET", path.removesuffix(":rename"))
        assert (unrehearsed.etag, "radius" in unrehearsed.json()) == (etag, False)


def test_a_change_that_is_made_says_nothing_of_it(api: Api, world: World) -> None:
    world.ready()
    answer = api.ask("PATCH", "/profiles/rocky9", CHANGE, match=api.ask("GET", "/profiles/rocky9").etag)
    assert (answer.status, "radius" in answer.json()) == (200, False)


def test_errors_come_with_template_and_line(api: Api, world: World) -> None:
    world.ready()
    path = "/templates/snippets/events.sh.j2"
    before = api.ask("GET", path)
    text = before.json()["text"] + "\n# {{ parameters.rack }}\n"
    told = api.ask("PUT", path, {"text": text}, match=before.etag, headers=DRY).json()["radius"]
    (error,) = told["errors"]
    assert (error["machines"], told["failed"], told["groups"]) == (["web01"], 1, [])
    assert error["where"] == f"snippets/events.sh.j2:{len(text.splitlines())}"


def test_machines_that_are_added_or_changed_by_an_inventory_are_told(api: Api, world: World) -> None:
    world.ready()
    row = {"name": "n[01-03]", "profile": "rocky9", "interfaces": [{"ip": "127.0.2.40+"}]}
    assert api.ask("POST", "/machines:row", row, headers=DRY).json()["radius"]["reached"] == 3
    long = row | {"name": "n[001-101]"}
    assert api.ask("POST", "/machines:row", long, headers=DRY).json()["radius"]["reached"] == 101
    assert api.ask("GET", "/machines/n001").status == 404
    put = api.ask("PUT", "/machines/by-mac/52-54-00-12-34-56", {**CHANGE, "name": "web01"}, headers=DRY)
    assert put.json()["radius"]["groups"][0]["machines"] == ["web01"]
    secret = api.ask(
        "PUT", "/machines/web01/secrets/root_password", {"value": "x"}, match=api.ask("GET", "/machines/web01").etag,
        headers=DRY,
    )  # fmt: skip
    assert (secret.status, secret.json()["radius"]["changed"]) == (200, 1)


@both_engines
def test_r26_a_plan_that_is_rehearsed_says_what_becomes_of_answer_files_and_is_not_kept(api: Api, world: World) -> None:
    world.ready()
    known = {"name": "web01", "interfaces": [{"mac": "52:54:00:12:34:56", "ip": "127.0.2.11"}], **CHANGE}
    fresh = {"name": "db01", "interfaces": [{"mac": "52:54:00:12:34:77", "ip": "127.0.2.12"}], "profile": "rocky9"}
    body = {"machines": [known, fresh]}
    for path in ("/machines:plan", "/machines:apply"):
        answer = api.ask("POST", path, body, headers=DRY)
        told = Radius.model_validate(answer.json()["radius"])
        assert (told.reached, told.changed, told.added) == (2, 1, ["db01"]), path
        assert "+timezone 'Europe/Berlin' --utc" in told.groups[0].files["answer"]
        assert api.ask("GET", f"/plans/{answer.json()['id']}").status == 404
    assert api.ask("GET", "/machines/db01").status == 404
    kept = api.ask("POST", "/machines:plan", body)
    assert (kept.status, "radius" in kept.json()) == (200, False)
    by_id = api.ask("POST", "/machines:apply", {"plan": kept.json()["id"]}, headers=DRY)
    assert (by_id.json()["created"], by_id.json()["radius"]["changed"]) == (["db01"], 1)
    refused = {"machines": [known | {"profile": "nobody"}]}
    assert api.ask("POST", "/machines:apply", refused, headers=DRY).status == 409
    assert "radius" not in api.ask("POST", "/machines:plan", refused, headers=DRY).json()
    assert api.ask("POST", "/machines:apply", {"plan": kept.json()["id"]}).status == 200


def test_a_change_that_validation_refuses_says_what_it_would_do_too(api: Api, world: World) -> None:
    world.ready()
    world.machine("odd", "52:54:00:12:34:77", "127.0.2.12", parameters={"locale": "C.UTF-8"})
    etag = api.ask("GET", "/profiles/rocky9").etag
    change = {"parameters": {"locale": "%end", "keyboard": "de"}}
    answer = api.ask("PATCH", "/profiles/rocky9", change, match=etag, headers=DRY)
    assert (answer.status, answer.json()["code"]) == (422, "template-error")
    told = Radius.model_validate(answer.json()["radius"])
    assert (told.failed, told.errors[0].machines, told.groups[0].machines) == (1, ["web01"], ["odd"])
    plain = api.ask("PATCH", "/profiles/rocky9", change, match=etag)
    assert (plain.status, "radius" in plain.json()) == (422, False)


def test_a_file_that_is_fetched_for_a_rehearsal_is_let_go(api: Api, world: World) -> None:
    world.ready()
    etag = api.ask("GET", "/distros/rocky-9.6").etag
    stored = sorted(path.name for path in world.site.media_dir.rglob("*"))
    answer = api.ask("PATCH", "/distros/rocky-9.6", {"tree": "http://mirror/9.6"}, match=etag, headers=DRY)
    assert (answer.status, answer.json()["radius"]["changed"]) == (200, 1)
    assert sorted(path.name for path in world.site.media_dir.rglob("*")) == stored
    assert api.ask("GET", "/distros/rocky-9.6").etag == etag


def test_who_may_not_read_machines_is_not_shown_their_files(api: Api, world: World) -> None:
    world.ready()
    etag = api.ask("GET", "/profiles/rocky9").etag
    narrow = api.ask("PATCH", "/profiles/rocky9", CHANGE, match=etag, headers=DRY, role="author", scope=("profiles",))
    assert (narrow.status, "radius" in narrow.json()) == (200, False)
    whole = api.ask("PATCH", "/profiles/rocky9", CHANGE, match=etag, headers=DRY, role="author")
    assert whole.json()["radius"]["reached"] == 1


@pytest.mark.parametrize("operation", [each for each in table() if each.rehearsable], ids=lambda each: each.id)
def test_the_document_says_where_it_is_told(operation: object) -> None:
    path = document()["paths"][f"/api/v1{operation.path}"][operation.method.lower()]  # type: ignore[attr-defined]
    shape = operation.answer  # type: ignore[attr-defined]
    tells = isinstance(shape, type) and issubclass(shape, Rehearsable)
    assert operation.tells_radius is (tells or shape is None)  # type: ignore[attr-defined]
    if shape is None:
        assert path["responses"]["200"]["content"]["application/json"]["example"]["radius"]["groups"]


def test_the_shape_has_an_example_that_it_takes() -> None:
    schema = document()["components"]["schemas"]["Radius"]
    assert Radius.model_validate(schema["examples"][0]).changed == 2
