"""The form of a machine: errors beside their fields, nothing typed is lost, somebody else's change is shown."""

from typing import Any

import pytest
from uiclient import Browser, Shown
from world import ACTOR, MAC, World

from provisioner.services import machines, records
from provisioner.services.site import Site

pytestmark = pytest.mark.slow

HOSTILE = "<svg onload=alert(1)>\"'></textarea>{{7*7}}\u202ecod.exe"
EDIT = "/machines/web01/edit"


@pytest.fixture
def browser(site: Site, world: World) -> Browser:
    world.ready(parameters={"motd": "hello", "packages": ["vim"]}, tags=["rack4"], kernel_options=["quiet"])
    return Browser(site)


def filled(browser: Browser) -> dict[str, Any]:
    """The form as it opens; lists are one value for each interface."""
    fields = browser.get(EDIT).fields("main form")
    return {key: value for key, value in fields.items() if key != "look"}


def row(**cells: str) -> dict[str, list[str]]:
    """One interface as the form sends it, and the empty row."""
    keys = ("mac", "ip", "name", "subnet")
    return {f"nic_{key}": [cells.get(key, ""), ""] for key in keys}


def wrong(page: Shown) -> dict[str, str]:
    """Each field that is marked as wrong, with what stands beside it."""
    found = {}
    for each in page.soup.select("[aria-invalid]"):
        beside = page.one(f"#{each['aria-describedby']}")
        found[str(each["id"])] = " ".join(beside.get_text(" ").split())
    return found


def test_it_opens_with_the_machine_as_it_is_and_saves_nothing_of_that(browser: Browser, site: Site) -> None:
    fields = filled(browser)
    assert fields["name"] == "web01"
    assert fields["profile"] == "rocky9"
    assert fields["tags"] == "rack4"
    assert fields["parameters"] == "motd: hello\npackages:\n- vim\n"
    assert fields["kernel_options"] == "quiet"
    assert fields["nic_mac"] == [MAC, ""]
    assert fields["revision"] == machines.show(site, "web01")["revision"]
    before = len(records.listing(site))
    page = browser.follow(browser.post(EDIT, **fields))
    assert "Nothing of web01 changed." in page.text
    assert len(records.listing(site)) == before


def test_what_is_typed_is_saved_with_its_reason(browser: Browser, site: Site) -> None:
    fields = filled(browser) | {
        "name": "web02.example.com",
        "description": HOSTILE,
        "tags": "rack5, web",
        "serial": "S1",
        "uuid": "5a1d0000-0000-4000-8000-000000000001",
        "inventory": "netbox/1",
        "parameters": "motd: bye\nusers: [{name: jane}]",
        "kernel_options": "!quiet\nconsole=ttyS0",
        "profile": "debian12",
        "local_boot": "sanboot",
        "reason": "moved to rack 5",
    }
    answer = browser.post(EDIT, **fields)
    assert answer.place == "/machines/web02.example.com"
    page = browser.follow(answer)
    assert "web02.example.com is saved." in page.text
    assert page.links()["What changed"] == "/machines/web02.example.com/history"
    assert HOSTILE in page.main
    saved = machines.show(site, "web02.example.com")
    assert saved["parameters"] == {"motd": "bye", "users": [{"name": "jane"}]}, "what was taken out of the text is gone"
    assert saved["tags"] == ["rack5", "web"]
    assert saved["kernel_options"] == ["!quiet", "console=ttyS0"]
    assert (saved["profile"], saved["local_boot"], saved["serial"]) == ("debian12", "sanboot", "S1")
    newest = records.listing(site, "web02.example.com")[0]
    assert (newest["actor"], newest["reason"]) == ("a-admin", "moved to rack 5")
    again = browser.get("/machines/web02.example.com/edit").fields("main form")
    assert again["description"] == HOSTILE


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"name": "not a name"}, "f-name", "is not a host name"),
        ({"name": "52:54:00:aa:aa:aa"}, "f-name", "is a MAC address, not a name"),
        ({"profile": "nope"}, "f-profile", "there is no profile 'nope'"),
        ({"tags": "föö"}, "f-tags", "is not a tag"),
        ({"uuid": "xyz"}, "f-uuid", "xyz"),
        ({"parameters": "a: 1\nb: [\n"}, "f-parameters", "line 3"),
        ({"parameters": "just words"}, "f-parameters", "these are not names with values"),
        ({"parameters": "Bad-Name: 1"}, "f-parameters", "is not a parameter's name"),
        ({"kernel_options": "a;b"}, "f-kernel_options", "would break the boot script"),
        ({"local_boot": "teleport"}, "f-local_boot", "is not a way to the local disk"),
        (row(mac="zz"), "nic-0-mac", "zz"),
        (row(mac=MAC, ip="10.0.0.300"), "nic-0-ip", "10.0.0.300"),
        (row(mac=MAC, ip="10.9.9.9", subnet="lab"), "nic-0-ip", "10.9.9.9"),
        (row(mac=MAC, ip="127.0.2.11", subnet="nope"), "nic-0-subnet", "there is no subnet 'nope'"),
    ],
)  # fmt: skip
def test_an_error_stands_beside_its_field_and_nothing_typed_is_lost(
    browser: Browser, site: Site, typed: dict[str, Any], field: str, said: str
) -> None:
    before = machines.show(site, "web01")
    kept = {"description": "typed with care", "reason": "because"}
    sent = filled(browser) | kept | typed
    page = browser.post(EDIT, **sent)
    assert page.status in {400, 404, 409, 422}, page.status
    assert list(wrong(page)) == [field]
    assert said in wrong(page)[field]
    again = page.fields("main form")
    for key, value in (kept | {key: each for key, each in typed.items() if isinstance(each, str)}).items():
        if key not in {"profile", "local_boot"}:
            assert again[key] == value, key
    assert machines.show(site, "web01") == before


