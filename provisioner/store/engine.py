"""One database, two engines: opening it, and the two kinds of transaction."""

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from provisioner.errors import Conflict, DatabaseUnavailable, InvalidSettings, ProvisionerError, StorageFull
from provisioner.store.breaker import Breaker
from provisioner.store.groupcommit import Group

_WRITES = "provisioner_writes"
_DRY_RUN = "provisioner_dry_run"
_TURN = "provisioner_turn"
_HURRIED = "provisioner_hurried"
_GLANCE = "provisioner_glance"
_GROUP = "provisioner_group"
_READING, _WRITING = "provisioner_reading", "provisioner_writing"
_URLS = "use sqlite:////path or postgresql://user@host/name"
_ONE_WRITER = 0x70726F76
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004
T = TypeVar("T")


def open_engine(url: str, *, lock_seconds: float = 5.0) -> Engine:
    """An engine for the URL; nothing is connected yet. Raises InvalidSettings for a URL we do not serve."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidSettings(f"{url!r} is not a URL", where="database_url", hint=_URLS) from error
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(
            url,
            connect_args={"timeout": lock_seconds},
            pool_size=16,
            max_overflow=16,
            pool_timeout=lock_seconds,
            execution_options={_TURN: (threading.Lock(), lock_seconds)},
        )
        event.listen(engine, "do_connect", _refuse_missing_file)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=16,
            max_overflow=16,
            pool_timeout=lock_seconds,
            connect_args={"connect_timeout": max(1, int(lock_seconds)), "options": f"-c lock_timeout={lock_seconds}s"},
        )
    raise InvalidSettings(
        f"the database {parsed.get_backend_name()!r} is not served",
        where="database_url",
        hint=_URLS,
    )


def with_breakers(engine: Engine) -> Engine:
    """The same database for those who must answer at once: after a failure, most are refused without a wait.

    Reading and writing fail apart: readers of a locked SQLite go on. What several threads give `together` at once is
    one transaction.
    """
    return engine.execution_options(**{_READING: Breaker(), _WRITING: Breaker(), _GROUP: Group()})


def _refuse_missing_file(_dialect: object, _record: object, arguments: Any, _options: object) -> None:
    # SQLite would make an empty database in the place of one that is gone.
    path = Path(arguments[0])
    if not path.exists():
        raise DatabaseUnavailable(
            f"the database cannot be asked: {path} does not exist", hint="run `provisioner init`, or put it back"
        )


def _guarded(engine: Engine, kind: str) -> Any:
    breaker: Breaker | None = engine.get_execution_options().get(kind)
    return nullcontext() if breaker is None else breaker.guard()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own BEGIN comes late and deferred; we send ours (see _begin_sqlite).
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns to writing fails at once when another writer was faster.
    options = connection.get_execution_options()
    if options.get(_GLANCE):
        return
    if not options.get(_WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    driver: Any = connection.connection.driver_connection
    (milliseconds,) = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout=0")
    try:
        if not options.get(_HURRIED) and _begun(driver, milliseconds / 1000):
            return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout={milliseconds}")


def _begun(driver: sqlite3.Connection, seconds: float) -> bool:
    """Whether the write lock could be had in that time.

    SQLite's own waiting goes to sleep for longer and longer, up to 0.1 s, and so comes last among writers who hold the
    lock for a few milliseconds each.
    """
    until, pause = time.monotonic() + seconds, _SHORTEST_PAUSE
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                return False
        else:
            return True
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


@contextmanager
def read(engine: Engine) -> Iterator[Session]:
    """A transaction that only reads. Raises DatabaseUnavailable."""
    with (
        _guarded(engine, _READING),
        _translated(),
        engine.connect() as connection,
        Session(connection, autoflush=False) as session,
    ):
        yield session


@contextmanager
def glance(engine: Engine) -> Iterator[Connection]:
    """A connection for one statement that only reads: by itself it sees one moment, without a transaction around it.

    Raises DatabaseUnavailable.
    """
    with (
        _guarded(engine, _READING),
        _translated(),
        engine.connect().execution_options(**{_GLANCE: True}) as connection,
    ):
        yield connection


@contextmanager
def write(engine: Engine) -> Iterator[Session]:
    """A transaction that writes: committed at the end, rolled back on any error.

    Raises DatabaseUnavailable, StorageFull, and Conflict where a unique constraint refused.
    """
    with writing(engine) as connection, Session(connection, expire_on_commit=False) as session:
        yield session
        session.flush()
        rehearsal: _Rehearsal | None = connection.get_execution_options().get(_DRY_RUN)
        if rehearsal is not None and rehearsal.watch is not None:
            rehearsal.watch(session)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """As `write`, for statements that need no session."""
    with (
        _guarded(engine, _WRITING),
        _translated(),
        _turn(engine),
        engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin() as transaction,
    ):
        options = connection.get_execution_options()
        if connection.dialect.name != "sqlite":
            # One writer at a time, as on SQLite: what a transaction read is still so when it writes.
            _lock_postgres(connection, hurried=options.get(_HURRIED, False))
        yield connection
        if options.get(_DRY_RUN) is not None:
            transaction.rollback()


@contextmanager
def session_on(connection: Connection) -> Iterator[Session]:
    """A session within the connection's transaction, which it neither commits nor rolls back."""
    with Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
        yield session
        session.flush()


