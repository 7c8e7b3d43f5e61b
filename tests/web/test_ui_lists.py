"""What all lists share: pages forwards and back, CSV of all rows, a place in the navigation, addresses of their own."""

import csv
import io
import itertools
import re

import pytest
from sqlalchemy import insert, select
from uiclient import Browser, Shown
from uicontent import TEXT, TINY, tiny
from uilife import arrives
from world import ACTOR, MAC, World

from provisioner.core.content import check_profile
from provisioner.core.policy import Role, allows
from provisioner.services import arming, machines, profiles, subnets, templates, tokens, webhooks
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Build
from provisioner.web import ui

EVIL = "=cmd|' /C calc'!A0"
BRAND = {"manufacturer": "ACME", "product": EVIL}


@pytest.fixture
def crowded(world: World) -> World:
    """More of everything than a page holds."""
    tiny(world, machines=0)
    world.machine()
    armed = arming.start(world.site, ACTOR, "web01")
    for number in range(55):
        world.subnet(f"net{number:02}", f"10.9.{number}.0/24")
        arrives(world.site, f"52:54:00:dd:00:{number:02x}", f"127.0.2.{60 + number}", serial=f"S{number}", **BRAND)
    for number in range(32):
        machines.edit(world.site, ACTOR, "web01", {"description": f"{EVIL} {number}"})
    with write(world.site.engine) as session:
        for number in range(21):
            templates.put(session, ACTOR, TINY, f"# number {number}\n{TEXT}")
            content = check_profile({"name": "rocky9", "description": f"number {number}"}, "rocky9")
            profiles.put(session, ACTOR, content, source=None)
        shape = session.execute(select(Build.__table__).where(Build.id == armed["id"])).mappings().one()
        made = [dict(shape) | {"id": 100 + number, "number": 100 + number} for number in range(120)]
        session.execute(insert(Build), made)
    more = [InterfaceInput(f"52:54:00:ee:00:{number:02x}", None) for number in range(60)]
    for number, each in enumerate(more):
        machines.add(world.site, ACTOR, f"m{number:02}", [each], {})
    return world


PAGED = (
    "/machines?sort=-created_at&limit=25",
    "/builds?state=armed",
    "/rack?order=oldest",
    "/networks?q=net",
    "/history?kind=machine",
    "/machines/web01/builds",
    "/machines/web01/history",
    "/profiles/rocky9/history",
    "/templates/script/tiny.sh.j2/history",
)


def shown(page: Shown) -> list[str]:
    """What a page of a list leads to, in order."""
    assert page.status == 200, page.main
    links = [str(each["href"]) for each in page.soup.select("main section a[href], main table a[href], main article a")]
    rows = [each.get_text() for each in page.soup.select("main ol.history .changes")]
    return [each for each in links if "cursor=" not in each and "format=" not in each] + rows


def to(page: Shown, rel: str) -> str:
    found = page.soup.select(f"main a[rel={rel}]")
    return str(found[0]["href"]) if found else ""


def test_every_list_goes_forwards_and_back_through_the_same_pages(crowded: World) -> None:
    browser = Browser(crowded.site)
    for place in PAGED:
        pages = [browser.get(place)]
        assert not to(pages[0], "prev"), place
        while onward := to(pages[-1], "next"):
            pages.append(browser.get(onward))
        assert len(pages) > 1, place
        at = pages[-1]
        for before in reversed(pages[:-1]):
            at = browser.get(to(at, "prev"))
            assert shown(at) == shown(before), place
            assert to(at, "next"), place
        assert not to(at, "prev") and "First page" not in at.links(), place
        assert "First page" in pages[-1].links(), place


def rows(answer: Shown) -> list[dict[str, str]]:
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="[\w.-]+\.csv"', answer.headers["Content-Disposition"])
    return list(csv.DictReader(io.StringIO(answer.body)))


LISTS = {
    # list: how many rows its CSV has, whatever a page holds; None where that is not of this scene
    "/machines": 61,
    "/builds": 121,
    "/rack": 55,
    "/networks": 56,
    "/networks/lab": 1,
    "/history?kind=machine": 93,
    "/machines/web01/history": 34,
    "/machines/web01/builds": 121,
    "/machines/web01/parameters": None,
    "/profiles/rocky9/history": 22,
    "/templates/script/tiny.sh.j2/history": 22,
    "/profiles": None,
    "/templates": None,
    "/distros": 1,
    "/users": None,
    "/tokens": 1,
    "/webhooks": 1,
    "/health": None,
    "/settings": None,
}


