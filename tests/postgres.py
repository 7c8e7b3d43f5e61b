"""A PostgreSQL server of Debian's package, for the tests alone: its own directory, a Unix socket, no TCP port."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def binaries() -> Path:
    """Where Debian keeps the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: `scripts/test` installs it")
    return found[-1]


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A fresh server; yields the directory of its socket, which is also its host name."""
    # A socket's path may have 107 bytes, which pytest's own directories exceed.
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data, programs = home / "data", binaries()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": "/"}
    subprocess.run(
        [*as_user, programs / "initdb", "-D", data, "-U", "provisioner", "-A", "trust", "--no-sync"],
        check=True,
        **quiet,
    )
    options = f"-c listen_addresses='' -c unix_socket_directories={home} -c fsync=off -c max_connections=100"
    control = [*as_user, programs / "pg_ctl", "-D", data, "-w", "-l", home / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, **quiet)
    try:
        yield str(home)
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(home, ignore_errors=True)


def sql(socket_directory: str, statement: str) -> None:
    """Run one statement in the maintenance database."""
    subprocess.run(
        [binaries() / "psql", "-q", "-h", socket_directory, "-U", "provisioner", "-d", "postgres", "-c", statement],
        check=True,
        stdout=subprocess.DEVNULL,
    )
