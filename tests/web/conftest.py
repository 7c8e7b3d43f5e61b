"""Machines for the tests through the outside."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loggedin import quick_hasher
from played import Played
from world import IP, World

from provisioner.services.site import Site


@pytest.fixture(scope="module")
def inside(served: Any) -> Iterator[Site]:
    """The served installation from inside, to set scenes with."""
    opened = served.site
    yield opened
    opened.engine.dispose()


@pytest.fixture(scope="module")
def play(served: Any, inside: Site, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Played]:
    """Makes registered machines, each with a MAC address and an address of its own."""
    world, numbers = World(inside, tmp_path_factory.mktemp("play")), itertools.count(20)

    def make(**fields: Any) -> Played:
        number = next(numbers)
        mac, ip = f"52:54:00:bb:00:{number:02x}", IP.replace(".11", f".{number}")
        world.machine(f"m{number}", mac, ip, **fields)
        return Played(served, inside, f"m{number}", mac, ip)

    return make


@pytest.fixture(autouse=True)
def _cheap_logins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of pages log in often, and are not about what a hash costs."""
    if request.path.name.startswith("test_ui_"):
        quick_hasher(monkeypatch)
