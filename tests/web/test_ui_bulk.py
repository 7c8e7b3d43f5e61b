"""What is done to several machines at once (issue 6, 2): nothing is wiped by accident, nothing typed is lost."""

from dataclasses import replace
from typing import Any

import pytest
from uiclient import Browser, Shown
from world import World

from provisioner.services import arming, builds, listing, machines, plans, records
from provisioner.services.site import Site

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


@pytest.fixture
def fleet(world: World) -> World:
    """web01 to web30 of rocky9, the even ones tagged `even`; db01 is protected, spare01 has no profile."""
    world.subnet()
    world.distro()
    rows: list[dict[str, Any]] = [
        {
            "name": f"web{number:02}",
            "interfaces": [{"mac": f"52:54:00:00:00:{number:02x}", "ip": f"127.0.2.{100 + number}"}],
            "profile": "rocky9",
            "tags": ["web", *(["even"] if number % 2 == 0 else [])],
        }
        for number in range(1, 31)
    ]
    rows.append({"name": "spare01", "interfaces": [{"mac": "52:54:00:00:02:01"}]})
    plans.apply(world.site, world.actor, machines=rows)
    world.machine("db01", "52:54:00:00:01:01", "127.0.2.201", protected=True)
    return world


WEB = [f"web{number:02}" for number in range(1, 31)]


def state(fleet: World, name: str) -> str:
    return str(machines.show(fleet.site, name)["state"])


def rows(page: Shown, table: str) -> list[str]:
    return [row.get_text(" ", strip=True) for row in page.soup.select(f"{table} tbody tr")]


def carry_out(browser: Browser, plan: Shown, **more: Any) -> Shown:
    form = plan.one("form[data-busy]")
    return browser.post(str(form["action"]), **plan.fields("form[data-busy]") | more)


def test_thirty_machines_get_a_profile_by_their_names(browser: Browser, fleet: World) -> None:
    page = browser.post("/machines:bulk", do="profile", names="\n".join(WEB), back="/machines?q=web")
    assert "Assign a profile: 30 machines" in page.main
    assert page.fields()["names"].split() == WEB
    plan = browser.follow(browser.post("/machines:bulk/profile", **page.fields() | {"profile": "debian12"}))
    assert "Plan for 30 machines" in plan.main and "30 to change" in plan.main
    assert rows(plan, ".changes") == ["profile rocky9 debian12"], "thirty alike changes are shown once"
    assert listing.count(fleet.site, profile="debian12") == 0
    answer = carry_out(browser, plan, reason="to Debian")
    assert (answer.status, answer.place) == (303, "/machines?q=web")
    assert "30 machines changed." in browser.follow(answer).text
    assert listing.count(fleet.site, profile="debian12") == 30
    written = records.page(fleet.site, object="machine/web17")["items"][0]
    assert (written["actor"], written["reason"]) == ("a-admin", "to Debian")


def test_all_that_match_the_filter_are_chosen_on_every_page(browser: Browser, fleet: World) -> None:
    form = browser.get("/machines?tag=even&limit=25").fields("form#chosen")
    assert form["tag"] == "even"
    page = browser.post("/machines:bulk", **form | {"do": "tags", "all": "on", "name": ["web01"]})
    assert page.fields()["names"].split() == WEB[1::2], "the ticked ones are no matter then"
    plan = browser.follow(browser.post("/machines:bulk/tags", **page.fields() | {"more": "canary", "less": "even x"}))
    assert rows(plan, ".changes") == ["tags even canary"]
    carry_out(browser, plan)
    assert listing.count(fleet.site, tag="canary") == 15
    assert machines.show(fleet.site, "web02")["tags"] == ["canary", "web"]


