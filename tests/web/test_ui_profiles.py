"""Profiles in the browser: the tree, the form and the YAML, what a change would do, history (issue 6, 4 and 8)."""

import csv
import io
from typing import Any

import pytest
from uiclient import Browser, Shown
from uicontent import HOSTILE, TINY, tiny
from world import ACTOR, World

from provisioner.services import families, profiles, profileviews, records
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

EDIT = "/profiles/tiny/edit"


def sent(page: Shown, action: str, **typed: str) -> dict[str, Any]:
    """The editor's form as it stands, with this typed over it."""
    return page.fields("#edit") | {"action": action} | typed


def newest(site: Site) -> int:
    return int(records.page(site, limit=1)["items"][0]["id"])


def test_the_tree_stands_each_below_its_parent_with_what_it_builds(site: Site, world: World) -> None:
    tiny(world)
    page = Browser(site).get("/profiles")
    rows = {str(row.select_one("th a").get_text()): row for row in page.soup.select("tbody tr")}  # type: ignore[union-attr]
    names = list(rows)
    assert names.index("linux") < names.index("rocky8") < names.index("rocky9") < names.index("rocky10")
    assert rows["linux"].select_one("th")["class"] == ["deep-0"]  # type: ignore[index]
    assert rows["rocky9"].select_one("th")["class"] == ["deep-1"]  # type: ignore[index]
    assert rows["fcos"].select_one("th")["class"] == ["deep-2"]  # type: ignore[index]
    assert "(below linux)" in rows["rocky9"].get_text(" ")
    assert rows["tiny"].select_one("td[data-label=Builds]").get_text(strip=True) == "rocky-9.6"  # type: ignore[union-attr]
    assert rows["tiny"].select_one("td[data-label=Machines]").get_text(strip=True) == "2"  # type: ignore[union-attr]
    assert "no distro fits yet" in rows["debian12"].get_text(" ")
    assert "provisioner profile list" in page.text
    assert "/api/v1/profiles" in page.text


def test_a_search_keeps_the_way_down_to_what_it_finds(site: Site) -> None:
    browser = Browser(site)
    page = browser.get("/profiles?q=UBUNTU2404")
    assert [each.get_text() for each in page.soup.select("tbody th a")] == ["linux", "ubuntu", "ubuntu2404"]
    assert len(page.soup.select("tbody tr.aside")) == 2
    assert page.one("input#f-q")["value"] == "UBUNTU2404"
    nothing = browser.get("/profiles?q=<b>none")
    assert "No profile has “<b>none”" in nothing.text
    assert not nothing.soup.select("main b")


def test_an_installation_without_profiles_says_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profileviews, "tree", lambda _site, _q="": [])
    page = Browser(site).get("/profiles")
    assert "No profiles yet" in page.main
    assert "provisioner init" in page.main
    assert "provisioner apply DIR" in page.main
    assert not page.soup.select("main table")


