"""Rack mode: who waits in order of arrival, naming and building them, and what they do then."""

from dataclasses import replace

import pytest
from uiclient import Browser, Shown
from uilife import Life, arrives, goes_by
from world import ACTOR, World

from provisioner.core.policy import Role
from provisioner.services import arming, builds, machines, quarantine, rack
from provisioner.services.site import Actor

pytestmark = pytest.mark.slow

MAC = "52:54:00:aa:00:01"
OTHER = "52:54:00:aa:00:02"
IP = "127.0.2.66"
PAYLOADS = ("<svg onload=alert('xss')>", "\"><img src=x onerror=alert('xss')>", "</script>{{7*7}}", "\u202egnp.exe")


@pytest.fixture
def browser(world: World) -> Browser:
    """In an installation where one machine waits, and `rocky9` can be built."""
    world.subnet()
    world.distro()
    arrives(world.site, MAC, IP, manufacturer="Dell Inc.", product="PowerEdge R650", serial="7XK2Q03", platform="efi")
    return Browser(world.site)


def build(browser: Browser, mac: str = MAC, **typed: str) -> Shown:
    """Send the form as a person would who fills in these fields."""
    page = browser.get(f"/rack/new/{mac}")
    fields = page.fields(f"form[action='/rack/new/{mac}']") | {"do": "build", "sure": "on"} | typed
    return browser.post(f"/rack/new/{mac}", **{key: value for key, value in fields.items() if value is not None})


def test_machines_stand_in_order_of_arrival(browser: Browser, world: World) -> None:
    goes_by(world.site, 60)
    arrives(world.site, OTHER, "127.0.2.67", manufacturer="HPE", product="DL360", serial="CZ2334")
    goes_by(world.site, 60)
    said = {"manufacturer": "Dell Inc.", "product": "PowerEdge R650", "serial": "7XK2Q03"}
    arrives(world.site, MAC, IP, **said)  # asking again is no arrival
    page = browser.get("/rack")
    assert [each["href"] for each in page.soup.select("#waiting .arrived a")] == [
        f"/rack/new/{OTHER}",
        f"/rack/new/{MAC}",
    ]
    first = " ".join(page.soup.select("#waiting .arrived a")[1].get_text(" ").split())
    for told in ("Dell Inc. PowerEdge R650", "serial 7XK2Q03", MAC, IP, "arrived 2 min"):
        assert told in first
    oldest = browser.get(page.links()["Oldest first"])
    assert [each["href"] for each in oldest.soup.select("#waiting .arrived a")] == [
        f"/rack/new/{MAC}",
        f"/rack/new/{OTHER}",
    ]


def test_the_list_is_live_and_keeps_its_filter(browser: Browser, world: World) -> None:
    page = browser.get("/rack?q=7xk2&order=oldest")
    section = page.one("#waiting")
    assert section["hx-get"] == "/rack?order=oldest&q=7xk2"
    assert page.one("body")["sse-connect"] == "/live"
    arrives(world.site, OTHER, "127.0.2.67", serial="CZ2334")
    again = browser.get(str(section["hx-get"]), fragment=True)
    assert len(again.soup.select(".arrived a")) == 1 and not again.soup.select("h1")
    assert "Nobody who waits fits" in browser.get("/rack?q=nothing").main


def test_the_switch_port_is_shown_where_it_is_known(browser: Browser, world: World) -> None:
    from provisioner.core.facts import from_report
    from provisioner.services.discovery import Sighting, record

    facts = from_report({"switch": "tor-7", "switch_port": "Ethernet12", "serial": "LX1"})
    record(world.site, [Sighting(OTHER, "127.0.2.67", facts, is_new=True)])
    assert "switch tor-7 port Ethernet12" in browser.get("/rack").main
    assert "tor-7, port Ethernet12" in browser.get(f"/rack/new/{OTHER}").main


