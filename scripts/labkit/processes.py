"""Child processes that never outlive us: each leads its own group, and dies if we do."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


class LabError(Exception):
    """Something in the lab did not go as it should; the text says what, and what to do."""


def spawn(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, on_our_death: str = "TERM"
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, its output appended to ``log``.

    ``setpriv`` asks the kernel to send the signal ``on_our_death`` to it when this thread ends, even by SIGKILL.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", on_our_death, "--", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """End a process and its whole group: politely, then after ``patience`` seconds not."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    _signal_group(process, signal.SIGKILL)  # children may outlive their leader
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def run(command: Sequence[str | Path], *, check: bool = True) -> str:
    """The standard output of a short program; LabError with its messages if it fails."""
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if check and result.returncode:
        raise LabError(f"`{' '.join(map(str, command))}` failed: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def wait_for(look: Callable[[], Found | None], timeout: float, what: str, every: float = 0.2) -> Found:
    """Call ``look`` until it gives something true, and return that; LabError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(every)
    return found
