"""The directory of one run, in memory where possible, and the removal of what killed runs left behind."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labkit.network import PREFIX, namespaces, remove_namespace

_OWNER = "owner"


def _base() -> Path:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


@contextlib.contextmanager
def workspace(*, keep: bool = False) -> Iterator[Path]:
    """A directory for the length of a ``with`` block; it knows which process it belongs to."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_base()))
    (directory / _OWNER).write_text(_identity(os.getpid()) or "")
    try:
        yield directory
    finally:
        if keep:
            (directory / _OWNER).unlink()
        else:
            shutil.rmtree(directory, ignore_errors=True)


def run_name(directory: Path) -> str:
    """The name of a run, for its namespace: unique like its directory."""
    return directory.name.removeprefix(PREFIX)


def leftovers() -> list[Path]:
    """The directories of runs whose process is gone. Those that were kept on purpose have no owner, and stay."""
    return [path for path in _base().glob(f"{PREFIX}*") if (path / _OWNER).exists() and not _alive(path)]


def clean() -> list[str]:
    """Remove namespaces, processes and directories of runs whose process is gone; what was removed, in words."""
    living = {path.name for path in _base().glob(f"{PREFIX}*") if (path / _OWNER).exists() and _alive(path)}
    removed = []
    for namespace in namespaces():
        if namespace not in living:
            remove_namespace(namespace)
            removed.append(f"namespace {namespace}")
    for directory in leftovers():
        shutil.rmtree(directory, ignore_errors=True)
        removed.append(f"directory {directory}")
    return removed


@contextlib.contextmanager
def signals_end_the_run() -> Iterator[None]:
    """SIGTERM and SIGHUP end the ``with`` block like Ctrl-C does, so that everything is taken down."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _alive(directory: Path) -> bool:
    owner = (directory / _OWNER).read_text()
    return owner != "" and _identity(int(owner.split()[0])) == owner


def _identity(pid: int) -> str | None:
    """The pid and when that process began: a pid alone is used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return f"{pid} {fields[19]}"