def test_ticked_boxes_suffice_without_any_script(browser: Browser, fleet: World) -> None:
    page = browser.post("/machines:bulk", do="parameter", name=["web01", "web02"])
    sent = page.fields() | {"parameter": "packages", "value": "[nginx, vim]"}
    carry_out(browser, browser.follow(browser.post("/machines:bulk/parameter", **sent)))
    assert machines.show(fleet.site, "web02")["parameters"] == {"packages": ["nginx", "vim"]}
    taken = browser.follow(browser.post("/machines:bulk/parameter", **sent | {"remove": "on", "value": ""}))
    carry_out(browser, taken)
    assert machines.show(fleet.site, "web02")["parameters"] == {}


@pytest.mark.parametrize(
    ("action", "fields", "place", "told"),
    [
        ("parameter", {"parameter": "9x", "value": "1"}, "parameter", "is not a parameter's name"),
        ("parameter", {"parameter": "x", "value": ""}, "value", "there is no value"),
        ("parameter", {"parameter": "x", "value": "[1"}, "value", "broken YAML"),
        ("parameter", {"parameter": "x", "value": "a:\n- b: ["}, "value", "broken YAML"),
        ("tags", {"more": "", "less": ""}, "more", "there is no tag"),
        ("tags", {"more": "no!", "less": ""}, "more", "is not a tag"),
        ("tags", {"more": "", "less": "no!"}, "less", "is not a tag"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_is_kept(
    browser: Browser, fleet: World, action: str, fields: dict[str, str], place: str, told: str
) -> None:
    page = browser.post(f"/machines:bulk/{action}", names="web01 web02", **fields)
    assert page.status == 400
    wrong = page.one(".field.wrong")
    assert wrong.select(f"#f-{place}") and told in wrong.get_text()
    kept = page.fields()
    assert {key: kept[key] for key in fields} == fields
    assert kept["names"].split() == ["web01", "web02"]


@pytest.mark.parametrize(
    ("typed", "value"),
    [("8", 8), ("Europe/Berlin", "Europe/Berlin"), ("true", True), ("''", ""), ("a: 1\nb: [2]", {"a": 1, "b": [2]})],
)
def test_a_parameter_is_what_it_looks_like_in_yaml(browser: Browser, fleet: World, typed: str, value: object) -> None:
    answer = browser.post("/machines:bulk/parameter", names="web01", parameter="x", value=typed)
    carry_out(browser, browser.follow(answer))
    assert machines.show(fleet.site, "web01")["parameters"] == {"x": value}


def test_a_profile_that_there_is_not_is_refused_by_the_plan(browser: Browser, fleet: World) -> None:
    plan = browser.follow(browser.post("/machines:bulk/profile", names="web01 web02", profile="nosuch"))
    assert "This cannot be done" in plan.main and "there is no profile 'nosuch'" in plan.main
    assert not plan.soup.select("form[data-busy]"), "there is nothing to carry out"


def test_the_profile_is_taken_away(browser: Browser, fleet: World) -> None:
    carry_out(browser, browser.follow(browser.post("/machines:bulk/profile", names="web01", profile="-")))
    assert machines.show(fleet.site, "web01")["profile"] is None


# Building


def test_a_bulk_build_lists_each_machine_and_refuses_protected_ones_by_name(browser: Browser, fleet: World) -> None:
    arming.start(fleet.site, fleet.actor, "web03")
    page = browser.post("/machines:bulk", do="build", names="web01 web02 web03 db01 spare01")
    assert "Build 2 machines" in page.main and "wiped" in page.main
    assert [row.split()[0] for row in rows(page, "#fit")] == ["web01", "web02"]
    assert rows(page, "#unfit") == [
        "db01 protected: no build, no wipe",
        "spare01 has no profile",
        "web03 build 1 is armed",
    ]
    assert page.fields()["names"].split() == ["web01", "web02"]
    assert state(fleet, "web01") == "ready", "nothing is armed by looking"
    answer = browser.post("/machines:bulk/build", **page.fields() | {"reason": "new kernel"})
    shown = browser.follow(answer) if answer.status == 303 else answer
    assert "2 builds are armed" in shown.text
    assert [state(fleet, name) for name in ("web01", "web02", "db01")] == ["building", "building", "ready"]
    written = records.page(fleet.site, kind="build")["items"][0]
    assert (written["actor"], written["reason"]) == ("a-admin", "new kernel")


@pytest.mark.parametrize("typed", ["", "5", "7", "six", " 6 6 "])
def test_more_than_five_are_wiped_only_by_whoever_types_how_many(browser: Browser, fleet: World, typed: str) -> None:
    page = browser.post("/machines:bulk", do="build", names=" ".join(WEB[:6]))
    assert page.one("#f-typed").has_attr("required")
    refused = browser.post("/machines:bulk/build", **page.fields() | {"typed": typed, "reason": "kept"})
    assert refused.status == 400
    assert refused.one(".field.wrong").select("#f-typed")
    kept = refused.fields()
    assert (kept["typed"], kept["reason"], kept["names"].split()) == (typed, "kept", WEB[:6])
    assert listing.count(fleet.site, state="building") == 0
    browser.post("/machines:bulk/build", **kept | {"typed": " 6 "})
    assert listing.count(fleet.site, state="building") == 6


def test_five_are_few_enough_to_see(browser: Browser, fleet: World) -> None:
    page = browser.post("/machines:bulk", do="build", names=" ".join(WEB[:5]))
    assert not page.soup.select("#f-typed")
    browser.post("/machines:bulk/build", **page.fields())
    assert listing.count(fleet.site, state="building") == 5


def test_what_became_unfit_meanwhile_is_refused_and_the_others_are_armed(browser: Browser, fleet: World) -> None:
    page = browser.post("/machines:bulk", do="build", names="web01 web02 web03")
    machines.edit(fleet.site, fleet.actor, "web02", {"protected": True})
    done = browser.post("/machines:bulk/build", **page.fields())
    assert done.status == 200
    assert "2 armed, 1 refused" in done.main
    assert rows(done, "#refused")[0].startswith("web02 web02 is protected: no build, no wipe")
    assert state(fleet, "web02") == "ready"
    again = browser.post("/machines:bulk", **done.fields() | {"do": "build"})
    assert "None of them can be built" in again.main
    twice = browser.post("/machines:bulk/build", **page.fields())
    assert (twice.status, "0 armed, 3 refused" in twice.main) == (409, True), "sent twice, nothing is armed twice"


def test_s72_a_build_of_too_many_is_refused_before_it_is_offered(fleet: World) -> None:
    few = replace(fleet.site, settings=fleet.site.settings.model_copy(update={"builds_per_minute": 3}))
    browser = Browser(few)
    page = browser.post("/machines:bulk", do="build", names="web01 web02 web03 web04")
    assert "one person may arm 3 builds within a minute" in page.main
    assert not page.soup.select("main form")
    refused = browser.post("/machines:bulk/build", names="web01 web02 web03 web04")
    assert refused.status == 429
    assert listing.count(few, state="building") == 0


def test_machines_that_may_be_in_use_are_said_to_be(browser: Browser, fleet: World) -> None:
    with_builds = browser.post("/machines:bulk", do="build", names="web01")
    assert "in use" not in with_builds.main
    from sqlalchemy import update

    from provisioner.store.engine import write
    from provisioner.store.models import Machine

    with write(fleet.site.engine) as session:
        session.execute(update(Machine).where(Machine.name == "web01").values(state="configured"))
    assert "1 of them is installed already" in browser.post("/machines:bulk", do="build", names="web01").main


def test_builds_are_cancelled_together(browser: Browser, fleet: World) -> None:
    for name in ("web01", "web02"):
        arming.start(fleet.site, fleet.actor, name)
    page = browser.post("/machines:bulk", do="cancel", names="web01 web02 web03", back="/machines?state=building")
    assert rows(page, "#fit") == ["web01 1 armed", "web02 1 armed"]
    assert "1 left alone" in page.main
    answer = browser.post("/machines:bulk/cancel", **page.fields() | {"reason": "wrong rack"})
    assert answer.place == "/machines?state=building"
    assert "2 builds are cancelled" in browser.follow(answer).text
    assert [builds.show(fleet.site, name)["state"] for name in ("web01", "web02")] == ["cancelled", "cancelled"]
    assert "Nothing to cancel" in browser.post("/machines:bulk", do="cancel", names="web01").main


# Choosing


def test_machines_are_chosen_by_pasted_names_and_macs(browser: Browser, fleet: World) -> None:
    form = browser.get("/machines:bulk").fields()
    page = browser.post("/machines:bulk", **form | {"names": "web01, 5254.0000.0002\nnosuch", "do": "tags"})
    assert page.fields()["names"].split() == ["web01", "web02"]
    assert "There is no machine nosuch" in page.main


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"do": "build"}, "no machine is chosen"),
        ({"do": "build", "names": "nosuch"}, "there is no machine nosuch"),
        ({"do": "dance", "names": "web01"}, "nothing is chosen to be done"),
        ({"do": "tags", "all": "on", "tag": "nosuch"}, "no machine is chosen"),
        ({"do": "tags", "all": "on", "profile": "nosuch"}, "there is no profile 'nosuch'"),
    ],
)
def test_a_choice_of_nothing_says_how_to_choose(
    browser: Browser, fleet: World, fields: dict[str, str], told: str
) -> None:
    page = browser.post("/machines:bulk", **fields)
    assert page.status == 400
    assert told in page.main
    assert page.fields()["names"].split() == fields.get("names", "").split()


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_whoever_makes_a_link_does_not_choose_where_a_form_ends(browser: Browser, fleet: World, back: str) -> None:
    page = browser.post("/machines:bulk", do="tags", names="web01", back=back)
    assert page.fields()["back"] == "/"
    answer = browser.post("/machines:bulk/tags", names="web01", more="x", back=back)
    plan = browser.get(f"{answer.place.partition('?')[0]}?back={back}")
    assert "evil" not in plan.body and "alert(1)" not in plan.body
    assert carry_out(browser, plan, back=back).place == "/"


