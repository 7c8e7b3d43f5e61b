"""Installations for commands to run in; most commands need no running service."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment
from world import World

from provisioner.services import builds, installables, machines, profiles, records, subnets, templates
from provisioner.store.models import Distro


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


@pytest.fixture
def contents() -> Callable[[Served], dict[str, Any]]:
    """Reads everything that a refused command must leave as it was, history included."""

    def read_all(served: Served) -> dict[str, Any]:
        site = served.site
        found = {
            "machines": machines.listing(site),
            "profiles": profiles.listing(site),
            "subnets": subnets.listing(site),
            "templates": templates.listing(site),
            "distros": installables.listing(site, Distro),
            "builds": [(view["machine"], view["number"], view["state"]) for view in builds.listing(site)],
            "history": [row["id"] for row in records.listing(site, None, 1000)],
        }
        site.engine.dispose()
        return found

    return read_all
