"""A machine's page: what it is, what it waits for, where each value came from, and what may be done with it."""

import csv
import io

import pytest
from uiclient import Browser
from world import ACTOR, IP, MAC, World, token_in

from provisioner.services import arming, attempts, boot, builds, machines, profiles, reports, subnets
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

HOSTILE = "<svg onload=alert(1)>\"'><img src=x>{{7*7}}\u202ecod.exe"


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


def booted(site: Site) -> str:
    """web01 boots and fetches its answer; its event token."""
    script = boot.boot_script(site, BootRequest(MAC, IP)).text
    answer = attempts.fetch(site, token_in(script, "answer"), "answer", IP).text
    return token_in(answer, "event")


def test_it_says_what_it_is_and_what_its_next_boot_does(browser: Browser, world: World) -> None:
    world.ready(tags=["rack4"], serial="ABC123", description="third from the top", inventory="netbox/17")
    page = browser.get("/machines/web01")
    assert page.status == 200
    for words in (MAC, IP, "ABC123", "third from the top", "netbox/17", "ready", "It was never built here."):
        assert words in page.main, words
    assert "It boots its local disk : the machine is ready." in page.main
    assert "first script" in page.one("#chain").get_text(" ")
    assert page.links()["rocky9"] == "/profiles/rocky9"
    assert page.links()["rack4"] == "/machines?tag=rack4"
    assert page.links()["lab"] == "/networks/lab"
    assert [each.get_text() for each in page.soup.select("h1")] == ["web01"]


def test_a_mac_in_any_spelling_leads_to_its_machine(browser: Browser, world: World) -> None:
    world.ready()
    assert browser.follow(browser.get("/machines/5254.0012.3456")).status == 200
    assert browser.get("/machines/nobody").status == 404


def test_the_chain_is_shown_for_the_other_firmware_too(browser: Browser, world: World) -> None:
    world.armed()
    page = browser.get("/machines/web01")
    assert "snponly.efi" in page.one("#chain").get_text()
    other = browser.get(page.links()["Show it for BIOS"], fragment=True)
    assert "undionly.kpxe" in other.text
    assert not other.soup.select("html"), "a part alone"
    assert "It is installed with rocky9, and its disks are wiped" in page.main
    assert builds.show(browser.site, "web01")["attempts"] == 0, "looking opens no attempt"


def test_a_machine_without_a_mac_says_so_in_place_of_the_chain(browser: Browser, world: World) -> None:
    world.subnet()
    world.machine(mac=None)  # type: ignore[arg-type]
    page = browser.get("/machines/web01")
    assert page.status == 200
    assert "no MAC address of web01 is known" in page.main


def test_facts_are_shown_as_they_were_said(browser: Browser, world: World, site: Site) -> None:
    from provisioner.store.engine import write
    from provisioner.store.models import Machine

    world.ready()
    nics = [{"name": "eth0", "mac": MAC, "speed": 10000}, {"name": "eth1", "mac": HOSTILE}]
    with write(site.engine) as session:
        session.query(Machine).one().facts = {"product": HOSTILE, "nics": nics, "cpu": {"cores": 8}, "flags": ["a", 1]}
    page = browser.get("/machines/web01")
    assert page.main.count(HOSTILE) == 2, "inert text"
    assert not page.soup.select("main svg, main img")
    assert "cores: 8" in page.main
    assert "eth0" in page.main


def test_each_effective_value_says_where_it_came_from(browser: Browser, world: World) -> None:
    world.ready(parameters={"motd": HOSTILE}, kernel_options=["!quiet"])
    subnets.edit(world.site, ACTOR, "lab", {"parameters": {"timezone": "Asia/Tokyo"}})
    profiles.edit(world.site, ACTOR, "rocky9", {"kernel_options": ["quiet", "console=ttyS0"]})
    page = browser.get("/machines/web01/parameters")
    rows = {
        str(row.td.get_text(" ", strip=True)): [each.get_text(" ", strip=True) for each in row.select("td")]
        for row in page.soup.select("#main tbody tr")
        if row.td is not None
    }
    assert rows["motd"] == ["motd", HOSTILE, "this machine", ""]
    assert rows["timezone"][1:3] == ["Asia/Tokyo", "subnet lab"]
    assert "profile" in rows["timezone"][3]
    assert rows["console=ttyS0"][1] == "profile rocky9"
    assert rows["quiet taken away"] == ["quiet taken away", "this machine", "profile rocky9"]
    assert page.links()["subnet lab"] == "/networks/lab"


