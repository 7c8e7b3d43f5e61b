"""What a boot script request leaves behind."""

import pytest
from world import MAC, World

from provisioner.services import boot, builds


def test_s74_asking_for_ever_does_not_fill_the_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused address that asks for the boot script again and again leaves a bounded number of events."""
    monkeypatch.setattr("provisioner.services.lives._EVENTS_PER_BUILD", 5)
    world.armed()
    for _ in range(12):
        boot.boot_script(world.site, boot.BootRequest(mac=MAC, source="127.9.9.9"))
    assert len(builds.show(world.site, "web01")["events"]) == 5
