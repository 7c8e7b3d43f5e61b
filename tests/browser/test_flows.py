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

from provisioner.services import machines, profiles, subnets, templates
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
    page.goto("/machines:add")
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


def test_what_is_chosen_stays_chosen_over_pages_orders_and_filters_until_it_is_carried_out(
    opened: Opened, inside: Site, world: World
) -> None:
    for number in range(30):
        world.machine(f"pick{number:02}", f"52:54:00:cc:00:{number:02x}", f"127.0.2.{140 + number}", profile=None)
    ids = {each["name"]: each["revision"].partition(".")[0] for each in machines.listing(inside)}
    tab = opened()
    page = tab.open("/machines?q=pick&limit=25")
    told = page.locator("[data-selected]")
    expect(told).to_contain_text("Tick machines")
    for name in ("pick00", "pick02"):
        page.locator(f"#tick-{ids[name]}").check()
    expect(told).to_have_text("2 machines chosen.")
    page.locator("a[rel=next]").click()
    expect(told).to_have_text("2 machines chosen, 2 of them not on this page.")
    page.locator(f"#tick-{ids['pick29']}").check()
    expect(told).to_have_text("3 machines chosen, 2 of them not on this page.")
    page.get_by_role("link", name="Name", exact=False).first.click()
    expect(page.locator("tbody tr").first).to_contain_text("pick29")
    expect(page.locator(f"#tick-{ids['pick29']}")).to_be_checked()
    expect(told).to_have_text("3 machines chosen, 2 of them not on this page.")
    page.goto("/machines?q=pick0&limit=25")
    expect(page.locator(f"#tick-{ids['pick02']}")).to_be_checked()
    expect(page.locator(f"#tick-{ids['pick01']}")).not_to_be_checked()
    expect(told).to_have_text("3 machines chosen, 1 of them not on this page.")
    expect(page.locator("[data-all]")).to_have_js_property("indeterminate", value=True)
    page.locator("[data-elsewhere] summary").click()
    expect(page.locator("[data-elsewhere]")).to_contain_text("pick00, pick02, pick29")
    page.locator("[data-all]").check()
    expect(told).to_have_text("11 machines chosen, 1 of them not on this page.")
    page.locator("[data-whole]").check()
    expect(told).to_have_text("10 machines chosen, on all pages.")
    page.locator("[data-clear]").click()
    expect(told).to_contain_text("Tick machines")
    expect(page.locator("tbody input:checked")).to_have_count(0)
    page.reload()
    expect(told).to_contain_text("Tick machines")
    expect(page.locator("[data-do]")).to_be_hidden()
    page.locator(f"#tick-{ids['pick03']}").check()
    page.goto("/machines?q=pick2&limit=25")
    page.locator(f"#tick-{ids['pick27']}").check()
    button(page, "Tag").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("2 machines")
    page.get_by_label("Tags to add").fill("picked")
    button(page, "Show what changes").click()
    page.get_by_role("button", name=re.compile("^(Apply|Change)")).click()
    expect(page.locator("#notices")).to_contain_text("2 machines")
    tagged = {each["name"] for each in machines.listing(inside) if "picked" in each["tags"]}
    assert tagged == {"pick03", "pick27"}
    page.goto("/machines?q=pick&limit=25")
    expect(told).to_contain_text("Tick machines")
    assert tab.axe() == []


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


def test_two_people_change_one_template_and_both_changes_are_put_together(
    opened: Opened, inside: Site, world: World
) -> None:
    name = "snippets/both.sh.j2"
    templates.add(inside, ACTOR, name, "# first\ntrue\n# last\n")
    tab = opened()
    page = tab.open(f"/templates/{name}/edit")
    page.get_by_label("Text").fill("# first, mine\ntrue\n# last\n")
    templates.edit(inside, Actor("joe", "cli", reason="his reason"), name, "# first\ntrue\n# last\n# joe\n")
    button(page, "Review change").click()
    expect(page.get_by_role("alert")).to_contain_text("his reason")
    expect(page.get_by_role("alert")).to_contain_text("+# joe")
    expect(page.get_by_label("Text")).to_have_value("# first, mine\ntrue\n# last\n")
    button(page, "Put both together").click()
    expect(page.get_by_label("Text")).to_have_value("# first, mine\ntrue\n# last\n# joe\n")
    assert tab.axe() == []
    button(page, "Review change").click()
    button(page, "Save change").click()
    expect(page.locator("#notices")).to_contain_text("both.sh.j2")
    assert templates.show(inside, name)["text"] == "# first, mine\ntrue\n# last\n# joe\n"


def test_what_another_dhcp_server_needs_is_shown_for_each(opened: Opened, inside: Site, world: World) -> None:
    subnets.add(inside, ACTOR, "office", "10.9.0.0/24", {"dhcp": "external", "gateway": "10.9.0.1"})
    tab = opened()
    page = tab.open("/networks/office")
    shown = page.locator("#otherdhcp pre")
    expect(shown).to_contain_text("subnet 10.9.0.0 netmask 255.255.255.0")
    for title, words in (
        ("Kea", '"subnet": "10.9.0.0/24"'),
        ("Windows Server", "Add-DhcpServerv4Scope -Name 'office'"),
    ):
        page.locator("#otherdhcp").get_by_role("link", name=title, exact=True).click()
        expect(shown).to_contain_text(words)
        assert page.url.endswith("/networks/office"), "the page stays"
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download provisioner.ps1").click()
    assert loading.value.suggested_filename == "provisioner.ps1"
    assert tab.axe() == []
    page.locator("#h-otherdhcp").evaluate("each => each.scrollIntoView()")
    tab.picture("network-dhcp")


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


def test_the_profile_tree_and_the_dark_side(opened: Opened, inside: Site, world: World) -> None:
    for number in range(5):
        world.machine(f"dark{number}", f"52:54:00:dd:00:{number:02x}", f"127.0.2.{20 + number}", profile=None)
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
    page = tab.open("/networks:add")
    page.get_by_label("Name", exact=False).first.fill("half-typed")
    asked: list[str] = []
    page.remove_listener("dialog", tab.dialogs)
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.get_by_role("link", name="Machines", exact=True).click(no_wait_after=True)
    page.wait_for_function("true")
    assert asked == ["beforeunload"]
    assert page.url.endswith("/networks:add")
