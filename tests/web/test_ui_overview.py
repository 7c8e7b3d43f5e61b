"""The overview: failed and stuck first with the diagnosis, time against the median, arrivals, health, first steps."""

import shutil
import threading

import pytest
from sqlalchemy import update
from uiclient import Browser, Shown
from uilife import Life, arrives, goes_by
from world import ACTOR, World

from provisioner.core.policy import Role
from provisioner.services import arming, builds, check, health, machines, overview
from provisioner.services.check import Finding
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Build, Machine

pytestmark = pytest.mark.slow

HOSTILE = "<svg onload=alert('xss')>\"'><script>alert(1)</script>"
STRANGER = "52:54:00:aa:00:01"


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


def part(shown: Shown, name: str) -> str:
    """The words of one section."""
    return " ".join(shown.one(f"#{name}").get_text(" ").split())


def stopped(shown: Shown) -> Shown:
    """The same without what counts on by itself."""
    for clock in shown.soup.select("time[data-running], time[data-ago]"):
        clock.string = "a while"
    return shown


def test_a_new_installation_shows_what_to_do_first(browser: Browser, world: World) -> None:
    page = browser.get("/")
    steps = page.soup.select(".first-steps > li")
    assert [each.h3.get_text() for each in steps if each.h3] == [
        "Describe a network",
        "Bring something to install",
        "Meet your first machine",
        "Choose what it becomes",
        "Build it",
    ]
    assert not page.soup.select("table"), "no empty tables"
    assert {"/networks", "/distros", "/rack", "/machines:add", "/profiles"} <= set(page.links().values())
    world.ready()
    done = [each.h3.get_text() for each in browser.get("/").soup.select(".first-steps > .done") if each.h3]
    assert done == [
        "Describe a network (done)",
        "Bring something to install (done)",
        "Meet your first machine (done)",
        "Choose what it becomes (done)",
    ]
    arming.start(world.site, ACTOR, "web01")
    assert not browser.get("/").soup.select(".first-steps")


def test_builds_under_way_show_their_live_step_and_where_they_stand(browser: Browser, world: World) -> None:
    world.armed()
    assert "armed waiting for the machine to boot" in part(browser.get("/"), "under-way")
    life = Life(world.site).boots().says("packages")
    shown = browser.get("/overview/builds", fragment=True)
    told = part(shown, "under-way")
    assert "1 build under way" in told and "web01 build 1 , rocky9" in told
    assert "installing installing packages" in told
    assert "the installer to finish: it is installing the packages" in told
    assert "no earlier build of rocky9 to compare with" in told
    assert shown.one(".reach")["aria-label"] == "stage 3 of 5"
    assert len(shown.soup.select(".reach i.on")) == 3
    life.says("built")
    assert "starting from its own disk" in part(browser.get("/"), "under-way")
    life.done()
    ended = part(browser.get("/"), "under-way")
    assert "None at the moment" in ended


def test_elapsed_time_stands_against_the_median_of_the_profile(browser: Browser, world: World) -> None:
    world.ready()
    for number, seconds in enumerate((100, 300, 500)):
        name, mac, ip = f"old{number}", f"52:54:00:12:35:0{number}", f"127.0.2.2{number}"
        world.machine(name, mac, ip)
        arming.start(world.site, ACTOR, name)
        life = Life(world.site, mac, ip).boots()
        goes_by(world.site, seconds)
        life.says("built").done()
    arming.start(world.site, ACTOR, "web01")
    Life(world.site).boots().says("disk")
    goes_by(world.site, 60)
    shown = browser.get("/")
    assert "usually 5 min" in part(shown, "under-way")
    bar = shown.one("#under-way progress")
    assert (float(str(bar["max"])), bar["aria-label"]) == (pytest.approx(300, abs=5), "web01: time against the usual")
    assert 55 < float(str(bar["value"])) < 80
    assert "longer than usual" not in part(shown, "under-way")
    goes_by(world.site, 600)
    later = browser.get("/")
    assert "longer than usual" in part(later, "under-way")
    assert later.one("#under-way progress")["value"] == later.one("#under-way progress")["max"]


def test_failed_ones_stand_first_with_what_they_said(browser: Browser, world: World) -> None:
    world.armed()
    Life(world.site).boots().says("packages").says(
        "failed", "no space left", log="line 1\n\nPV /dev/sda3\nE: disk full\n"
    )
    page = browser.get("/")
    told = part(page, "attention")
    assert "Needs you" in told
    assert "no space left , while installing packages" in told
    assert page.one("#attention pre").get_text() == "line 1\nPV /dev/sda3\nE: disk full"
    build = builds.show(world.site, "web01")["id"]
    assert page.links()["its build's page"] == f"/builds/{build}"
    assert page.body.index('id="attention"') < page.body.index('id="counts"') < page.body.index('id="under-way"')


