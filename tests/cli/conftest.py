"""Installations for commands to run in; most commands need no running service."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment
from world import World


@pytest.fixture
def empty(_template: Path, tmp_path: Path) -> Served:
    """What `init` leaves, in a state directory of its own; nothing runs."""
    shutil.copytree(_template, tmp_path / "state")
    return Served(served_environment(tmp_path / "state"), tmp_path / "state", log=tmp_path / "log")


@pytest.fixture
def ready(empty: Served, tmp_path: Path) -> Served:
    """The same with the subnet `lab`, the distro `rocky-9.6` and the machine `web01`."""
    inside(empty, tmp_path, lambda world: world.ready())
    return empty


def inside(served: Served, tmp: Path, scene: Callable[[World], Any]) -> None:
    """Set a scene through the services, faster than by commands."""
    site = served.site
    scene(World(site, tmp))
    site.engine.dispose()
