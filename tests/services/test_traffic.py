"""What transfers leave in a build: events that are bounded, and bytes that are kept while the database is down."""

import dataclasses
from collections.abc import Iterator

import pytest
from conftest import both_engines, wait_for
from sqlalchemy import select
from world import IP, World

from provisioner.services import traffic
from provisioner.services.site import Site
from provisioner.services.traffic import FAILED, LOADED, MEDIA, Meter, Told
from provisioner.store.engine import open_engine, read, with_breakers
from provisioner.store.models import BuildTraffic, Event

pytestmark = pytest.mark.slow


class Drops:
    """What a meter said that it dropped."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def __call__(self, why: str, count: int) -> None:
        self.told[why] = self.told.get(why, 0) + count


@pytest.fixture
def drops() -> Drops:
    """Empty."""
    return Drops()


@pytest.fixture
def meter(site: Site, drops: Drops) -> Iterator[Meter]:
    """A meter that ends with the test."""
    made = Meter(site, drops)
    yield made
    made.close()


def events(site: Site, *kinds: str) -> list[str]:
    """Their messages."""
    with read(site.engine) as session:
        return list(session.scalars(select(Event.message).where(Event.kind.in_(kinds)).order_by(Event.id)))


def sums(site: Site) -> dict[str, tuple[int, int]]:
    """Bytes and transfers by way."""
    with read(site.engine) as session:
        return {each.way: (each.bytes, each.transfers) for each in session.scalars(select(BuildTraffic))}


@both_engines
def test_transfers_are_summed_and_noted(site: Site, world: World, meter: Meter) -> None:
    world.armed()
    meter.put(IP, "tftp", 1000, Told(LOADED, "undionly.kpxe, 1000 bytes"))
    meter.put(IP, "tftp", 300, Told(FAILED, "snponly.efi: timeout\x1b[31m"))
    for _ in range(3):
        meter.put(IP, "media", 7, Told(MEDIA, "vmlinuz, 7 bytes", once="vmlinuz"))
    meter.put("10.9.9.9", "media", 7, Told(MEDIA, "somebody else's"))
    meter.close()
    assert sums(site) == {"tftp": (1300, 2), "media": (21, 3)}
    assert events(site, LOADED) == ["undionly.kpxe, 1000 bytes"]
    assert events(site, FAILED) == ["snponly.efi: timeout\\x1b[31m"]
    assert events(site, MEDIA) == ["vmlinuz, 7 bytes"]


@both_engines
def test_what_two_processes_sent_is_noted_once(site: Site, world: World, drops: Drops) -> None:
    world.armed()
    for seconds, name in (("0.1", "vm_linuz"), ("0.2", "vm_linuz"), ("0.3", "vmxlinuz")):
        process = Meter(site, drops)
        process.put(IP, "media", 7, Told(MEDIA, f"{name}, 7 bytes by HTTP in {seconds} s", once=name))
        process.close()
    assert events(site, MEDIA) == ["vm_linuz, 7 bytes by HTTP in 0.1 s", "vmxlinuz, 7 bytes by HTTP in 0.3 s"]
    assert sums(site) == {"media": (21, 3)}


def test_a_machine_that_is_not_being_built_leaves_nothing(site: Site, world: World, meter: Meter) -> None:
    world.ready()
    meter.put(IP, "tftp", 1000, Told(LOADED, "undionly.kpxe"))
    meter.close()
    assert not sums(site)
    assert not events(site, LOADED)


def test_firmware_that_tries_for_ever_does_not_fill_the_build(site: Site, world: World, meter: Meter) -> None:
    world.armed()
    for _ in range(3):
        for _ in range(150):
            meter.put(IP, "tftp", 1, Told(FAILED, "undionly.kpxe: timeout"))
        wait_for(lambda: not meter._heard, what="the thread")
    meter.close()
    assert len(events(site, FAILED)) == 200
    assert sums(site) == {"tftp": (450, 450)}


def test_while_the_database_is_down_bytes_are_kept_and_events_are_not(
    site: Site, world: World, drops: Drops, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.armed()
    monkeypatch.setattr(traffic, "_QUIET_SECONDS", 0.05)
    broken = open_engine(f"sqlite:///{site.settings.state_dir}/gone/none.db", lock_seconds=1)
    meter = Meter(dataclasses.replace(site, engine=with_breakers(broken)), drops)
    meter.put(IP, "tftp", 10, Told(LOADED, "lost"))
    wait_for(lambda: drops.told.get("database") == 1, what="the drop")
    meter._site = site
    meter.put(IP, "tftp", 5, Told(LOADED, "there again"))
    meter.close()
    broken.dispose()
    assert sums(site) == {"tftp": (15, 2)}
    assert events(site, LOADED) == ["there again"]


def test_what_waits_is_bounded(site: Site, drops: Drops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "_run", lambda self: None)
    monkeypatch.setattr(traffic, "_WAITING", 10)
    monkeypatch.setattr(traffic, "_SOURCES", 3)
    meter = Meter(site, drops)
    for number in range(20):
        meter.put("10.0.2.1", "tftp", 1, Told(LOADED, str(number)))
    for number in range(5):
        meter.put(f"10.0.3.{number}", "tftp", 1)
    meter.put("10.0.4.1", "tftp", 1, Told(LOADED, "x"))
    assert drops.told == {"full": 10, "sources": 1}