def test_a_failure_of_an_earlier_build_is_no_trouble_any_more(browser: Browser, world: World) -> None:
    world.armed()
    Life(world.site).boots().says("failed", "no space left")
    assert overview.failed(world.site)["total"] == 1
    arming.start(world.site, ACTOR, "web01")
    assert overview.failed(world.site) == {"items": [], "total": 0}
    assert "no space left" not in browser.get("/").main
    Life(world.site).boots().says("failed", "no kernel")
    told = overview.failed(world.site)
    assert ([each["outcome"] for each in told["items"]], told["total"]) == (["no kernel"], 1)


def test_a_failed_handoff_is_said_to_run(browser: Browser, world: World) -> None:
    world.armed()
    Life(world.site).boots().says("built").done(ok=False, message="puppet failed")
    told = part(browser.get("/"), "attention")
    assert "handoff: puppet failed . The system is installed and runs; its handoff failed." in told


def test_stuck_ones_are_told_with_what_they_wait_for(browser: Browser, world: World) -> None:
    world.armed()
    Life(world.site).boots().says("disk")
    goes_by(world.site, 1000)
    assert "Needs you" not in browser.get("/").main
    goes_by(world.site, 1000)
    told = part(browser.get("/"), "attention")
    assert "stuck" in told
    assert "No sign for 33 min" in told and "while writing to the disk" in told
    assert "It waits for the installer to finish: it is writing to the disk" in told


def test_an_armed_build_that_nobody_boots_is_stuck_after_an_hour(browser: Browser, world: World) -> None:
    world.armed()
    goes_by(world.site, 3000)
    assert overview.stuck(world.site)["total"] == 0
    goes_by(world.site, 1000)
    assert "the machine to boot from the network: power it on" in part(browser.get("/"), "attention")


def test_a_machine_that_does_not_get_beyond_dhcp_is_stuck_within_minutes(browser: Browser, world: World) -> None:
    from provisioner.services.lives import add_event, latest_build

    world.armed()
    for _ in range(3):
        with write(world.site.engine) as session:
            build = latest_build(session, machines.find(session, "web01"))
            assert build is not None
            add_event(session, build, "dhcp", "127.0.2.11")
        goes_by(world.site, 70)
    told = part(browser.get("/"), "attention")
    assert "is TFTP (UDP 69) open between the machine and this server?" in told


def test_a_halted_build_says_why(browser: Browser, world: World) -> None:
    world.armed()
    Life(world.site).boots().says("disk")
    goes_by(world.site, 120)
    with pytest.raises(AssertionError, match="no /build"):
        Life(world.site).boots()
    told = part(browser.get("/"), "attention")
    assert "halted" in told and "let it boot once more, or cancel it" in told
    assert "disk" in told


def test_a_stranger_who_raises_a_flag_does_not_hide_that_a_build_is_stuck(browser: Browser, world: World) -> None:
    world.armed(serial="9ZZZ1")
    Life(world.site).boots().says("disk")
    goes_by(world.site, 2000)
    arrives(world.site, STRANGER, "127.0.2.66", serial="9ZZZ1")
    told = part(browser.get("/"), "attention")
    assert "No sign for 33 min" in told and "web01 flagged" in told
    assert "It waits for the installer to finish: it is writing to the disk" in told


def test_flagged_machines_are_told(browser: Browser, world: World) -> None:
    world.ready()
    with write(world.site.engine) as session:
        session.execute(update(Machine).values(flag=f"its board was swapped {HOSTILE}"))
    page = browser.get("/")
    assert f"web01 flagged its board was swapped {HOSTILE}" in part(page, "attention")
    assert not page.soup.select("main svg, main script")


def test_new_machines_show_up_with_what_they_said(browser: Browser, world: World) -> None:
    world.subnet()
    assert "Nobody waits" in part(browser.get("/"), "arrivals")
    arrives(world.site, STRANGER, "127.0.2.66", manufacturer=HOSTILE, product="R650", serial="7XK2Q03")
    page = browser.get("/")
    told = part(page, "arrivals")
    assert "R650" in told and "7XK2Q03" in told and STRANGER in told and "127.0.2.66" in told
    assert f"/rack/new/{STRANGER}" in page.links().values()
    assert not page.soup.select("main svg, main script")


