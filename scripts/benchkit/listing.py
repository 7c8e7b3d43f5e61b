"""Lists, search and reads by MAC: how long they take among 100 machines, and among 100,000.

    .venv/bin/python scripts/benchkit/listing.py [--machines 100 100000] [--url postgresql://...] [--repeat 15]

A database of its own is made for each count, its rows by plain inserts. What is timed are whole service calls, their
JSON included, the best of several, in turns: what the host does besides can only make a call slower.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert, text

from provisioner.services import listing, machines
from provisioner.services.setup import init
from provisioner.services.site import Actor, Site
from provisioner.settings import Settings
from provisioner.store.base import Base
from provisioner.store.engine import write
from provisioner.store.search import words_of

COUNTS = (100, 100_000)
LIMIT = 2.0
"""How much longer a call may take among the most machines than among the fewest."""
_CHUNK = 5000
_STATES = ("built", "configured", "ready")
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_RARE = 10


def rows(table: str) -> Table:
    """A table of the schema."""
    return Base.metadata.tables[table]


def _stamps(number: int) -> dict[str, Any]:
    return {
        "created_at": _BEGAN + timedelta(seconds=number),
        "updated_at": _BEGAN + timedelta(seconds=number * 7919 % 10**7),
    }


def _machine(number: int, count: int) -> dict[str, Any]:
    rare = number % (count // _RARE) == 7  # so many whatever the count: a page of one is no measure for one of fifty
    return _stamps(number) | {
        "id": number,
        "version": 1,
        "name": f"node{number:06}.r{number // 40:04}.example.org",
        "state": "failed" if rare else _STATES[number % 3],
        "protected": rare,
        "description": "",
        "profile_id": 9001 if rare else 9000,
        "parameters": {"rack": number // 40},
        "kernel_options": [],
        "serial": f"SN{number * 7919 % 10**7:07}X",
        "uuid": f"4c4c4544-{number % 65536:04x}-4a10-8035-{number * 104729 % 16**12:012x}",
        "inventory": f"netbox/{number}",
        "flag": "somebody else asked" if rare else "",
    }


def _interfaces(number: int) -> list[dict[str, Any]]:
    return [
        {
            "id": number * 2 + place,
            "machine_id": number,
            "position": place,
            "name": f"nic{place}",
            "mac": ":".join(f"{octet:02x}" for octet in (0x52 + 2 * place, 0x54, 0, *number.to_bytes(3, "big"))),
            "ip": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}" if place == 0 else None,
            "subnet_id": 9000 + (number >> 8) if place == 0 else None,
        }
        for place in range(2)
    ]


def _tags(machine: dict[str, Any]) -> list[dict[str, Any]]:
    tags = ["production", f"rack-{machine['id'] // 40:04}", *(["canary"] if machine["state"] == "failed" else [])]
    return [{"machine_id": machine["id"], "tag": tag} for tag in tags]


def populate(site: Site, count: int) -> None:
    """Put ``count`` machines with two interfaces each into a fresh database, with two profiles and subnets of 256."""
    profile = {"version": 1, "description": "", "kernel_options": [], "parameters": {}}
    subnet = {"version": 1, "dns": [], "dhcp": "off", "ranges": [], "boot_url": "", "media_url": "", "parameters": {}}
    profiles = [_stamps(0) | profile | {"id": 9000 + i, "name": name} for i, name in enumerate(("bulk", "rare"))]
    subnets = [
        _stamps(0) | subnet | {"id": 9000 + i, "name": f"net{i:03}", "cidr": f"10.{i >> 8}.{i & 255}.0/24"}
        for i in range((count >> 8) + 1)
    ]
    with write(site.engine) as session:
        session.execute(insert(rows("profile")), profiles)
        session.execute(insert(rows("subnet")), subnets)
    numbers = iter(range(count))
    while chunk := [_machine(number, count) for number in islice(numbers, _CHUNK)]:
        _put(site, chunk)
    if site.engine.dialect.name == "postgresql":  # as its autovacuum does within a minute
        with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _put(site: Site, chunk: list[dict[str, Any]]) -> None:
    nics = {machine["id"]: _interfaces(machine["id"]) for machine in chunk}
    words = [
        {
            "machine_id": each["id"],
            "words": words_of(
                each["name"],
                (each["serial"], each["uuid"], each["inventory"]),
                [nic["mac"] for nic in nics[each["id"]]],
                [nic["ip"] for nic in nics[each["id"]]],
            ),
        }
        for each in chunk
    ]
    with write(site.engine) as session:
        session.execute(insert(rows("machine")), chunk)
        session.execute(insert(rows("interface")), [nic for each in nics.values() for nic in each])
        session.execute(insert(rows("machine_tag")), [tag for each in chunk for tag in _tags(each)])
        session.execute(insert(rows("machine_words")), words)


def calls(site: Site, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is timed, by name."""
    some = f"node{count // 2:06}.r{count // 2 // 40:04}.example.org"
    middle = listing.machines(site, limit=50, q=some)["items"][0]
    deep = _deep(site, "name", count)
    deep_newest = _deep(site, "-updated_at", count)
    pages: dict[str, dict[str, Any]] = {
        "first page": {},
        "page from the middle": {"cursor": deep},
        "first page, latest changed": {"sort": "-updated_at"},
        "page from the middle, latest changed": {"sort": "-updated_at", "cursor": deep_newest},
        "first page, by state": {"sort": "state"},
        "first page, by profile": {"sort": "profile"},
        "page from the middle, by profile": {"sort": "profile", "cursor": _deep(site, "profile", count)},
        "state, frequent": {"state": "built"},
        "state, rare": {"state": "failed"},
        "state, frequent, latest changed": {"state": "built", "sort": "-updated_at"},
        "state, rare, latest changed": {"state": "failed", "sort": "-updated_at"},
        "profile, frequent": {"profile": "bulk"},
        "profile, rare": {"profile": "rare"},
        "subnet": {"subnet": "net000"},
        "tag, frequent": {"tag": "production"},
        "tag, rare": {"tag": "canary"},
        "flagged": {"flagged": True},
        "protected": {"protected": True},
        "state and tag": {"state": "built", "tag": "production"},
        "search, one machine": {"q": some[:11]},
        "search, every machine": {"q": "node"},
        "search, no machine": {"q": "nosuchmachine"},
        "search, trigrams in other order": {"q": "edon"},
        "search, part of a MAC": {"q": f"{middle['interfaces'][0]['mac'][9:].replace(':', '-')}"},
        "search, part of an address": {"q": middle["interfaces"][0]["ip"][3:]},
        "search, serial number": {"q": middle["serial"]},
        "search, two words": {"q": f"node {middle['serial'][2:7]}"},
        "search, two letters": {"q": "no"},
        "search, two letters, no machine": {"q": "zq"},
    }
    for name, asked in pages.items():
        yield name, lambda asked=asked: listing.machines(site, **asked)  # type: ignore[misc]
    mac = middle["interfaces"][0]["mac"]
    yield "by MAC", lambda: machines.show(site, mac)
    yield "by MAC, none", lambda: listing.machines(site, q="ff:ff:ff:ff:ff:fe")


