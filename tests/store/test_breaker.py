"""After a failure nobody waits for the database but one, who tries."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from world import ACTOR, World

from provisioner.errors import Conflict, DatabaseUnavailable
from provisioner.services import subnets
from provisioner.services.site import Site
from provisioner.store.breaker import Breaker
from provisioner.store.engine import open_engine, read, with_breakers, write


class Clock:
    """Time as the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def used(breaker: Breaker, what: Callable[[], object]) -> str:
    """What came of one use: ``ok``, ``failed`` (it was tried), ``refused`` (it was not)."""
    tried = []
    try:
        with breaker.guard():
            tried.append(1)
            what()
    except DatabaseUnavailable:
        return "failed" if tried else "refused"
    except Conflict:
        return "conflict"
    return "ok"


def fails() -> None:
    raise DatabaseUnavailable("down")


def conflicts() -> None:
    raise Conflict("taken")


def test_after_a_failure_nobody_tries_for_a_second_then_one_does() -> None:
    clock = Clock()
    breaker = Breaker(1.0, clock)
    assert used(breaker, lambda: None) == "ok"
    assert used(breaker, fails) == "failed"
    assert [used(breaker, lambda: None) for _ in range(3)] == ["refused"] * 3
    clock.now = 1.5
    beside: list[str] = []
    assert used(breaker, lambda: beside.append(used(breaker, lambda: None))) == "ok"
    assert beside == ["refused"], "while one tries, the others do not"
    assert used(breaker, lambda: None) == "ok", "and what worked is open for all"


def test_a_try_that_fails_begins_the_second_anew() -> None:
    clock = Clock()
    breaker = Breaker(1.0, clock)
    used(breaker, fails)
    clock.now = 1.0
    assert used(breaker, fails) == "failed"
    clock.now = 1.9
    assert used(breaker, lambda: None) == "refused"
    clock.now = 2.0
    assert used(breaker, lambda: None) == "ok"


def test_an_answer_that_refuses_is_an_answer() -> None:
    clock = Clock()
    breaker = Breaker(1.0, clock)
    used(breaker, fails)
    clock.now = 1.0
    assert used(breaker, conflicts) == "conflict"
    assert used(breaker, lambda: None) == "ok"


def test_readers_of_a_locked_sqlite_go_on(site: Site, world: World) -> None:
    world.subnet()
    engine = with_breakers(open_engine(site.settings.database, lock_seconds=0.05))
    holder = sqlite3.connect(site.settings.state_dir / "provisioner.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"), write(engine):
        pass
    with pytest.raises(DatabaseUnavailable, match="a moment ago"), write(engine):
        pass
    with read(engine) as session:
        assert session.scalar(text("SELECT count(*) FROM subnet")) == 1
    holder.execute("ROLLBACK")
    holder.close()
    engine.dispose()
    subnets.edit(site, ACTOR, "lab", {"dns": ["127.0.2.1"]})


def test_r23_a_hundred_machines_do_not_wait_one_after_the_other(site: Site) -> None:
    """Of a hundred reports while the lock is held, only those that began before the first failure waited for it."""
    engine = with_breakers(open_engine(site.settings.database, lock_seconds=0.3))
    holder = sqlite3.connect(site.settings.state_dir / "provisioner.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    waited, lock = [], threading.Lock()

    def report(_number: int) -> None:
        try:
            with write(engine):
                raise AssertionError("it is locked")  # pragma: no cover
        except DatabaseUnavailable as error:
            if "a moment ago" not in error.message:
                with lock:
                    waited.append(error)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(100)))
    holder.execute("ROLLBACK")
    holder.close()
    engine.dispose()
    assert len(waited) <= 16
