"""A server and everything that it starts: the processor time they used, and their end."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_JOIN = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Used:
    """Processor seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system

    def since(self, before: "Used") -> "Used":
        """What came on top."""
        return Used(self.user - before.user, self.system - before.system)


@dataclass
class Group:
    """A process with all its descendants, in a control group where one may be made."""

    process: subprocess.Popen[bytes]
    folder: Path | None
    log: Path

    def last_words(self) -> str:
        """The end of what they wrote."""
        return self.log.read_text(errors="replace").strip()[-300:]

    def alive(self) -> bool:
        """Whether the first process runs."""
        return self.process.poll() is None

    def used(self) -> "Used":
        """What all of them used so far; those that ended count too."""
        if self.folder is None:
            of_each = [_ticks(pid) for pid in _descendants(self.process.pid)]
            return Used(*(sum(ticks[i] for ticks in of_each) / _TICKS for i in (0, 1)))
        if (self.folder / "cpuacct.usage_user").exists():
            return Used(*(int((self.folder / f"cpuacct.usage_{part}").read_text()) / 1e9 for part in ("user", "sys")))
        usage = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return Used(int(usage["user_usec"]) / 1e6, int(usage["system_usec"]) / 1e6)

    def by_name(self) -> dict[str, float]:
        """Processor seconds of those that run, by the names of their processes; those of one name together."""
        pids = _descendants(self.process.pid)
        if self.folder is not None:
            pids = [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]
        spent: dict[str, float] = {}
        for pid in pids:
            with suppress(OSError):
                name = Path("/proc", str(pid), "comm").read_text().strip()
                spent[name] = spent.get(name, 0.0) + sum(_ticks(pid)) / _TICKS
        return spent

    def settle(self, quiet: float = 0.05, limit: float = 15.0) -> None:
        """Come back once they use less than this share of a core: what starting costs is over then."""
        deadline, before = time.monotonic() + limit, self.used().total
        while time.monotonic() < deadline:
            time.sleep(0.3)
            now = self.used().total
            if (now - before) / 0.3 < quiet:
                return
            before = now


@contextmanager
def started(command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Group]:
    """Run a server until the end of the block; then nothing of it is left."""
    folder = _folder()
    words = list(command) if folder is None else ["/bin/sh", "-c", _JOIN, str(folder), *command]
    with log.open("ab") as file:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    group = Group(process, folder, log)
    try:
        yield group
    finally:
        _stop(group)


def accounting() -> str:
    """How processor time is counted on this host."""
    folder = _folder()
    if folder is None:
        return "/proc, in ticks"
    folder.rmdir()
    return "control group"


def _folder() -> Path | None:
    """A control group of our own; None where this user may not make one."""
    for parent in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"):
        if not Path(parent, "cgroup.procs").exists():
            continue
        folder = Path(parent, f"provisioner-bench-{os.getpid()}-{time.monotonic_ns()}")
        with suppress(OSError):
            folder.mkdir()
            return folder
    return None


def _stop(group: Group) -> None:
    left = [group.process.pid, *_descendants(group.process.pid)]
    with suppress(ProcessLookupError):
        group.process.terminate()
    try:
        group.process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        group.process.kill()
        group.process.wait()
    if group.folder is None:
        _kill(left[1:])
        return
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        _kill(int(pid) for pid in (group.folder / "cgroup.procs").read_text().split())
        with suppress(OSError):
            group.folder.rmdir()
            return
        time.sleep(0.05)
    raise RuntimeError(f"processes of {group.process.args!r} do not end: see {group.folder}/cgroup.procs")


def _kill(pids: Iterator[int] | Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """The process and all that came from it and run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def _ticks(pid: int) -> tuple[int, int]:
    """User and system ticks of the process and of the children it waited for; see proc(5)."""
    fields = [int(each) for each in _stat(pid)[11:15]] or [0] * 4
    return fields[0] + fields[2], fields[1] + fields[3]


def _stat(pid: int) -> list[str]:
    """The fields of its stat file, from the state on; empty when it ended."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
