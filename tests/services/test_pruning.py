"""Events are kept for `event_days`, and those of a build under way for as long as it lasts."""

from datetime import timedelta

from conftest import both_engines
from sqlalchemy import func, select, update
from world import World

from provisioner.services import arming, builds, pruning
from provisioner.store.engine import read, write
from provisioner.store.models import Event, now

pytestmark = both_engines


def events(world: World) -> int:
    with read(world.site.engine) as session:
        return session.scalar(select(func.count()).select_from(Event)) or 0


def test_old_events_go_and_their_builds_stay(world: World) -> None:
    first = world.armed()
    builds.cancel(world.site, world.actor, "web01")
    old = now() - timedelta(days=world.site.settings.event_days, minutes=1)
    with write(world.site.engine) as session:
        session.execute(update(Event).values(at=old))
    there = events(world)
    second = arming.start(world.site, world.actor, "web01")
    fresh = events(world) - there
    assert pruning.old_events(world.site) == there > 0
    assert (events(world), pruning.old_events(world.site)) == (fresh, 0)
    assert builds.show(world.site, first["id"])["state"] == "cancelled"
    assert builds.sealed(world.site, first["id"])["files"]
    assert builds.show(world.site, second["id"])["events"]


def test_events_of_a_build_under_way_stay(world: World) -> None:
    world.armed()
    later = now() + timedelta(days=world.site.settings.event_days + 1)
    assert pruning.old_events(world.site, later) == 0
    builds.cancel(world.site, world.actor, "web01")
    assert pruning.old_events(world.site, later) > 0
    assert events(world) == 0
