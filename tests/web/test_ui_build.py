"""Starting a build, and its page: what is sealed, what differs, and what changed since it was armed."""

from datetime import timedelta

import pytest
from uiclient import Browser
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import Trigger
from provisioner.services import arming, attempts, boot, builds, machines, profiles, reports, templates
from provisioner.services.boot import BootRequest
from provisioner.services.lives import apply_trigger
from provisioner.services.reports import Report
from provisioner.services.site import Site, open_site
from provisioner.store.engine import write
from provisioner.store.models import Build

pytestmark = pytest.mark.slow

HOSTILE = "<svg onload=alert(1)>\"'><img src=x>{{7*7}}"


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


def booted(site: Site) -> str:
    """web01 boots and fetches its answer; its event token."""
    script = boot.boot_script(site, BootRequest(MAC, IP)).text
    return token_in(attempts.fetch(site, token_in(script, "answer"), "answer", IP).text, "event")


def test_a_build_shows_first_what_it_wipes(browser: Browser, world: World, site: Site) -> None:
    world.ready(serial="ABC123", description="third from the top")
    page = browser.get("/machines/web01/build")
    for words in ("wipes its disks", "web01", MAC, IP, "ABC123", "third from the top", "This is its first build."):
        assert words in page.main, words
    assert page.one("main form button.primary").get_text() == "Build web01"
    answer = browser.post("/machines/web01/build", **(page.fields("main form") | {"reason": "new server"}))
    assert answer.place == "/machines/web01"
    page = browser.follow(answer)
    assert "Build 1 of web01 is armed. Boot the machine from the network." in page.text
    assert page.links()["Build 1"] == f"/builds/{builds.show(site, 'web01')['id']}"
    assert "Build…" not in page.links(), "one at a time"
    assert "Build 1 is under way" in browser.get("/machines/web01/build").main