def together(engine: Engine, job: Callable[[Connection], T]) -> T:
    """Run a job in a transaction that writes, on an engine `with_breakers` with those of other threads in one.

    What it returns is committed. The job may be run twice, the first time rolled back. Raises what the job raised,
    which concerns no other job, or what `write` raises.
    """
    options = engine.get_execution_options()
    group: Group | None = options.get(_GROUP)
    if group is None or options[_WRITING].tripped:
        with write(engine) as session:
            return job(session.connection())
    return group.run(job, lambda: writing(engine), _translated)


def _lock_postgres(connection: Connection, *, hurried: bool) -> None:
    how = "pg_try_advisory_xact_lock" if hurried else "pg_advisory_xact_lock"
    # The waiting one answers with nothing, which is good.
    if connection.scalar(text(f"SELECT {how}(:lock)"), {"lock": _ONE_WRITER}) is False:
        raise DatabaseUnavailable("somebody else is writing")


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Let the writing threads of this process queue here.

    SQLite's waiters poll, ever more rarely: under many writers the one that waited longest comes last.
    """
    lock, seconds = engine.get_execution_options().get(_TURN, (None, 0))
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=seconds):
        raise DatabaseUnavailable("the database cannot be asked: another thread is writing all the time")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ProvisionerError:
        raise
    except IntegrityError as error:
        raise Conflict(
            f"another change came first: {_constraint(error)}", hint="look at the object again, then repeat the change"
        ) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection to the database is busy") from error
    except DBAPIError as error:
        raise _unavailable(error) from error


def _constraint(error: IntegrityError) -> str:
    return str(error.orig).splitlines()[0]


def _unavailable(error: DBAPIError) -> Exception:
    words = str(error.orig)
    if "disk is full" in words or "No space left" in words or getattr(error.orig, "errno", None) == errno.ENOSPC:
        return StorageFull(f"the database cannot grow: {words}")
    # SQLite says a plain DatabaseError of a file that is damaged or no database.
    if isinstance(error, OperationalError | InterfaceError | InternalError) or type(error) is DatabaseError:
        return DatabaseUnavailable(f"the database cannot be asked: {words.splitlines()[0] if words else error}")
    return error


@dataclass(frozen=True)
class _Rehearsal:
    watch: Callable[[Session], None] | None


def dry_run(engine: Engine, watch: Callable[[Session], None] | None = None) -> Engine:
    """The same database, but every write is rolled back at its end: what would happen, without its happening.

    ``watch`` is given each session when all is written and nothing rolled back yet, while the write lock is held.
    """
    return engine.execution_options(**{_DRY_RUN: _Rehearsal(watch), _GROUP: None})


def is_dry_run(engine: Engine) -> bool:
    """Whether its writes are rolled back: then what a write does besides must be left out too."""
    return engine.get_execution_options().get(_DRY_RUN) is not None


def watch_of(engine: Engine) -> Callable[[Session], None] | None:
    """What a `dry_run` shows its writes to."""
    rehearsal: _Rehearsal | None = engine.get_execution_options().get(_DRY_RUN)
    return None if rehearsal is None else rehearsal.watch


def hurried(engine: Engine) -> Engine:
    """The same database for writes that may as well be left out: refused at once while somebody else writes.

    Such a refusal says nothing of the database's health, so no breaker takes note.
    """
    lock, _ = engine.get_execution_options().get(_TURN, (None, 0))
    return engine.execution_options(**{_TURN: (lock, 0), _HURRIED: True, _WRITING: None, _GROUP: None})


def is_sqlite(session: Session) -> bool:
    """Whether this session talks to SQLite."""
    return session.get_bind().dialect.name == "sqlite"


def for_update(session: Session) -> dict[str, Any]:
    """Keyword arguments that lock the rows of ``session.get``; SQLite's write transaction already holds them all."""
    return {} if is_sqlite(session) else {"with_for_update": True}