@pytest.mark.parametrize("role", ["viewer", "author"])
def test_what_a_role_may_not_do_is_refused(fleet: World, role: str) -> None:
    browser = Browser(fleet.site, role=role)
    made = Browser(fleet.site).post("/machines:bulk/tags", names="web01", more="x").place.partition("?")[0]
    assert not browser.get(made).soup.select("form[data-busy]")
    for path in (made, "/machines:bulk", "/machines:bulk/build", "/machines:bulk/cancel", "/machines:bulk/profile"):
        assert browser.post(path, names="web01", do="build", profile="debian12").status == 403
    assert browser.get(f"{made}/radius").status == 403
    assert machines.show(fleet.site, "web01")["tags"] == ["web"]


def test_an_operator_may_do_all_of_it(fleet: World) -> None:
    operator = Browser(fleet.site, role="operator")
    assert [each["value"] for each in operator.get("/machines").soup.select("button[name=do]")] == [
        "profile",
        "parameter",
        "tags",
        "cancel",
        "build",
    ]
    operator.post("/machines:bulk/build", names="web01")
    assert state(fleet, "web01") == "building"


def test_what_a_plan_does_to_answer_files_is_shown_on_demand(browser: Browser, fleet: World) -> None:
    answer = browser.post("/machines:bulk/parameter", names="web01 web02", parameter="timezone", value="Asia/Tokyo")
    plan = browser.follow(answer)
    part = browser.get(str(plan.one("[hx-get$='/radius']")["hx-get"]), fragment=True)
    assert "2 would be built differently" in " ".join(part.soup.get_text(" ").split())
    assert "+timezone" in part.body and "Asia/Tokyo" in part.body
    assert machines.show(fleet.site, "web01")["parameters"] == {}, "nothing is changed by looking"