def test_tiers_and_a_missing_validator_are_said_where_it_matters(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(site)
    shown = browser.get("/profiles/rocky9")
    assert shown.one(".tier").get_text() == "validated"
    assert "No " not in shown.one(".tier").get_text()
    assert "no validator of esxi to be had" in browser.get("/profiles/esxi8").main
    assert browser.get("/profiles/esxi8").one(".tier").get_text() == "structure-checked"
    remedy = "pip install 'provisioner[validate]'"
    gone = [("kickstart", "ksvalidator", remedy)]
    monkeypatch.setattr(families.validate, "missing_programs", lambda: gone)
    for path in ("/profiles", "/profiles/rocky9", "/templates", "/templates/kickstart/el9.ks.j2", "/distros"):
        page = browser.get(path)
        assert "ksvalidator is not installed on this server" in page.text, path
        assert remedy in page.text, path
    assert browser.get("/profiles/rocky9").one(".tier").get_text() == "structure-checked"
    assert "ksvalidator" not in browser.get("/profiles/debian12").main


def test_a_profile_shows_each_value_and_where_it_came_from(site: Site, world: World) -> None:
    tiny(world)
    profiles.add(site, ACTOR, {"name": "child", "parent": "tiny", "parameters": {"motd": "hello", "empty": ""}})
    page = Browser(site).get("/profiles/child")
    assert [each.get_text() for each in page.soup.select(".crumbs a")] == ["Profiles", "tiny"]
    rows = {row.select_one("th").get_text(strip=True): row for row in page.soup.select(".values tbody tr")}  # type: ignore[union-attr]
    motd = [cell.get_text(strip=True) for cell in rows["motd"].select("td")]
    assert motd == ["hello", "this profile", "tiny"]
    assert rows["template"].select("td")[1].get_text(strip=True) == "tiny"
    assert "empty" in rows["empty"].get_text()
    parent = Browser(site, role="viewer").get("/profiles/tiny")
    assert parent.links()["2 machines"] == "/machines?profile=tiny"
    assert parent.links()["child"] == "/profiles/child"
    assert "A tiny one" in parent.main


def test_r26_a_review_tells_what_a_change_does_before_it_is_saved(site: Site, world: World) -> None:
    tiny(world)
    browser, before = Browser(site), newest(site)
    form = browser.get(EDIT)
    review = browser.post(EDIT, **sent(form, "review", parameters="motd: hello"))
    assert review.status == 200
    assert "2 machines depend on this: 2 would be built differently" in review.main
    assert "2 machines: +1 line, -1 line" in review.main
    assert "+echo 'hello'" in review.main
    assert review.one("#f-parameters").get_text().strip() == "motd: hello"
    assert newest(site) == before, "a review saved something"
    saved = browser.post(EDIT, **sent(review, "save", reason="ticket 4711"))
    assert (saved.status, saved.place) == (303, "/profiles/tiny")
    assert "Profile tiny is changed." in browser.get(saved.place).text
    assert profiles.show(site, "tiny")["parameters"] == {"motd": "hello"}
    revision = records.page(site, limit=1)["items"][0]
    assert (revision["reason"], revision["actor"], revision["name"]) == ("ticket 4711", "a-admin", "tiny")


def test_r26_htmx_gets_the_form_with_the_review_alone(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    part = browser.post(EDIT, fragment=True, **sent(page, "review", parameters="motd: hello"))
    assert part.status == 200
    assert part.soup.select_one("html") is None
    assert part.one("form#edit input[name=reviewed]")["value"]
    assert "2 machines" in part.text
    yaml = browser.post(
        EDIT, fragment=True, **sent(page, "review", **{"as": "yaml", "yaml": "name: tiny\nparents: x\n"})
    )
    assert yaml.status == 200
    assert yaml.one("section#review")
    assert yaml.one("li[data-mark-line='2']")["data-mark-level"] == "error"


def test_r26_nothing_is_saved_that_nobody_has_seen(site: Site, world: World) -> None:
    tiny(world)
    browser, before = Browser(site), newest(site)
    form = browser.get(EDIT)
    answer = browser.post(EDIT, **sent(form, "save", parameters="motd: hello"))
    assert answer.status == 200
    assert "Something was changed after the last review" in answer.main
    changed = browser.post(EDIT, **sent(answer, "save", parameters="motd: another"))
    assert "+echo 'another'" in changed.main
    assert newest(site) == before
    assert browser.post(EDIT, **sent(changed, "save")).status == 303


def test_what_differs_in_nothing_says_so(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review"))
    assert "Nothing differs from what is saved." in review.main


def test_r26_a_machine_that_could_not_be_built_any_more_is_named_on_the_button(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", parameters=""))
    assert "2 could not be built any more" in review.main or "problem found. Nothing is saved" in review.main
    assert "parameters.motd" in review.main
    assert "web11" in review.main
    assert not [each for each in review.soup.select("button.primary") if each["value"] == "save"]


def test_r26_what_validation_refuses_is_not_saved_and_says_where(site: Site, world: World) -> None:
    tiny(world)
    browser, before = Browser(site), newest(site)
    refused = browser.post(EDIT, **sent(browser.get(EDIT), "review", parameters='motd: "two\\nlines"'))
    assert "Nothing is saved." in refused.main
    assert refused.links()[f"{TINY}:2"] == f"/templates/{TINY}#L2"
    assert not refused.soup.select("#review button[value=save]")
    forced = browser.post(EDIT, **sent(refused, "save"))
    assert forced.status != 303
    assert newest(site) == before


def test_an_error_stands_beside_its_field_and_all_that_was_typed_stays(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    form, more = browser.get(EDIT), {"description": "typed words", "reason": "because"}
    for field, typed, said in (
        ("parameters", "motd: [open", "line 1: broken YAML"),
        ("parameters", "Motd: x", "is not a parameter's name"),
        ("parameters", "just words", "not names with values"),
        ("distro", "os=rocky version", "names no distro"),
        ("kernel_options", "two\x07words", "kernel option"),
        ("handoff", "tool: nosuch", "there is no handoff tool"),
        ("local_boot", "nosuch", "nosuch"),
        ("template", "kickstart/UPPER", "is not a template's name"),
    ):
        answer = browser.post(EDIT, **sent(form, "review", **more, **{field: typed}))
        assert answer.status == 400, field
        assert said in answer.main, field
        if field in {"parameters", "distro", "kernel_options"}:
            assert answer.one(f"#f-{field}")["aria-invalid"] == "true", (field, said)
        assert answer.one("#f-description")["value"] == "typed words"
        assert answer.one("#f-reason")["value"] == "because"
        if field in {"parameters", "handoff"}:
            assert answer.one(f"#f-{field}").get_text().strip() == typed


def test_the_yaml_is_kept_byte_for_byte_with_its_comments(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    text = f"# ask Ada\nname: tiny\ndistro: rocky-9.6\ntemplate: {TINY}\nparameters:\n  motd: hello   # short\n"
    page = browser.get(f"{EDIT}?as=yaml")
    assert page.one("#f-yaml").get_text().lstrip("\n").startswith("name: tiny")
    review = browser.post(EDIT, **sent(page, "review", yaml=text))
    assert "2 machines: +1 line, -1 line" in review.main
    assert browser.post(EDIT, **sent(review, "save", reason="words")).status == 303
    assert profileviews.shown(site, "tiny")["yaml"] == text
    form = browser.get(EDIT)
    assert "Its file has comments" in form.main


def test_an_error_in_the_yaml_stands_on_its_line(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    text = "name: tiny\nparent: [\n"
    answer = browser.post(EDIT, **sent(browser.get(f"{EDIT}?as=yaml"), "review", yaml=text))
    wrong = answer.one(".copy .line.wrong")
    assert wrong["id"] in {"line-2", "line-3"}
    assert "broken YAML" in wrong.get_text()
    assert answer.one("#f-yaml").get_text().removeprefix("\n") == text
    other = browser.post(EDIT, **sent(answer, "review", yaml="name: other\n"))
    assert "this is the profile other" in other.one(".copy .line.wrong").get_text()


def test_form_and_yaml_are_two_ways_of_writing_the_same(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    yaml = browser.post(EDIT, **sent(page, "to-yaml", description="Of both", kernel_options="quiet\nconsole=ttyS0"))
    text = yaml.one("#f-yaml").get_text()
    assert "description: Of both" in text
    assert "- console=ttyS0" in text
    form = browser.post(EDIT, **sent(yaml, "to-form", yaml=text + "local_boot: exit\n"))
    assert form.one("#f-description")["value"] == "Of both"
    assert form.one("#f-kernel_options").get_text().split() == ["quiet", "console=ttyS0"]
    assert form.one("#f-local_boot option[selected]")["value"] == "exit"
    broken = browser.post(EDIT, **sent(yaml, "to-form", yaml="name: ["))
    assert broken.status == 400
    assert broken.one("#f-yaml").get_text().strip() == "name: ["


def test_the_form_keeps_what_it_does_not_show(site: Site, world: World) -> None:
    tiny(world)
    data = {"tested_with": "a real machine", "distro": {"os": "rocky", "version": "9", "arch": "x86_64"}}
    profiles.edit(site, ACTOR, "tiny", data | {"handoff": {"tool": "none"}})
    browser, before = Browser(site), profiles.show(site, "tiny")
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", description="Other words"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    after = profiles.show(site, "tiny")
    assert after | {"revision": ""} == before | {"description": "Other words", "revision": ""}


def test_a_412_keeps_what_was_typed_and_shows_the_other_side(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    other = ACTOR.__class__(who="grace", origin="tests", request="t", reason="theirs first")
    profiles.edit(site, other, "tiny", {"description": "Grace's words"})
    answer = browser.post(EDIT, **sent(page, "review", parameters="motd: mine"))
    assert answer.status == 412
    assert "Somebody changed profile tiny while you were editing" in answer.main
    assert "grace" in answer.main
    assert "theirs first" in answer.main
    assert "Grace's words" in answer.main
    assert answer.one("#f-parameters").get_text().strip() == "motd: mine"
    assert profiles.show(site, "tiny")["parameters"] == {"motd": "hi"}
    review = browser.post(EDIT, **sent(answer, "review", description="Grace's words"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    after = profiles.show(site, "tiny")
    assert (after["description"], after["parameters"]) == ("Grace's words", {"motd": "mine"})


def test_a_412_merges_fields_that_nobody_typed_in_and_says_whose_each_is(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get(EDIT)
    other = ACTOR.__class__(who="grace", origin="tests", request="t")
    profiles.edit(site, other, "tiny", {"description": "Grace's words", "parameters": {"motd": "grace"}})
    answer = browser.post(EDIT, **sent(page, "review", parameters="motd: mine", kernel_options="quiet"))
    assert answer.status == 412
    rows = {row.select_one("th").get_text(): row.get_text(" ") for row in answer.soup.select(".theirs tbody tr")}  # type: ignore[union-attr]
    assert "Grace's words" in rows["description"] and "grace" in rows["parameters/motd"]
    assert "You did not touch description : what they wrote is in the form." in answer.main
    assert "Both of you changed parameters :" in answer.main
    again = answer.fields("#edit")
    assert (again["description"], again["parameters"].strip(), again["kernel_options"].strip()) == (
        "Grace's words",
        "motd: mine",
        "quiet",
    )
    review = browser.post(EDIT, **sent(answer, "review"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    after = profiles.show(site, "tiny")
    assert (after["description"], after["parameters"], after["kernel_options"]) == (
        "Grace's words",
        {"motd": "mine"},
        ["quiet"],
    )


def test_a_412_of_yaml_puts_both_texts_together_where_they_do_not_meet(site: Site, world: World) -> None:
    tiny(world)
    profiles.edit(site, ACTOR, "tiny", {"description": "tiny machines", "kernel_options": ["quiet"]})
    browser = Browser(site)
    page = browser.get(f"{EDIT}?as=yaml")
    profiles.edit(site, ACTOR, "tiny", {"description": "Grace's words"})
    mine = page.one("#f-yaml").get_text().lstrip().replace("motd: hi", "motd: mine")
    answer = browser.post(EDIT, **sent(page, "review", yaml=mine))
    assert answer.status == 412
    assert answer.one("#f-yaml").get_text().strip() == mine.strip(), "nothing is put into a text by itself"
    both = browser.post(EDIT, **sent(answer, "together"))
    assert both.status == 200
    text = both.one("#f-yaml").get_text()
    assert "Grace's words" in text and "motd: mine" in text
    review = browser.post(EDIT, **sent(both, "review"))
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    after = profiles.show(site, "tiny")
    assert (after["description"], after["parameters"]) == ("Grace's words", {"motd": "mine"})


def test_a_412_between_review_and_save_saves_nothing(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    review = browser.post(EDIT, **sent(browser.get(EDIT), "review", parameters="motd: mine"))
    profiles.edit(site, ACTOR, "tiny", {"description": "others"})
    answer = browser.post(EDIT, **sent(review, "save"))
    assert answer.status == 412
    assert profiles.show(site, "tiny")["parameters"] == {"motd": "hi"}


def test_what_was_typed_outlives_the_profile(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser = Browser(site)
    page = browser.get(EDIT)
    profiles.remove(site, ACTOR, "tiny")
    answer = browser.post(EDIT, **sent(page, "review", description="precious"))
    assert answer.status == 404
    assert "saving adds it again" in answer.main
    assert answer.one("#f-description")["value"] == "precious"
    assert answer.one("form#edit")["action"] == "/profiles:add"
    review = browser.post("/profiles:add", **sent(answer, "review"))
    assert browser.post("/profiles:add", **sent(review, "save")).status == 303
    assert profiles.show(site, "tiny")["description"] == "precious"


def test_an_old_revision_is_looked_at_and_restored_with_a_reason(site: Site, world: World) -> None:
    tiny(world)
    first = newest(site)
    first = next(each["id"] for each in records.page(site, object="profile/tiny")["items"])
    profiles.edit(site, ACTOR, "tiny", {"parameters": {"motd": "worse"}})
    browser = Browser(site)
    history = browser.get("/profiles/tiny/history")
    assert "+1 line, -1 line" in history.main
    assert history.links()[f"Revision {first}"] == f"/profiles/tiny/history/{first}"
    old = browser.get(f"/profiles/tiny/history/{first}")
    assert "- motd: worse" not in old.main
    assert "+ motd: worse" in old.main
    edit = browser.get(old.links()["Restore this revision"])
    assert f"This is revision {first}" in edit.main
    assert edit.one("#f-parameters").get_text().strip() == "motd: hi"
    review = browser.post(EDIT, **sent(edit, "review"))
    assert "2 machines: +1 line, -1 line" in review.main
    assert browser.post(EDIT, **sent(review, "save")).status == 303
    assert profiles.show(site, "tiny")["parameters"] == {"motd": "hi"}
    assert records.page(site, limit=1)["items"][0]["reason"] == f"back to revision {first}"


def test_a_removed_profile_is_added_again_from_its_history(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser = Browser(site)
    shown = browser.get("/profiles/tiny")
    revision = shown.one("form[action='/profiles/tiny/remove'] input[name=revision]")["value"]
    gone = browser.post("/profiles/tiny/remove", revision=revision, reason="not needed")
    assert (gone.status, gone.place) == (303, "/profiles")
    history = browser.get("/profiles/tiny/history")
    assert "removed, “not needed”" in history.main
    added = min(each["id"] for each in records.page(site, object="profile/tiny")["items"])
    page = browser.get(browser.get(f"/profiles/tiny/history/{added}").links()["Add it again"])
    review = browser.post("/profiles:add", **sent(page, "review"))
    assert browser.post("/profiles:add", **sent(review, "save")).status == 303
    assert profiles.show(site, "tiny")["parameters"] == {"motd": "hi"}
    assert browser.get("/profiles/tiny/history/1").status == 404


def test_adding_one_below_another(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    page = browser.get("/profiles:add?parent=tiny")
    assert page.one("#f-parent option[selected]")["value"] == "tiny"
    assert "inherited: script/tiny.sh.j2" in page.main
    bad = browser.post("/profiles:add", **sent(page, "review", name="Not a name"))
    assert bad.status == 400
    assert bad.one("#f-name")["aria-invalid"] == "true"
    assert bad.one("#f-name")["value"] == "Not a name"
    taken = browser.post("/profiles:add", **sent(page, "review", name="rocky9"))
    assert taken.status == 409
    review = browser.post("/profiles:add", **sent(page, "review", name="child", description="x"))
    added = browser.post("/profiles:add", **sent(review, "save"))
    assert added.place == "/profiles/child"
    assert profiles.show(site, "child")["parent"] == "tiny"


def test_renaming_and_removing(site: Site, world: World) -> None:
    tiny(world)
    browser = Browser(site)
    revision = profiles.show(site, "tiny")["revision"]
    used = browser.post("/profiles/tiny/remove", revision=revision)
    assert used.status == 409
    assert "is assigned to web11" in used.main
    taken = browser.post("/profiles/tiny/rename", revision=revision, new_name="rocky9")
    assert taken.status == 409
    assert taken.one("#f-new_name")["value"] == "rocky9"
    bad = browser.post("/profiles/tiny/rename", revision=revision, new_name="No Name")
    assert bad.one("#f-new_name")["aria-invalid"] == "true"
    renamed = browser.post("/profiles/tiny/rename", revision=revision, new_name="small", reason="shorter")
    assert renamed.place == "/profiles/small"
    assert "called small now" in browser.get(renamed.place).text


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_whoever_may_not_change_profiles_is_offered_nothing_and_refused(site: Site, world: World, role: str) -> None:
    tiny(world, machines=0)
    browser = Browser(site, role=role)
    for path in ("/profiles", "/profiles/tiny", "/profiles/tiny/history"):
        page = browser.get(path)
        assert page.status == 200
        assert not {"Edit", "Add a profile", "Add a profile below it", "Add one"} & page.links().keys()
        assert not page.soup.select("main form[method=post]")
    for path in (EDIT, "/profiles:add"):
        assert browser.get(path).status == 403
        assert browser.post(path, action="review").status == 403
    assert browser.post("/profiles/tiny/remove").status == 403
    assert Browser(site, role="author").get(EDIT).status == 200


def test_s54_words_of_people_are_inert_text(site: Site, world: World) -> None:
    tiny(world, machines=0)
    browser, everything = Browser(site), " ".join(HOSTILE)
    other = ACTOR.__class__("x", "y", "z", everything)
    profiles.edit(site, other, "tiny", {"description": everything, "parameters": {"words": everything}})
    number = newest(site)
    pages = [
        "/profiles",
        "/profiles/tiny",
        EDIT,
        f"{EDIT}?as=yaml",
        "/profiles/tiny/history",
        f"/profiles/tiny/history/{number}",
    ]
    for path in (*pages, *(f"/profiles?q={payload}" for payload in HOSTILE)):
        page = browser.get(path)
        assert page.status == 200, path
        assert not page.soup.select("main svg, main img, main script, [onload], [onerror], [href^=javascript]"), path
    assert everything in browser.get("/profiles/tiny").soup.get_text()
    profiles.edit(site, other, "tiny", {"description": HOSTILE[-1]})
    rows = list(csv.DictReader(io.StringIO(browser.get("/profiles?format=csv").body)))
    told = next(row for row in rows if row["name"] == "tiny")
    assert told["description"] == f"'{HOSTILE[-1]}"
