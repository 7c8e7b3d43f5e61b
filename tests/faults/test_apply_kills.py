"""A process that applies a plan is killed at twenty random moments: all of it is there afterwards, or nothing."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import applying
import pytest
from calling import PROCESSES
from world import ACTOR

from provisioner.services import plans, records, subnets
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings
from provisioner.store.engine import read
from provisioner.store.plans import STAGED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS, NEW, OLD = 20, 700, 100


def body(description: str, first: int, count: int) -> list[dict[str, Any]]:
    """Machines with two interfaces each."""
    return [
        {
            "name": f"n{number}",
            "description": description,
            "tags": [description],
            "interfaces": [
                {
                    "mac": f"52:54:0{k}:00:{number >> 8:02x}:{number & 255:02x}",
                    "ip": f"10.{k}.{number >> 8}.{number & 255}",
                }
                for k in (1, 2)
            ],
        }
        for number in range(first, first + count)
    ]


def site_in(state: Path) -> Site:
    """The installation there."""
    return open_site(Settings(state_dir=state, boot_url="http://127.0.0.1:8080"))


@pytest.fixture
def planned(_template: Path, tmp_path: Path) -> tuple[Path, str]:
    """A state directory with OLD machines and the plan to change them and to add NEW ones."""
    state = tmp_path / "planned"
    shutil.copytree(_template, state)
    site = site_in(state)
    for k in (1, 2):
        subnets.add(site, ACTOR, f"net{k}", f"10.{k}.0.0/16", {})
    plans.apply(site, ACTOR, machines=body("old", 1, OLD))
    plan = plans.plan(site, ACTOR, body("new", 1, OLD + NEW))
    assert (len(plan["created"]), len(plan["changed"])) == (NEW, OLD)
    site.engine.dispose()
    return state, plan["id"]


def start(state: Path, plan_id: str) -> tuple[Any, Connection]:
    """The process and the pipe on which it tells."""
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=applying.apply, args=(state, plan_id, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def wait_until(moment: float) -> None:
    """The kill comes at a moment of its own choosing: nothing is waited for here."""
    time.sleep(max(0.0, moment - time.monotonic()))


def outcome(state: Path) -> str:
    """`all` or `none` of the plan; anything else is broken."""
    connection = sqlite3.connect(state / "provisioner.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    parts = [
        connection.execute(f"SELECT count(*) FROM {query}").fetchone()[0]
        for query in (
            "machine",
            "machine WHERE description = 'new'",
            "interface",
            "machine_words",
            "machine_tag WHERE tag = 'new'",
            "revision WHERE kind = 'machine'",
            "machine_fts WHERE machine_fts MATCH 'n79'",
        )
    ]
    connection.close()
    found = sum(f"n{number}".startswith("n79") for number in range(1, OLD + NEW + 1))
    both = OLD + NEW
    expected = {
        (OLD, 0, 2 * OLD, OLD, 0, OLD, 1): "none",
        (both, both, 2 * both, both, both, OLD + both, found): "all",
    }
    assert tuple(parts) in expected, parts
    return expected[tuple(parts)]


def test_killed_at_twenty_random_moments(planned: tuple[Path, str], tmp_path: Path) -> None:
    state, plan_id = planned
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    moments: dict[str, float] = {}
    ends = []
    for kill in range(KILLS + 1):
        here = tmp_path / f"kill{kill}"
        shutil.copytree(state, here)
        process, told = start(here, plan_id)
        begins = told.recv()[1]
        if not kill:  # the first one lives, and shows how long each part takes
            moments = dict(told.recv() for _ in range(2))
            moments = {what: moment - begins for what, moment in moments.items()}
            process.join(30)
        elif kill % 2:
            wait_until(begins + chance.uniform(0, moments["done"]))
        else:  # where it matters most
            wait_until(told.recv()[1] + chance.uniform(0, moments["done"] - moments["switching"]))
        if kill:
            with contextlib.suppress(ProcessLookupError):  # it was done already
                os.kill(process.pid, signal.SIGKILL)
            process.join(30)
        told.close()
        ends.append(outcome(here))
        site = site_in(here)
        assert records.verify(site) == []
        plans.apply(site, ACTOR, machines=body("next", 1, 1))
        with read(site.engine) as session:
            assert [session.query(model).count() for model in STAGED] == [0, 0, 0]
        if kill == KILLS:
            # What was killed is done again, or said to be done: never done twice.
            again = plans.plan(site, ACTOR, body("new", 1, OLD + NEW))
            plans.apply(site, ACTOR, plan_id=again["id"])
            assert records.verify(site) == []
        site.engine.dispose()
        shutil.rmtree(here)
    print(ends, moments)
    assert ends[0] == "all"
    assert "none" in ends[1:]
