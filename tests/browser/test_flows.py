"""What people do in the UI, in Chromium before the real service; the machines are played over real sockets."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from conftest import Served
from eyes import PHONE, Opened
from played import Played
from playwright.sync_api import Locator, Page, expect
from world import ACTOR, IP, World

from provisioner.services import machines, profiles, templates
from provisioner.services.site import Actor, Site

pytestmark = pytest.mark.slow
EVENTS = ("disk", "packages", "configure", "built")


@pytest.fixture(scope="module")
def inside(served: Served) -> Iterator[Site]:
    site = served.site
    yield site
    site.engine.dispose()


@pytest.fixture(scope="module")
def world(inside: Site, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(inside, tmp_path_factory.mktemp("flows"))


def button(page: Page | Locator, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def add(page: Page, name: str, mac: str, ip: str, profile: str = "") -> None:
    """Add a machine by the form."""
    page.goto("/machines/add")
    page.get_by_label("Name", exact=False).first.fill(name)
    page.get_by_label("MAC address").fill(mac)
    page.get_by_label("IP address").fill(ip)
    if profile:
        page.get_by_label("Profile").select_option(profile)
    button(page, "Add").last.click()
    expect(page.locator("#notices")).to_contain_text(name)


def build(page: Page, name: str) -> None:
    """Start its build from its page."""
    page.goto(f"/machines/{name}/build")
    button(page, f"Build {name}").click()
    expect(page.get_by_text("armed", exact=True).first).to_be_visible()


def test_a_machine_is_added_assigned_built_and_watched_to_configured(
    opened: Opened, served: Served, inside: Site
) -> None:
    """Log in, add, assign, build, and see it go live to `configured` without a reload."""
    tab = opened()
    page = tab.page
    add(page, "web01", "52-54-00-12-34-56", IP)
    page.goto("/machines/web01/edit")
    page.get_by_label("Profile").select_option("rocky9")
    page.get_by_label("Reason").fill("racked today")
    button(page, "Save web01").click()
    expect(page.locator("main")).to_contain_text("rocky9")
    build(page, "web01")
    page.goto("/machines/web01")
    page.evaluate("window.stayed = true")
    expect(page.locator("#boot")).to_contain_text("It is installed with rocky9")
    machine = Played(served, inside, "web01", "52:54:00:12:34:56", IP)
    told = machine.tokens()
    state = page.locator("#now .state").first
    expect(page.locator("#now")).to_contain_text("installing")
    for step in EVENTS:
        assert machine.event(told["event"], step).status < 300
        expect(page.locator("#now")).to_contain_text(step)
    tab.picture("machine")
    if "handoff" in told:
        served.http(f"/build/{told['handoff']}/configured", source=IP, method="POST", form={"status": "ok"})
    expect(state).to_have_text("configured")
    expect(page.locator("#boot")).to_contain_text("It boots its local disk")
    assert page.evaluate("window.stayed") is True, "the page was not loaded again"
    assert tab.axe() == []


def test_a_failed_build_says_why_and_what_to_do(opened: Opened, served: Served, inside: Site, world: World) -> None:
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    tab = opened()
    page = tab.page
    build(page, "web02")
    page.goto("/")
    expect(page.locator("#under-way")).to_contain_text("web02")
    machine = Played(served, inside, "web02", "52:54:00:12:34:57", "127.0.2.12")
    told = machine.tokens()
    machine.event(told["event"], "disk")
    machine.event(told["event"], "failed", message="no disk of at least 20 GiB", log="anaconda: nothing fits\n" * 20)
    expect(page.locator("#attention")).to_contain_text("no disk of at least 20 GiB")
    tab.picture("overview")
    page.locator("#attention").get_by_role("link", name="web02").first.click()
    expect(page.locator("main")).to_contain_text("no disk of at least 20 GiB")
    page.get_by_role("link", name="The whole log").click()
    expect(page.locator("main")).to_contain_text("anaconda: nothing fits")
    assert tab.axe() == []


def test_thirty_machines_get_a_profile_at_once(opened: Opened, inside: Site, world: World) -> None:
    for number in range(30):
        world.machine(f"bulk{number:02}", f"52:54:00:bb:00:{number:02x}", f"127.0.2.{100 + number}", profile=None)
    tab = opened()
    page = tab.open("/machines?q=bulk&limit=20")
    tab.picture("machines")
    page.get_by_label(re.compile("All 30 machines")).check()
    button(page, "Assign profile").click()
    page.get_by_label("Profile").select_option("rocky9")
    button(page, "Show what changes").click()
    expect(page.locator("main")).to_contain_text("30")
    tab.picture("bulk-plan")
    page.get_by_role("button", name=re.compile("^(Apply|Change|Assign)")).click()
    expect(page.locator("#notices")).to_contain_text("30 machines")
    assert {each["profile"] for each in machines.listing(inside) if each["name"].startswith("bulk")} == {"rocky9"}


def test_a_template_with_an_error_says_so_on_its_line_and_saves_nothing(
    opened: Opened, inside: Site, world: World
) -> None:
    world.machine("web03", "52:54:00:12:34:58", "127.0.2.13")
    before = templates.show(inside, "kickstart/el9.ks.j2")["text"]
    tab = opened()
    tab.expected |= {400, 409, 422}
    page = tab.open("/templates/kickstart/el9.ks.j2/edit")
    page.get_by_label("Text").fill(f"nonsense --now\n{before}")
    button(page, "Review change").click()
    expect(page.locator("#review")).to_contain_text("Line 1:")
    expect(page.locator("main")).to_contain_text("nonsense")
    assert templates.show(inside, "kickstart/el9.ks.j2")["text"] == before
    expect(page.get_by_label("Text")).to_have_value(re.compile("^nonsense --now"))
    page.get_by_role("heading", level=1).scroll_into_view_if_needed()
    tab.picture("template-error")
    page.get_by_label("Text").fill(
        before.replace("text --non-interactive", "text --non-interactive\n# reviewed in a browser", 1)
    )
    button(page, "Review again").click()
    expect(button(page, "Save change")).to_be_visible()
    expect(page.locator("section.radius")).to_contain_text("would be built differently")
    page.locator("#h-review").scroll_into_view_if_needed()
    tab.picture("blast-radius")
    page.get_by_label("Reason").fill("seen before saved")
    button(page, "Save change").click()
    expect(page.locator("#notices")).to_contain_text("el9")
    assert "# reviewed in a browser" in templates.show(inside, "kickstart/el9.ks.j2")["text"]


def test_two_people_change_one_machine_and_nothing_is_lost(opened: Opened, inside: Site, world: World) -> None:
    world.machine("web04", "52:54:00:12:34:59", "127.0.2.14")
    tab = opened()
    tab.expected |= {412}
    page = tab.open("/machines/web04/edit")
    page.get_by_label("Description").fill("mine")
    machines.edit(inside, Actor("joe", "cli", reason="moved to row 7"), "web04", {"description": "his"})
    button(page, "Save web04").click()
    expect(page.get_by_role("alert")).to_contain_text("joe")
    expect(page.get_by_role("alert")).to_contain_text("his")
    expect(page.get_by_label("Description")).to_have_value("mine")
    tab.picture("conflict")
    button(page, "Save web04").click()
    expect(page.locator("main")).to_contain_text("mine")
    assert machines.show(inside, "web04")["description"] == "mine"


def test_rack_mode_names_and_builds_what_just_arrived_and_sees_it_begin(
    opened: Opened, served: Served, inside: Site
) -> None:
    mac, ip = "52:54:00:99:00:01", "127.0.2.90"
    tab = opened(width=PHONE)
    page = tab.open("/rack")
    facts = {"platform": "pcbios", "manufacturer": "ACME", "product": "Blade 9", "serial": "S123456"}
    served.http(f"/boot/ipxe/{mac}?{urlencode(facts)}", source=ip)
    expect(page.locator("main")).to_contain_text("S123456")
    tab.picture("rack-phone")
    page.get_by_role("link", name=re.compile("Blade 9")).click()
    page.get_by_label("Name", exact=False).first.fill("rack01")
    page.get_by_label("Profile").select_option("rocky9")
    for box in page.get_by_role("checkbox").all():
        box.check()
    button(page, "Name and build it").click()
    expect(page.locator("main")).to_contain_text("armed")
    assert tab.sideways() <= 0
    small = [each for each in page.locator("main button:visible, main a.button:visible").all() if too_small(each)]
    assert small == []
    address = machines.show(inside, "rack01")["interfaces"][0]["ip"]
    Played(served, inside, "rack01", mac, address or ip).ipxe()
    expect(page.locator("main")).to_contain_text("booting")
    tab.picture("rack-begun-phone")
    assert tab.axe() == []


def too_small(target: Locator) -> bool:
    """For a thumb."""
    box = target.bounding_box()
    return box is not None and box["height"] < 43


def test_the_profile_tree_and_the_dark_side(opened: Opened, inside: Site) -> None:
    profiles.add(inside, ACTOR, {"name": "web", "parent": "rocky9", "parameters": {"motd": "welcome"}})
    tab = opened(dark=True)
    for place, name in (("/profiles", "profiles-dark"), ("/networks/lab", "network-dark"), ("/login", "login-dark")):
        tab.open(place)
        tab.picture(name)
    assert tab.page.evaluate("getComputedStyle(document.documentElement).colorScheme") in {"light dark", "dark"}


def test_by_the_keyboard_alone(opened: Opened, world: World) -> None:
    """Log in, find a machine with `/`, and open it."""
    world.machine("keys01", "52:54:00:12:34:60", "127.0.2.16")
    tab = opened(logged_in=False)
    page = tab.open("/login")
    page.keyboard.type("jane")
    page.keyboard.press("Tab")
    page.keyboard.type("correct horse battery staple")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    page.keyboard.press("/")
    page.keyboard.type("keys01")
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="keys01", exact=True)
    expect(link).to_be_visible()
    focused = tab_to(page, "keys01")
    assert focused, "the machine is reached by Tab"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("keys01")


def tab_to(page: Page, words: str, most: int = 80) -> bool:
    """Press Tab until what has the focus says these words."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == words:
            return True
    return False


def test_typed_text_is_not_lost_by_a_wrong_click(opened: Opened) -> None:
    tab = opened()
    page = tab.open("/networks/add")
    page.get_by_label("Name", exact=False).first.fill("half-typed")
    asked: list[str] = []
    page.remove_listener("dialog", tab.dialogs)
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.get_by_role("link", name="Machines", exact=True).click(no_wait_after=True)
    page.wait_for_function("true")
    assert asked == ["beforeunload"]
    assert page.url.endswith("/networks/add")
