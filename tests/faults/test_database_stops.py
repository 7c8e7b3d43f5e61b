"""R23: the database is stopped while 50 machines are built; nobody is installed anew, nothing is lost or doubled."""

import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from played import Played, kind_of, processes
from playing import Playing
from postgres import Postgres, sql
from world import ACTOR, World

from provisioner.services import arming, builds, records, spool
from provisioner.services.setup import init
from provisioner.settings import load
from provisioner.simulate import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MACHINES = 50
REPORTS = ("installer", "disk", "packages", "built", "configured")


@pytest.fixture(params=["sqlite", "postgresql"])
def scene(
    request: pytest.FixtureRequest, _template: Path, tmp_path: Path
) -> Iterator[tuple[Served, Callable[[], object], Callable[[], object]]]:
    """A service, what stops its database, and what brings it back."""
    state = tmp_path / "state"
    environment = served_environment(state) | {"PROVISIONER_LOCK_SECONDS": "0.5"}
    served = Served(environment, state, log=tmp_path / "log")
    with _postgres(served) if request.param == "postgresql" else _sqlite(served, _template) as (stop, go_on):
        served.start()
        yield served, stop, go_on
        served.stop()
        for pid in processes(state):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def _sqlite(served: Served, template: Path) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Stopped: somebody holds the lock, for longer than anybody waits."""
    shutil.copytree(template, served.state)
    holder = sqlite3.connect(served.state / "provisioner.db", isolation_level=None, timeout=60, check_same_thread=False)
    yield lambda: holder.execute("BEGIN EXCLUSIVE"), lambda: holder.execute("ROLLBACK")
    holder.close()


@contextmanager
def _postgres(served: Served) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """Stopped: killed with all its processes."""
    server = Postgres()
    sql(str(server.home), "CREATE DATABASE provisioner")
    served.environment["PROVISIONER_DATABASE_URL"] = f"postgresql://provisioner@/provisioner?host={server.home}"
    init(load(environ=served.environment), ACTOR).site.engine.dispose()
    yield server.kill, server.start
    server.remove()


def test_r23_the_database_stops_while_fifty_machines_boot(
    scene: tuple[Served, Callable[[], object], Callable[[], object]], tmp_path: Path
) -> None:
    served, stop, go_on = scene
    site = served.site
    world = World(site, tmp_path)
    world.subnet()
    world.distro()
    world.machine("idle", "52:54:00:dd:00:01", "127.0.2.21")
    world.machine("armed", "52:54:00:dd:00:02", "127.0.2.22")
    arming.start(site, ACTOR, "armed")
    idle, armed = (
        Played(served, site, "idle", "52:54:00:dd:00:01", "127.0.2.21"),
        Played(served, site, "armed", "52:54:00:dd:00:02", "127.0.2.22"),
    )
    playing = Playing(served, Plan(MACHINES, arrival=12, think=1.5, speed=4, patience=30, limit=600))
    playing.start()
    wait_for(lambda: playing.phases["installing"] >= 8, 240, "machines in their installers")
    stop()
    wait_for(lambda: spool.pending(site), 60, "a report in the spool")
    for played in (idle, armed):
        assert kind_of(played.ipxe()) == "local"
        assert kind_of(played.grub()) == "local"
        assert kind_of((played.tftp(f"grub/by-mac/{played.mac}") or b"").decode()) == "local"
    wait_for(lambda: len(spool.attempts(site)) >= 5, 60, "reports of several machines in the spool")
    assert kind_of(armed.ipxe()) == "local"
    go_on()
    result = playing.outcome()
    assert result.ok, "\n".join(result.wrong[:20])
    assert result.ends == {"configured": MACHINES}
    assert not spool.pending(site)
    told = Counter((each["machine"], each["step"]) for each in result.records if each["what"] == "ack")
    for number in range(1, MACHINES + 1):
        name = f"sim-{number:04d}"
        noted = Counter(each["kind"] for each in builds.show(site, name)["events"])
        assert {step: noted[step] for step in REPORTS} == {step: told[name, step] for step in REPORTS}, name
    assert any(each.get("state") == "spooled" for each in result.records), "some were acknowledged meanwhile"
    assert kind_of(armed.ipxe()) == "build", "its first attempt"
    assert builds.show(site, "armed")["attempts"] == 1
    assert records.verify(site) == []
    site.engine.dispose()