def test_values_for_one_build_alone(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    sent = {"parameters": "timezone: Asia/Tokyo\nmotd: [", "kernel_options": "console=ttyS0 quiet", "reason": "trial"}
    page = browser.post("/machines/web01/build", **sent)
    assert page.status == 400
    assert "line 2" in page.one("#f-parameters-help").get_text()
    assert page.fields("main form") | sent == page.fields("main form"), "all that was typed"
    browser.follow(browser.post("/machines/web01/build", **(sent | {"parameters": "timezone: Asia/Tokyo"})))
    sealed = builds.sealed(site, "web01")["inputs"]["request"]
    assert sealed == {"parameters": {"timezone": "Asia/Tokyo"}, "kernel_options": ["console=ttyS0", "quiet"]}


def test_somebodys_server_is_wiped_only_when_its_name_is_typed(browser: Browser, world: World, site: Site) -> None:
    world.armed()
    reports.event(site, booted(site), IP, Report("built"))
    page = browser.get("/machines/web01/build")
    assert "Type the machine's name" in page.main
    for typed in ({}, {"confirm": "web02"}):
        refused = browser.post("/machines/web01/build", **typed)
        assert refused.status == 400
        assert "web01 is built: somebody may be using it" in refused.one("#f-confirm-help").get_text()
    number = builds.show(site, "web01")["id"]
    assert browser.post(f"/builds/{number}/repeat").status == 400
    assert builds.show(site, "web01")["number"] == 1
    assert browser.post("/machines/web01/build", confirm="WEB01 ").status == 303
    assert builds.show(site, "web01")["number"] == 2


def test_what_cannot_be_built_says_why_and_what_to_do(browser: Browser, world: World, site: Site) -> None:
    world.ready(profile=None)
    page = browser.get("/machines/web01/build")
    assert "web01 has no profile" in page.main
    assert page.links()["Choose a profile"] == "/machines/web01/edit#f-profile"
    machines.edit(site, ACTOR, "web01", {"profile": "debian12"})
    page = browser.post("/machines/web01/build", reason="typed")
    assert page.status == 409
    assert "distro" in page.one(".notice.error").get_text()
    assert page.fields("main form")["reason"] == "typed"


def test_a_loop_gone_wrong_is_stopped(world: World, site: Site) -> None:
    world.ready()
    slow = open_site(site.settings.model_copy(update={"builds_per_minute": 1}))
    browser = Browser(slow)
    assert browser.post("/machines/web01/build").status == 303
    number = builds.show(slow, "web01")["id"]
    assert browser.post(f"/builds/{number}/reseal").status == 429
    builds.cancel(slow, ACTOR, "web01")
    assert browser.post(f"/builds/{number}/repeat").status == 429
    refused = browser.post("/machines/web01/build")
    assert refused.status == 429
    assert "each of which wipes a machine" in refused.main
    slow.engine.dispose()


def test_sealed_files_are_shown_with_what_they_were_made_from(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed(parameters={"motd": HOSTILE})
    page = browser.get(f"/builds/{armed['id']}/files")
    assert "network --hostname='web01'" in page.one("pre.code").get_text()
    assert page.soup.select("pre.code .nf"), "coloured"
    assert page.one("pre.code .line#L1")
    assert "x" * 54 in page.body, "tokens are masked"
    for words in ("rocky9", "kickstart/el9.ks.j2", "rocky-9.6", "SHA-256", HOSTILE):
        assert words in page.main, words
    assert not page.soup.select("main svg, main img")
    assert (
        browser.get(f"/builds/{armed['id']}/files?file=handoff").one(".files a[aria-current]").get_text() == "handoff"
    )
    assert browser.get(f"/builds/{armed['id']}/files?file=nope").one(".files a[aria-current]").get_text() == "answer"


def test_secrets_are_nowhere(browser: Browser, world: World, site: Site) -> None:
    world.ready()
    world.secret("correct horse battery staple")
    armed = arming.start(site, ACTOR, "web01")
    for place in (f"/builds/{armed['id']}{tab}" for tab in ("", "/files", "/files?file=handoff", "/log", "/changes")):
        body = browser.get(place).body
        assert "correct horse" not in body
        assert "$6$" not in body


def test_the_difference_to_the_build_before(browser: Browser, world: World, site: Site) -> None:
    first = world.armed()
    page = browser.get(f"/builds/{first['id']}/diff")
    assert "Nothing to compare with" in page.main
    builds.cancel(site, ACTOR, "web01")
    machines.edit(site, ACTOR, "web01", {"parameters": {"timezone": "Asia/Tokyo"}})
    second = arming.start(site, ACTOR, "web01")
    page = browser.get(f"/builds/{second['id']}/diff")
    assert "+timezone 'Asia/Tokyo' --utc" in page.one("pre.diff").get_text()
    assert page.soup.select("pre.diff .added")
    builds.cancel(site, ACTOR, "web01")
    third = arming.start(site, ACTOR, "web01")
    page = browser.get(f"/builds/{third['id']}/diff?with={first['id']}")
    assert page.one("select[name=with] option[selected]").get_text().startswith("Build 1, cancelled")
    assert "+timezone 'Asia/Tokyo' --utc" in page.one("pre.diff").get_text()
    assert browser.get(f"/builds/{third['id']}/diff?with=x").status == 400


def test_a_profile_that_changed_after_arming_is_shown_and_sealed_again(
    browser: Browser, world: World, site: Site
) -> None:
    armed = world.armed()
    assert "changed after" not in browser.get("/machines/web01").main
    profiles.edit(site, ACTOR, "rocky9", {"parameters": {"timezone": "Asia/Tokyo"}})
    page = browser.get("/machines/web01")
    assert "Profile rocky9 changed after build 1 was armed." in page.main
    shown = browser.get(str(page.one("#difference")["hx-get"]), fragment=True)
    assert "+timezone 'Asia/Tokyo' --utc" in shown.one("pre.diff").get_text()
    whole = browser.get(f"/builds/{armed['id']}/changes")
    assert whole.one("main form button").get_text() == "Seal again"
    answer = browser.post(f"/builds/{armed['id']}/reseal", **page.fields("#drift form"))
    page = browser.follow(answer)
    assert "Build 2 of web01 is armed." in page.text
    assert "changed after" not in page.main
    assert "sealed again as build 2" in browser.get(f"/builds/{armed['id']}").main
    late = browser.post(f"/builds/{armed['id']}/reseal")
    assert late.status == 409
    assert "only an armed one can be sealed again" in late.main


def test_once_it_boots_the_change_is_only_shown(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    booted(site)
    profiles.edit(site, ACTOR, "rocky9", {"parameters": {"timezone": "Asia/Tokyo"}})
    page = browser.get(f"/builds/{armed['id']}")
    assert "The machine has begun: it is built from what was sealed then." in page.main
    assert "Seal again" not in page.main


def test_a_template_that_broke_after_arming(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    text = templates.show(site, "kickstart/el9.ks.j2")["text"]
    templates.edit(site, ACTOR, "kickstart/el9.ks.j2", text + "\n# another line\n")
    page = browser.get("/machines/web01")
    assert "Template kickstart/el9.ks.j2 changed after build 1 was armed." in page.main
    machines.edit(site, ACTOR, "web01", {"profile": None})
    page = browser.get(f"/builds/{armed['id']}")
    assert "A build like this one could not be sealed now: web01 has no profile" in page.main
    assert browser.get(f"/builds/{armed['id']}/changes").status == 200


def test_cancelling_and_repeating(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    page = browser.get(f"/builds/{armed['id']}")
    form = page.one("#ask-cancel form")
    assert "the machine's next boot goes to its local disk" in form.get_text()
    sent = page.fields("#ask-cancel form") | {"reason": "wrong rack"}
    answer = browser.post(str(form["action"]), **sent)
    assert answer.place == f"/builds/{armed['id']}"
    page = browser.follow(answer)
    assert "Build 1 of web01 is cancelled." in page.text
    assert "wrong rack" in page.main
    assert browser.post(str(form["action"]), **sent).status == 409
    ask = browser.get(page.links()["Repeat this build…"])
    assert "wipes its disks" in ask.main
    page = browser.follow(browser.post(f"/builds/{armed['id']}/repeat", **ask.fields("main form")))
    assert "Build 2 of web01 is armed." in page.text
    assert "These are the files of build 1" in browser.get(page.links()["Sealed answer file"]).main
    machines.edit(site, ACTOR, "web01", {"description": "x"})
    assert browser.post(f"/builds/{armed['id']}/repeat").status == 409


def test_protected_machines_are_refused_by_name(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    builds.cancel(site, ACTOR, "web01")
    machines.edit(site, ACTOR, "web01", {"protected": True})
    assert "web01 is protected" in browser.get(f"/builds/{armed['id']}/repeat").main
    refused = browser.post(f"/builds/{armed['id']}/repeat")
    assert refused.status == 409
    assert "web01 is protected: no build, no wipe" in refused.main


def test_a_log_is_shown_as_it_was_sent(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    assert "No log" in browser.get(f"/builds/{armed['id']}/log").main
    reports.event(site, booted(site), IP, Report("failed", HOSTILE, f"{HOSTILE}\nsecond line " + "x" * 70_000))
    page = browser.get(f"/builds/{armed['id']}/log")
    assert HOSTILE in page.main
    assert "x" * 60_000 in page.one("pre.code").get_text()
    assert not page.soup.select("main svg, main img")


def test_a_long_timeline_is_shown_from_its_end(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    token = booted(site)
    for number in range(230):
        reports.event(site, token, IP, Report("packages", f"{number} of 230"))
    page = browser.get(f"/builds/{armed['id']}")
    assert len(page.soup.select(".events tbody tr")) == 200
    assert "229 of 230" in page.main
    assert "armed" not in [each.get_text() for each in page.soup.select(".events strong")]
    assert len(browser.get(page.links()["Show all"]).soup.select(".events tbody tr")) == 233


def test_builds_of_a_machine_that_was_removed_stay(browser: Browser, world: World, site: Site) -> None:
    armed = world.armed()
    builds.cancel(site, ACTOR, "web01")
    machines.remove(site, ACTOR, "web01")
    for tab in ("", "/files", "/diff", "/log"):
        assert browser.get(f"/builds/{armed['id']}{tab}").status == 200, tab
    assert "Repeat this build…" not in browser.get(f"/builds/{armed['id']}").links()
    assert "web01 was removed" in browser.get(f"/builds/{armed['id']}/changes").main
    assert browser.get("/builds/9999").status == 404


def test_it_is_told_against_the_usual_time(browser: Browser, world: World, site: Site) -> None:
    world.armed()
    token = booted(site)
    reports.event(site, token, IP, Report("built"))
    with write(site.engine) as session:
        build = session.get_one(Build, builds.show(site, "web01")["id"])
        assert build.built_at is not None
        build.built_at += timedelta(minutes=7)
        apply_trigger(session, build, Trigger.CONFIGURED)
    arming.start(site, ACTOR, "web01")
    assert "it usually takes" not in browser.get("/machines/web01").main, "nothing runs yet"
    booted(site)
    assert "it usually takes 7 min" in browser.get("/machines/web01").main


def test_an_operator_may(site: Site, world: World) -> None:
    world.ready()
    operator = Browser(site, "operator")
    assert operator.post("/machines/web01/build").status == 303