def test_parameters_as_csv_hold_no_formula(browser: Browser, world: World) -> None:
    world.ready(parameters={"evil": "=cmd|' /C calc'!A0"})
    answer = browser.get("/machines/web01/parameters?format=csv")
    rows = {each["name"]: each for each in csv.DictReader(io.StringIO(answer.body))}
    assert rows["evil"]["value"] == "'=cmd|' /C calc'!A0"
    assert rows["evil"]["source"] == "machine web01"


def test_the_way_of_a_build_and_what_it_waits_for(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    page = browser.get("/machines/web01")
    assert page.one(".stage-now .stage-title").get_text() == "DHCP"
    assert "Waits for the machine to boot from the network , for" in page.main
    assert "Power it on." in page.main
    token = booted(site)
    page = browser.get("/machines/web01/now", fragment=True)
    assert page.one(".stage-now .stage-title").get_text() == "Installer"
    assert "Waits for the installer's first report" in page.text
    assert "If that takes long: watch the machine's console for a question" in page.text
    reports.event(site, token, IP, Report("disk", "wiping sda"))
    assert "disk: wiping sda" in browser.get("/machines/web01/now", fragment=True).one(".stage-now").get_text()
    reports.event(site, token, IP, Report("built"))
    page = browser.get(f"/builds/{armed['id']}")
    assert page.one(".stage-now .stage-title").get_text() == "Handoff"
    assert [each.get_text() for each in page.soup.select(".events strong")][-2:] == ["disk", "built"]


def test_the_living_part_is_sent_only_when_it_is_another(browser: Browser, world: World, site: Site) -> None:
    world.armed()
    there = str(browser.get("/machines/web01").one("#now")["hx-get"])
    assert browser.get(there, fragment=True).status == 204
    booted(site)
    renewed = browser.get(there, fragment=True)
    assert renewed.status == 200
    assert "installing" in renewed.text
    assert str(renewed.one("#now")["hx-get"]) != there
    chain = str(browser.get("/machines/web01").one("#boot")["hx-get"])
    assert browser.get(chain, fragment=True).status == 204
    builds.cancel(site, ACTOR, "web01")
    assert "It boots its local disk" in browser.get(chain, fragment=True).text


def test_the_page_is_live(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    assert browser.get("/machines/web01").one("body")["sse-connect"] == "/live"
    booted(site)
    assert browser.get("/machines/web01").one("body")["sse-connect"] == f"/live?build={armed['id']}"


def test_a_failed_build_says_why_with_the_end_of_its_log(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    log = "\n".join(f"line {number}" for number in range(40)) + f"\n{HOSTILE}"
    reports.event(site, booted(site), IP, Report("failed", "no disk found", log))
    for place in ("/machines/web01", f"/builds/{armed['id']}"):
        page = browser.get(place)
        assert "The build failed: no disk found" in page.main
        assert HOSTILE in page.main
        assert "line 38" in page.main
        assert "line 3 " not in page.main
        assert page.one(".stage-failed .stage-title").get_text() == "Installer"
    assert "It stops with a message on its console" in browser.get("/machines/web01").main
    assert page.links()["Build it again"] == "/machines/web01/build"
    assert "line 3" in browser.get(page.links()["The whole log"]).main


def test_a_halted_build_waits_for_a_person_who_may_let_it_go_on(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    reports.event(site, booted(site), IP, Report("disk"))
    boot.boot_script(site, BootRequest(MAC, IP))
    page = browser.get("/machines/web01")
    assert "It waits for you: an earlier attempt of this build already wrote to a disk" in page.main
    fields = page.fields("#ask-continue form")
    answer = browser.post(f"/builds/{armed['id']}/continue", **(fields | {"reason": "looked at the console"}))
    page = browser.follow(answer)
    assert answer.place == "/machines/web01"
    assert "Build 1 of web01 may make one more attempt." in page.text
    assert "It is installed with rocky9, and its disks are wiped" in page.main


def test_a_failed_handoff_is_retried(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    token = booted(site)
    handoff = token_in(builds.sealed(site, "web01")["files"]["handoff"].replace("x" * 54, "y" * 54), "configured")
    assert handoff
    reports.event(site, token, IP, Report("built"))
    from provisioner.core.lifecycle import Trigger
    from provisioner.services.lives import apply_trigger
    from provisioner.store.engine import write
    from provisioner.store.models import Build

    with write(site.engine) as session:
        apply_trigger(session, session.get_one(Build, armed["id"]), Trigger.FAILED, "handoff: no catalog")
    page = browser.get("/machines/web01")
    assert "The handoff failed: handoff: no catalog" in page.main
    assert "The machine is installed and boots its disk." in page.main
    answer = browser.post(f"/builds/{armed['id']}/retry-handoff", **page.fields("#ask-handoff form"))
    assert "waits for its handoff again" in browser.follow(answer).text
    assert builds.show(site, "web01")["state"] == "built"


def test_the_preview_shows_what_would_be_sealed_and_why_not(browser: Browser, world: World) -> None:
    world.ready()
    page = browser.get("/machines/web01/preview")
    assert "network --hostname='web01'" in page.one("pre.code").get_text()
    assert "#!ipxe" in browser.get("/machines/web01/preview?file=ipxe").one("pre.code").get_text()
    assert "x" * 54 in page.body, "tokens are masked"
    machines.edit(world.site, ACTOR, "web01", {"profile": None})
    page = browser.get("/machines/web01/preview")
    assert page.status == 200
    assert "web01 has no profile" in page.main


def test_a_flag_is_shown_and_taken_down(browser: Browser, world: World, site: Site) -> None:
    from provisioner.store.engine import write
    from provisioner.store.models import Machine

    world.ready()
    with write(site.engine) as session:
        session.query(Machine).one().flag = f"two machines {HOSTILE}"
    page = browser.get("/machines/web01")
    assert f"Flagged: two machines {HOSTILE}" in page.main
    answer = browser.follow(browser.post("/machines/web01/act", act="clear-flag"))
    assert "The flag of web01 is down." in answer.text
    assert machines.show(site, "web01")["flag"] == ""


def test_protecting_and_retiring_it(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    assert browser.get("/machines/web01").links()["Build…"] == "/machines/web01/build"
    page = browser.follow(browser.post("/machines/web01/act", **browser.get("/machines/web01").fields("#ways form")))
    assert "web01 is protected: no build, no wipe" in page.text
    assert "Build…" not in page.links()
    assert "Remove…" not in page.links()
    page = browser.get("/machines/web01/build")
    assert "web01 is protected" in page.main
    assert not page.soup.select("main form[action$='/build']")
    answer = browser.post("/machines/web01/build")
    assert answer.status == 409
    assert "web01 is protected: no build, no wipe" in answer.main
    browser.post("/machines/web01/act", act="unprotect")
    page = browser.follow(browser.post("/machines/web01/act", act="retire"))
    assert machines.show(site, "web01")["retired"]
    assert "Build…" not in page.links()
    stale = browser.post("/machines/web01/act", act="restore", revision="1.1")
    assert stale.status == 412
    assert "restore" in stale.body, "the page with its buttons is there again"
    assert browser.post("/machines/web01/act", act="explode").status == 400


def test_secrets_are_set_and_never_shown(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    sent = {
        "secret": "join_key",
        "value": "correct-horse-battery",
        "revision": machines.show(site, "web01")["revision"],
    }
    page = browser.follow(browser.post("/machines/web01/secret", **sent))
    assert "The secret join_key of web01 is set." in page.text
    assert "join_key" in machines.show(site, "web01")["secrets"]
    assert "correct-horse-battery" not in browser.get("/machines/web01/history").body
    wrong = browser.post("/machines/web01/secret", secret="Join Key", value="x")
    assert wrong.status == 400
    assert "is not a parameter's name" in wrong.one(".field.wrong").get_text()
    assert browser.post("/machines/web01/secret", secret="join_key", value="").status == 400
    browser.follow(browser.post("/machines/web01/secret", secret="join_key", remove="yes"))
    assert machines.show(site, "web01")["secrets"] == {}


def test_removing_it_asks_first(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    page = browser.get("/machines/web01/remove")
    assert MAC in page.main
    fields = page.fields("main form")
    machines.edit(site, ACTOR, "web01", {"description": "in use after all"})
    stale = browser.post("/machines/web01/remove", **fields)
    assert stale.status == 412
    answer = browser.post("/machines/web01/remove", **stale.fields("main form"))
    assert answer.place == "/machines"
    assert browser.get("/machines/web01").status == 404


def test_its_builds_and_its_history(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    assert "Never built" in browser.get("/machines/web01/builds").main
    arming.start(site, ACTOR, "web01")
    machines.edit(site, ACTOR, "web01", {"description": HOSTILE})
    page = browser.get("/machines/web01/builds")
    assert page.links()["Build 1"] == f"/builds/{builds.show(site, 'web01')['id']}"
    rows = list(csv.DictReader(io.StringIO(browser.get("/machines/web01/builds?format=csv").body)))
    assert [(each["number"], each["state"]) for each in rows] == [("1", "armed")]
    page = browser.get("/machines/web01/history")
    assert "tester changed web01" in page.main
    assert HOSTILE in page.one(".changes ins").get_text()
    assert "tester armed build 1 of web01" in page.main


def test_a_discovered_machine_waits_for_a_decision(browser: Browser, world: World, site: Site) -> None:
    from provisioner.core.facts import Facts
    from provisioner.services.discovery import Sighting, record

    world.subnet()
    record(site, [Sighting(MAC, IP, Facts(said={"product": "R650"}), is_new=True)])
    world.machine(profile=None)
    page = browser.get("/machines/web01")
    assert "Nobody has decided yet what becomes of it." in page.main
    assert "It waits in the discovery script and asks again" in page.main
    assert "It has no profile, so it cannot be built. Choose a profile" in page.main
    fields = page.fields("#ways form")
    assert fields["act"] == "ready"
    page = browser.follow(browser.post("/machines/web01/act", **fields))
    assert "web01 is ready: its next boot goes to its disk." in page.text
    assert machines.show(site, "web01")["state"] == "ready"


def test_a_build_that_is_silent_for_too_long_seems_stuck(browser: Browser, world: World, site: Site) -> None:
    from datetime import timedelta

    from provisioner.store.engine import write
    from provisioner.store.models import Event

    world.armed()
    booted(site)
    assert "It seems stuck." not in browser.get("/machines/web01").main
    with write(site.engine) as session:
        for each in session.query(Event):
            each.at -= timedelta(days=1)
    page = browser.get("/machines/web01")
    assert "It seems stuck. Nothing came from it for" in page.main
    assert "watch the machine's console for a question" in page.one(".notice.warning").get_text()


@pytest.mark.parametrize("role", ["viewer", "author"])
def test_who_may_not_is_not_offered_and_is_refused(site: Site, world: World, role: str) -> None:
    armed = world.armed()
    profiles.edit(site, ACTOR, "rocky9", {"parameters": {"timezone": "Asia/Tokyo"}})
    browser = Browser(site, role)
    for place in ("/machines/web01", "/machines/web01/parameters", "/machines/web01/builds", f"/builds/{armed['id']}"):
        page = browser.get(place)
        assert page.status == 200
        assert not page.soup.select("main form"), place
        assert not {"Build…", "Edit", "Remove…"} & set(page.links()), place
    assert "changed after build 1 was armed" in browser.get("/machines/web01").main
    for place in ("edit", "build", "remove"):
        assert browser.get(f"/machines/web01/{place}").status == 403
        assert browser.post(f"/machines/web01/{place}").status == 403
    for place in ("act", "secret"):
        assert browser.post(f"/machines/web01/{place}", act="protect", secret="x", value="y").status == 403
    for place in ("cancel", "continue", "retry-handoff", "reseal", "repeat"):
        assert browser.post(f"/builds/{armed['id']}/{place}").status == 403
    assert builds.show(site, "web01")["state"] == "armed"


def test_every_page_says_how_a_script_does_it(browser: Browser, world: World) -> None:
    armed = world.armed()
    tabs = ("", "/parameters", "/preview", "/builds", "/history", "/edit", "/build", "/remove", "/boot")
    places = [f"/machines/web01{tab}" for tab in tabs]
    places += [f"/builds/{armed['id']}{tab}" for tab in ("", "/files", "/diff", "/changes", "/log", "/repeat")]
    for place in places:
        page = browser.get(place)
        assert page.status == 200, place
        told = page.one("details.same").get_text()
        assert "provisioner " in told, place
        assert "$PROVISIONER_URL/api/v1/" in told, place
        assert not page.soup.select("[style], main script, [onclick]"), place
