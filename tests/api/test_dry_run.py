"""``X-Dry-Run: true``: the answer of the change, without the change; refused where it could not be taken back."""

import pytest
from asking import PASSWORD, Api, path_of, table
from conftest import both_engines

from provisioner.services import records

pytestmark = pytest.mark.slow

DRY = {"X-Dry-Run": "true"}
MACHINE = {"name": "web01", "interfaces": [{"mac": "52:54:00:12:34:56"}]}


@both_engines
def test_each_kind_of_change_is_answered_and_taken_back(api: Api) -> None:
    assert api.ask("POST", "/machines", MACHINE, headers=DRY).status == 201
    assert api.ask("GET", "/machines/web01").status == 404
    etag = api.ask("POST", "/machines", MACHINE).etag
    changed = api.ask("PATCH", "/machines/web01", {"description": "x"}, match=etag, headers=DRY)
    assert (changed.status, changed.json()["description"]) == (200, "x")
    renamed = api.ask("POST", "/machines/web01:rename", {"name": "web02"}, match=etag, headers=DRY)
    assert (renamed.status, renamed.json()["name"]) == (200, "web02")
    removed = api.ask("DELETE", "/machines/web01", match=etag, headers=DRY)
    assert (removed.status, removed.json()["radius"]["reached"]) == (200, 0)
    assert api.ask("DELETE", "/machines/web01", match='"1.99999"', headers=DRY).status == 412
    template = "/templates/kickstart/el9.ks.j2"
    edited = api.ask("PUT", template, {"text": "x"}, match=api.ask("GET", template).etag, headers=DRY)
    assert (edited.status, edited.json()["draft"]) == (200, "x"), "the installer would refuse it"
    assert api.ask("POST", "/templates", {"name": "kickstart/x.j2", "text": "x"}, headers=DRY).status == 201
    assert api.ask("GET", "/machines/web01").etag == etag
    assert len(api.ask("GET", template).json()["text"]) > 1


@pytest.mark.parametrize(
    "operation", [each for each in table() if each.verb == "write" and not each.rehearsable], ids=lambda each: each.id
)
def test_what_cannot_be_taken_back_is_refused_and_not_done(api: Api, operation: object) -> None:
    if operation.public:  # type: ignore[attr-defined]
        return
    before = len(records.listing(api.site))
    answer = api.ask(operation.method, path_of(operation), {}, match="*", headers=DRY)  # type: ignore[attr-defined, arg-type]
    assert answer.status == 400, answer.text()
    assert answer.json()["where"] == "X-Dry-Run"
    assert len(records.listing(api.site)) - before <= 2, "only the user and the token that asked"


def test_wrong_old_passwords_cannot_be_tried_uncounted(api: Api) -> None:
    made = api.ask("POST", "/sessions", {"user": "admin-user", "password": PASSWORD}, bearer="")
    if made.status != 201:
        api.bearer()
        made = api.ask("POST", "/sessions", {"user": "admin-user", "password": PASSWORD}, bearer="")
    body = {"old": "wrong wrong wrong", "new": PASSWORD + "!"}
    answer = api.ask("POST", "/me:password", body, bearer=made.json()["token"], headers=DRY)
    assert (answer.status, answer.json()["where"]) == (400, "X-Dry-Run")


@pytest.mark.parametrize("value", ["yes", "1", "TRUE", ""])
def test_another_word_is_refused(api: Api, value: str) -> None:
    answer = api.ask("POST", "/machines", MACHINE, headers={"X-Dry-Run": value})
    assert (answer.status, answer.json()["where"]) == (400, "X-Dry-Run")
    assert api.ask("GET", "/machines/web01").status == 404
