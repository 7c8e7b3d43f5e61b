"""History, settings, help, users, tokens and webhooks in the UI."""

import pytest
from uiclient import PASSWORD, Browser
from world import ACTOR, World

from provisioner.services import machines, manual, people, profiles, tokens, webhooks
from provisioner.services.site import Actor, Site

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


# History


def test_the_history_is_filtered_by_the_address(browser: Browser, world: World) -> None:
    world.ready()
    machines.edit(world.site, Actor("joe", "cli", reason="moved"), "web01", {"description": "row 4"})
    page = browser.get("/history?object=machine/web01")
    rows = page.soup.select("tbody tr")
    assert len(rows) == 2 and "joe" in rows[0].get_text() and "moved" in rows[0].get_text()
    assert "description" in rows[0].get_text()
    assert browser.get("/history?actor=joe").soup.select("tbody tr").__len__() == 1
    assert "Nothing was changed" in browser.get("/history?actor=nobody").main
    assert "joe" in browser.get("/history?actor=joe&format=csv").body
    assert browser.get("/history?kind=nonsense").status == 400
    assert browser.get(page.links()["Verify the chain"]).status == 200


def test_one_change_is_shown_before_and_after(browser: Browser, world: World) -> None:
    world.ready()
    machines.edit(world.site, ACTOR, "web01", {"description": "row 4"})
    newest = browser.get("/history?object=web01").soup.select("tbody td a")[0]
    page = browser.get(str(newest["href"]))
    assert page.one(".changes ins").get_text() == "row 4"


def test_a_long_history_has_pages(browser: Browser) -> None:
    page = browser.get("/history")
    following = page.links()["Next page"]
    assert len(page.soup.select("tbody tr")) == 50
    assert "First page" in browser.get(following).links()


# Settings and help


def test_settings_are_shown_without_their_secrets(site: Site) -> None:
    from dataclasses import replace

    told = site.settings.model_copy(update={"database_url": "postgresql://prov:hunter2@db/prov"})
    page = Browser(replace(site, settings=told)).get("/settings")
    assert "postgresql://prov:***@db/prov" in page.main and "hunter2" not in page.body
    assert "boot_workers" in page.main


def test_the_documentation_is_there_without_a_network(browser: Browser) -> None:
    index = browser.get("/help")
    assert {"/help/readme", "/help/api", "/help/templates", "/help/changelog"} <= set(index.links().values())
    for name, title in manual.titles():
        page = browser.get(f"/help/{name}")
        assert page.status == 200 and title in page.main, name
        assert not page.soup.select("article img, article script")
        for href in page.links().values():
            if href.startswith("/help/"):
                assert manual.page(href.removeprefix("/help/").partition("#")[0]) is not None, (name, href)
    assert browser.get("/help/nothing").status == 404
    assert "/help/api" in browser.get("/help?q=If-Match").links().values()
    assert "Nothing has these words" in browser.get("/help?q=zzzzzz").main


# Users


def test_a_user_is_added_with_a_password_that_is_shown_once(browser: Browser) -> None:
    form = browser.get("/users:add").fields() | {"name": "jane", "role": "operator"}
    shown = browser.post("/users:add", **form)
    secret = shown.one("#secret").get_text()
    assert shown.status == 200 and shown.headers["Cache-Control"] == "no-store"
    assert Browser(browser.site, role="").post("/login", user="jane", password=secret).status == 303
    assert "jane" in browser.get("/users").main
    refused = browser.post("/users:add", **form)
    assert refused.status == 409 and refused.fields()["name"] == "jane"


def test_a_user_is_changed_and_the_last_administrator_stays(browser: Browser) -> None:
    people.add(browser.site, ACTOR, "jane", {"role": "viewer", "password": PASSWORD})
    form = browser.get("/users/jane").fields("main form")
    done = browser.post("/users/jane/edit", **form | {"role": "author", "disabled": "on", "expires_at": "2030-12-31"})
    assert done.place == "/users/jane"
    found = people.show(browser.site, "jane")
    assert (found["role"], found["disabled"], found["expires_at"][:10]) == ("author", True, "2030-12-31")
    stale = browser.post("/users/jane/edit", **form | {"role": "operator"})
    assert stale.status == 412 and stale.fields()["role"] == "operator"
    for name, status in (("admin", 303), ("a-admin", 409)):
        form = browser.get(f"/users/{name}").fields("main form")
        answer = browser.post(f"/users/{name}/edit", **form | {"disabled": "on"})
        assert answer.status == status
    assert answer.status == 409 and "last administrator" in answer.main


