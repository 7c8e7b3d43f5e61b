"""Subnets: the map of their addresses, the next free one, forms that keep what was typed."""

from typing import Any

import pytest
from uiclient import Browser, Shown
from world import ACTOR, World

from provisioner.services import addresses, addressmap, machines, records, subnets
from provisioner.services.site import Actor, Site

pytestmark = pytest.mark.slow


@pytest.fixture
def browser(site: Site) -> Browser:
    return Browser(site)


def cells(shown: Shown) -> dict[str, str]:
    """What each address of the map is shown as."""
    found = {}
    for each in shown.soup.select(".map .cell"):
        (kind,) = [name.removeprefix("cell-") for name in each["class"] if name.startswith("cell-")]
        found[str(each["title"]).partition(": ")[0]] = kind
    return found


def test_the_map_says_what_each_address_is_for(browser: Browser, world: World) -> None:
    world.subnet(
        gateway="127.0.2.1",
        dns=["127.0.2.2"],
        ranges=["static:127.0.2.10-127.0.2.99", "127.0.2.100-127.0.2.199", "reserved:127.0.2.240-127.0.2.250"],
    )
    world.machine()
    addresses.hold(world.site, Actor("jane", "ui"), "lab")
    shown = cells(browser.get("/networks/lab"))
    assert len(shown) == 256
    expected = {"0": "own", "1": "own", "2": "own", "5": "spare", "10": "held", "11": "used", "12": "free"}
    expected |= {"100": "dynamic", "199": "dynamic", "200": "spare", "240": "reserved", "255": "own"}
    assert {last: shown[f"127.0.2.{last}"] for last in expected} == expected


def test_a_machine_whose_address_somebody_else_uses_is_a_conflict(browser: Browser, world: World) -> None:
    from provisioner.core.facts import Facts
    from provisioner.services.discovery import Sighting, record

    world.ready()
    record(world.site, [Sighting("52:54:00:99:99:99", "127.0.2.11", Facts(), is_new=True)])
    page = browser.get("/networks/lab")
    assert cells(page)["127.0.2.11"] == "conflict"
    assert "web01 has it, but 52:54:00:99:99:99 asked from there" in page.main


@pytest.mark.parametrize(
    "cidr", ["10.0.0.0/8", "10.0.0.0/30", "10.0.0.0/31", "10.0.0.0/20", "2001:db8::/64", "2001:db8::/120"]
)
def test_networks_of_every_size_have_a_map(browser: Browser, world: World, cidr: str) -> None:
    world.subnet("net", cidr)
    page = browser.get("/networks/net")
    assert page.status == 200
    assert 2 <= len(cells(page)) <= 256
    higher = [each["href"] for each in page.soup.select(".pager a") if each.get_text() == "Higher"]
    assert len(higher) == (1 if cidr in {"10.0.0.0/8", "10.0.0.0/20", "2001:db8::/64"} else 0)
    for place in higher:
        assert "Lower" in browser.get(str(place)).links()


def test_the_windows_of_a_network_cover_it_once(world: World) -> None:
    world.subnet("net", "10.0.4.0/22")
    seen: list[str] = []
    at: Any = ""
    while at is not None:
        shown = addressmap.window(world.site, "net", at)
        seen += [each["ip"] for each in shown["cells"]]
        at = shown["next"]
    assert len(seen) == len(set(seen)) == 1024
    assert [each["start"] for each in shown["blocks"]] == [f"10.0.{n}.0" for n in range(4, 8)]


def test_the_next_free_address_is_a_click_away(browser: Browser, world: World) -> None:
    world.ready()
    whole, part = browser.get("/networks/lab/free"), browser.get("/networks/lab/free", fragment=True)
    for shown in (whole, part):
        assert "The next free address is 127.0.2.1" in shown.text
    assert "<html" not in part.body
    assert "/machines:add?ip=127.0.2.1&subnet=lab" in whole.links().values()


