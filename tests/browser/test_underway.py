"""A page that waits for work shows how far it is, in Chromium; the work is held until that was seen."""

import re
from collections.abc import Iterator

import pytest
from conftest import Served
from eyes import Opened
from playwright.sync_api import Page, Route, expect
from world import World

from provisioner.services.site import Site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inside(served: Served) -> Iterator[Site]:
    site = served.site
    yield site
    site.engine.dispose()


class Held:
    """Requests that wait until the test lets them go, and what was asked meanwhile."""

    def __init__(self, page: Page, work: re.Pattern[str], words: str, *, stays: bool = False) -> None:
        self.stays = stays
        self.page, self.routes, self.asked = page, list[Route](), set[str]()
        page.route(work, self._hold)
        page.route("**/underway/*", lambda route: self._answer(route, words))

    def _hold(self, route: Route) -> None:
        if route.request.method == "POST":
            self.routes.append(route)
            if self.stays:
                route.fulfill(status=204)
        else:
            route.continue_()

    def _answer(self, route: Route, words: str) -> None:
        self.asked.add(route.request.url.rpartition("/")[2])
        route.fulfill(content_type="text/plain; charset=utf-8", body=words)

    def let_go(self) -> Route:
        (route,) = self.routes
        route.continue_()
        return route


@pytest.fixture(scope="module")
def world(inside: Site, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(inside, tmp_path_factory.mktemp("underway"))
    made.machine("slow01", "52:54:00:12:34:77", "127.0.2.77")
    return made


@pytest.mark.usefixtures("world")
def test_a_review_counts_the_machines_while_one_waits(opened: Opened) -> None:
    tab = opened()
    page = tab.open("/templates/kickstart/el9.ks.j2/edit")
    held = Held(page, re.compile("/edit$"), "Rendered: 250 of 1,000 (25 %)")
    text = page.get_by_label("Text")
    text.fill(text.input_value().replace("text --non-interactive", "text --non-interactive\n# counted", 1))
    page.get_by_role("button", name="Review change", exact=True).click()
    expect(page.locator("#busy")).to_contain_text("Rendered: 250 of 1,000 (25 %)")
    expect(page.locator("#busy")).to_be_visible()
    route = held.let_go()
    assert held.asked == {route.request.headers["x-underway"]}
    expect(page.locator("#h-review")).to_be_visible()
    expect(page.locator("#busy")).to_be_hidden()


@pytest.mark.usefixtures("world")
def test_a_form_that_takes_its_time_counts_on_its_button(opened: Opened) -> None:
    """The answer is one that leaves the page as it is: Playwright looks at no page that is about to go."""
    tab = opened()
    page = tab.open("/networks/lab/edit")
    held = Held(page, re.compile("/networks/lab/edit$"), "Rendered: 1 of 4 (25 %)", stays=True)
    page.get_by_label("Domain").fill("counted.example")
    page.get_by_role("button", name="Show what it would do to machines").click(no_wait_after=True)
    shown = page.locator("button[name=preview]")
    expect(shown).to_have_text("Rendered: 1 of 4 (25 %)")
    expect(shown).to_be_disabled()
    (name,) = held.asked
    assert f"underway={name}" in str(held.routes[0].request.post_data)