def _deep(site: Site, sort: str, count: int) -> str | None:
    cursor: str | None = None
    for _ in range(count // 2 // 500 or 1):
        cursor = listing.machines(site, sort=sort, limit=min(500, count // 2), cursor=cursor)["next"]
    return cursor


def measured(sites: Sequence[Site], counts: Sequence[int], repeat: int) -> dict[str, list[float]]:
    """Seconds of each call in each database, the best of ``repeat``, by turns: other load meets both alike."""
    best = {}
    for (name, few), (_, many) in zip(*map(calls, sites, counts), strict=True):
        # On SQLite all work is this process's own, and its processor time says nothing of what the host does besides.
        clock = time.process_time if sites[0].engine.dialect.name == "sqlite" else time.perf_counter
        times = [[_seconds(call, clock) for call in (few, many)] for _ in range(repeat)]
        best[name] = [min(each) for each in zip(*times, strict=True)]
    return best


def _seconds(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    began = clock()
    json.dumps(call())
    return clock() - began


def run(counts: tuple[int, int] = COUNTS, url: str = "", repeat: int = 15, say: Callable[[str], None] = print) -> float:
    """Measure and print a table; the worst ratio of the most to the fewest machines.

    ``url`` is a PostgreSQL server's, with ``{}`` where the database's name stands; bench100 and bench100000 must be
    there, empty.
    """
    with tempfile.TemporaryDirectory() as scratch:
        sites = []
        for count in counts:
            settings = Settings(state_dir=Path(scratch) / str(count), database_url=url.format(f"bench{count}"))
            sites.append(init(settings, Actor("bench", "bench")).site)
            began = time.perf_counter()
            populate(sites[-1], count)
            say(f"{count} machines made in {time.perf_counter() - began:.1f} s")
        best = measured(sites, counts, repeat)
        for site in sites:
            site.engine.dispose()
    say(f"{'':42}{counts[0]:>12}{counts[1]:>12}   ratio")
    for name, (few, many) in best.items():
        say(f"{name:42}{few * 1000:>9.2f} ms{many * 1000:>9.2f} ms   {many / few:.2f}")
    worst = max(many / few for few, many in best.values())
    say(f"the worst ratio is {worst:.2f}; to reach: {LIMIT:.1f} at most")
    return worst


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machines", type=int, nargs=2, default=list(COUNTS), metavar=("FEW", "MANY"))
    parser.add_argument("--url", default="", help="a PostgreSQL server, such as postgresql://user@/{}?host=/run/pg")
    parser.add_argument("--repeat", type=int, default=15, help="how often each call is made; the best counts")
    given = parser.parse_args()
    raise SystemExit(run(tuple(given.machines), given.url, given.repeat) > LIMIT)


if __name__ == "__main__":
    main()