def test_two_change_a_user_or_a_webhook_and_fields_that_one_left_alone_are_the_others(browser: Browser) -> None:
    people.add(browser.site, ACTOR, "jane", {"role": "viewer", "password": PASSWORD})
    form = browser.get("/users/jane").fields("main form")
    people.edit(browser.site, ACTOR, "jane", {"role": "author"})
    stale = browser.post("/users/jane/edit", **form | {"expires_at": "2030-12-31"})
    assert stale.status == 412 and "You did not touch role" in stale.one(".notice.error").get_text()
    kept = stale.fields("main form")
    assert (kept["role"], kept["expires_at"]) == ("author", "2030-12-31")
    assert browser.post("/users/jane/edit", **kept).place == "/users/jane"
    found = people.show(browser.site, "jane")
    assert (found["role"], found["expires_at"][:10]) == ("author", "2030-12-31")
    webhooks.add(browser.site, ACTOR, "chat", {"url": "https://chat.example.com/hook", "description": "ours"})
    form = browser.get("/webhooks/chat").fields("main form")
    webhooks.edit(browser.site, ACTOR, "chat", {"events": ["build.failed"], "description": "theirs"})
    stale = browser.post("/webhooks/chat/edit", **form | {"description": "mine"})
    assert stale.status == 412 and "Both of you changed description" in stale.one(".notice.error").get_text()
    kept = stale.fields("main form")
    assert (kept["events"], kept["description"], kept["enabled"]) == ("build.failed", "mine", "on")


def test_a_new_password_ends_logins(browser: Browser) -> None:
    other = Browser(browser.site, role="viewer")
    shown = browser.post("/users/a-viewer/password")
    assert shown.one("#secret").get_text() and other.get("/account").status == 303
    assert browser.post("/users/a-viewer/remove").place == "/users"
    assert browser.get("/users/a-viewer").status == 404


# Tokens and webhooks


def test_a_token_is_made_shown_once_and_revoked(browser: Browser) -> None:
    assert "No tokens yet" in browser.get("/tokens").main
    form = browser.get("/tokens:add").fields() | {"name": "inventory", "role": "operator", "scope": ["machines"]}
    shown = browser.post("/tokens:add", **form)
    text = shown.one("#secret").get_text()
    assert tokens.authenticate(browser.site, text, "192.0.2.1").scope == ("machines",)
    listed = browser.get("/tokens")
    assert "inventory" in listed.main and text not in listed.body
    assert browser.post("/tokens/inventory/revoke").place == "/tokens"
    assert tokens.show(browser.site, "inventory")["state"] == "revoked"
    refused = browser.post("/tokens:add", **form | {"name": "x", "days": "many"})
    assert refused.status == 400 and refused.fields()["scope"] == "machines"


def test_a_webhook_is_added_changed_and_removed(browser: Browser) -> None:
    assert "No webhooks yet" in browser.get("/webhooks").main
    form = browser.get("/webhooks:add").fields() | {"name": "chat", "url": "https://chat.example.com/hook"}
    shown = browser.post("/webhooks:add", **form | {"events": "build.failed build.configured"})
    assert len(shown.one("#secret").get_text()) > 20
    assert webhooks.show(browser.site, "chat")["events"] == ["build.configured", "build.failed"] or set(
        webhooks.show(browser.site, "chat")["events"]
    ) == {"build.failed", "build.configured"}
    form = browser.get("/webhooks/chat").fields("main form")
    form.pop("enabled")
    assert browser.post("/webhooks/chat/edit", **form).place == "/webhooks/chat"
    assert webhooks.show(browser.site, "chat")["enabled"] is False
    refused = browser.post("/webhooks:add", **form | {"name": "bad", "url": "file:///etc/passwd"})
    assert refused.status == 400 and refused.fields()["url"] == "file:///etc/passwd"
    assert browser.post("/webhooks/chat/remove").place == "/webhooks"


@pytest.mark.parametrize("path", ["/users", "/tokens", "/webhooks"])
def test_s16_people_and_tokens_are_the_administrators(site: Site, path: str) -> None:
    for role in ("viewer", "operator", "author"):
        browser = Browser(site, role=role)
        assert browser.get(path).status == 403
        assert path not in browser.get("/account").links().values()


def test_s54_hostile_words_are_text(browser: Browser) -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    profiles.edit(browser.site, Actor(evil, evil[:60], reason=evil), "rocky9", {"description": evil})
    for place in ("/history", "/history?object=profile/rocky9", f"/history?object={evil}&actor={evil}"):
        page = browser.get(place)
        assert not page.soup.select("main img") and (evil in page.main or page.status == 200)
