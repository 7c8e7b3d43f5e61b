"""A `provisioner serve` of the benchmark's own on loopback, and the load client for HTTP."""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchkit import groups
from benchkit.groups import Group, Used

SILENCE = 120.0
"""Seconds after which no answer is a failure of the benchmark."""
PLANES = ("boot", "media", "http")
_SOURCE = Path(__file__).with_name("httpstorm.c")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of loopback that nobody has."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_true(condition: Callable[[], bool], problem: Callable[[], str], seconds: float = SILENCE) -> None:
    """Wait until it is true. Raises RuntimeError with the problem when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {problem()}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Server:
    """A running service: its processes, its state directory, its ports, and how long it took to be ready."""

    group: Group
    state: Path
    ports: dict[str, int]
    environment: dict[str, str]
    ready_seconds: float

    def get(
        self, plane: str, path: str, method: str = "GET", body: object = None, source: str = "", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """The status, the body and the headers of one request."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.ports[plane], timeout=SILENCE, source_address=(source, 0) if source else None
        )
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body)
            more = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, body=content, headers=headers | more)
            answer = connection.getresponse()
            return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}


@contextlib.contextmanager
def serving(state: Path, address: str = "127.0.0.1", more: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A `provisioner serve` of this state directory, until the block ends; it is ready when the block begins.

    Machines reach it under ``address``; ``more`` are further variables of its environment.
    """
    ports = {name: free_port() for name in PLANES}
    bind = "127.0.0.1" if address == "127.0.0.1" else "0.0.0.0"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
    environment |= {f"PROVISIONER_{name.upper()}_BIND": f"{bind}:{port}" for name, port in ports.items()}
    environment |= {
        "PROVISIONER_STATE_DIR": str(state),
        "PROVISIONER_TFTP_BIND": f"{address}:{free_port(socket.SOCK_DGRAM)}",
        "PROVISIONER_BOOT_URL": f"http://{address}:{ports['boot']}",
        "PROVISIONER_MEDIA_URL": f"http://{address}:{ports['media']}",
        "PROVISIONER_TLS": "off",
    }
    with running(state, ports, environment | dict(more or {})) as server:
        yield server


@contextlib.contextmanager
def running(state: Path, ports: dict[str, int], environment: dict[str, str]) -> Iterator[Server]:
    """The same with this environment, as a service that is started again has it."""
    began = time.monotonic()
    command = [sys.executable, "-m", "provisioner", "serve"]
    with groups.started(command, log=state.parent / "serve.log", environment=environment) as group:

        def ready() -> bool:
            if not group.alive():
                raise RuntimeError(f"provisioner serve ended: {group.last_words()}")
            return all(_ready(port) for port in ports.values())

        await_true(ready, group.last_words)
        yield Server(group, state, ports, environment, time.monotonic() - began)


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SILENCE)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


def kill_at_once(server: Server) -> None:
    """SIGKILL for every process of it, none of which gets to do anything more."""
    os.kill(server.group.process.pid, signal.SIGSTOP)  # it would start its children again
    waiting, found = [server.group.process.pid], []
    while waiting:
        found.append(waiting.pop())
        waiting += [int(each) for each in Path(f"/proc/{found[-1]}/task/{found[-1]}/children").read_text().split()]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.group.process.wait()


def where_time_goes(several: Sequence["Told"], per: Callable[["Told"], float], unit: str) -> str:
    """For a note: what the server computed per so much (``per`` of a round), and who had how much of the host."""
    one = sorted(several, key=lambda each: each.cpu / per(each))[len(several) // 2]
    host = one.wall * (os.cpu_count() or 1)
    return (
        f"{unit}, the server computes {one.user / per(one):.2f} in its program and {one.system / per(one):.2f} in the "
        f"kernel; it had {one.cpu / host:.0%} of the host's processors, the client {one.client / host:.0%}"
    )


@dataclass(frozen=True)
class Load:
    """What the clients do: each ``each`` requests (0: until the ``seconds`` are over), ``keep`` a connection."""

    clients: int
    seconds: float
    each: int = 0
    keep: int = 1


@dataclass(frozen=True)
class Told:
    """What the clients got; times in seconds, the last three those that server and clients computed."""

    answers: int
    failed: int
    wrong: int
    bytes: int
    wall: float
    p50: float
    p99: float
    max: float
    problem: str
    user: float = 0.0
    system: float = 0.0
    client: float = 0.0

    @property
    def cpu(self) -> float:
        """Both parts of the server's."""
        return self.user + self.system

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.wall if self.wall else 0.0

    @property
    def speed(self) -> float:
        """Megabytes a second."""
        return self.bytes / self.wall / 1e6 if self.wall else 0.0


def storm(port: int, load: Load, asked: Sequence[tuple[str, str, str]], group: Group | None = None) -> Told:
    """Ask for these (address, path, word in the answer), and what came of it. ``group`` is who answers.

    Raises RuntimeError when an answer was missing or wrong: speed without that says nothing.
    """
    with tempfile.TemporaryDirectory(prefix="httpstorm-") as directory:
        listed = Path(directory) / "list"
        listed.write_text("".join(" ".join(each) + "\n" for each in asked))
        command = [_client(), port, load.clients, load.seconds, load.each, load.keep, listed]
        before, own = group.used() if group else Used(0, 0), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)
        used = group.used().since(before) if group else before
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    client = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
    told = Told(**json.loads(done.stdout), user=used.user, system=used.system, client=client)
    if told.failed or told.wrong or not told.answers:
        raise RuntimeError(f"{told.failed} requests failed, {told.wrong} were answered wrongly: {told.problem}")
    return told


def compiled(source: Path, name: str, *flags: str) -> Path:
    """A C program of ours, compiled for as long as we run. Raises RuntimeError when there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("no C compiler: apt install gcc libc6-dev")
    program = scratch() / name
    command: list[Any] = [compiler, "-O2", "-std=gnu11", "-D_GNU_SOURCE", *flags, "-o", program, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.name} does not compile (apt install libc6-dev?): {done.stderr[-300:]}")
    return program


@cache
def _client() -> Path:
    return compiled(_SOURCE, "httpstorm")


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="provisioner-bench-")


def scratch() -> Path:
    """A directory that is gone when the benchmark is over; on the disk, where what is synced costs what it costs."""
    return Path(_scratch().name)
