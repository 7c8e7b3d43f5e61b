"""S35: what others notice while somebody's template runs into its limits, again and again.

A real ``provisioner serve``; two kinds of requests, one after the other as fast as they are answered: a machine's boot
script from the boot plane, a machine from the API. By turns nobody else asks anything; another program computes without
a pause, at the lowest priority there is (SCHED_IDLE); and somebody has one machine rendered whose template never ends,
without a pause. The second is the floor: what a host notices of any core that is busy.
"""

import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchkit import report
from benchkit.api import ACTOR
from benchkit.render import populate
from provisioner.core.content import check_profile
from provisioner.services import machines, profiles, templates, tokens
from provisioner.services.machines import InterfaceInput
from provisioner.services.site import open_site
from provisioner.settings import Settings
from provisioner.store.engine import write

ENDLESS = "text\n{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}\n"
MACHINE = "node00000.r000.example.org"
MAC = "52:54:00:00:00:00"
SLOW = "slow"
SILENCE = 60.0
"""Seconds after which no answer is a failure of the benchmark."""


@dataclass
class Server:
    """A service of its own on loopback."""

    state: Path
    token: str
    ports: dict[str, int] = field(default_factory=dict)

    def get(self, plane: str, path: str, method: str = "GET", *, bearer: bool = False) -> tuple[int, float]:
        """The status, and how long the answer took."""
        headers = {"Authorization": f"Bearer {self.token}"} if bearer else {}
        if method == "POST":
            headers["Content-Type"] = "application/json"
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[plane], timeout=SILENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
            answer = connection.getresponse()
            answer.read()
        return answer.status, time.perf_counter() - began


def _free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(state: Path) -> Iterator[Server]:
    """The service, until the benchmark is over."""
    site = open_site(Settings(state_dir=state))
    token = tokens.add(site, ACTOR, None, "bench", {"role": "admin"})["token"]
    with write(site.engine) as session:
        templates.put(session, ACTOR, "kickstart/endless.ks.j2", ENDLESS)
    with write(site.engine) as session:
        data = {"name": "endless", "parent": "rocky9", "template": "kickstart/endless.ks.j2"}
        endless = check_profile(data, "endless")
        profiles.put(session, ACTOR, endless, source=None)
    machines.add(site, ACTOR, SLOW, [InterfaceInput("52:54:09:00:00:01", "10.1.200.1")], {"profile": "endless"})
    site.engine.dispose()
    server = Server(state, token, {name: _free_port() for name in ("boot", "media", "http")})
    binds = {f"PROVISIONER_{name.upper()}_BIND": f"127.0.0.1:{port}" for name, port in server.ports.items()}
    binds |= {"PROVISIONER_TFTP_BIND": f"127.0.0.1:{_free_port(socket.SOCK_DGRAM)}", "PROVISIONER_TLS": "off"}
    binds |= {"PROVISIONER_STATE_DIR": str(state), "PROVISIONER_BOOT_URL": f"http://127.0.0.1:{server.ports['boot']}"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
    with (state / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "provisioner", "serve"], env=inherited | binds, stdout=log, stderr=log
        )
        try:
            _await(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=SILENCE)


def _await(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SILENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if all(server.get(plane, "/readyz")[0] == 200 for plane in server.ports):
                return
        time.sleep(0.1)
    raise SystemExit(f"the service did not start: {(server.state / 'serve.log').read_text()[-2000:]}")


@contextlib.contextmanager
def nobody(_server: Server) -> Iterator[None]:
    """The host has nothing else to do."""
    yield


@contextlib.contextmanager
def loop(_server: Server) -> Iterator[None]:
    """Another program has a core for as long as nobody else wants it."""
    step_back = "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    process = subprocess.Popen([sys.executable, "-c", f"import os\n{step_back}\nwhile True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def template(server: Server) -> Iterator[None]:
    """Somebody has the endless template rendered over and over."""
    statuses: list[int] = []
    over = threading.Event()

    def insist() -> None:
        while not over.is_set():
            statuses.append(server.get("http", f"/api/v1/machines/{SLOW}:render", "POST", bearer=True)[0])

    thread = threading.Thread(target=insist, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(SILENCE)
    if not statuses or set(statuses) != {422}:
        raise SystemExit(f"the endless template was answered with {sorted(set(statuses))}, not with its limit")


BESIDE = {"alone": nobody, "a loop": loop, "the template": template}


def phase(server: Server, seconds: float, beside: str) -> dict[str, list[float]]:
    """The times of both kinds of requests in so many seconds, in milliseconds."""
    asked = {
        "boot script": ("boot", f"/boot/ipxe/{urllib.parse.quote(MAC)}", False),
        "API": ("http", f"/api/v1/machines/{MACHINE}", True),
    }
    times: dict[str, list[float]] = {what: [] for what in asked}
    with BESIDE[beside](server):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for what, (plane, path, bearer) in asked.items():
                status, took = server.get(plane, path, bearer=bearer)
                if status != 200:
                    raise SystemExit(f"{what}: HTTP {status}")
                times[what].append(took * 1000)
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, round(len(times) * 0.99))]


def run(count: int, runs: int, seconds: float) -> list[str]:
    """The table: the p99 of each phase, and their ratios."""
    rounds = []
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory) / "state"
        populate(state, count)
        with serving(state) as server:
            phase(server, min(2.0, seconds), "alone")  # all is loaded and warm then
            for number in range(runs):
                rounds.append({beside: phase(server, seconds, beside) for beside in BESIDE})
                report.say(f"round {number + 1} of {runs}: {_told(rounds[-1])}")
    lines = [
        "S35: others' requests while somebody's template runs into its limits (2 s of processor time) again and again;",
        "while another program loops at the lowest priority there is, which is what a host notices of any busy core;",
        f"and while nobody does, by turns: {runs} rounds of {seconds:.0f} s each, {count} machines, one client.",
        "The median of each round's p99, and of the ratios of the rounds.",
        "",
        "| request | p99 alone, ms | beside a loop, ms | beside the template, ms | to the loop | to alone | requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for what in rounds[0]["alone"]:
        p99 = {beside: [_p99(each[beside][what]) for each in rounds] for beside in BESIDE}
        ratios = [_ratio(p99["the template"], p99[other]) for other in ("a loop", "alone")]
        asked = sum(len(each[beside][what]) for each in rounds for beside in BESIDE)
        told = [*(f"{statistics.median(p99[beside]):.1f}" for beside in BESIDE), *(f"{each:.2f}" for each in ratios)]
        lines.append(f"| {what} | {' | '.join(told)} | {asked} |")
    return lines


def _ratio(those: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(those, others, strict=True))


def _told(one: dict[str, dict[str, list[float]]]) -> str:
    return ", ".join(
        f"{what} {' / '.join(f'{_p99(one[beside][what]):.1f}' for beside in BESIDE)} ms" for what in one["alone"]
    )
