"""The load client: compiled from tftpstorm.c when it is needed, run, and what it tells."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("tftpstorm.c")


@dataclass(frozen=True)
class Load:
    """What the clients do. Losses are percent of the datagrams of each way."""

    clients: int
    windowsize: int = 1
    loss: float = 0.0
    half_open: int = 0
    limit: float = 60.0


@dataclass(frozen=True)
class Told:
    """What they told: sizes in bytes, times in seconds."""

    clients: int
    completed: int
    bytes: int
    wall: float
    p99: float
    packets: int
    requests_resent: int
    half_open: int = 0
    problem: str = ""

    @property
    def speed(self) -> float:
        """Megabytes a second."""
        return self.bytes / self.wall / 1e6 if self.wall else 0.0


@contextmanager
def compiled() -> Iterator[Path]:
    """The program, while it is needed. Raises SystemExit when there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("no C compiler for the load client: apt install gcc libc6-dev")
    with tempfile.TemporaryDirectory(prefix="tftpstorm-") as directory:
        program = Path(directory) / "tftpstorm"
        command: list[str | Path] = [compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", program, SOURCE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"the load client does not compile (apt install libc6-dev?):\n{done.stderr}")
        yield program


def ask(program: Path, *words: object) -> dict[str, Any]:
    """Run it, and read its JSON. Raises RuntimeError when it refuses or dies."""
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"the load client ended with {done.returncode}: {done.stderr.strip()}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def storm(program: Path, address: tuple[str, int], name: str, compare: Path, load: Load, *, seed: int = 1) -> Told:
    """All clients at once ask this server for that file. Raises RuntimeError when one got wrong bytes."""
    host, port = address
    words: list[object] = ["--host", host, "--port", port, "--file", name, "--compare", compare]
    words += ["--clients", load.clients, "--windowsize", load.windowsize, "--half-open", load.half_open]
    words += ["--loss-in", load.loss, "--loss-out", load.loss, "--seed", seed, "--limit", load.limit]
    told = ask(program, *words)
    if told["wrong"]:
        raise RuntimeError(f"{told['wrong']} clients got wrong bytes: {told['first_problem']}")
    return Told(
        clients=told["clients"],
        completed=told["completed"],
        bytes=told["bytes"],
        wall=told["wall"],
        p99=told["p99"],
        packets=told["data"] + told["repeats"] + told["gaps"] + told["acks"],
        requests_resent=told["requests_resent"],
        half_open=told["half_open_answered"],
        problem=told["first_problem"],
    )
