"""The stream that tells open pages that something changed; its clock is played."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from uiclient import Browser

from provisioner.errors import NotLoggedIn
from provisioner.services import changes, tokens
from provisioner.services.site import Site
from provisioner.web.ui import live
from provisioner.web.ui.pages import nobody


@dataclass
class Clock:
    """Time that passes when somebody sleeps."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(live, "time", made)
    monkeypatch.setattr(tokens, "authenticate", lambda *_: None)
    return made


def told(site: Site, clock: Clock, seconds: float) -> Iterator[tuple[float, bytes]]:
    """What the stream says within so many seconds, and when."""
    begin = clock.now
    for line in live._lines(nobody(site, "test", "1"), None, "0"):
        if clock.now - begin > seconds:
            return
        yield clock.now - begin, line


def test_in_a_storm_a_page_is_told_once_in_two_seconds(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = itertools.count(1)
    monkeypatch.setattr(changes, "mark", lambda *_: str(next(marks)))
    moments = [at for at, line in told(site, clock, 60) if b"changed" in line]
    assert min(later - earlier for earlier, later in itertools.pairwise(moments)) >= 2
    assert len(moments) >= 20, "it goes on being told"


def test_the_last_change_of_a_storm_is_told(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while a page rests is told when it has rested: nobody looks at yesterday until the next change."""
    monkeypatch.setattr(changes, "mark", lambda *_: str(min(clock.now, 1005.5)))
    moments = [at for at, line in told(site, clock, 60) if b"changed" in line]
    assert moments[0] <= 2 and 5 <= moments[-1] <= 8


def test_without_changes_it_only_says_that_it_is_there(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "mark", lambda *_: "0")
    lines = [line for _, line in told(site, clock, 100)]
    assert b"changed" not in b"".join(lines)
    assert 5 <= lines.count(b": still here\n\n") <= 7


def test_s17_it_ends_with_the_login(site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> None:
        raise NotLoggedIn("the session has ended")

    monkeypatch.setattr(tokens, "authenticate", ended)
    assert [line for _, line in told(site, clock, 60)] == [b"retry: 3000\n\n"]


def test_pages_that_find_no_stream_free_are_told_to_come_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(site)
    monkeypatch.setattr(live._free, "acquire", lambda **_: False)
    refused = browser.get("/live")
    assert refused.status == 429 and "pages are live already" in refused.text
    assert browser.get("/live?build=x").status == 400