def test_adding_a_subnet_keeps_what_was_typed_when_it_is_refused(browser: Browser) -> None:
    empty = browser.get("/networks")
    assert "No subnets yet" in empty.main and "/networks:add" in empty.links().values()
    typed = browser.get("/networks:add").fields() | {
        "name": "lab",
        "cidr": "10.0.2.0/24",
        "gateway": "10.9.9.1",
        "ranges": "static:10.0.2.10-10.0.2.20",
        "parameters": "timezone: UTC\n",
        "reason": "a new rack",
    }
    refused = browser.post("/networks:add", **typed)
    assert refused.status == 400 and "the gateway 10.9.9.1 is not in 10.0.2.0/24" in refused.main
    kept = refused.fields()
    assert {name: kept[name].strip() for name in typed if name != "csrf_token"} == {
        name: str(value).strip() for name, value in typed.items() if name != "csrf_token"
    }
    assert refused.one("#f-gateway")["aria-invalid"] == "true"
    done = browser.post("/networks:add", **kept | {"gateway": "10.0.2.1"})
    assert done.place == "/networks/lab"
    assert "Subnet lab is added." in browser.follow(done).main
    made = subnets.show(browser.site, "lab")
    assert (made["gateway"], made["parameters"]) == ("10.0.2.1", {"timezone": "UTC"})
    assert records.listing(browser.site, "subnet/lab")[0]["reason"] == "a new rack"


def test_a_stale_change_shows_the_other_one_and_loses_nothing(browser: Browser, world: World) -> None:
    world.subnet(parameters={"rack": "a"})
    mine = browser.get("/networks/lab/edit").fields() | {"domain": "mine.example"}
    subnets.edit(world.site, Actor("joe", "cli", reason="his reason"), "lab", {"domain": "his.example"})
    refused = browser.post("/networks/lab/edit", **mine)
    assert refused.status == 412
    assert "Somebody changed this subnet" in refused.main
    assert "joe" in refused.main and "his.example" in refused.main and "his reason" in refused.main
    again = refused.fields()
    assert again["domain"] == "mine.example"
    assert browser.post("/networks/lab/edit", **again).status == 303
    assert subnets.show(world.site, "lab")["domain"] == "mine.example"


def test_a_stale_change_merges_what_nobody_typed_in(browser: Browser, world: World) -> None:
    world.subnet(parameters={"rack": "a"})
    mine = browser.get("/networks/lab/edit").fields() | {"domain": "mine.example"}
    subnets.edit(world.site, Actor("joe", "cli"), "lab", {"parameters": {"rack": "b"}, "dns": ["127.0.2.2"]})
    refused = browser.post("/networks/lab/edit", **mine)
    assert refused.status == 412
    assert "Nothing that you changed was changed by them" in refused.main
    assert browser.post("/networks/lab/edit", **refused.fields()).status == 303
    after = subnets.show(world.site, "lab")
    assert (after["domain"], after["parameters"], after["dns"]) == ("mine.example", {"rack": "b"}, ["127.0.2.2"])


def test_parameters_that_the_form_leaves_out_are_removed(browser: Browser, world: World) -> None:
    world.subnet(parameters={"rack": "a", "row": 1})
    form = browser.get("/networks/lab/edit").fields()
    assert browser.post("/networks/lab/edit", **form | {"parameters": "row: 2"}).status == 303
    assert subnets.show(world.site, "lab")["parameters"] == {"row": 2}
    form = browser.get("/networks/lab/edit").fields()
    refused = browser.post("/networks/lab/edit", **form | {"parameters": "row: [1"})
    assert refused.status == 400 and refused.fields()["parameters"] == "row: [1"


def test_a_preview_shows_what_machines_would_get_and_saves_nothing(browser: Browser, world: World) -> None:
    world.ready()
    form = browser.get("/networks/lab/edit").fields() | {"parameters": "timezone: Europe/Berlin"}
    shown = browser.post("/networks/lab/edit", **form | {"preview": "1"})
    assert shown.status == 200
    assert "1 machine depends on this" in shown.main and "Europe/Berlin" in shown.one("section.radius").get_text()
    assert subnets.show(world.site, "lab")["parameters"] == {}
    assert shown.fields("form[data-keep]")["parameters"].strip() == "timezone: Europe/Berlin"


def test_a_subnet_with_machines_is_not_removed(browser: Browser, world: World) -> None:
    world.ready()
    refused = browser.post("/networks/lab/remove")
    assert refused.status == 409 and "web01" in refused.main
    machines.remove(world.site, ACTOR, "web01")
    assert browser.post("/networks/lab/remove").place == "/networks"


