"""The list of machines and the ways into it (issue 6, 2): filters, pages, columns, CSV, adding, importing."""

import csv
import io
import re
import shlex
from typing import Any

import pytest
from uiclient import Browser, Shown
from world import MAC, World

from provisioner.cli.bulk import import_
from provisioner.cli.machine import add as add_command
from provisioner.cli.machine import list_ as list_command
from provisioner.core import importing
from provisioner.core.facts import Facts
from provisioner.services import listing, machines, plans, records
from provisioner.services.discovery import Sighting, record
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

NASTY = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e{{7*7}}=cmd'


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


@pytest.fixture
def fleet(world: World) -> World:
    """web01 to web30, the even ones tagged `even`; db01 is protected."""
    world.subnet()
    rows = [
        {
            "name": f"web{number:02}",
            "interfaces": [{"mac": f"52:54:00:00:00:{number:02x}", "ip": f"127.0.2.{100 + number}"}],
            "profile": "rocky9",
            "tags": ["web", *(["even"] if number % 2 == 0 else [])],
        }
        for number in range(1, 31)
    ]
    plans.apply(world.site, world.actor, machines=rows)
    world.machine("db01", "52:54:00:00:01:01", "127.0.2.201", protected=True, serial="SN-77", profile=None)
    return world


def names(shown: Shown) -> list[str]:
    """The machines of a page, in their order."""
    return [link.get_text(strip=True) for link in shown.soup.select("table.machines tbody th a")]


def command(shown: Shown) -> list[str]:
    """The words of the command that a page says does the same, without the program's name."""
    return shlex.split(shown.soup.select(".same code")[0].get_text())[1:]


def test_a_new_installation_says_what_to_do_first(browser: Browser, world: World) -> None:
    empty = browser.get("/machines")
    assert {"add the network", "Add one", "Import a file", "rack mode"} <= set(empty.links())
    assert not empty.soup.select("table")
    world.subnet()
    assert "add the network" not in browser.get("/machines").links(), "there is one"
    viewer = Browser(world.site, role="viewer").get("/machines")
    assert viewer.status == 200
    assert not {"Add one", "Add a machine", "Import a file"} & set(viewer.links())


@pytest.mark.parametrize(
    "typed", ["web07", "WEB07", "52-54-00-00-00-07", "5254.0000.0007", "127.0.2.107", "  web07  127.0.2 "]
)
def test_search_is_by_anything(browser: Browser, fleet: World, typed: str) -> None:
    assert names(browser.get(f"/machines?q={typed.replace(' ', '+')}")) == ["web07"]


def test_filters_narrow_and_stay_in_the_address(browser: Browser, fleet: World) -> None:
    page = browser.get("/machines?tag=even&state=ready&profile=rocky9&subnet=lab&protected=false&limit=25&show=tags")
    assert names(page) == [f"web{number:02}" for number in range(2, 31, 2)]
    assert "15 machines" in page.main
    sent = page.fields("form.filters")
    assert (sent["tag"], sent["state"], sent["profile"], sent["protected"]) == ("even", "ready", "rocky9", "false")
    address = page.one("thead a[href*='sort=-name']")["href"]
    for part in ("tag=even", "state=ready", "profile=rocky9", "subnet=lab", "protected=false", "limit=25", "show=tags"):
        assert part in address
    fewer = next(href for words, href in page.links().items() if words.startswith("tag: even"))
    assert "tag=" not in fewer and "state=ready" in fewer
    assert names(browser.get("/machines?protected=true")) == ["db01"]
    assert names(browser.get("/machines?flagged=true")) == []


def test_every_machine_is_on_one_page_in_the_order_asked_for(browser: Browser, fleet: World) -> None:
    for sort in ("name", "-name", "profile", "-created_at"):
        page, seen = browser.get(f"/machines?limit=25&sort={sort}"), []
        while True:
            seen += names(page)
            onward = page.soup.select("a[rel=next]")
            if not onward:
                break
            assert f"sort={sort}" in str(onward[0]["href"]) or sort == "name"
            page = browser.get(str(onward[0]["href"]))
        assert len(seen) == len(set(seen)) == 31
        if sort.endswith("name"):
            assert seen == sorted(seen, reverse=sort.startswith("-"))
    assert browser.get("/machines?sort=-name").one("th[aria-sort]")["aria-sort"] == "descending"


