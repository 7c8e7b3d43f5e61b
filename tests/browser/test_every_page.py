"""Every page, with hostile strings in it, in Chromium: quiet, inert, accessible, and no wider than its window."""

import re
from collections.abc import Iterator

import hostilescene as scene
import pytest
from conftest import Served
from eyes import Eyes, Opened

from provisioner.services.site import Site
from provisioner.web import ui

pytestmark = pytest.mark.slow
GETS = sorted(
    {page.rule for page in ui.pages() if page.method == "GET"} - {"/live"}  # an endless stream, not a page
)
_PARTS = re.compile(r"<(?:\w+:)?(\w+)>")


@pytest.fixture(scope="module")
def inside(served: Served) -> Iterator[Site]:
    site = served.site
    yield site
    site.engine.dispose()


@pytest.fixture(scope="module")
def hostile(served: Served, inside: Site, tmp_path_factory: pytest.TempPathFactory) -> scene.Scene:
    return scene.hostile(inside, served, tmp_path_factory.mktemp("hostile"))


def address(rule: str, hostile: scene.Scene) -> str | None:
    """An address of the page in the scene; None where the scene has nothing to show there."""
    known = max((place for place in hostile.names if rule.startswith(place)), key=len, default="")
    names = hostile.names.get(known, {})
    if not set(_PARTS.findall(rule)) <= set(names):
        return None
    return _PARTS.sub(lambda found: names[found[1]], rule) + names.get("?", "")


def test_the_scene_has_something_for_every_page(hostile: scene.Scene) -> None:
    assert [rule for rule in GETS if address(rule, hostile) is None] == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)], ids=["light", "dark", "phone"])
def test_s54_every_page_shows_strangers_words_as_text_and_is_accessible(
    opened: Opened, hostile: scene.Scene, width: int, dark: bool
) -> None:
    tab = opened(width=width, dark=dark)
    found = []
    for rule in GETS:
        place = address(rule, hostile)
        assert place is not None, rule
        if not shows_a_page(tab, place):
            continue
        tab.open(place)
        found += [f"{rule}: {each}" for each in tab.axe()]
        found += [f"{rule}: {name} of a stranger" for name in ("svg", "script") if strange(tab, name)]
        found += [f"{rule}: {tab.sideways()} px too wide"] if tab.sideways() > 0 else []
        found += [f"{rule}: {len(headings)} h1"] if len(headings := tab.page.locator("h1").all()) != 1 else []
        found += [f"{rule}: not how a script does it"] if rule != "/login" and not says_how(tab) else []
        found += [f"{rule}: {each}" for each in tab.wrong]
        tab.wrong.clear()
    assert found == []


def shows_a_page(tab: Eyes, place: str) -> bool:
    """Whether the address answers with a whole page: parts of pages and downloads are seen in their pages."""
    answer = tab.page.request.get(tab.base + place, headers={"Accept": "text/html"})
    assert answer.status == 200, (place, answer.status, answer.text()[:500])
    return "text/html" in answer.headers["content-type"] and answer.text().lstrip().startswith("<!doctype")


def says_how(tab: Eyes) -> bool:
    """Whether the page shows, on demand, the command and the call that do the same."""
    return tab.page.locator("main details.same:not([open]) > summary").count() == 1


def strange(tab: Eyes, name: str) -> bool:
    """Whether the page holds an element that a stranger put there: ours have an address of ours."""
    found = tab.page.locator(f"{name}, img[src='x']" if name == "svg" else "script:not([src])")
    return found.count() > 0