def test_naming_and_building_in_one_go(browser: Browser, world: World) -> None:
    answer = build(browser, name="web07", profile="rocky9")
    assert (answer.status, answer.place) == (303, "/rack/machine/web07")
    machine = machines.show(world.site, "web07")
    assert (machine["state"], machine["serial"], machine["profile"]) == ("building", "7XK2Q03", "rocky9")
    assert machine["interfaces"][0]["mac"] == MAC
    assert machine["interfaces"][0]["subnet"] == "lab" and machine["interfaces"][0]["ip"]
    page = browser.follow(answer)
    assert "Build 1 of web07 is armed." in page.main
    assert "Waiting for web07 to pick up its build" in page.main
    assert "it asks again at least once a minute" in page.main
    assert quarantine.listing(world.site) == []


def test_the_page_tells_when_the_machine_picks_it_up(browser: Browser, world: World) -> None:
    page = browser.follow(build(browser, name="web07", profile="rocky9"))
    number = builds.show(world.site, "web07")["id"]
    assert page.one("body")["sse-connect"] == f"/live?build={number}"
    section = str(page.one("#now")["hx-get"])
    ip = machines.show(world.site, "web07")["interfaces"][0]["ip"]
    told = []
    life = Life(world.site, MAC, ip)
    for step in (life.boots, lambda: life.says("disk"), lambda: life.says("built"), life.done):
        step()
        shown = browser.get(section, fragment=True)
        told.append(" ".join(shown.one("#now .big").get_text(" ").split()))
        assert shown.one("#now .big")["role"] == "status"
    assert told == [
        "web07 installs: starting the installer",
        "web07 installs: writing to the disk",
        "web07 is installed, and is starting from its own disk",
        "web07 is done",
    ]
    assert "web07" in browser.get("/rack").one("#mine").get_text()


def test_only_naming_builds_nothing_and_it_goes_on_waiting(browser: Browser, world: World) -> None:
    answer = build(browser, name="web07", do="add", sure="")
    page = browser.follow(answer)
    assert machines.show(world.site, "web07")["state"] == "discovered"
    assert "It waits, switched on, for its build." in page.main
    listed = browser.get("/rack")
    assert "Named, and waiting for a build" in listed.main
    assert listed.one("#named-1")["href"] == "/rack/machine/web07"
    fields = page.fields("form[action='/rack/machine/web07']") | {"profile": "rocky9", "sure": "on"}
    assert browser.post("/rack/machine/web07", **fields).status == 303
    assert machines.show(world.site, "web07")["state"] == "building"


def test_nothing_is_built_without_the_tick_and_a_profile(browser: Browser, world: World) -> None:
    refused = build(browser, name="web07", profile="rocky9", sure="")
    assert refused.status == 400
    assert "the build wipes its disks" in refused.one("#f-sure-help").get_text()
    assert (refused.fields("form.card")["name"], refused.fields("form.card")["profile"]) == ("web07", "rocky9")
    refused = build(browser, name="web07", profile="")
    assert refused.status == 400 and "choose what it becomes" in refused.one("#f-profile-help").get_text()
    assert machines.listing(world.site) == []
    assert refused.one("#f-sure").has_attr("required"), "a browser asks first"
    assert refused.one("button[value=add]").has_attr("formnovalidate")


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"name": "web_07"}, "f-name", "is not a host name"),
        ({"name": "web01"}, "f-name", "there is a machine 'web01' already"),
        ({"ip": "127.0.2.999"}, "f-ip", "127.0.2.999"),
        ({"ip": "10.9.9.9"}, "f-ip", "no subnet contains 10.9.9.9"),
        ({"ip": "127.0.2.11"}, "f-ip", "belongs to machine web01"),
        ({"profile": "gone"}, "f-profile", "there is no profile 'gone'"),
    ],
)
def test_an_error_stands_beside_its_field_and_all_that_was_typed_stays(
    browser: Browser, world: World, typed: dict[str, str], field: str, words: str
) -> None:
    world.machine()
    sent = {"name": "web07", "ip": "127.0.2.70", "profile": "rocky9"} | typed
    refused = build(browser, **sent)
    assert refused.status >= 400
    assert words in refused.one(f"#{field}-help").get_text()
    kept = refused.fields("form.card")
    assert (kept["name"], kept["ip"]) == (sent["name"], sent["ip"])
    assert len(machines.listing(world.site)) == 1