def test_every_list_offers_all_its_rows_as_csv_without_a_formula(crowded: World) -> None:
    browser = Browser(crowded.site)
    tokens.add(crowded.site, ACTOR, "a-admin", "inventory", {})
    webhooks.add(crowded.site, ACTOR, "chat", {"url": "http://192.0.2.1/hook", "description": EVIL})
    for place, count in LISTS.items():
        offered = [str(each["href"]) for each in browser.get(place).soup.select("main a[href*='format=csv']")]
        offered = [each for each in offered if not each.startswith("/machines:export")]
        assert len(offered) == 1, (place, offered)
        found = rows(browser.get(offered[0]))
        assert len(found) == count if count is not None else found, place
        values = itertools.chain.from_iterable(each.values() for each in found)
        assert [each for each in values if each.startswith(("=", "+", "-", "@"))] == [], place


def test_a_csv_of_what_waits_says_where_it_is(world: World) -> None:
    world.subnet()
    arrives(world.site, MAC, "127.0.2.60", serial="S1", switch="sw1", switch_port="12")
    arrives(world.site, "52:54:00:dd:00:02", "127.0.2.61", serial="S2")
    (found,) = rows(Browser(world.site).get("/rack?format=csv&q=S1"))
    assert (found["mac"], found["serial"], found["address"], found["times"]) == (MAC, "S1", "127.0.2.60", "1")


def test_addresses_in_use_are_a_file_too(world: World) -> None:
    world.ready()
    (found,) = rows(Browser(world.site).get("/networks/lab?format=csv"))
    assert (found["ip"], found["machine"], found["mac"]) == ("127.0.2.11", "web01", MAC)


def test_findings_are_a_file_too(world: World) -> None:
    arming_needs = rows(Browser(world.site).get("/health?format=csv"))
    assert {each["level"] for each in arming_needs} <= {"error", "warning"} and arming_needs[0]["remedy"]


def test_what_can_be_listed_stands_in_the_navigation_of_who_may_see_it(site: Site) -> None:
    """Every page with a fixed address and one word is there, or is the place of something in particular."""
    elsewhere = {"/account", "/login", "/live"}
    places = {page.rule: page for page in ui.pages() if page.method == "GET" and re.fullmatch(r"/\w*", page.rule)}
    for role in Role:
        browser = Browser(site, role=role)
        told = {str(each["href"]) for each in browser.get("/account").soup.select("nav.side a")}
        wanted = {
            rule
            for rule, page in places.items()
            if rule not in elsewhere and (page.noun is None or allows(role, page.noun, page.verb))
        }
        assert told == wanted, role


@pytest.mark.parametrize(
    ("place", "title"),
    [
        ("/machines", "Machines"),
        ("/machines:add", "Machines"),
        ("/health", "Health"),
        ("/images", "Images"),
        ("/webhooks:add", "Webhooks"),
        ("/profiles/rocky9", "Profiles"),
        ("/history/verify", "History"),
    ],
)
def test_the_navigation_says_where_one_is(site: Site, place: str, title: str) -> None:
    (here,) = Browser(site).get(place).soup.select("nav.side a[aria-current=page]")
    assert here.get_text() == title


NAMES = ("add", "import", "bulk", "plans", "new", "edit", "mine", "states", "tags", "export", "api", "static", "live")


def test_a_machine_may_have_the_name_of_anything_here(world: World) -> None:
    world.subnet()
    browser = Browser(world.site)
    for number, name in enumerate(NAMES):
        made = browser.post("/machines:add", **{"name": name, "count": "1", "mac-0": f"52:54:00:aa:00:{number:02x}"})
        assert made.place == f"/machines/{name}"
        for below in ("", "/edit", "/history", "/builds", "/remove"):
            page = browser.get(f"/machines/{name}{below}")
            assert page.status == 200 and name in page.one("h1").get_text(), (name, below)
        assert browser.get(f"/rack/machine/{name}").one("h1").get_text() == name
        assert browser.post(f"/machines/{name}/act", act="protect").place == f"/machines/{name}"


def test_a_network_a_profile_and_a_user_too(world: World) -> None:
    subnets.add(world.site, ACTOR, "add", "10.1.0.0/24", {})
    profiles.add(world.site, ACTOR, {"name": "add", "parent": "rocky9"})
    browser = Browser(world.site)
    assert "10.1.0.0/24" in browser.get("/networks/add").one("h1").get_text()
    assert browser.get("/profiles/add").one("h1").get_text() == "add"


def test_no_fixed_address_hides_that_of_an_object(world: World) -> None:
    """An address with a name in it means that name, whatever it is."""
    rules = {(page.method, page.rule) for page in ui.pages()}
    for method, rule in rules:
        if "<name>" not in rule:
            continue
        pattern = re.compile(re.sub(r"<\w+>", "[^/<]+", rule))
        hidden = [other for other_method, other in rules if other_method == method and pattern.fullmatch(other)]
        assert hidden == [], rule


def test_the_build_of_a_machine_is_reached_by_every_name(world: World) -> None:
    world.subnet()
    world.distro()
    world.machine("import")
    build = arming.start(world.site, ACTOR, "import")
    page = Browser(world.site).get("/machines/import")
    assert f"/builds/{build['id']}" in page.links().values()
