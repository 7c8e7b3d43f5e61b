"""The list of builds: filters in the address, pages, CSV, what it says of each."""

import csv
import io

import pytest
from sqlalchemy import insert, select
from uiclient import Browser, Shown
from uilife import Life
from world import ACTOR, World

from provisioner.services import arming, builds
from provisioner.store.engine import write
from provisioner.store.models import Build

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(world: World) -> Browser:
    """With a failed build and a configured one of web01, and an armed one of web02."""
    world.armed()
    Life(world.site).boots().says("packages").says("failed", "no space left")
    arming.start(world.site, ACTOR, "web01")
    Life(world.site).boots().says("built").done()
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    arming.start(world.site, ACTOR, "web02")
    return Browser(world.site)


def rows(shown: Shown) -> list[str]:
    """The words of each row."""
    return [" ".join(each.get_text(" ").split()) for each in shown.soup.select("tbody tr")]


def test_builds_stand_newest_first_with_what_became_of_them(browser: Browser) -> None:
    page = browser.get("/builds")
    first, second, third = rows(page)
    assert first.startswith("web02 build 1 , rocky9 armed waiting for the machine to boot. It waits for")
    assert "the machine to boot from the network: power it on" in first
    assert second.startswith("web01 build 2 , rocky9 configured done")
    assert third.startswith("web01 build 1 , rocky9 failed no space left , while installing packages")
    assert page.one("body")["sse-connect"] == "/live"


def test_filters_are_kept_in_the_address(browser: Browser) -> None:
    tabs = {
        " ".join(each.get_text(" ").split()): each["href"] for each in browser.get("/builds").soup.select(".tabs a")
    }
    assert tabs == {
        "all 3": "/builds",
        "armed 1": "/builds?state=armed",
        "configured 1": "/builds?state=configured",
        "failed 1": "/builds?state=failed",
    }
    failed = browser.get(tabs["failed 1"])
    assert len(rows(failed)) == 1 and "no space left" in rows(failed)[0]
    assert failed.one(".tabs a[aria-current]")["href"] == "/builds?state=failed"
    assert failed.one("#builds")["hx-get"] == "/builds?state=failed"
    assert failed.one("form.seek input[name=state]")["value"] == "failed"
    both = browser.get("/builds?state=failed&q=web02")
    assert rows(both) == []
    assert len(rows(browser.get("/builds?q=web02"))) == 1
    assert len(rows(browser.get("/builds?machine=web01"))) == 2


def test_a_fragment_is_the_rows_alone(browser: Browser) -> None:
    part = browser.get("/builds?state=armed", fragment=True)
    assert len(rows(part)) == 1 and not part.soup.select("h1, nav.side, main")


def test_what_fits_nothing_says_so(browser: Browser) -> None:
    assert "web99 was never built, or there is no such machine." in browser.get("/builds?machine=web99").main
    assert "None is cancelled at the moment." in browser.get("/builds?state=cancelled").main
    assert "No machine with “zz” in its name was built." in browser.get("/builds?q=zz").main
    refused = browser.get("/builds?state=nonsense")
    assert refused.status == 400 and "one of armed" in refused.main


def test_an_empty_list_says_what_to_do_first(world: World) -> None:
    page = Browser(world.site).get("/builds")
    assert "No builds yet" in page.main
    assert {"/machines", "/rack"} <= set(page.links().values())


def test_pages_hold_every_build_once(browser: Browser, world: World) -> None:
    with write(world.site.engine) as session:
        shape = session.execute(select(Build.__table__).limit(1)).mappings().one()
        made = [dict(shape) | {"id": 100 + number, "number": 100 + number} for number in range(120)]
        session.execute(insert(Build), made)
    seen: list[str] = []
    place = "/builds?q=web"
    while place:
        page = browser.get(place)
        seen += [str(each["id"]) for each in page.soup.select("tbody tr")]
        assert len(page.soup.select("tbody tr")) <= 50
        place = page.links().get("Next page", "")
        assert not place or "q=web" in place
    assert len(seen) == len(set(seen)) == 123


def test_csv_has_every_build_and_no_formula(browser: Browser, world: World) -> None:
    arming.start(world.site, ACTOR, "web01")
    Life(world.site).boots().says("failed", "=HYPERLINK(1)")
    place = browser.get("/builds?state=failed").links()["CSV"]
    assert place == "/builds?state=failed&format=csv"
    answer = browser.get(place)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="builds.csv"'
    found = list(csv.DictReader(io.StringIO(answer.body)))
    assert [(each["machine"], each["number"], each["outcome"]) for each in found] == [
        ("web01", "3", "'=HYPERLINK(1)"),
        ("web01", "1", "no space left"),
    ]
    assert browser.get("/builds?machine=web99&format=csv").status == 200


def test_s54_what_a_machine_said_is_text(browser: Browser, world: World) -> None:
    hostile = "<svg onload=alert(1)></td><script>alert(1)</script>"
    arming.start(world.site, ACTOR, "web01")
    Life(world.site).boots().says("failed", hostile)
    for place in ("/builds", "/", "/rack/machine/web01"):
        page = browser.get(place)
        assert hostile in page.main and not page.soup.select("main svg, main script")


def test_the_same_calls_work(browser: Browser, world: World) -> None:
    shown = browser.get("/builds?machine=web01").one(".same").get_text()
    assert "provisioner build list web01" in shown and "/api/v1/builds?machine=web01" in shown
    assert [each["number"] for each in builds.listing(world.site, "web01")] == [2, 1]
