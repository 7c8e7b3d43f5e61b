"""A PostgreSQL server of Debian's package, for the tests alone: its own directory, a Unix socket, no TCP port."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg


def binaries() -> Path:
    """Where Debian keeps the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: `scripts/test` installs it")
    return found[-1]


class Postgres:
    """A server that tests may kill; ``home`` is the directory of its socket, which is also its host name."""

    def __init__(self) -> None:
        # A socket's path may have 107 bytes, which pytest's own directories exceed. Hundreds of databases are made
        # and dropped: in memory where possible.
        memory = Path("/dev/shm")
        self.home = Path(tempfile.mkdtemp(prefix="pg-", dir=memory if os.access(memory, os.W_OK) else None))
        as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self.home, "postgres", "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        self._data, programs = self.home / "data", binaries()
        self._run([*as_user, programs / "initdb", "-D", self._data, "-U", "provisioner", "-A", "trust", "--no-sync"])
        self._control = [*as_user, programs / "pg_ctl", "-D", self._data, "-w", "-l", self.home / "log"]
        self.start()

    def start(self) -> None:
        """Start it, after a kill too, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.home} -c fsync=off -c max_connections=100"
        options += " -c dynamic_shared_memory_type=mmap"  # a killed server leaves nothing outside its directory
        self._run([*self._control, "-o", options, "start"])

    def kill(self) -> None:
        """SIGKILL to the server and every process of it."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        for pid in [first, *_children(first)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{first}/exe").exists():
            time.sleep(0.01)
        # Where nobody reaps orphans the dead server keeps its process id, and the next one would take it for alive.
        for left in (self._data / "postmaster.pid", *self.home.glob(".s.PGSQL.*")):
            left.unlink(missing_ok=True)

    def remove(self) -> None:
        """Stop it and leave nothing."""
        self._run([*self._control, "-m", "immediate", "stop"])
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, command: list[object]) -> None:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd="/",
        )


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A fresh server; yields the directory of its socket."""
    server = Postgres()
    try:
        yield str(server.home)
    finally:
        server.remove()


def sql(socket_directory: str, statement: str) -> None:
    """Run one statement in the maintenance database."""
    with psycopg.connect(host=socket_directory, user="provisioner", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)


def copied(socket_directory: str, template: str, prefix: str) -> str:
    """A new database like ``template``; its name begins with ``prefix``. By files: a tenth of the time of by WAL."""
    name = f"{prefix}{os.getpid()}_{time.monotonic_ns()}"
    sql(socket_directory, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    return name


def drop(socket_directory: str, name: str) -> None:
    """Remove a database, whoever is still connected to it."""
    sql(socket_directory, f"DROP DATABASE {name} WITH (FORCE)")
