"""R20: the whole service is killed at random moments while 20 machines are built, again and again."""

import contextlib
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served
from ownservice import own_service
from played import processes
from playing import Playing

from provisioner.services import records
from provisioner.simulate import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

MACHINES = 20


@pytest.fixture
def served(_template: Path, tmp_path: Path) -> Iterator[Served]:
    """A service of the test's own, since the test kills it."""
    with own_service(_template, tmp_path) as served:
        yield served


def kill_tree(served: Served) -> None:
    """SIGKILL to the parent and every child at once, as the kernel's out-of-memory killer or a power cut would."""
    for pid in processes(served.state):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if served.process is not None:
        served.process.wait(120)


@pytest.mark.parametrize("most", [20, pytest.param(50, marks=pytest.mark.full)])
def test_r20_r01_killed_at_random_moments(served: Served, most: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = rounds = 0
    while kills < most:
        rounds += 1
        # They come one after the other and think, so that each kill meets machines at many different steps.
        plan = Plan(MACHINES, seed=chance.getrandbits(31), arrival=20, think=1.5, speed=4, patience=30, limit=600)
        playing = Playing(served, plan)
        playing.start()
        playing.begun.wait(120)
        while playing.is_alive() and kills < most:
            # As far apart that most machines come further than their third boot would let them.
            playing.join(chance.uniform(0, 5))
            if not playing.is_alive():
                break
            kill_tree(served)
            kills += 1
            served.start()  # it starts again, and says that it is ready
            connection = sqlite3.connect(served.state / "provisioner.db")
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), f"after kill {kills}"
            connection.close()
        result = playing.outcome()
        assert result.ok, f"seed {seed}, round {rounds}, {kills} kills:\n" + "\n".join(result.wrong[:20])
        assert result.ends == {"configured": MACHINES}
    check_afterwards(served)


def check_afterwards(served: Served) -> None:
    """No damage anywhere that the machines did not see."""
    site = served.site
    assert records.verify(site) == []
    site.engine.dispose()
    for path in served.state.rglob("*"):
        if path.is_file() and not path.name.startswith(".new-"):
            assert (
                path.stat().st_size > 0
                or path.name == "leases"
                or path.suffix in {".lock", ".db-wal"}
                or path.name == "lock"
            ), path
    assert not [path for path in (served.state / "spool").iterdir() if path.is_dir()], "nothing waits"
