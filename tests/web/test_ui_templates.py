"""Templates in the browser: the editor with the validator's words on their lines, blast radius, drafts, history."""

import csv
import io
from typing import Any

import pytest
from uiclient import Browser, Shown
from uicontent import HOSTILE, TEXT, TINY, tiny
from world import ACTOR, World

from provisioner.services import profiles, records, templates, templateviews
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

SHOW = f"/templates/{TINY}"
EDIT = f"{SHOW}/edit"
BAD = TEXT.replace("echo done", "if then")
"""What the validator, here the shell's own check, refuses at line 3."""


def sent(page: Shown, action: str, **typed: str) -> dict[str, Any]:
    """The editor's form as it stands, with this typed over it."""
    return page.fields("#edit") | {"action": action} | typed


def typed_in(page: Shown) -> str:
    return page.one("#f-text").get_text().removeprefix("\n")


def newest(site: Site) -> int:
    return int(records.page(site, limit=1)["items"][0]["id"])


def test_the_list_says_what_each_is_and_who_renders_it(site: Site, world: World) -> None:
    tiny(world, machines=0)
    templates.edit(site, ACTOR, TINY, BAD)
    browser = Browser(site)
    page = browser.get("/templates")
    rows = {row.select_one("th").get_text(strip=True): row for row in page.soup.select("tbody tr")}  # type: ignore[union-attr]
    assert rows["el9.ks.j2"].select_one("[data-label^=Profiles]").get_text(strip=True) not in {"", "0"}  # type: ignore[union-attr]
    assert rows["meta-data.j2"].select_one("[data-label^=Profiles]").get_text(strip=True) == "3"  # type: ignore[union-attr]
    assert "draft: its newest text fails" in rows["tiny.sh.j2"].get_text(" ")
    assert "in force" in rows["el9.ks.j2"].get_text(" ")
    assert page.one("#k-kickstart .tier").get_text() == "validated"
    assert page.one("#k-esxi .tier").get_text() == "structure-checked"
    found = browser.get("/templates?q=parameters.MOTD")
    assert [each.get_text(strip=True) for each in found.soup.select("tbody th")] == ["tiny.sh.j2"]
    kinds = browser.get("/templates?kind=esxi")
    assert [each.get_text() for each in kinds.soup.select("main h2")] == ["esxi structure-checked"]
    assert "No template has that" in browser.get("/templates?q=<i>nothing").main
    told = list(csv.DictReader(io.StringIO(browser.get("/templates?format=csv").body)))
    assert next(row for row in told if row["name"] == TINY)["draft"] == "true"


def test_an_installation_without_templates_says_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templateviews, "listing", lambda _site, _q="", _kind="": [])
    page = Browser(site).get("/templates")
    assert "No templates yet" in page.main
    assert "provisioner init" in page.main


def test_a_template_shows_its_text_by_lines_and_what_stands_around_it(site: Site) -> None:
    browser = Browser(site, role="viewer")
    page = browser.get("/templates/kickstart/el9.ks.j2")
    assert len(page.soup.select("pre.code .line")) == len(
        templates.show(site, "kickstart/el9.ks.j2")["text"].splitlines()
    )
    assert page.one("#L1").get_text().startswith("1")
    links = page.links()
    assert links["rocky9"] == "/profiles/rocky9"
    assert links["snippets/events.sh.j2"] == "/templates/snippets/events.sh.j2"
    assert "commands" in page.main
    snippet = browser.get("/templates/snippets/events.sh.j2")
    assert snippet.links()["kickstart/el9.ks.j2"] == "/templates/kickstart/el9.ks.j2"


def test_s55_a_text_is_downloaded_never_shown_as_a_page(site: Site) -> None:
    answer = Browser(site).get("/templates/kickstart/el9.ks.j2?format=text")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="el9.ks.j2"'
    assert answer.body == templates.show(site, "kickstart/el9.ks.j2")["text"]


def test_r26_a_review_tells_what_a_text_does_before_it_is_saved(site: Site, world: World) -> None:
    tiny(world)
    browser, before = Browser(site), newest(site)
    before = newest(site)
    text = TEXT + "echo two\necho more\n"
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", text=text))
    assert "2 machines: +2 lines" in review.main
    assert "+echo more" in review.main
    assert typed_in(review) == text
    assert newest(site) == before
    unseen = browser.post(EDIT, **sent(review, "save", text=text + "echo unseen\n"))
    assert "Something was changed after the last review" in unseen.main
    assert newest(site) == before
    saved = browser.post(EDIT, **sent(review, "save", reason="ticket 4711"))
    assert (saved.status, saved.place) == (303, SHOW)
    assert templates.show(site, TINY)["text"] == text
    assert records.page(site, limit=1)["items"][0]["reason"] == "ticket 4711"