def test_the_error_of_the_second_interface_stands_there(browser: Browser, world: World) -> None:
    world.machine("other", "52:54:00:00:00:02", "127.0.2.12")
    rows = {"nic_mac": [MAC, "52:54:00:00:00:03", ""], "nic_ip": ["127.0.2.11", "127.0.2.12", ""]}
    page = browser.post(
        EDIT, **(filled(browser) | rows | {"nic_name": ["nic0", "", ""], "nic_subnet": ["lab", "", ""]})
    )
    assert wrong(page) == {"nic-1-ip": wrong(page)["nic-1-ip"]}
    assert "127.0.2.12 belongs to machine other" in wrong(page)["nic-1-ip"]
    assert page.one("#nic-1-mac")["value"] == "52:54:00:00:00:03"


def test_interfaces_are_added_given_the_next_address_and_taken_away(browser: Browser, site: Site) -> None:
    rows = {"nic_mac": [MAC, "5254.0000.0003", ""], "nic_ip": ["127.0.2.11", "next", ""]}
    rows |= {"nic_name": ["eth0", "", ""], "nic_subnet": ["lab", "lab", ""]}
    browser.follow(browser.post(EDIT, **(filled(browser) | rows)))
    nics = machines.show(site, "web01")["interfaces"]
    assert [(each["name"], each["mac"]) for each in nics] == [("eth0", MAC), ("nic1", "52:54:00:00:00:03")]
    assert nics[1]["ip"].startswith("127.0.2.")
    fields = filled(browser)
    fields |= {key: ["", *fields[key][1:]] for key in ("nic_mac", "nic_ip")}
    browser.follow(browser.post(EDIT, **fields))
    assert [each["mac"] for each in machines.show(site, "web01")["interfaces"]] == ["52:54:00:00:00:03"]


def test_somebody_elses_change_is_shown_and_ours_is_kept(browser: Browser, site: Site) -> None:
    fields = filled(browser) | {"description": "mine", "reason": "mine too"}
    machines.edit(site, ACTOR, "web01", {"description": "theirs"})
    page = browser.post(EDIT, **fields)
    assert page.status == 412
    assert "Somebody changed web01 while you were editing." in page.main
    assert page.one(".theirs ins").get_text() == "theirs"
    assert "tester" in page.one(".theirs").get_text()
    again = page.fields("main form")
    assert (again["description"], again["reason"]) == ("mine", "mine too")
    assert machines.show(site, "web01")["description"] == "theirs"
    browser.follow(browser.post(EDIT, **again))
    assert machines.show(site, "web01")["description"] == "mine", "sending again is a decision"


def test_a_field_that_nobody_typed_in_keeps_somebody_elses_change(browser: Browser, site: Site) -> None:
    fields = filled(browser) | {"description": "mine", "serial": "S1"}
    machines.edit(site, ACTOR, "web01", {"description": "theirs", "tags": ["web", "rack1"]})
    page = browser.post(EDIT, **fields)
    assert page.status == 412
    assert "You did not touch tags : what they wrote is in the form." in page.main
    assert "Both of you changed description :" in page.main
    browser.follow(browser.post(EDIT, **page.fields("main form")))
    after = machines.show(site, "web01")
    assert (after["description"], after["serial"], sorted(after["tags"])) == ("mine", "S1", ["rack1", "web"])


def test_what_saving_would_do_is_shown_before_it_is_saved(browser: Browser, site: Site) -> None:
    before = machines.show(site, "web01")
    fields = filled(browser) | {"parameters": "motd: hello\ntimezone: Asia/Tokyo\n", "look": "yes"}
    page = browser.post(EDIT, **fields)
    assert page.status == 200
    assert "Nothing is saved yet" in page.main
    assert "+timezone 'Asia/Tokyo' --utc" in page.one("#look").get_text()
    assert page.fields("main form")["parameters"] == "motd: hello\ntimezone: Asia/Tokyo\n"
    assert machines.show(site, "web01") == before
    broken = browser.post(EDIT, **(fields | {"profile": ""}))
    assert "could not be built any more" in broken.one("#look").get_text()


def test_a_machine_under_way_may_be_edited_and_the_page_says_what_that_means(browser: Browser, site: Site) -> None:
    from provisioner.services import arming

    arming.start(site, ACTOR, "web01")
    fields = filled(browser) | {"parameters": "timezone: Asia/Tokyo"}
    page = browser.follow(browser.post(EDIT, **fields))
    assert "Machine web01 changed after build 1 was armed." in page.main


def test_an_operator_edits_machines(site: Site, browser: Browser) -> None:
    operator = Browser(site, "operator")
    assert operator.get("/machines/web01").links()["Edit"] == EDIT
    assert operator.follow(operator.post(EDIT, **(filled(operator) | {"description": "x"}))).status == 200