def test_a_build_that_cannot_start_leaves_the_machine_named_and_says_why(browser: Browser, world: World) -> None:
    page = browser.follow(build(browser, name="web07", profile="debian12"))
    assert "web07 is named, and its build could not start: no distro fits" in page.main
    assert machines.show(world.site, "web07")["state"] == "discovered"
    shown = browser.get(f"/rack/machine/{'web07'}")
    obstacles = [each.get_text() for each in shown.soup.select("optgroup[label='Something is missing'] option")]
    assert any(each.startswith("debian12 (no distro fits") for each in obstacles)
    ready = [each["value"] for each in shown.soup.select("optgroup[label='Ready to build'] option")]
    assert ready == ["rocky9"]


def test_the_next_machine_is_like_the_last_one(browser: Browser, world: World) -> None:
    assert browser.get(f"/rack/new/{MAC}").fields("form.card")["name"] == ""
    browser.follow(build(browser, name="rack3-09", profile="rocky9", ip=""))
    world.machine("rack3-10", "52:54:00:12:34:77", "127.0.2.77")
    arrives(world.site, OTHER, "127.0.2.67")
    suggested = browser.get(f"/rack/new/{OTHER}").fields("form.card")
    assert (suggested["name"], suggested["profile"], suggested["ip"]) == ("rack3-11", "rocky9", "")
    assert rack.suggestion(world.site, "somebody-else")["name"] == ""


def test_a_second_tap_or_another_person_does_not_build_twice(browser: Browser, world: World) -> None:
    assert build(browser, name="web07", profile="rocky9").status == 303
    token = {"do": "build", "sure": "on", "name": "web07", "profile": "rocky9", "ip": "next"}
    again = browser.post(f"/rack/new/{MAC}", **token)
    assert (again.status, again.place) == (303, "/rack/machine/web07")
    assert f"{MAC} does not wait any more: it is web07 by now." in browser.follow(again).main
    assert browser.get(f"/rack/new/{MAC}").place == "/rack/machine/web07"
    assert builds.show(world.site, "web07")["number"] == 1
    gone = browser.get("/rack/new/52:54:00:99:99:99")
    assert gone.status == 404 and "does not wait" in gone.main


def test_a_swapped_card_goes_to_the_machine_it_belongs_to(browser: Browser, world: World) -> None:
    world.machine(serial="9ZZZ1")
    arrives(world.site, OTHER, "127.0.2.67", serial="9ZZZ1")
    assert "looks like a machine that is registered already" in browser.get("/rack").main
    page = browser.get(f"/rack/new/{OTHER}")
    assert "It says it is web01 (serial 9ZZZ1), but that machine does not have this network card" in page.main
    join = f"form[action='/rack/new/{OTHER}/join']"
    fields = page.fields(join)
    machines.edit(world.site, ACTOR, "web01", {"description": "meanwhile"})
    stale = browser.post(f"/rack/new/{OTHER}/join", **fields)
    assert stale.status == 412 and len(machines.show(world.site, "web01")["interfaces"]) == 1
    answer = browser.post(f"/rack/new/{OTHER}/join", **stale.fields(join))
    assert answer.status == 303
    assert [each["mac"] for each in machines.show(world.site, "web01")["interfaces"]][1] == OTHER
    assert [each["mac"] for each in quarantine.listing(world.site)] == [MAC]


def test_a_protected_machine_is_not_built_from_here(browser: Browser, world: World) -> None:
    world.machine(protected=True)
    page = browser.get("/rack/machine/web01")
    assert "web01 is protected" in page.main and not page.soup.select("form.card")
    refused = browser.post("/rack/machine/web01", profile="rocky9", sure="on")
    assert refused.status == 409 and "web01 is protected" in refused.main
    assert machines.show(world.site, "web01")["state"] == "ready"


def test_a_profile_changed_by_somebody_else_is_not_overwritten(browser: Browser, world: World) -> None:
    browser.post(f"/rack/new/{MAC}", name="web07", do="add", ip="next", profile="rocky9")
    fields = browser.get("/rack/machine/web07").fields("form.card")
    machines.edit(world.site, Actor("jane", "ui"), "web07", {"profile": "debian12"})
    stale = browser.post("/rack/machine/web07", **(fields | {"sure": "on"}))
    assert stale.status == 412
    assert machines.show(world.site, "web07")["state"] == "discovered"
    assert stale.fields("form.card")["profile"] == "rocky9"
    assert "Somebody changed web07 while you were editing." in stale.main and "debian12" in stale.one(".theirs").text
    again = browser.post("/rack/machine/web07", **(stale.fields("form.card") | {"sure": "on"}))
    assert again.status == 303 and machines.show(world.site, "web07")["profile"] == "rocky9"