def test_columns_are_chosen_in_the_address_and_remembered(browser: Browser, fleet: World) -> None:
    def columns(address: str) -> list[str]:
        heads = browser.get(address).soup.select("table.machines thead th:not(.tickbox)")
        return [" ".join(head.get_text().replace("▲", "").split()) for head in heads]

    assert columns("/machines") == ["Name", "State", "Profile", "IP addresses", "MAC addresses", "Tags"]
    assert columns("/machines?show=serial&show=nosuch&show=state") == ["Name", "State", "Serial number"]
    assert columns("/machines") == ["Name", "State", "Serial number"], "this browser's choice"
    assert columns("/machines?show=tags") == ["Name", "Tags"], "an address says what it shows, whoever opens it"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("profile=rocky99", "there is no profile 'rocky99'"),
        ("subnet=nosuch", "there is no subnet 'nosuch'"),
        ("state=broken", "'broken' is no state"),
        ("protected=maybe", "'maybe' is neither true nor false"),
        ("sort=colour", "cannot be sorted by 'colour'"),
        ("cursor=stolen", "does not belong to this list"),
        ("q=%00", "cannot be in any q"),
    ],
)
def test_a_wrong_address_says_what_is_wrong_with_it(browser: Browser, fleet: World, query: str, told: str) -> None:
    page = browser.get(f"/machines?tag=even&{query}")
    assert page.status == 400
    assert told in page.main
    assert page.fields("form.filters")["tag"] == "even", "the filters stay to be mended"
    assert "cursor" in query or browser.get(f"/machines?{query}&format=csv").status == 400


def test_a_viewer_sees_and_is_offered_nothing_more(fleet: World) -> None:
    viewer = Browser(fleet.site, role="viewer")
    page = viewer.get("/machines")
    assert len(names(page)) == 31
    assert not page.soup.select("table input, .selecting, button[name=do]")
    for path in ("/machines:add", "/machines:import", "/machines:bulk"):
        assert viewer.get(path).status == 403
        assert viewer.post(path, name="x", do="build").status == 403
    assert viewer.post("/machines:bulk/build", names="web01").status == 403
    assert listing.count(fleet.site, state="building") == 0


def test_csv_holds_what_the_filters_choose_and_no_formula(browser: Browser, fleet: World) -> None:
    machines.edit(fleet.site, fleet.actor, "web02", {"description": "=HYPERLINK(1)", "serial": "+1"})
    answer = browser.get("/machines?tag=even&show=description&show=serial&show=tags&format=csv")
    assert 'filename="machines.csv"' in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body)))
    assert [row["name"] for row in rows] == [f"web{number:02}" for number in range(2, 31, 2)]
    assert rows[0] == {
        "name": "web02",
        "description": "'=HYPERLINK(1)",
        "serial": "'+1",
        "tags": "even web",
        "protected": "false",
        "flag": "",
    }


@pytest.mark.parametrize("form", importing.FORMATS)
def test_what_is_exported_changes_nothing_when_it_is_imported(browser: Browser, fleet: World, form: str) -> None:
    text = browser.get(f"/machines:export?format={form}").body
    plan = browser.follow(browser.post("/machines:import", text=text))
    assert "Nothing to change" in plan.main and "31 as they are" in plan.main
    assert browser.get("/machines:export?format=xls").status == 400


def test_what_changed_by_itself_comes_without_moving_a_row(browser: Browser, fleet: World) -> None:
    page = browser.get("/machines?limit=25")
    (live,) = page.soup.select("[hx-get^='/machines:states']")
    assert live["hx-swap"] == "none"
    machines.edit(fleet.site, fleet.actor, "web01", {"retired": True})
    part = browser.get("/machines:states?ids=1,2,x,99999999999999999999", fragment=True)
    marked = {str(each["id"]): each.get_text(strip=True) for each in part.soup.select("span[hx-swap-oob]")}
    place = machines.show(fleet.site, "web01")["revision"].partition(".")[0]
    assert marked[f"state-{place}"] == "retired"
    assert page.one(f"#state-{place}") and page.one(f"#mark-{place}"), "each lands in a place that the page has"


def test_tags_are_suggested_word_by_word(browser: Browser, fleet: World) -> None:
    part = browser.get("/machines:tags?tag=ev", fragment=True)
    assert [each["value"] for each in part.soup.select("option")] == ["even"]
    assert browser.get("/machines:tags?tags=web+e").one("option")["value"] == "web even"


