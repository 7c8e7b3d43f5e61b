"""Pages of the web UI among 100,000 machines: what each costs the server, from the request to the last byte.

    .venv/bin/python scripts/benchkit/pages.py [--machines 100000] [--repeat 15]

The whole application answers, without the network: login, rights, queries, template. Medians of processor time are
given, by turns: what the host does besides can only make a page slower.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from benchkit.listing import populate
from provisioner.services import listing, logins, people
from provisioner.services.setup import init
from provisioner.services.site import Actor, Site
from provisioner.settings import Settings
from provisioner.store.base import Base
from provisioner.store.engine import write
from provisioner.web import admin

LIMIT_MS = 150.0
_BUILDS = 5000
_STEPS = ("armed", "dhcp", "loader", "script", "answer", "disk", "packages", "configure", "built", "configured")
_PASSWORD = "correct horse battery staple"


def _builds(site: Site, count: int) -> None:
    """So many builds that ended well, and a hundred that are under way, with ten events each."""
    tables = Base.metadata.tables
    began = time.time()
    builds, events, machines = [], [], []
    for number in range(1, min(_BUILDS, count - 1) + 1):
        at = _moment(began - 60 * number)
        state = "installing" if number <= 100 else "configured"
        ended = None if state == "installing" else _moment(began - 60 * number + 600)
        builds.append(
            {
                "id": number,
                "machine_id": number,
                "machine_name": f"node{number:06}.r{number // 40:04}.example.org",
                "number": 1,
                "state": state,
                "sealed": {"profile": {"name": "bulk"}},
                "armed_at": at,
                "built_at": ended,
                "ended_at": ended,
                "outcome": "",
                "disk_touched": True,
                "released": 0,
                "reboot_announced": False,
            }
        )
        events += [
            {"machine_id": number, "build_id": number, "at": at, "kind": kind, "flagged": False} for kind in _STEPS
        ]
        if state == "installing":
            machines.append(number)
    with write(site.engine) as session:
        session.execute(insert(tables["build"]), builds)
        session.execute(insert(tables["event"]), events)
        machine = tables["machine"]
        session.execute(machine.update().where(machine.c.id.in_(machines)).values(state="building"))


def _moment(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def pages(site: Site, count: int) -> dict[str, str]:
    """What is timed: names and addresses."""
    some = f"node{count // 2:06}.r{count // 2 // 40:04}.example.org"
    found = listing.machines(site, limit=50, q=some)["items"][0]
    deep: str | None = None
    for _ in range(min(20, count // 1000)):
        deep = listing.machines(site, limit=500, cursor=deep)["next"]
    return {
        "overview": "/",
        "machines": "/machines",
        "machines, a page from the middle": f"/machines?cursor={deep}",
        "machines, by state": "/machines?state=building",
        "machines, by profile and tag": "/machines?profile=bulk&tag=production",
        "search, a name": f"/machines?q={some[:11]}",
        "search, part of a MAC": f"/machines?q={found['interfaces'][0]['mac'][9:].replace(':', '-')}",
        "search, a serial number": f"/machines?q={found['serial']}",
        "search, nothing found": "/machines?q=nosuchmachine",
        "one machine": f"/machines/{some}",
        "builds": "/builds",
        "rack mode": "/rack",
        "networks": "/networks",
        "history": "/history",
    }


def run(count: int = 100_000, repeat: int = 15, say: Callable[[str], None] = print) -> float:
    """Measure and print a table; the slowest page's milliseconds."""
    with tempfile.TemporaryDirectory() as scratch:
        site = init(Settings(state_dir=Path(scratch, "state")), Actor("bench", "bench")).site
        populate(site, count)
        _builds(site, count)
        people.add(site, Actor("bench", "bench"), "bench", {"role": "admin", "password": _PASSWORD})
        client = admin.create(site).test_client()
        token = logins.login(site, "bench", _PASSWORD, "127.0.0.1")["token"]
        with client.session_transaction() as held:
            held["bearer"] = token
        wanted = pages(site, count)
        times: dict[str, list[float]] = {name: [] for name in wanted}
        for _ in range(repeat):
            for name, place in wanted.items():
                began = time.process_time()
                answer = client.get(place, headers={"Accept": "text/html"})
                times[name].append((time.process_time() - began) * 1000)
                if answer.status_code != 200:
                    raise SystemExit(f"{place}: {answer.status_code}")
        site.engine.dispose()
    medians = {name: statistics.median(each) for name, each in times.items()}
    say(f"{'':36}{'median':>10}{'slowest':>12}   of {repeat}, among {count:,} machines")
    for name, median in medians.items():
        say(f"{name:36}{median:>7.1f} ms{max(times[name]):>9.1f} ms")
    worst = max(medians.values())
    say(f"the slowest median is {worst:.1f} ms; to reach: {LIMIT_MS:.0f} ms at most")
    return worst


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--machines", type=int, default=100_000, metavar="COUNT")
    parser.add_argument("--repeat", type=int, default=15, metavar="COUNT")
    given = parser.parse_args()
    raise SystemExit(run(given.machines, given.repeat) > LIMIT_MS)


if __name__ == "__main__":
    main()
