"""Pages that wait for work are told how far it is: by whichever process does it, and nothing of it stops the work."""

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from uiclient import Browser
from uicontent import TEXT, tiny
from world import World

from provisioner.services import installables, radius, selection, underway
from provisioner.services.site import Site
from provisioner.web.ui.underway import words

NAME = "0123456789abcdef" * 2


def left(site: Site) -> list[str]:
    place = site.settings.state_dir / "underway"
    return [each.name for each in place.iterdir()] if place.is_dir() else []


def test_another_process_reads_how_far_it_is_and_at_the_end_nothing_is_left(site: Site) -> None:
    with underway.noting(site, NAME) as noted:
        assert noted is not None and underway.step(site, NAME) is None
        noted("rendered", 250, 1000)
        assert underway.step(site, NAME) == underway.Step("rendered", 250, 1000)
        noted("rendered", 251, 1000)  # at once: not worth a file
        assert underway.step(site, NAME) == underway.Step("rendered", 250, 1000)
        noted("validated", 1, 3)
        assert Browser(site).get(f"/underway/{NAME}").body == "Validated: 1 of 3 (33 %)"
    assert underway.step(site, NAME) is None and left(site) == []


def test_what_fails_leaves_nothing_either(site: Site) -> None:
    with pytest.raises(ZeroDivisionError), underway.noting(site, NAME) as noted:
        assert noted is not None
        noted("rendered", 1, 2)
        raise ZeroDivisionError
    assert left(site) == []


@pytest.mark.parametrize("name", ["", "x", NAME[:-1], NAME.upper(), f"../{NAME}", f"{NAME}/", f"{NAME}\n"])
def test_s37_no_other_name_reaches_a_file(site: Site, name: str) -> None:
    with underway.noting(site, name) as noted:
        assert noted is None
    assert underway.step(site, name) is None and left(site) == []


def test_a_disk_that_is_full_stops_no_work(site: Site) -> None:
    (site.settings.state_dir / "underway").write_text("no directory")
    with underway.noting(site, NAME) as noted:
        assert noted is not None
        noted("rendered", 1, 2)
    assert underway.step(site, NAME) is None


def test_a_note_that_is_damaged_is_none(site: Site) -> None:
    place = site.settings.state_dir / "underway"
    place.mkdir()
    for text in ("", "{", "[1]", '["a", "b", "c"]', "null"):
        (place / NAME).write_text(text)
        assert underway.step(site, NAME) is None
        assert Browser(site).get(f"/underway/{NAME}").body == ""


def test_what_a_killed_process_left_is_thrown_away(site: Site) -> None:
    place = site.settings.state_dir / "underway"
    place.mkdir()
    old = place / ("f" * 32)
    old.write_text(json.dumps(["rendered", 1, 2]))
    os.utime(old, (1, 1))
    with underway.noting(site, NAME):
        assert left(site) == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (("rendered", 750, 2000), "Rendered: 750 of 2,000 (37 %)"),
        (("validated", 3, 3), "Validated: 3 of 3 (100 %)"),
        (("fetching kernel", 5_500_000, 11_000_000), "Fetching kernel: 5.5 MB of 11.0 MB (50 %)"),
        (("fetched", 200_000_000, 0), "Fetched: 200.0 MB"),
        (("armed", 12, 10), "Armed: 12 of 10 (100 %)"),
    ],
)
def test_it_is_said_in_words(step: tuple[str, int, int], said: str) -> None:
    assert words(underway.Step(*step)) == said


def heard(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a page would have been told after each step, asked from another thread."""
    told: list[str] = []
    browser = Browser(site)
    note = underway._Noter.__call__

    def listening(noter: Any, *step: Any) -> None:
        note(noter, *step)
        asking = threading.Thread(target=lambda: told.append(browser.get(f"/underway/{NAME}").body))
        asking.start()
        asking.join()

    monkeypatch.setattr(underway._Noter, "__call__", listening)
    return told


def test_the_review_of_a_template_says_how_many_machines_are_rendered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(world, machines=3)
    monkeypatch.setattr(radius, "TOGETHER", 2)
    told = heard(world.site, monkeypatch)
    browser = Browser(world.site)
    place = "/templates/script/tiny.sh.j2/edit"
    page = browser.get(place)
    assert page.soup.select("#busy [data-underway]")
    sent = {"csrf_token": browser._token(), **page.fields("#edit"), "text": f"# more\n{TEXT}", "action": "review"}
    headers = {"HX-Request": "true", "X-Underway": NAME}
    answer = browser.client.post(place, data=sent, headers=headers)
    assert answer.status_code == 200 and "+1 line" in answer.get_data(as_text=True)
    assert told[0] == "Rendered: 2 of 3 (66 %)"
    assert left(world.site) == []


def test_a_bulk_build_says_how_many_are_armed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.subnet()

    def armed(_site: Site, _actor: Any, names: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, name in enumerate(names):
            yield name, {"id": number, "number": 1, "warnings": []}

    world.machine("web01")
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    monkeypatch.setattr(selection, "build", armed)
    told = heard(world.site, monkeypatch)
    done = Browser(world.site).post("/machines:bulk/build", names="web01 web02", underway=NAME)
    assert done.status == 303
    assert told[0] == "Armed: 1 of 2 (50 %)"


def test_a_fetch_says_how_much_is_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_site: Site, _actor: Any, name: str, _given: Any, progress: Any) -> dict[str, Any]:
        progress(3_000_000, 12_000_000)
        return {"name": name}

    monkeypatch.setattr(installables, "add_distro", fetch)
    monkeypatch.setattr("provisioner.services.mediaimport.fitting", lambda *_: ())
    told = heard(world.site, monkeypatch)
    urls = {each: f"http://192.0.2.1/{each}" for each in ("kernel", "initrd")}
    sent = {"name": "rocky-9.6", "os": "rocky", "version": "9.6", **urls, "underway": NAME}
    assert Browser(world.site).post("/distros:add", **sent).status == 303
    assert told == ["Fetched: 3.0 MB of 12.0 MB (25 %)"]