def test_an_error_stands_on_its_line_and_nothing_is_saved(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    before = newest(site)
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", text=BAD))
    assert "Nothing is saved." in review.main
    wrong = review.one(".copy .line.wrong")
    assert wrong["id"] == "line-3"
    assert wrong.select_one(".text").get_text() == "if then"  # type: ignore[union-attr]
    assert "syntax error" in wrong.select_one(".said").get_text()  # type: ignore[union-attr]
    mark = review.soup.select("li[data-mark-line='3']")[0]
    assert "syntax error" in str(mark["data-mark-text"])
    assert review.links()["Line 3"] == "#line-3"
    assert review.one("#f-text")["aria-invalid"] == "true"
    assert typed_in(review) == BAD
    assert not review.soup.select("#review button[value=save]")
    browser.post(EDIT, **sent(review, "save"))
    assert newest(site) == before
    assert templates.show(site, TINY)["draft"] is None
    broken = browser.post(EDIT, **sent(review, "review", text="one\n{% if %}\n"))
    assert broken.one(".copy .line.wrong")["id"] == "line-2"


def test_htmx_gets_the_review_with_its_marks_alone(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    part = browser.post(EDIT, fragment=True, **sent(browser.get(EDIT), "review", text=BAD))
    assert part.status == 200
    assert part.one("section#review li[data-mark-line='3']")["data-mark-level"] == "error"
    assert not part.soup.select("textarea, html")


def test_a_text_that_fails_is_kept_as_a_draft_only_if_asked(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", text=BAD))
    kept = browser.post(EDIT, **sent(review, "draft", reason="later"))
    assert (kept.status, kept.place) == (303, SHOW)
    page = browser.get(SHOW)
    assert "kept as a draft. Machines still get the last good text." in page.text
    assert "Its newest text fails" in page.main
    assert "+if then" in page.main
    found = templates.show(site, TINY)
    assert (found["text"], found["draft"]) == (TEXT, BAD)
    edit = browser.get(EDIT)
    assert "This is the draft" in edit.main
    assert edit.one(".copy .line.wrong")["id"] == "line-3"
    mended = browser.post(EDIT, **sent(edit, "review", text=TEXT))
    assert browser.post(EDIT, **sent(mended, "save")).status == 303
    assert templates.show(site, TINY)["draft"] is None


def test_a_412_keeps_the_text_and_shows_the_other_side(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    other = ACTOR.__class__(who="grace", origin="tests", request="t", reason="theirs first")
    templates.edit(site, other, TINY, TEXT + "echo grace\n")
    mine = TEXT + "echo mine\n"
    answer = browser.post(EDIT, **sent(page, "review", text=mine))
    assert answer.status == 412
    assert "grace" in answer.main
    assert "theirs first" in answer.main
    assert "+echo grace" in answer.main
    assert typed_in(answer) == mine
    review = browser.post(EDIT, **sent(answer, "review"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    assert templates.show(site, TINY)["text"] == mine


def test_a_412_puts_both_texts_together_where_they_do_not_meet(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    templates.edit(site, ACTOR, TINY, TEXT + "echo grace\n")
    first, rest = TEXT.split("\n", 1)
    mine = f"{first}\n# mine\n{rest}"
    answer = browser.post(EDIT, **sent(page, "review", text=mine))
    assert answer.status == 412
    assert typed_in(answer) == mine
    both = browser.post(EDIT, **sent(answer, "together"))
    assert both.status == 200
    assert typed_in(both) == mine + "echo grace\n"
    assert templates.show(site, TINY)["text"] == TEXT + "echo grace\n", "nothing is saved by that"
    review = browser.post(EDIT, **sent(both, "review"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    assert templates.show(site, TINY)["text"] == mine + "echo grace\n"


def test_a_412_in_the_same_lines_is_for_hands(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    templates.edit(site, ACTOR, TINY, TEXT + "echo grace\n")
    answer = browser.post(EDIT, **sent(page, "review", text=TEXT + "echo mine\n"))
    assert "take over by hand" in answer.main
    assert not answer.soup.select("button[value=together]")


def test_what_was_typed_outlives_the_template(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser = Browser(site)
    page = browser.get(EDIT)
    profiles.remove(site, ACTOR, "tiny")
    templates.remove(site, ACTOR, TINY)
    answer = browser.post(EDIT, **sent(page, "review", text="precious\n"))
    assert answer.status == 404
    assert typed_in(answer) == "precious\n"
    assert answer.one("form#edit")["action"] == "/templates:add"
    assert (answer.fields("#edit")["kind"], answer.fields("#edit")["name"]) == ("script", "tiny.sh.j2")


def test_an_old_revision_is_looked_at_and_restored(site: Site, world: World) -> None:
    tiny(world)
    first = records.page(site, object=f"template/{TINY}")["items"][0]["id"]
    templates.edit(site, ACTOR, TINY, TEXT + "echo worse\n")
    browser = Browser(site)
    history = browser.get(f"{SHOW}/history")
    assert "+1 line" in history.main
    old = browser.get(history.links()[f"Revision {first}"])
    assert "+echo worse" in old.main
    edit = browser.get(old.links()["Restore this revision"])
    assert typed_in(edit) == TEXT
    assert edit.one("#f-reason")["value"] == f"back to revision {first}"
    review = browser.post(EDIT, **sent(edit, "review"))
    assert "2 machines: +0 lines, -1 line" in review.main
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    assert templates.show(site, TINY)["text"] == TEXT
    assert browser.get(f"{SHOW}/history/1").status == 404


def test_adding_extending_and_copying(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser = Browser(site)
    copy = browser.get(f"/templates:add?copy={TINY}")
    assert typed_in(copy) == TEXT
    assert copy.one("#f-kind option[selected]")["value"] == "script"
    bad = browser.post("/templates:add", **sent(copy, "review", name="No name"))
    assert bad.status == 400
    assert bad.one("#f-name")["aria-invalid"] == "true"
    assert typed_in(bad) == TEXT
    extended = browser.get("/templates:add?extend=kickstart/el9.ks.j2")
    assert typed_in(extended).startswith('{% extends "kickstart/el9.ks.j2" %}')
    assert "{% block post %}" in typed_in(extended)
    review = browser.post("/templates:add", **sent(copy, "review", name="own.sh.j2"))
    added = browser.post("/templates:add", **sent(review, "save", reason="ours"))
    assert added.place == "/templates/script/own.sh.j2"
    assert templates.show(site, "script/own.sh.j2")["text"] == TEXT


def test_renaming_and_removing(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser = Browser(site)
    used = browser.get(SHOW)
    assert "It keeps its name and stays, while tiny names it." in used.main
    assert browser.post(f"{SHOW}/remove", revision=templates.show(site, TINY)["revision"]).status == 409
    profiles.remove(site, ACTOR, "tiny")
    revision = browser.get(SHOW).one(f"form[action='{SHOW}/rename'] input[name=revision]")["value"]
    renamed = browser.post(f"{SHOW}/rename", revision=revision, new_name="small.sh.j2")
    assert renamed.place == "/templates/script/small.sh.j2"
    revision = templates.show(site, "script/small.sh.j2")["revision"]
    gone = browser.post("/templates/script/small.sh.j2/remove", revision=revision, reason="old")
    assert gone.place == "/templates"
    history = browser.get("/templates/script/small.sh.j2/history")
    assert "removed, “old”" in history.main


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_whoever_may_not_change_templates_is_offered_nothing_and_refused(site: Site, role: str) -> None:
    browser, place = Browser(site, role=role), "/templates/kickstart/el9.ks.j2"
    for path in ("/templates", place, f"{place}/history"):
        page = browser.get(path)
        assert page.status == 200
        assert not {"Edit", "Add a template", "Extend it", "Copy it"} & page.links().keys()
        assert not page.soup.select("main form[method=post]")
    for path in (f"{place}/edit", "/templates:add"):
        assert browser.get(path).status == 403
        assert browser.post(path, action="save").status == 403


def test_s54_texts_are_inert(site: Site, world: World) -> None:
    tiny(world, machines=0)
    text = "\n".join((*HOSTILE, "</textarea></pre><script>alert(1)</script>", "\x1b[31mred", "x" * 65536)) + "\n"
    templates.add(site, ACTOR, "snippets/hostile.j2", text.replace("{{7*7}}", "{{ 7*7 }}"))
    browser = Browser(site)
    place = "/templates/snippets/hostile.j2"
    pages = [place, f"{place}/edit", f"{place}/history", f"{place}/history/{newest(site) - 1}", "/templates?q=svg"]
    for path in pages:
        page = browser.get(path)
        assert page.status == 200, path
        assert not page.soup.select("main svg, main img, main script, [onload], [onerror]"), path
    assert "</textarea></pre><script>alert(1)</script>" in typed_in(browser.get(f"{place}/edit"))
    assert "{{ 7*7 }}" in browser.get(place).one("pre.code").get_text()
