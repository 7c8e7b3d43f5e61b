"""Plan and apply as an inventory meets them: by the API of a running service, and with PostgreSQL as the database.

The whole request is timed, from the first byte that is sent to the last of the answer; what the server's processes
compute is not told apart. Who asks makes and reads the JSON outside the measured time.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchkit import report
from benchkit.api import ACTOR, PARTS, body, timed
from provisioner.services import plans, records, subnets, tokens
from provisioner.services.setup import init
from provisioner.services.site import Site
from provisioner.settings import Settings

SILENCE = 900.0
"""Seconds after which no answer is a failure of the benchmark."""
Times = dict[str, float]


class Api:
    """The API of a service of its own on loopback."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, text: bytes) -> bytes:
        """The answer. Ends the benchmark where there is none, or a refusal."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE)
        with contextlib.closing(connection):
            connection.request("POST", f"/api/v1{path}", text, self._headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"POST {path}: HTTP {answer.status} {content[:500]!r}")
        return content

    def ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        return False


def _by_services(site: Site, parts: tuple[str, ...], machines: list[dict[str, Any]]) -> Times:
    seconds, _, planned = timed(partial(plans.plan, site, ACTOR, machines))
    found = {parts[0]: seconds}
    if len(parts) == 2:
        found[parts[1]] = timed(partial(plans.apply, site, ACTOR, plan_id=planned["id"]))[0]
    return found


def _by_http(api: Api, parts: tuple[str, ...], machines: list[dict[str, Any]]) -> Times:
    text = json.dumps({"machines": machines}).encode()
    seconds, _, answer = timed(partial(api.post, "/machines:plan", text))
    found = {parts[0]: seconds}
    if len(parts) == 2:
        applied = json.dumps({"plan": json.loads(answer)["id"]}).encode()
        found[parts[1]] = timed(partial(api.post, "/machines:apply", applied))[0]
    return found


def one_run(state: Path, database: str, count: int, *, http_too: bool) -> Times:
    """The seconds of each part."""
    settings = Settings(state_dir=state, database_url=database, boot_url="http://127.0.0.1:8080", lock_seconds=30)
    site = init(settings, ACTOR).site
    for k in (1, 2):
        subnets.add(site, ACTOR, f"net{k}", f"10.{k}.0.0/16", {})
    found: Times = {}
    with contextlib.ExitStack() as stack:
        call = partial(_by_services, site)
        if http_too:
            token = tokens.add(site, ACTOR, None, "bench", {"role": "admin"})["token"]
            call = partial(_by_http, stack.enter_context(_serving(state, database, token)))
        for parts, description in ((PARTS[:2], ""), (PARTS[2:3], ""), (PARTS[3:], "changed")):
            found |= call(parts, body(count, description))
    problems = records.verify(site)
    site.engine.dispose()
    if problems:
        raise SystemExit(f"the history is broken: {problems[:3]}")
    return found


@contextlib.contextmanager
def _serving(state: Path, database: str, token: str) -> Iterator[Api]:
    kinds = {"BOOT": socket.SOCK_STREAM, "MEDIA": socket.SOCK_STREAM, "HTTP": socket.SOCK_STREAM}
    ports = {name: _free_port(kind) for name, kind in (kinds | {"TFTP": socket.SOCK_DGRAM}).items()}
    told = {f"PROVISIONER_{name}_BIND": f"127.0.0.1:{port}" for name, port in ports.items()}
    told |= {"PROVISIONER_STATE_DIR": str(state), "PROVISIONER_DATABASE_URL": database, "PROVISIONER_TLS": "off"}
    told |= {"PROVISIONER_BOOT_URL": f"http://127.0.0.1:{ports['BOOT']}", "PROVISIONER_LOCK_SECONDS": "30"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
    log = state / "serve.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "provisioner", "serve"]
        process = subprocess.Popen(command, env=inherited | told, stdout=out, stderr=out)
        try:
            api, deadline = Api(ports["HTTP"], token), time.monotonic() + 60
            while not api.ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the service did not start: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield api
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    """A server of Debian's package with its own settings, so that it syncs; yields the directory of its socket."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    # A socket's path may have 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "postgres", "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    control = [*as_user, str(programs / "pg_ctl"), "-D", str(home / "data"), "-w", "-l", str(home / "log")]
    options = f"-c listen_addresses='' -c unix_socket_directories={home}"
    try:
        _run([*as_user, str(programs / "initdb"), "-D", str(home / "data"), "-U", "provisioner", "-A", "trust"])
        _run([*control, "-o", options, "start"])
        try:
            yield str(home)
        finally:
            _run([*control, "-m", "fast", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd="/")


def _database(home: str, name: str) -> str:
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    _run([str(programs / "createdb"), "-h", home, "-U", "provisioner", name])
    return f"postgresql://provisioner@/{name}?host={home}"


def run(count: int, runs: int) -> list[str]:
    """The table: the median seconds of each part by each door; those on PostgreSQL where it is installed."""
    found: dict[str, list[Times]] = {}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        there = any(Path("/usr/lib/postgresql").glob("*/bin"))
        home = stack.enter_context(_postgres()) if there else ""
        doors = [("API, SQLite", False, True)]
        doors += [("services, PostgreSQL", True, False), ("API, PostgreSQL", True, True)] if there else []
        for number in range(runs):
            for door, postgres, http_too in doors:
                name = f"run{number}{'_http' if http_too else ''}"
                database = _database(home, name) if postgres else ""
                state = Path(directory) / f"{name}{'_pg' if postgres else ''}"
                times = one_run(state, database, count, http_too=http_too)
                found.setdefault(door, []).append(times)
                shutil.rmtree(state)
                report.say(f"{door}: " + ", ".join(f"{part} {times[part]:.2f} s" for part in PARTS))
    lines = [
        f"The same {count} machines in seconds, the median of {runs} runs. By the API the whole request is counted,",
        "with its JSON; PostgreSQL is Debian's, as it comes, on the same host.",
        "",
        "| | " + " | ".join(PARTS) + " |",
        "|---|" + "---|" * len(PARTS),
    ]
    for door, rows in found.items():
        medians = " | ".join(f"{statistics.median(row[part] for row in rows):.2f}" for part in PARTS)
        lines.append(f"| {door} | {medians} |")
    return lines if home else [*lines, "", "PostgreSQL is not installed here."]
