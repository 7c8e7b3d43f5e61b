"""The two kinds of transaction: errors are ours, and readers and writers do not stop each other (R22)."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import both_engines
from sqlalchemy import func, select, text, update
from world import ACTOR, World

from provisioner.errors import Conflict, DatabaseUnavailable, InvalidSettings, StorageFull
from provisioner.services import machines, records
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import Site
from provisioner.store.engine import open_engine, read, write
from provisioner.store.models import Counter, Interface, Machine


def database(site: Site) -> Path:
    """SQLite's file."""
    return site.settings.state_dir / "provisioner.db"


@both_engines
def test_r22_eight_threads_write_and_read_without_an_error(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    rounds = 15

    def work(worker: int) -> None:
        for number in range(rounds):
            mac = f"52:54:00:aa:{worker:02x}:{number:02x}"
            machines.add(site, ACTOR, f"m{worker}-{number}", [InterfaceInput(mac)], {})
            # Reads first, writes then: the transaction that a deferred BEGIN would let fail at once.
            with write(site.engine) as session:
                value = session.scalar(select(func.count()).select_from(Machine))
                assert value
                session.execute(update(Machine).where(Machine.name == "web01").values(description=str(value)))
            assert machines.show(site, mac)["name"] == f"m{worker}-{number}"

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, worker) for worker in range(8)]:
            future.result()
    assert len(machines.listing(site)) == 8 * rounds + 1
    assert records.verify(site) == []


def test_r22_a_reader_goes_on_while_a_writer_holds_the_database(site: Site, world: World) -> None:
    world.subnet()
    with write(site.engine) as session:
        session.add(Counter(name="held", value=1))
        session.flush()
        with read(site.engine) as reader:
            assert reader.get(Counter, "held") is None, "what is not committed is not seen"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(machines.listing, site).result(timeout=30) == []
    with read(site.engine) as reader:
        assert reader.get(Counter, "held") is not None


def test_r22_only_writers_begin_immediately(site: Site) -> None:
    other = open_engine(site.settings.database, lock_seconds=0.05)
    with read(site.engine) as session:
        assert session.scalar(text("SELECT 1")) == 1
        with write(other) as second:
            second.add(Counter(name="beside-a-reader", value=1))
    with write(site.engine), pytest.raises(DatabaseUnavailable, match="locked"), write(other):
        raise AssertionError("a second writer got in")  # pragma: no cover
    other.dispose()


def test_a_lock_that_lasts_counts_as_a_stopped_database(site: Site) -> None:
    impatient = open_engine(site.settings.database, lock_seconds=0.05)
    holder = sqlite3.connect(database(site), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable) as caught, write(impatient) as session:
        session.add(Counter(name="x", value=1))
    assert caught.value.hint
    holder.execute("ROLLBACK")
    with write(impatient) as session:
        session.add(Counter(name="x", value=1))
    holder.close()
    impatient.dispose()


def test_a_full_disk_is_said_so_and_nothing_is_half_written(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    before = machines.listing(site)
    small = open_engine(site.settings.database)
    with pytest.raises(StorageFull) as caught, write(small) as session:
        pages = session.scalar(text("PRAGMA page_count"))
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        session.execute(update(Machine).values(description="half-written"))
        session.add(Counter(name="full", value=1, text="x" * 250))
        session.flush()
        session.execute(update(Machine).values(description="x" * 10_000_000))
    assert "free some space" in caught.value.hint
    small.dispose()
    assert machines.listing(site) == before
    with read(site.engine) as session:
        assert session.get(Counter, "full") is None
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"


@both_engines
def test_a_unique_constraint_is_a_conflict(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    with pytest.raises(Conflict, match="came first"), write(site.engine) as session:
        session.add(Machine(name="web01", parameters={}, kernel_options=[], interfaces=[]))
    assert len(machines.listing(site)) == 1


@both_engines
def test_foreign_keys_hold(site: Site) -> None:
    with pytest.raises(Conflict), write(site.engine) as session:
        session.add(Interface(machine_id=4711, mac="52:54:00:00:00:01"))
    with read(site.engine) as session:
        assert session.scalar(select(func.count()).select_from(Interface)) == 0


def test_sqlite_is_durable_and_foreign_keys_are_on_in_every_connection(site: Site) -> None:
    seen = []
    barrier = threading.Barrier(4)

    def look() -> None:
        with read(site.engine) as session:
            barrier.wait(30)
            seen.append(
                [session.scalar(text(f"PRAGMA {name}")) for name in ("foreign_keys", "synchronous", "journal_mode")]
            )

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [[1, 2, "wal"]] * 4


def test_a_database_that_is_none_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is not a database, whatever its name says" * 100)
    for url in (
        f"sqlite:///{tmp_path}/broken.db",
        f"sqlite:///{tmp_path}/no/such/directory.db",
        f"postgresql://provisioner@/x?host={tmp_path}",
    ):
        engine = open_engine(url, lock_seconds=1)
        for transaction in (read, write):
            with pytest.raises(DatabaseUnavailable), transaction(engine) as session:
                session.scalars(select(Machine)).all()
        engine.dispose()


def test_r22_too_many_at_once_counts_as_a_stopped_database(site: Site) -> None:
    crowded = open_engine(site.settings.database, lock_seconds=0.05)
    held = [crowded.connect() for _ in range(32)]
    with pytest.raises(DatabaseUnavailable), read(crowded) as session:
        session.scalar(text("SELECT 1"))
    for connection in held:
        connection.close()
    crowded.dispose()


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(InvalidSettings) as caught:
        open_engine("mysql://x/y")
    assert caught.value.where == "database_url"