def test_a_machine_in_quarantine_is_found_and_is_one_click_from_being_added(browser: Browser, fleet: World) -> None:
    record(fleet.site, [Sighting("52:54:00:99:99:99", "127.0.2.50", Facts(serial="SN-9"), is_new=True)])
    page = browser.get("/machines?q=5254.0099.9999")
    assert "No machine matches" in page.main and "In quarantine" in page.main
    form = browser.get(page.links()["Add this machine"])
    assert form.fields()["mac-0"] == "52:54:00:99:99:99"
    said = browser.post("/machines:add", **form.fields() | {"name": "found01"})
    assert said.status == 303
    assert machines.show(fleet.site, "found01")["state"] == "discovered"


def test_s54_what_people_and_machines_say_is_shown_as_text(browser: Browser, fleet: World) -> None:
    fields = {"description": NASTY, "serial": NASTY, "parameters": {"note": NASTY}}
    machines.edit(fleet.site, fleet.actor, "web01", fields)
    columns = "&".join(f"show={column}" for column in ("description", "serial", "model", "uuid"))
    pages = [browser.get(f"/machines?{columns}"), browser.get("/machines", Cookie="")]
    pages.append(browser.post("/machines:import", text=f"name,mac,serial\nnew1,{NASTY.replace(',', '')},x\n"))
    pages.append(browser.post("/machines:add", name=NASTY, **{"mac-0": NASTY, "tags": NASTY, "parameters": NASTY}))
    pages.append(browser.get("/machines?q=%3Cscript%3Ealert(1)%3C/script%3E&tag=%22%3E%3Cimg+src=x%3E"))
    pages.append(browser.post("/machines:bulk", names=NASTY, do="build"))
    for page in pages:
        assert not page.soup.select("script:not([src]), main img, [onerror]")
        assert "49" not in re.sub(r"\d{3,}", "", page.soup.select_one("title").get_text())  # type: ignore[union-attr]
    assert NASTY in pages[0].soup.get_text()


def test_texts_of_the_longest_kind_do_not_swell_the_list(browser: Browser, fleet: World) -> None:
    machines.edit(fleet.site, fleet.actor, "web01", {"description": "x" * 4000})
    page = browser.get("/machines?q=web01&show=description")
    assert "x" * 300 + "…" in page.main and "x" * 301 not in page.main


@pytest.mark.parametrize("query", ["", "?state=failed&tag=a+b&q=it%27s&flagged=true&protected=false&sort=-name"])
def test_each_page_says_the_command_that_does_the_same(browser: Browser, fleet: World, query: str) -> None:
    words = command(browser.get(f"/machines{query}"))
    assert words[:2] == ["machine", "list"]
    given = list_command.make_context("list", words[2:]).params
    if query:
        assert {key: given[key] for key in ("state", "tag", "q", "flagged", "protected", "sort")} == {
            "state": "failed",
            "tag": "a b",
            "q": "it's",
            "flagged": True,
            "protected": False,
            "sort": "-name",
        }
    words = command(browser.get("/machines:add?name=n%5B01-04%5D&mac=52:54:00:12:34:56%2B"))
    assert add_command.make_context("add", words[2:]).params["full"] == ("mac=52:54:00:12:34:56+",)
    assert command(browser.get("/machines:import"))[:2] == ["machine", import_.name]


# Adding


def test_a_machine_is_added_by_the_form(browser: Browser, world: World) -> None:
    world.subnet()
    sent: dict[str, Any] = {
        "name": "web01",
        "count": "2",
        "mac-0": "52-54-00-12-34-56",
        "ip-0": "127.0.2.11",
        "mac-1": "525400123457",
        "ip-1": "next",
        "subnet-1": "lab",
        "nic-1": "eth1",
        "profile": "rocky9",
        "tags": "web, rack-12",
        "serial": "SN-1",
        "parameters": "timezone: Europe/Berlin\npackages: [nginx]",
        "protected": "on",
        "reason": "ticket 7",
    }
    answer = browser.post("/machines:add", **sent)
    assert (answer.status, answer.place) == (303, "/machines/web01")
    made = machines.show(world.site, MAC)
    assert (made["name"], made["profile"], made["tags"], made["serial"], made["protected"]) == (
        "web01",
        "rocky9",
        ["rack-12", "web"],
        "SN-1",
        True,
    )
    assert made["parameters"] == {"timezone": "Europe/Berlin", "packages": ["nginx"]}
    assert [(nic["name"], nic["ip"]) for nic in made["interfaces"]] == [("nic0", "127.0.2.11"), ("eth1", "127.0.2.1")]
    written = records.page(world.site, object="machine/web01")["items"][0]
    assert (written["actor"], written["reason"]) == ("a-admin", "ticket 7")


