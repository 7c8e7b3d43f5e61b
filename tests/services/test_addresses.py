"""Item 4: free addresses, holds, and what a subnet's addresses are used for."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from calling import given_to_processes
from conftest import both_engines
from sqlalchemy import event, insert, select, update
from world import ACTOR, World

from provisioner.errors import AddressOutsideSubnet, AddressTaken, Conflict, InvalidInput, NoAddressFree, TooMany
from provisioner.services import addresses, machines, subnets
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Actor, Site
from provisioner.store.engine import write
from provisioner.store.models import AddressHold, Interface, Machine, Subnet, now

OTHER = Actor(who="somebody else", origin="tests", request="test")
RANGES = ["static:10.0.2.10-10.0.2.19", "10.0.2.100-10.0.2.199", "reserved:10.0.2.240-10.0.2.250"]


def lab(world: World, **fields: Any) -> dict[str, Any]:
    """The subnet lab with a range of each kind."""
    return world.subnet(
        cidr="10.0.2.0/24", **({"gateway": "10.0.2.1", "dns": ["10.0.2.11"], "ranges": RANGES} | fields)
    )


def nth(number: int) -> str:
    """A MAC."""
    return f"52:54:00:01:{number >> 8:02x}:{number & 255:02x}"


def add(
    site: Site, number: int, ip: str | None = "next", subnet: str | None = "lab", actor: Actor = ACTOR
) -> str | None:
    """A machine with this address; which one it got."""
    nic = InterfaceInput(nth(number), ip, subnet=subnet)
    found: str | None = machines.add(site, actor, f"m{number}", [nic], {})["interfaces"][0]["ip"]
    return found


def fill(site: Site, subnet: str, ips: list[str]) -> None:
    """Machines at these addresses, written past the services."""
    with write(site.engine) as session:
        net = session.scalars(select(Subnet.id).where(Subnet.name == subnet)).one()
        machine = Machine(name=f"crowd-{subnet}", parameters={}, kernel_options=[], state="ready")
        session.add(machine)
        session.flush()
        row = {"machine_id": machine.id, "position": 0, "name": "nic0", "subnet_id": net}
        session.execute(insert(Interface), [row | {"ip": ip, "mac": None} for ip in ips])


@both_engines
def test_the_next_free_address_is_the_lowest_of_the_static_ranges(world: World) -> None:
    lab(world)
    given = [add(world.site, number) for number in range(3)]
    assert given == ["10.0.2.10", "10.0.2.12", "10.0.2.13"], "the DNS server's is left out"
    machines.remove(world.site, ACTOR, "m0")
    assert add(world.site, 9) == "10.0.2.10"
    shown = addresses.overview(world.site, "lab")
    assert shown["counts"] == {
        "total": 256, "used": 3, "free": 6, "held": 0, "static": 10, "dynamic": 100, "reserved": 15
    }  # fmt: skip
    assert [(each["ip"], each["machine"]) for each in shown["used"]] == [
        ("10.0.2.10", "m9"),
        ("10.0.2.12", "m1"),
        ("10.0.2.13", "m2"),
    ]


@both_engines
def test_a_full_range_says_so(world: World) -> None:
    lab(world)
    assert len({add(world.site, number) for number in range(9)}) == 9
    with pytest.raises(NoAddressFree, match="0 addresses free in its static ranges") as caught:
        add(world.site, 99)
    assert (caught.value.where, "static range" in caught.value.hint) == ("/interfaces/0/ip", True)
    assert add(world.site, 99, "10.0.2.30") == "10.0.2.30", "an address may be named outside the static ranges"


@both_engines
@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("10.0.2.0", "network address"),
        ("10.0.2.255", "broadcast address"),
        ("10.0.2.1", "gateway"),
        ("10.0.2.150", "dynamic: DHCP gives"),
        ("10.0.2.245", "reserved"),
        ("10.0.3.1", "no subnet contains"),
        ("fe80::1", "no subnet contains"),
    ],
)
def test_an_address_no_machine_may_have_is_refused_with_its_place(world: World, ip: str, reason: str) -> None:
    lab(world)
    nics = [InterfaceInput(nth(1), "10.0.2.10"), InterfaceInput(nth(2), ip)]
    with pytest.raises(AddressOutsideSubnet, match=reason) as caught:
        machines.add(world.site, ACTOR, "m1", nics, {})
    assert caught.value.where == "/interfaces/1/ip"
    assert machines.listing(world.site) == []


@both_engines
def test_ipv6_addresses_are_given_and_checked(world: World) -> None:
    world.subnet("six", "2001:db8:0:1::/64", gateway="2001:DB8:0:1::1", ranges=["2001:db8:0:1::2-2001:db8:0:1:7fff::"])
    assert add(world.site, 1, subnet="six") == "2001:db8:0:1:7fff::1", "a huge range is passed over at once"
    assert add(world.site, 2, "2001:0DB8::1:ffff:0:0:1", subnet=None) == "2001:db8:0:1:ffff::1"
    with pytest.raises(AddressOutsideSubnet, match="anycast"):
        add(world.site, 3, "2001:db8:0:1::", subnet=None)
    counts = addresses.overview(world.site, "six")["counts"]
    assert counts["total"] == 2**64
    with pytest.raises(InvalidInput, match="link-local"):
        world.subnet("local", "fe80::/64")


@both_engines
def test_a_held_address_is_nobody_elses_until_it_lapses_or_is_used(world: World) -> None:
    site = world.site
    lab(world)
    mine = addresses.hold(site, ACTOR, "lab", 3)
    assert mine == ["10.0.2.10", "10.0.2.12", "10.0.2.13"]
    assert addresses.hold(site, OTHER, "lab") == ["10.0.2.14"]
    assert addresses.free(site, "lab", 2) == ["10.0.2.15", "10.0.2.16"]
    assert add(site, 1) == "10.0.2.15", "`next` takes no held one, not one's own either"
    with pytest.raises(AddressTaken, match="held for tester until") as caught:
        add(site, 2, mine[0], actor=OTHER)
    assert caught.value.where == "/interfaces/0/ip"
    assert add(site, 2, mine[0]) == mine[0]
    shown = addresses.overview(site, "lab")
    assert [each["ip"] for each in shown["held"]] == ["10.0.2.12", "10.0.2.13", "10.0.2.14"]
    assert (shown["counts"]["held"], shown["counts"]["free"]) == (3, 4)
    with write(site.engine) as session:
        session.execute(update(AddressHold).values(until=now() - timedelta(seconds=1)))
    assert add(site, 3, mine[1], actor=OTHER) == mine[1]
    assert addresses.free(site, "lab") == ["10.0.2.13"]
    assert addresses.hold(site, OTHER, "lab", 5)[-1] == "10.0.2.18", "lapsed holds are swept"
    with write(site.engine) as session:
        assert len(session.scalars(select(AddressHold)).all()) == 5


def test_s73_holds_are_bounded(world: World) -> None:
    world.subnet("big", "10.8.0.0/16")
    for count, minutes in ((0, 10), (addresses.MOST_AT_ONCE + 1, 10), (1, 0), (1, 10**9)):
        with pytest.raises(InvalidInput, match="is not a"):
            addresses.hold(world.site, ACTOR, "big", count, minutes)
    for _ in range(4):
        addresses.hold(world.site, ACTOR, "big", 256)
    with pytest.raises(TooMany, match="holds 1024 addresses"):
        addresses.hold(world.site, ACTOR, "big")
    assert addresses.hold(world.site, OTHER, "big") == ["10.8.4.1"]


@both_engines
@pytest.mark.parametrize(
    ("subnet", "cidr", "used", "first"),
    [
        ("v4", "10.8.0.0/16", [f"10.8.{n >> 8}.{n & 255}" for n in range(1, 60_001) if n != 52_345], "10.8.204.121"),
        ("v6", "fd00::/64", [f"fd00::{n:x}" for n in range(1, 20_001) if n not in {256, 18_000}], "fd00::100"),
    ],
)
def test_r16_the_next_free_of_sixty_thousand_is_found_without_listing_them(
    world: World, subnet: str, cidr: str, used: list[str], first: str
) -> None:
    """By a handful of statements, none of which answers with more than the blocks that are full, or one block."""
    world.subnet(subnet, cidr)
    fill(world.site, subnet, used)
    asked: list[str] = []
    engine = world.site.engine
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert addresses.free(world.site, subnet) == [first]
    assert len(asked) <= 7, asked
    fill_up = {"v4": "10.8.204.121", "v6": "fd00::100"}[subnet]
    assert add(world.site, 1, "next", subnet) == fill_up
    rest = {"v4": ["10.8.234.97"], "v6": ["fd00::4650"]}[subnet]
    assert addresses.free(world.site, subnet) == rest


@both_engines
def test_the_used_addresses_come_in_pages_in_their_own_order(world: World) -> None:
    world.subnet("big", "10.8.0.0/16")
    ips = [f"10.8.{n >> 8}.{n & 255}" for n in (1, 2, 9, 10, 100, 200, 256, 1000, 2560)]
    fill(world.site, "big", ips[::-1])
    found, cursor = [], None
    while True:
        page = addresses.overview(world.site, "big", limit=4, cursor=cursor)
        assert len(page["used"]) <= 4
        found += [each["ip"] for each in page["used"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == ips
    with pytest.raises(InvalidInput):
        addresses.overview(world.site, "big", cursor="x' OR 1=1")


@both_engines
def test_ranges_are_checked_against_each_other_and_against_machines(world: World) -> None:
    site = world.site
    lab(world, ranges=[])
    add(site, 1, "10.0.2.50")
    for ranges, said in (
        (["10.0.2.10-10.0.2.20", "static:10.0.2.20-10.0.2.30"], "share addresses"),
        (["10.0.2.0-10.0.2.9"], "contains the gateway"),
        (["10.0.2.40-10.0.2.60"], r"covers addresses of machines: 10\.0\.2\.50 \(m1\)"),
        (["reserved:10.0.2.50-10.0.2.50"], "covers addresses of machines"),
        (["10.0.3.1-10.0.3.2"], "is not in 10.0.2.0/24"),
        ([{"kind": "odd", "start": "10.0.2.60", "end": "10.0.2.70"}], "is not a range"),
        ("10.0.2.60-10.0.2.70", "is not a list"),
        (["10.0.2.60-10.0.2.70"] * 65, "are too many"),
    ):
        with pytest.raises((InvalidInput, Conflict), match=said) as caught:
            subnets.edit(site, ACTOR, "lab", {"ranges": ranges})
        assert caught.value.where.startswith("/ranges"), said
    subnets.edit(site, ACTOR, "lab", {"ranges": ["static:10.0.2.40-10.0.2.60"]})
    assert subnets.show(site, "lab")["ranges"] == [{"kind": "static", "start": "10.0.2.40", "end": "10.0.2.60"}]


def test_a_machine_keeps_the_address_it_had_before_a_range_was_drawn(world: World) -> None:
    """Ranges of older versions did not look; such a machine can still be edited, and its subnet too."""
    site = world.site
    lab(world)
    add(site, 1, "10.0.2.15")
    with write(site.engine) as session:
        extent = {"kind": "dynamic", "start": "10.0.2.10", "end": "10.0.2.19"}
        session.execute(update(Subnet).values(ranges=[extent]))
    nics = [InterfaceInput(nth(1), "10.0.2.15"), InterfaceInput(nth(2), "10.0.2.30")]
    assert machines.edit(site, ACTOR, "m1", {}, nics)["interfaces"][0]["ip"] == "10.0.2.15"
    assert subnets.edit(site, ACTOR, "lab", {"domain": "lab.example"})["domain"] == "lab.example"
    with pytest.raises(AddressOutsideSubnet, match="dynamic"):
        add(site, 3, "10.0.2.16")


def race_of_threads(site: Site, callers: int, rounds: int) -> list[str | None]:
    """What callers in threads are given: machines and holds in turn."""

    def one(who: int) -> list[str | None]:
        found: list[str | None] = []
        for number in range(rounds):
            found.append(add(site, who * rounds + number))
            found += addresses.hold(site, Actor(f"caller {who}", "tests"), "lab")
        return found

    with ThreadPoolExecutor(callers) as pool:
        return [ip for given in pool.map(one, range(callers)) for ip in given]


@both_engines
def test_r16_sixteen_parallel_callers_get_no_address_twice(world: World) -> None:
    world.subnet("lab", "10.0.0.0/16")
    given = race_of_threads(world.site, 16, 3)
    assert len(given) == len(set(given)) == 96


@pytest.mark.slow
@both_engines
def test_r16_nor_do_sixteen_processes(world: World) -> None:
    world.subnet("lab", "10.0.0.0/16")
    given = given_to_processes(world.site, 16, 2)
    assert len(given) == len(set(given)) == 64


@pytest.mark.full
@both_engines
@pytest.mark.parametrize("race", [race_of_threads, given_to_processes])
def test_r16_two_hundred_times(world: World, race: Any) -> None:
    world.subnet("lab", "10.0.0.0/16")
    given = race(world.site, 16, 200)
    assert len(given) == len(set(given)) == 6400