def test_a_machine_that_discovery_registered_gets_its_name_here(world: World) -> None:
    site = replace(world.site, settings=world.site.settings.model_copy(update={"discovery": "register"}))
    world.subnet()
    world.distro()
    arrives(site, MAC, IP, manufacturer="Dell Inc.", serial="7XK2Q03")
    browser = Browser(site)
    listed = browser.get("/rack")
    assert "unknown machines become machines at once, and stand below" in listed.main
    assert listed.one("#named-1")["href"] == "/rack/machine/new-525400aa0001"
    fields = browser.get("/rack/machine/new-525400aa0001").fields("form.card")
    assert fields["name"] == "new-525400aa0001"
    taken = browser.post(
        "/rack/machine/new-525400aa0001", **(fields | {"name": "web_07", "profile": "rocky9"}), sure="on"
    )
    assert "is not a host name" in taken.one("#f-name-help").get_text()
    sent = taken.fields("form.card") | {"name": "web07", "sure": "on"}
    answer = browser.post("/rack/machine/new-525400aa0001", **sent)
    assert (answer.status, answer.place) == (303, "/rack/machine/web07")
    machine = machines.show(site, "web07")
    assert (machine["state"], machine["profile"]) == ("building", "rocky9")
    assert not browser.get("/rack/machine/web07").soup.select("#f-name")


def test_forgetting_one(browser: Browser, world: World) -> None:
    answer = browser.post(f"/rack/new/{MAC}/forget")
    assert answer.place == "/rack" and "is forgotten" in browser.follow(answer).main
    assert quarantine.listing(world.site) == []


def test_a_viewer_looks_and_is_offered_nothing(browser: Browser, world: World) -> None:
    viewer = Browser(world.site, role=Role.VIEWER)
    page = viewer.get(f"/rack/new/{MAC}")
    assert page.status == 200 and not page.soup.select("main form")
    assert "Your role may look at it, not name it." in page.main
    world.machine()
    assert not viewer.get("/rack/machine/web01").soup.select("main form")
    for place in (f"/rack/new/{MAC}", f"/rack/new/{MAC}/forget", f"/rack/new/{MAC}/join", "/rack/machine/web01"):
        assert viewer.post(place, name="web07", do="build", sure="on", profile="rocky9").status == 403
    assert len(machines.listing(world.site)) == 1 and len(quarantine.listing(world.site)) == 1


def test_an_operator_may_do_all_of_it(browser: Browser, world: World) -> None:
    operator = Browser(world.site, role=Role.OPERATOR)
    assert build(operator, name="web07", profile="rocky9").status == 303
    assert builds.show(world.site, "web07")["state"] == "armed"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_s54_what_a_machine_says_is_text(browser: Browser, world: World, payload: str) -> None:
    arrives(world.site, OTHER, "127.0.2.67", manufacturer=payload, product=payload, serial=payload, asset=payload)
    seen = payload.replace("\u202e", "\\u202e")
    for place in ("/rack", f"/rack/new/{OTHER}", f"/rack?q={payload[:1]}"):
        page = browser.get(place)
        assert not page.soup.select("main svg, main img, main script")
    assert seen in browser.get(f"/rack/new/{OTHER}").main


def test_an_empty_list_says_what_to_do(world: World) -> None:
    browser = Browser(world.site)
    page = browser.get("/rack")
    assert "Nobody waits" in page.main and "Switch a machine on and let it boot from the network" in page.main
    assert page.links()["networks"] == "/networks"


def test_the_list_shows_what_one_built_lately_and_nobody_elses(browser: Browser, world: World) -> None:
    build(browser, name="web07", profile="rocky9")
    world.machine()
    arming.start(world.site, ACTOR, "web01")
    mine = browser.get("/rack").one("#mine").get_text()
    assert "web07" in mine and "web01" not in mine
    goes_by(world.site, 10)
    assert "web07" in browser.get("/rack/mine", fragment=True).text
