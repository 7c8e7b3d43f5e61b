"""What the overview and rack mode ask the database, on both engines."""

import pytest
from conftest import both_engines
from uilife import Life, arrives, goes_by
from world import ACTOR, World

from provisioner.errors import NotFound
from provisioner.services import arming, machines, overview, rack
from provisioner.services.site import Actor, Site

pytestmark = pytest.mark.slow

JANE = Actor("jane", "ui")


@both_engines
def test_counts_medians_failed_and_stuck(world: World, site: Site) -> None:
    world.ready()
    for number, seconds in enumerate((100, 200, 900)):
        name, mac, ip = f"old{number}", f"52:54:00:12:35:0{number}", f"127.0.2.2{number}"
        world.machine(name, mac, ip)
        arming.start(site, ACTOR, name)
        life = Life(site, mac, ip).boots()
        goes_by(site, seconds)
        life.says("built")
        goes_by(site, 10)
        life.done()
    world.machine("bad", "52:54:00:12:35:09", "127.0.2.29")
    arming.start(site, ACTOR, "bad")
    log = "\n".join(f"line {number}" for number in range(9))
    Life(site, "52:54:00:12:35:09", "127.0.2.29").boots().says("failed", "no space", log)
    arming.start(site, ACTOR, "web01")
    Life(site).boots().says("disk")
    counts = overview.counts(site)
    assert counts["machines"] == {"building": 1, "configured": 3, "failed": 1}
    assert (counts["total"], counts["builds"]) == (5, {"installing": 1, "configured": 3, "failed": 1})
    (running,) = overview.under_way(site)["items"]
    assert (running["machine"], running["doing"], running["compared"]) == ("web01", "writing to the disk", 3)
    assert running["usual"] == pytest.approx(200, abs=10)
    (failed,) = overview.failed(site)["items"]
    assert (failed["machine"], failed["outcome"], failed["tail"]) == ("bad", "no space", "line 6\nline 7\nline 8")
    assert overview.stuck(site)["total"] == 0
    goes_by(site, 1300)
    stuck = overview.stuck(site)
    assert [each["machine"] for each in stuck["items"]] == ["web01"] and stuck["total"] == 1
    assert overview.build(site, "web01")["stuck"]
    assert overview.first_steps(site) == []


@both_engines
def test_the_handoff_is_held_against_its_own_median(world: World, site: Site) -> None:
    world.armed()
    life = Life(site).boots()
    goes_by(site, 500)
    life.says("built")
    goes_by(site, 40)
    life.done()
    arming.start(site, ACTOR, "web01")
    Life(site).boots().says("built")
    told = overview.build(site, "web01")
    assert (told["state"], told["stage"]) == ("built", 3)
    assert told["usual"] == pytest.approx(40, abs=10)


@both_engines
def test_the_furthest_stand_first_and_all_are_counted(world: World, site: Site) -> None:
    world.ready()
    for number in range(4):
        name, mac, ip = f"n{number}", f"52:54:00:12:35:0{number}", f"127.0.2.2{number}"
        world.machine(name, mac, ip)
        arming.start(site, ACTOR, name)
    Life(site, "52:54:00:12:35:01", "127.0.2.21").boots().says("disk")
    told = overview.under_way(site, most=2)
    assert [each["machine"] for each in told["items"]] == ["n1", "n3"]
    assert told["total"] == 4


@both_engines
def test_rack_suggests_takes_and_remembers(world: World, site: Site) -> None:
    world.ready()
    arrives(site, "52:54:00:aa:00:01", "127.0.2.66", serial="7XK2Q03")
    assert rack.suggestion(site, "jane") == {"name": "", "profile": "", "address": "next"}
    made = rack.take(site, JANE, "52-54-00-AA-00-01", "r1-09", "", "rocky9")
    assert (made["state"], made["interfaces"][0]["subnet"], made["interfaces"][0]["ip"]) == ("discovered", "lab", None)
    assert rack.suggestion(site, "jane") == {"name": "r1-10", "profile": "rocky9", "address": ""}
    assert rack.mine(site, "jane") == []
    arming.start(site, JANE, "r1-09")
    assert [each["machine"] for each in rack.mine(site, "jane")] == ["r1-09"]
    assert rack.mine(site, "tester") == []
    with pytest.raises(NotFound, match="does not wait"):
        rack.take(site, JANE, "52:54:00:aa:00:01", "r1-10", "", "rocky9")
    assert machines.show(site, "r1-09")["serial"] == "7XK2Q03"


def test_profiles_that_cannot_be_built_say_why(world: World, site: Site) -> None:
    before = {each["name"]: each["obstacle"] for each in rack.profiles(site)}
    assert before["rocky9"].startswith("no distro fits") and before["linux"] == "it names no distro and no image"
    world.distro()
    after = {each["name"]: each["obstacle"] for each in rack.profiles(site)}
    assert after["rocky9"] == "" and after["debian12"].startswith("no distro fits")
    assert list(after) == sorted(after)
