"""What threads write at once is one transaction, and what one of them does wrong is its own affair."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from conftest import both_engines, wait_for
from sqlalchemy import Connection, Engine, event, insert, select
from sqlalchemy.exc import OperationalError

from provisioner.errors import Conflict, DatabaseUnavailable, InvalidInput
from provisioner.services.site import Site
from provisioner.store import groupcommit
from provisioner.store.engine import dry_run, open_engine, read, together, with_breakers
from provisioner.store.groupcommit import Group
from provisioner.store.models import Counter

pytestmark = pytest.mark.slow

Job = Callable[[Connection], str]


def adds(name: str) -> Job:
    """A job that leaves a row."""

    def job(connection: Connection) -> str:
        connection.execute(insert(Counter).values(name=name, value=1))
        return name

    return job


def names(site: Site) -> set[str]:
    """The rows that jobs left."""
    with read(site.engine) as session:
        return {name for name in session.scalars(select(Counter.name)) if name.startswith("job")}


@pytest.fixture
def grouping(site: Site) -> Engine:
    """The site's database as those who serve boots have it."""
    return with_breakers(site.engine)


def group_of(grouping: Engine) -> Group:
    """What the engine groups by."""
    group = grouping.get_execution_options()["provisioner_group"]
    assert isinstance(group, Group)
    return group


@contextmanager
def led_crowd(grouping: Engine, jobs: list[Job]) -> Iterator[list[Future[str]]]:
    """All these wait while a first one, the first of the futures, holds the transaction; then they go on."""
    entered, go = threading.Event(), threading.Event()

    def first(_: Connection) -> str:
        entered.set()
        assert go.wait(60)
        return ""

    with ThreadPoolExecutor(len(jobs) + 1) as pool:
        leader = pool.submit(together, grouping, first)
        assert entered.wait(60)
        waiting = [pool.submit(together, grouping, job) for job in jobs]
        wait_for(lambda: len(group_of(grouping)._waiting) == len(jobs), what="the crowd")
        go.set()
        yield [leader, *waiting]


@contextmanager
def crowd(grouping: Engine, jobs: list[Job]) -> Iterator[list[Future[str]]]:
    """As `led_crowd`, when the leader is done, and without it."""
    with led_crowd(grouping, jobs) as (leader, *waiting):
        leader.result(60)
        yield waiting


@contextmanager
def counted_commits(grouping: Engine) -> Iterator[list[int]]:
    """How many transactions were committed."""
    seen: list[int] = []

    def committed(_: Any) -> None:
        seen.append(1)

    event.listen(grouping, "commit", committed)
    yield seen
    event.remove(grouping, "commit", committed)


@both_engines
def test_those_who_wait_are_committed_at_once(site: Site, grouping: Engine) -> None:
    jobs = [adds(f"job{number}") for number in range(9)]
    with counted_commits(grouping) as commits, crowd(grouping, jobs) as waiting:
        assert [each.result(60) for each in waiting] == [f"job{number}" for number in range(9)]
    # The first takes along who came while it ran.
    assert len(commits) == 1
    assert len(names(site)) == 9


@both_engines
def test_one_that_is_refused_takes_nobody_along(site: Site, grouping: Engine) -> None:
    def refused(connection: Connection) -> str:
        adds("job-refused")(connection)
        raise InvalidInput("no", where="x", hint="y")

    with crowd(grouping, [adds("job1"), refused, adds("job2"), adds("job1"), adds("job3")]) as waiting:
        with pytest.raises(InvalidInput):
            waiting[1].result(60)
        twice = [waiting[number].exception(60) for number in (0, 3)]
        assert sorted(type(each).__name__ for each in twice) == ["Conflict", "NoneType"]
        assert any(isinstance(each, Conflict) for each in twice)
        assert {waiting[2].result(60), waiting[4].result(60)} == {"job2", "job3"}
    assert names(site) == {"job1", "job2", "job3"}, "what the refused one wrote is gone"


@both_engines
def test_a_mistake_in_a_job_is_raised_where_it_was_asked(site: Site, grouping: Engine) -> None:
    def broken(_: Connection) -> str:
        raise ZeroDivisionError

    with crowd(grouping, [broken, adds("job1")]) as waiting:
        assert isinstance(waiting[0].exception(60), ZeroDivisionError)
        assert waiting[1].result(60) == "job1"
    assert together(grouping, adds("job2")) == "job2", "and the next is served"
    assert names(site) == {"job1", "job2"}


def test_a_commit_that_fails_acknowledges_nobody(site: Site, grouping: Engine) -> None:
    def fails(_: Any) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    event.listen(grouping, "commit", fails)
    try:
        with led_crowd(grouping, [adds("job1"), adds("job2")]) as waiting:
            assert [type(each.exception(60)) for each in waiting] == [DatabaseUnavailable] * 3
    finally:
        event.remove(grouping, "commit", fails)
    assert names(site) == set()


def test_a_locked_database_is_told_to_all_and_to_the_next_at_once(site: Site) -> None:
    grouping = with_breakers(open_engine(site.settings.database, lock_seconds=0.3))
    with together_holding(site), ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(together, grouping, adds(f"job{number}")) for number in range(6)]:
            assert isinstance(each.exception(60), DatabaseUnavailable)
        with pytest.raises(DatabaseUnavailable, match="a moment ago"):
            together(grouping, adds("job7"))
    assert names(site) == set()
    wait_for(lambda: tries(grouping), what="the database is tried again")
    grouping.dispose()


def tries(grouping: Engine) -> bool:
    """Whether a job is taken again."""
    try:
        return together(grouping, adds("job8")) == "job8"
    except DatabaseUnavailable:
        return False


@contextmanager
def together_holding(site: Site) -> Iterator[None]:
    """Somebody else holds the write lock."""
    other = open_engine(site.settings.database)
    with other.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("BEGIN")
    other.dispose()


@pytest.mark.parametrize("bound", ["number", "time"])
def test_r22_a_transaction_has_so_many_jobs_and_lasts_so_long(
    site: Site, grouping: Engine, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bound == "number":
        monkeypatch.setattr(groupcommit, "MOST_JOBS", 3)
    else:
        ticks = count()
        group_of(grouping)._clock = lambda: next(ticks) * groupcommit.LONGEST_SECONDS / 2.5
    with (
        counted_commits(grouping) as commits,
        crowd(grouping, [adds(f"job{number}") for number in range(8)]) as waiting,
    ):
        assert len({each.result(60) for each in waiting}) == 8
    assert len(commits) == 3
    assert len(names(site)) == 8


@both_engines
def test_what_is_only_tried_out_takes_nobody_along(site: Site, grouping: Engine) -> None:
    entered, go = threading.Event(), threading.Event()

    def rehearsed(connection: Connection) -> str:
        adds("job-rehearsed")(connection)
        entered.set()
        assert go.wait(60)
        return ""

    with ThreadPoolExecutor(2) as pool:
        rehearsal = pool.submit(together, dry_run(grouping), rehearsed)
        assert entered.wait(60)
        real = pool.submit(together, grouping, adds("job1"))
        wait_for(lambda: len(group_of(grouping)._waiting) == 1, what="one who waits")
        go.set()
        rehearsal.result(60)
        assert real.result(60) == "job1"
    assert names(site) == {"job1"}
