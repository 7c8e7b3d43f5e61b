"""A text that fails is answered as a draft with its problems, never as an error page; the good text stays."""

import pytest
from asking import Api
from world import World

from provisioner.services import arming

pytestmark = pytest.mark.slow

TEMPLATE = "/templates/kickstart/web.ks.j2"
GOOD, BAD = "text\n", "text\nnonsense\n"


@pytest.fixture
def web(api: Api, world: World) -> Api:
    """web01 with a profile and a template of its own."""
    world.ready()
    assert api.ask("POST", "/templates", {"name": "kickstart/web.ks.j2", "text": GOOD}).status == 201
    profile = {"name": "web", "parent": "rocky9", "template": "kickstart/web.ks.j2"}
    assert api.ask("POST", "/profiles", profile).status == 201
    etag = api.ask("GET", "/machines/web01").etag
    assert api.ask("PATCH", "/machines/web01", {"profile": "web"}, match=etag).status == 200
    return api


def test_r24_a_text_that_fails_is_answered_as_a_draft(web: Api) -> None:
    saved = web.ask("PUT", TEMPLATE, {"text": BAD}, match=web.ask("GET", TEMPLATE).etag)
    body = saved.json()
    assert (saved.status, body["text"], body["draft"], body["kind"]) == (200, GOOD, BAD, "kickstart")
    (problem,) = body["problems"]
    assert problem["where"] == "kickstart/web.ks.j2:2"
    assert "'nonsense'" in problem["message"]
    assert problem["hint"]
    shown = web.ask("GET", TEMPLATE)
    assert (shown.json(), shown.etag) == (body, saved.etag)
    listed = web.ask("GET", "/templates?limit=500").json()["items"]
    assert [each["name"] for each in listed if each["draft"]] == ["kickstart/web.ks.j2"]
    assert arming.preview(web.site, "web01")["answer"] == GOOD
    good = web.ask("PUT", TEMPLATE, {"text": GOOD + "lang de_DE.UTF-8\n"}, match=saved.etag).json()
    assert (good["text"], good["draft"], good["problems"]) == (GOOD + "lang de_DE.UTF-8\n", None, [])


def test_r24_a_first_text_that_fails_is_made_and_no_build_can_be_armed_with_it(web: Api) -> None:
    made = web.ask("POST", "/templates", {"name": "snippets/new", "text": "{% if %}"})
    assert (made.status, made.json()["text"], made.json()["problems"][0]["where"]) == (201, "", "snippets/new:1")
    include = {"text": "text\n{% include 'snippets/new' %}\n"}
    kept = web.ask("PUT", TEMPLATE, include, match=web.ask("GET", TEMPLATE).etag).json()
    assert "snippets/new has only a draft" in kept["problems"][0]["message"]


def test_a_profile_that_fails_is_refused_with_its_problems(web: Api) -> None:
    etag = web.ask("GET", "/profiles/web").etag
    refused = web.ask("PATCH", "/profiles/web", {"parameters": {"disk": "the big one"}}, match=etag)
    assert refused.status == 422
    problem = refused.json()
    assert (problem["code"], problem["where"]) == ("answer-invalid", "profile web")
    assert "'the big one'" in problem["detail"]
    assert [each["where"] for each in problem["problems"]] == ["profile web"]
    assert web.ask("GET", "/profiles/web").etag == etag