def test_what_dhcp_answers_there(browser: Browser, world: World) -> None:
    world.subnet()
    page = browser.get("/networks/lab")
    assert "We do not answer DHCP there" in page.main
    for told in ("undionly.kpxe", "snponly.efi", "http://127.0.0.1:8080/boot/ipxe"):
        assert told in page.main


def test_a_viewer_sees_networks_and_is_offered_no_change(site: Site, world: World) -> None:
    world.subnet()
    page = Browser(site, role="viewer").get("/networks/lab")
    assert page.status == 200
    assert not page.soup.select("main form") and "Change" not in page.links()


def test_the_list_is_there_as_csv(browser: Browser, world: World) -> None:
    world.subnet(ranges=["127.0.2.100-127.0.2.199"])
    told = browser.get("/networks?format=csv")
    assert told.headers["Content-Type"].startswith("text/csv")
    assert told.body.splitlines()[1].startswith("lab,127.0.2.0/24,")


def test_many_subnets_have_pages_and_a_search(browser: Browser, world: World) -> None:
    for number in range(60):
        world.subnet(f"net{number:02}", f"10.{number}.0.0/24")
    page = browser.get("/networks")
    assert len(page.soup.select("tbody tr")) == 50
    assert len(browser.get(page.links()["Next page"]).soup.select("tbody tr")) == 10
    found = browser.get("/networks?q=net07")
    assert [each.get_text().strip() for each in found.soup.select("tbody th")] == ["net07"]
    assert "No subnet matches" in browser.get("/networks?q=nothing").main
    assert len(browser.get("/networks?format=csv").body.splitlines()) == 61


def external(world: World) -> None:
    world.subnet(dhcp="external", gateway="127.0.2.1", boot_url="http://127.0.2.5:8080")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ("isc", ["subnet 127.0.2.0 netmask 255.255.255.0 {", "fixed-address 127.0.2.11"]),
        ("kea", ['"subnet": "127.0.2.0/24"', '"ip-address": "127.0.2.11"']),
        ("dnsmasq", ["dhcp-boot=tag:net-127.0.2.0-24,tag:ipxe,", "dhcp-host=52:54:00:12:34:56"]),
        ("windows", ["Add-DhcpServerv4Scope -Name 'lab'", "-IPAddress 127.0.2.11"]),
    ],
)
def test_what_another_dhcp_server_needs_stands_on_the_page(
    browser: Browser, world: World, server: str, words: list[str]
) -> None:
    external(world)
    world.machine(profile=None)
    page = browser.get("/networks/lab")
    assert page.status == 200
    assert "fixed-address 127.0.2.11" in page.one("#otherdhcp pre").get_text(), "the first server's at once"
    place = str(page.one(f"#dhcp-{server}")["href"])
    for shown in (browser.get(place), browser.get(place, fragment=True)):
        text = shown.one("#otherdhcp pre").get_text()
        assert [word for word in [*words, "http://127.0.2.5:8080/boot/ipxe"] if word not in text] == []
    file = browser.get(str(browser.get(place).one("#otherdhcp a[download]")["href"]))
    assert "attachment" in file.headers["Content-Disposition"]
    assert file.body.strip() == text.strip()
    without = browser.get(str(browser.get(place).one("#dhcp-reservations")["href"]))
    assert "127.0.2.11" not in without.one("#otherdhcp pre").get_text()
    assert "127.0.2.0" in without.one("#otherdhcp pre").get_text()


def test_where_dhcp_is_ours_nothing_is_to_be_pasted(browser: Browser, world: World) -> None:
    world.subnet(dhcp="authoritative", boot_url="http://127.0.2.5:8080")
    assert not browser.get("/networks/lab").soup.select("#otherdhcp")
    assert browser.get("/networks/lab/dhcp").status == 404
    assert browser.get("/networks/nosuch/dhcp").status == 404


def test_a_dhcp_server_that_we_know_nothing_of_is_refused(browser: Browser, world: World) -> None:
    external(world)
    refused = browser.get("/networks/lab/dhcp?server=bootpd")
    assert refused.status == 400 and "one of isc, kea, dnsmasq, windows" in refused.main
