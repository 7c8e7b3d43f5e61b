"""What stands around every page: login, rights, CSRF, cookies, headers, static files (S10, S50 to S55)."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from uiclient import PASSWORD, Browser
from world import ACTOR

import provisioner.web.ui
from provisioner.core.policy import Role, allows
from provisioner.services import logins, people
from provisioner.services.setup import init
from provisioner.services.site import Site
from provisioner.settings import Settings
from provisioner.web import admin, ui
from provisioner.web.ui import csvout, shell
from provisioner.web.ui.login import local
from provisioner.web.ui.pages import Page

ROOT = Path(provisioner.web.ui.__file__).parent
PUBLIC = {("GET", "/login"), ("POST", "/login"), ("POST", "/logout")}
PAGES = ui.pages()


def asked(page: Page) -> str:
    """An address of this page, with names that nothing has."""
    return re.sub(r"<(?:int:)?(\w+)>", lambda found: "7" if found[1] in {"id", "number"} else "nothing", page.rule)


def test_s10_whoever_is_not_logged_in_gets_to_the_login_alone(site: Site) -> None:
    visitor = Browser(site, role="")
    assert {(page.method, page.rule) for page in PAGES if page.public} == PUBLIC
    for page in PAGES:
        answer = visitor.get(asked(page)) if page.method == "GET" else visitor.post(asked(page))
        if not page.public:
            assert (answer.status, answer.place.partition("?")[0]) == (303, "/login"), (page.method, page.rule)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_s16_a_page_is_refused_to_a_role_without_its_right(site: Site, role: Role) -> None:
    browser = Browser(site, role=role)
    for page in PAGES:
        if page.public or page.noun is None or "live" in page.rule:
            continue
        answer = browser.get(asked(page)) if page.method == "GET" else browser.post(asked(page))
        assert (answer.status == 403) is not allows(role, page.noun, page.verb), (page.rule, answer.status)
        if answer.status == 403:
            assert "may not" in answer.text


def test_s50_no_form_is_taken_without_its_token_or_from_another_site(site: Site) -> None:
    browser = Browser(site)
    for page in PAGES:
        if page.method == "POST":
            answer = browser.post(asked(page), csrf=False)
            assert (answer.status, "Forbidden" in answer.text or "form" in answer.text) == (403, True), page.rule
    token = browser._token()
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        told = browser.client.post("/logout", data={"csrf_token": token}, headers={"Origin": origin})
        assert told.status_code == 403
    assert (
        browser.client.post("/logout", data={"csrf_token": token}, headers={"Origin": "http://localhost"}).status_code
        == 303
    )


def test_s50_the_api_takes_no_cookie_and_has_no_cors(site: Site) -> None:
    browser = Browser(site)
    answer = browser.get("/api/v1/machines", Origin="https://evil.example")
    assert answer.status == 401
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_s51_login_makes_a_new_session_and_logout_ends_it_on_the_server(site: Site) -> None:
    browser = Browser(site)
    before = cookie(browser)
    with browser.client.session_transaction() as held:
        first = held["bearer"]
    assert browser.post("/login", user="a-admin", password=PASSWORD).status == 303
    assert cookie(browser) != before
    with browser.client.session_transaction() as held:
        second = held["bearer"]
    assert second != first
    assert [each["uid"] for each in logins.sessions(site)] == [second.split("_")[1]], "the first has ended"
    assert browser.post("/logout").place == "/login"
    assert logins.sessions(site) == []
    with browser.client.session_transaction() as held:
        held["bearer"] = second
    assert browser.get("/account").status == 303


def cookie(browser: Browser) -> str:
    found = browser.client.get_cookie("provisioner")
    assert found is not None
    return str(found.value)


def test_s17_a_disabled_user_is_out_with_the_next_request(site: Site) -> None:
    browser = Browser(site, role="operator")
    assert browser.get("/account").status == 200
    people.edit(site, ACTOR, "a-operator", {"disabled": True})
    assert browser.get("/account").place.startswith("/login")


def test_s52_over_https_the_cookie_is_secure_and_of_this_host_alone(site: Site) -> None:
    client = admin.create(site).test_client()
    (told,) = client.get("/login", base_url="https://prov.example").headers.getlist("Set-Cookie")
    assert told.startswith("__Host-provisioner=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(told.split("; "))
    (told,) = client.get("/login", base_url="http://prov.example").headers.getlist("Set-Cookie")
    assert told.startswith("provisioner=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(told.split("; "))


def test_s52_a_cookie_of_another_installation_opens_nothing(site: Site, tmp_path: Path) -> None:
    browser = Browser(site)
    other = init(Settings(state_dir=tmp_path / "other"), ACTOR).site
    stranger = Browser(other, role="")
    stranger.client.set_cookie("provisioner", cookie(browser))
    assert stranger.get("/account").status == 303
    other.engine.dispose()


@pytest.mark.parametrize(
    "path",
    ["/login", "/account", "/nothing", f"/static/{shell.STAMP}/app.css", "/healthz", "/api/v1/docs", "/api/nothing"],
)
def test_s53_every_answer_has_its_policy(site: Site, path: str) -> None:
    told = Browser(site).get(path).headers
    policy = told["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert told["X-Content-Type-Options"] == "nosniff"
    assert told["Referrer-Policy"] in {"same-origin", "no-referrer"}


def test_s19_a_failure_shows_a_page_without_its_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(site)
    browser.client.application.testing = False
    monkeypatch.setattr(logins, "sessions", lambda *_: 1 / 0)
    answer = browser.get("/account")
    assert answer.status == 500
    assert "something went wrong here" in answer.text and "ZeroDivision" not in answer.body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_page_that_is_not_there_says_so_to_people_and_to_programs(site: Site) -> None:
    browser = Browser(site)
    shown = browser.get("/nothing/here")
    assert shown.status == 404 and shown.one("h1").get_text() == "That did not work"
    told = browser.client.get("/nothing/here", headers={"Accept": "application/json"})
    assert (told.status_code, told.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("place", "leads"),
    [
        ("/machines?q=a%20b", "/machines?q=a%20b"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("/a\r\nLocation: b", "/"),
        ("evil.example", "/"),
    ],
)
def test_s55_a_login_leads_to_pages_here_alone(site: Site, place: str, leads: str) -> None:
    assert local(place) == leads
    browser = Browser(site)
    assert browser.post("/login", user="a-admin", password=PASSWORD, next=place).place == leads


def test_the_login_leads_back_and_says_what_is_wrong(site: Site) -> None:
    visitor = Browser(site, role="")
    people.add(site, ACTOR, "jane", {"role": "viewer", "password": PASSWORD})
    asked_for = visitor.get("/account?x=1")
    assert asked_for.place == "/login?next=/account%3Fx%3D1"
    form = visitor.get(asked_for.place).fields()
    wrong = visitor.post("/login", **form | {"user": "jane", "password": "no"})
    assert wrong.status == 401 and "user name or password is wrong" in wrong.main
    kept = wrong.fields()
    assert (kept["user"], kept["password"], kept["next"]) == ("jane", "", "/account?x=1")
    assert visitor.post("/login", **kept | {"password": PASSWORD}).place == "/account?x=1"


def test_s19c_who_guesses_waits(site: Site) -> None:
    visitor = Browser(site, role="")
    people.add(site, ACTOR, "jane", {"role": "viewer", "password": PASSWORD})
    answers = [visitor.post("/login", user="jane", password="no") for _ in range(7)]
    assert answers[-1].status == 429 and int(answers[-1].headers["Retry-After"]) >= 1
    assert "too many logins failed" in answers[-1].main


def test_a_password_is_changed_by_whoever_knows_the_old_one(site: Site) -> None:
    browser, elsewhere = Browser(site), Browser(site)
    for fields, said in (
        ({"old": "no", "new": "another horse", "again": "another horse"}, "password"),
        ({"old": PASSWORD, "new": "another horse", "again": "a third horse"}, "differ"),
    ):
        refused = browser.post("/account/password", **fields)
        assert refused.status >= 400 and said in refused.main
    changed = browser.post("/account/password", old=PASSWORD, new="another horse", again="another horse")
    assert "Your password is changed" in browser.follow(changed).main
    assert elsewhere.get("/account").status == 303, "the other login has ended"
    assert Browser(site, role="").post("/login", user="a-admin", password="another horse").status == 303


def test_the_theme_is_what_the_browser_keeps(site: Site) -> None:
    browser = Browser(site)
    for cookie_says, shown in (("dark", "dark"), ("light", "light"), ('"><script>', "auto"), ("", "auto")):
        browser.client.set_cookie("theme", cookie_says)
        assert browser.get("/account").one("html")["data-theme"] == shown


def sources() -> Iterator[tuple[str, str]]:
    for file in sorted([*ROOT.rglob("*.html"), ROOT / "static/app.js", ROOT / "static/app.css"]):
        yield str(file.relative_to(ROOT)), file.read_text()


FORBIDDEN = {
    "an attribute that htmx would evaluate": r"\bhx-(on|vars|headers=['\"]js)|hx-vals=['\"]js|hx-trigger=\"[^\"]*\[",
    "an inline style or handler": r"\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|<style|javascript:",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "a template that trusts input": r"\|\s*safe\b|autoescape false",
    "an address of another host": r"(?:src|href|action|hx-(?:get|post)|url\()\s*=?\s*[\"'(]?(?:https?:)?//",
    "what evaluates text": r"\beval\(|new Function|\.innerHTML|document\.write",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_s53_no_page_has(what: str) -> None:
    for name, text in sources():
        found = re.search(FORBIDDEN[what], text)
        assert found is None, f"{name}: {found}"


def test_what_others_made_is_as_they_made_it() -> None:
    lines = [line.split() for line in (ROOT / "static/VENDOR").read_text().splitlines()[3:] if line.strip()]
    named = {name: digest for name, *_version, _licence, digest in lines}
    for name, digest in named.items():
        assert hashlib.sha256((ROOT / "static" / name).read_bytes()).hexdigest() == digest, name
    ours = {"app.css", "app.js", "icon.svg", "VENDOR"}
    assert {each.name for each in (ROOT / "static").iterdir()} == {*named, *ours}
    assert set(shell.FILES) == {*named, *ours} - {"VENDOR"}


def test_static_files_are_kept_for_good_under_the_name_of_their_content(site: Site) -> None:
    visitor = Browser(site, role="")
    lasting = visitor.get(f"/static/{shell.STAMP}/app.js")
    assert "immutable" in lasting.headers["Cache-Control"]
    assert lasting.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" not in visitor.get("/static/older/app.js").headers["Cache-Control"]
    for name in ("VENDOR", "../pages.py", "%2e%2e/pages.py", "nothing"):
        assert visitor.get(f"/static/{shell.STAMP}/{name}").status == 404
    assert visitor.get("/login").headers["Cache-Control"] == "no-store", "no page is left in a shared browser"


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0"])
def test_s54_no_cell_of_a_csv_is_a_formula(value: str) -> None:
    assert csvout.cell(value) == f"'{value}"
    assert csvout.cell([value, "x"]).startswith("'")


def test_csv_cells_of_every_kind() -> None:
    values: list[Any] = [None, 3, True, "a,b", ["a", "b"], {"a": 1}]
    assert [csvout.cell(each) for each in values] == ["", "3", "true", "a,b", "a b", '{"a": 1}']


@both_engines
def test_pages_work_on_every_engine(site: Site) -> None:
    browser = Browser(site)
    for page in PAGES:
        if page.method == "GET" and "<" not in page.rule and page.rule != "/live":
            assert browser.get(page.rule).status == 200, page.rule


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `provisioner check`", "run <code>provisioner check</code>"),
        ("<b>`<i>`", "&lt;b&gt;<code>&lt;i&gt;</code>"),
        ("one ` alone <b>", "one ` alone &lt;b&gt;"),
        ("", ""),
    ],
)
def test_commands_in_sentences_are_set_as_code_and_all_is_escaped(text: str, shown: str) -> None:
    assert str(shell.commands(text)) == shown


def test_a_failure_in_a_part_of_a_page_is_a_part_of_a_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(site)
    browser.client.application.testing = False
    monkeypatch.setattr(logins, "sessions", lambda *_: 1 / 0)
    answer = browser.get("/account", fragment=True, Accept="*/*")
    assert answer.status == 500 and "<html" not in answer.body and "something went wrong here" in answer.text