def test_one_more_interface_keeps_what_was_typed(browser: Browser, world: World) -> None:
    form = browser.post("/machines:add", **{"name": "web01", "count": "1", "mac-0": "x", "tags": "a b"}, do="interface")
    sent = form.fields()
    assert (form.status, sent["count"], sent["mac-0"], sent["mac-1"], sent["tags"]) == (200, "2", "x", "", "a b")


@pytest.mark.parametrize(
    ("fields", "place", "told"),
    [
        ({"name": "52:54:00:12:34:56"}, "name", "MAC"),
        ({"name": "web01"}, "name", "there is a machine 'web01' already"),
        ({"mac-0": "zz"}, "mac-0", "is not a MAC address"),
        ({"mac-0": MAC}, "mac-0", "belongs to machine web01"),
        ({"ip-0": "127.0.2.999"}, "ip-0", "127.0.2.999"),
        ({"count": "2", "mac-1": "zz"}, "mac-1", "is not a MAC address"),
        ({"ip-0": "next"}, "ip-0", "needs a subnet"),
        ({"profile": "nosuch"}, "profile", "there is no profile 'nosuch'"),
        ({"tags": "a! b"}, "tags", "is not a tag"),
        ({"parameters": "a: [1"}, "parameters", "broken YAML"),
        ({"parameters": "just words"}, "parameters", "names with values"),
        ({"uuid": "x"}, "uuid", "UUID"),
        ({"mac-0": ""}, "mac-0", "needs a MAC address"),
    ],
)
def test_an_error_stands_beside_its_field_and_nothing_typed_is_lost(
    browser: Browser, world: World, fields: dict[str, str], place: str, told: str
) -> None:
    world.subnet()
    world.machine()
    sent = {"name": "new01", "count": "1", "mac-0": "52:54:00:99:00:01", "description": "kept", "tags": "kept"} | fields
    page = browser.post("/machines:add", **sent)
    assert page.status in (400, 409)
    wrong = page.one(".field.wrong")
    assert wrong.select(f"#f-{place}[aria-invalid=true]"), wrong
    assert told in wrong.get_text()
    kept = page.fields()
    assert {key: kept[key] for key in sent if key != "profile"} == {key: sent[key] for key in sent if key != "profile"}
    assert [each["name"] for each in listing.every(world.site)] == ["web01"]


def test_a_row_of_machines_is_shown_and_then_added(browser: Browser, world: World) -> None:
    world.subnet()
    sent = {"name": "n[01-12]", "count": "1", "mac-0": "52:54:00:00:00:01+", "ip-0": "127.0.2.20+"}
    shown = browser.post("/machines:add", **sent, do="show")
    assert "12 machines would be added" in shown.main and "52:54:00:00:00:05" in shown.main
    assert "127.0.2.31" in shown.main and "Add 12 machines" in shown.main
    assert listing.count(world.site) == 0, "nothing is added by looking"
    answer = browser.follow(browser.post("/machines:add", **shown.fields()))
    assert "12 machines are added: n01 to n12." in answer.text
    assert listing.count(world.site) == 12


# Importing

CSV = "name,mac,ip,profile,tags\nnew1,52:54:00:cc:00:01,127.0.2.51,rocky9,web\nweb05,,,debian12,\nweb06,,,debian12,\n"


def test_a_pasted_file_is_planned_and_then_carried_out(browser: Browser, fleet: World) -> None:
    answer = browser.post("/machines:import", text=CSV)
    plan = browser.follow(answer)
    assert "1 to add" in plan.main and "2 to change" in plan.main
    assert [each.get_text(" ", strip=True) for each in plan.soup.select(".changes tbody tr")] == [
        "profile rocky9 debian12"
    ], "alike changes stand there once"
    assert "web05, web06" in plan.main
    assert machines.show(fleet.site, "web05")["profile"] == "rocky9", "nothing is changed by looking"
    place = answer.place.partition("?")[0]
    done = browser.follow(browser.post(place, **plan.fields("form[data-busy]") | {"reason": "new rack"}))
    assert "1 machine added and 2 machines changed." in done.text
    assert machines.show(fleet.site, "web06")["profile"] == "debian12"
    assert machines.show(fleet.site, "new1")["interfaces"][0]["ip"] == "127.0.2.51"
    written = records.page(fleet.site, object="machine/web05")["items"][0]
    assert (written["actor"], written["reason"]) == ("a-admin", "new rack")
    assert "was carried out before" in browser.follow(browser.post(place)).text