def test_machines_are_counted_by_state(browser: Browser, world: World) -> None:
    world.armed()
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    tiles = {" ".join(each.get_text(" ").split()): each["href"] for each in browser.get("/").soup.select(".tiles a")}
    assert tiles == {
        "2 machines": "/machines",
        "1 ready": "/machines?state=ready",
        "1 building": "/machines?state=building",
    }


def test_every_live_part_fetches_the_same_that_the_page_shows(browser: Browser, world: World) -> None:
    world.armed()
    arrives(world.site, STRANGER, "127.0.2.66")
    health.look(world.site, peoples=True)
    page = browser.get("/")
    assert page.one("body")["sse-connect"] == "/live"
    for name in ("counts", "attention", "under-way", "arrivals", "health"):
        section = page.one(f"#{name}")
        again = browser.get(str(section["hx-get"]), fragment=True)
        assert again.one(f"#{name}")["hx-get"] == section["hx-get"]
        assert part(stopped(again), name) == part(stopped(page), name)
        assert all(each.get("id") for each in again.soup.select("a[class], pre")), "focus is kept by id"
    ids = [each["id"] for each in page.soup.select("[id]")]
    assert len(ids) == len(set(ids))


def test_health_shows_the_findings_of_check_with_the_remedy(browser: Browser, world: World) -> None:
    page = browser.get("/health?again=1")
    found = [each for each in check.run(world.site) if each.what == "there is no subnet"]
    assert found and found[0].what in page.main and found[0].why in page.main and found[0].remedy in page.main
    world.subnet(boot_url="http://127.0.0.1:8080")
    again = browser.get("/health?again=1")
    assert "there is no subnet" not in again.main
    assert set(page.links()) >= {"Check again", "Overview"}


def test_health_is_looked_for_behind_the_overview(browser: Browser, site: Site) -> None:
    section = browser.get("/").one("#health")
    assert (section["hx-trigger"], section["hx-get"]) == ("load", "/overview/health")
    shown = browser.get("/overview/health", fragment=True)
    assert "there is no subnet" in shown.text
    assert shown.one("#health")["hx-trigger"] == "every 120s"
    assert "there is no subnet" in part(browser.get("/"), "health"), "it is known now"


def test_findings_of_users_and_tokens_are_for_administrators(
    site: Site, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    def peoples(_site: Site) -> list[Finding]:
        return [Finding("warning", "token ci-runner was not used", "why", "remedy")]

    monkeypatch.setattr(health, "_PEOPLES", (peoples,))
    assert "ci-runner" in browser.get("/health?again=1").main
    viewer = Browser(site, role=Role.VIEWER)
    assert "ci-runner" not in viewer.get("/health?again=1").main
    assert "ci-runner" not in viewer.get("/overview/health").text
    assert "there is no subnet" in viewer.get("/health").main


def test_findings_are_asked_for_once_a_minute(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(check, "run", lambda _site, only: asked.append(len(only)) or [])
    for _ in range(3):
        browser.get("/overview/health")
    assert len(asked) == 2, "those of people, and the others"
    browser.get("/health?again=1")
    assert len(asked) == 4


def test_nobody_queues_behind_a_slow_check(site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    checking, ready = threading.Event(), threading.Event()

    def slow(_site: Site, only: object) -> list[Finding]:
        checking.set()
        assert ready.wait(60)
        return []

    monkeypatch.setattr(check, "run", slow)
    thread = threading.Thread(target=lambda: health.look(site, peoples=True))
    thread.start()
    try:
        assert checking.wait(60)
        told = browser.get("/overview/health", fragment=True).one("#health")
        assert (told["hx-trigger"], "Looking" in told.get_text()) == ("load delay:2s", True)
    finally:
        ready.set()
        thread.join()
    assert "All is well" in browser.get("/overview/health", fragment=True).text


def test_a_check_that_finds_a_full_disk_is_an_error_first(
    site: Site, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(site.settings.state_dir)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    site.settings.state_dir.joinpath("keys/master.key").chmod(0o644)
    page = browser.get("/health?again=1")
    levels = [each.get_text() for each in page.soup.select(".finding .level")]
    assert levels[0] == "error" and "warning" in levels and levels == sorted(levels)
    assert "only 1 MiB are free" in page.main


def test_a_removed_machine_leaves_its_build_without_a_dead_link(browser: Browser, world: World) -> None:
    world.armed()
    builds.cancel(world.site, ACTOR, "web01")
    machines.remove(world.site, ACTOR, "web01")
    with write(world.site.engine) as session:
        build = session.query(Build).one()
    told = overview.build(world.site, build.id)
    assert (told["there"], told["machine"]) == (False, "web01")
    assert "/machines/web01" not in browser.get("/builds").links().values()