def test_a_refused_file_says_each_line_and_can_be_mended_where_it_stands(browser: Browser, fleet: World) -> None:
    text = CSV + "bad1,52:54:00:zz:00:01,,,\nweb07,,,nosuch,\n"
    page = browser.post("/machines:import", text=text, form="csv", flag_missing="netbox/")
    assert page.status == 409
    assert "2 of 5 machines cannot be as the file says" in page.main
    rows = [row.get_text(" ", strip=True) for row in page.soup.select("#refused tbody tr")]
    assert rows[0].startswith("bad1 line 5, interfaces/0/mac") and "is not a MAC address" in rows[0]
    assert rows[1].startswith("web07 line 6, profile") and "no profile 'nosuch'" in rows[1]
    kept = page.fields()
    assert (kept["text"], kept["form"], kept["flag_missing"]) == (text, "csv", "netbox/")
    assert listing.count(fleet.site) == 31


def test_an_uploaded_file_is_read_by_its_suffix_and_put_into_the_form_to_be_mended(
    browser: Browser, fleet: World
) -> None:
    def send(name: str, text: str) -> Shown:
        return browser.post("/machines:import", file=(io.BytesIO(text.encode()), name), text="", form="")

    assert browser.follow(send("m.yaml", "- name: web05\n  profile: debian12\n")).main.count("1 to change") == 1
    assert "1 to change" in browser.follow(send("m.json", '[{"name": "web05", "profile": "debian12"}]')).main
    broken = send("m.csv", "name,colour\nweb05,red\n")
    assert broken.status == 400
    assert "unknown column 'colour' (m.csv:1)" in broken.one(".field.wrong").get_text()
    assert broken.fields()["text"] == "name,colour\nweb05,red\n"
    large = send("large.csv", "name,profile\n" + "\n".join(f"web05,nosuch{number:090}" for number in range(4200)))
    assert large.status == 409 and "too large to be mended here" in large.main


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "there is nothing in it"), ("- a: [", "broken YAML"), ("[1", "broken JSON"), ("[]", "no machines in it")],
)
def test_what_cannot_be_read_is_said_beside_the_text(browser: Browser, site: Site, text: str, told: str) -> None:
    page = browser.post("/machines:import", text=text)
    assert page.status == 400
    assert told in page.one(".field.wrong").get_text()
    assert page.fields()["text"] == text


def test_a_plan_that_the_world_outran_is_refused_and_nothing_changed(browser: Browser, fleet: World) -> None:
    place = browser.post("/machines:import", text=CSV).place
    machines.edit(fleet.site, fleet.actor, "web05", {"profile": "debian12"})
    page = browser.post(place, back="/machines?tag=even", reason="kept")
    assert page.status == 412
    assert "the world changed since this plan was made" in page.main and "web05" in page.main
    assert page.fields("form[data-busy]")["reason"] == "kept"
    assert machines.show(fleet.site, "web06")["profile"] == "rocky9"
    assert browser.get("/machines:plans/nosuch").status == 404


def test_machines_that_the_file_does_not_have_are_named(browser: Browser, fleet: World) -> None:
    machines.edit(fleet.site, fleet.actor, "web09", {"inventory": "netbox/9"})
    plan = browser.follow(browser.post("/machines:import", text=CSV, flag_missing="netbox/"))
    assert "Not in the file" in plan.main and "web09" in plan.links()


def test_a_file_of_a_megabyte_is_taken(browser: Browser, site: Site) -> None:
    rows = [f"n{number:05},02:00:00:00:{number >> 8:02x}:{number & 255:02x},{'d' * 900}" for number in range(1200)]
    text = "name,mac,description\n" + "\n".join(rows)
    assert len(text) > 1_000_000
    assert "1,200 machines" in browser.follow(browser.post("/machines:import", text=text)).main


def test_a_machine_without_a_mac_waits_for_it(browser: Browser, world: World) -> None:
    world.subnet()
    machines.add(world.site, world.actor, "later", [InterfaceInput(ip="127.0.2.9")], {})
    assert names(browser.get("/machines?q=127.0.2.9")) == ["later"]
