"""Fixtures that all tests share.

``site`` is an initialised installation with the shipped content, fresh for each test, on SQLite; tests that are
parametrised with ``both_engines`` run on PostgreSQL too. ``served`` is a real ``provisioner serve`` on loopback.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cheap
import pytest
import structlog
import zygote
from hypothesis import HealthCheck
from hypothesis import settings as property_settings
from postgres import copied, drop, running, sql
from world import ACTOR, World

from provisioner.services.setup import init
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings, load

cheap.hashes()
# How long an example took says only how busy the host is.
property_settings.register_profile("provisioner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
property_settings.load_profile("provisioner")

both_engines = pytest.mark.parametrize(
    "engine", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone with them at the end; else in the random order."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Each test logs to the standard output of its own, whatever the test before configured."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield


@pytest.fixture(autouse=True)
def _renderings(request: pytest.FixtureRequest) -> None:
    """Only the tests whose subject they are have every rendering and check made anew."""
    cheap.renderings(remembered="render" not in request.path.parts)


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory as `init` leaves it, to be copied."""
    state = tmp_path_factory.mktemp("template") / "state"
    init(Settings(state_dir=state), ACTOR).site.engine.dispose()
    return state


@pytest.fixture(scope="session")
def _postgres(_template: Path) -> Iterator[str]:
    """A PostgreSQL server with a database `initialised` as `init` leaves it."""
    with running() as directory:
        sql(directory, "CREATE DATABASE initialised")
        settings = Settings(state_dir=_template, database_url=postgres_url(directory, "initialised"))
        init(settings, ACTOR).site.engine.dispose()
        yield directory


def postgres_url(directory: str, name: str) -> str:
    """The URL of a database of that server."""
    return f"postgresql://provisioner@/{name}?host={directory}"


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Which database the test's site has; see ``both_engines``."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def site(_template: Path, tmp_path: Path, engine: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """An initialised installation of its own for each test."""
    state = tmp_path / "state"
    shutil.copytree(_template, state)
    database_url, directory, name = "", "", ""
    if engine == "postgresql":
        directory = request.getfixturevalue("_postgres")
        name = copied(directory, "initialised", "t")
        database_url = postgres_url(directory, name)
    # Only tests about a database that is locked for long are in a hurry, and say so.
    patient = {"lock_seconds": 60, "boot_url": "http://127.0.0.1:8080"}
    opened = open_site(Settings(state_dir=state, database_url=database_url, **patient))
    yield opened
    opened.engine.dispose()
    if name:
        drop(directory, name)


@pytest.fixture
def world(site: Site, tmp_path: Path) -> World:
    """A builder of subnets, distros, machines and builds in ``site``."""
    return World(site, tmp_path)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that was free a moment ago, and that the kernel gives to nobody who asks for any."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(10_000, 32_768)  # Linux gives those above away (ip_local_port_range)
        with socket.socket(socket.AF_INET, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def wait_for(condition: Callable[[], Any], seconds: float = 120.0, what: str = "condition") -> Any:
    """The first true value of the condition; fails the test after ``seconds``, which are many: hosts are busy."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s")


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    text: str
    headers: dict[str, str]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


@dataclass
class Served:
    """A running ``provisioner serve`` and the ways to talk to it."""

    environment: dict[str, str]
    state: Path
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(default=Path("/dev/null"))
    reach: tuple[str, ...] = ()
    """What must stand before curl to ask from somewhere else; see tests/handoff/rootdir.py."""

    @property
    def boot(self) -> str:
        """The boot plane's URL."""
        return self.environment["PROVISIONER_BOOT_URL"]

    @property
    def media(self) -> str:
        """The media URL."""
        return self.environment["PROVISIONER_MEDIA_URL"]

    @property
    def admin(self) -> str:
        """The admin plane's URL."""
        return f"http://{self.environment['PROVISIONER_HTTP_BIND']}"

    @property
    def tftp(self) -> tuple[str, int]:
        """TFTP's address."""
        host, _, port = self.environment["PROVISIONER_TFTP_BIND"].rpartition(":")
        return host, int(port)

    @property
    def site(self) -> Site:
        """The same installation, for looking inside; the caller disposes its engine."""
        return open_site(load(environ=self.environment))

    def cli(self, *arguments: str, stdin: str = "", code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command; the exit code must be ``code`` unless that is None."""
        done = zygote.run(arguments, os.environ | self.environment, stdin)
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def cli_json(self, *arguments: str) -> Any:
        """A command's answer as JSON."""
        return json.loads(self.cli(*arguments, "--output", "json").stdout)

    def http(
        self,
        path: str,
        *,
        source: str = "127.0.0.1",
        method: str = "GET",
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Ask the boot plane (or a whole URL) from the given local address, by the real curl."""
        url = path if "://" in path else self.boot + path
        command = [*self.reach, "curl", "-sS", "-i", "--path-as-is", "--max-time", "60", "--interface", source, url]
        command += ["-I"] if method == "HEAD" else ["-X", method] if method not in {"GET", "POST"} else []
        for name, value in (headers or {}).items():
            command += ["-H", f"{name}: {value}"]
        for name, value in (form or {}).items():
            command += ["--data-urlencode", f"{name}={value}"]
        command += ["-d", ""] if method == "POST" and not form else []
        done = subprocess.run(command, capture_output=True, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ")[::2] for line in lines)
        return Reply(int(first.split()[1]), body.decode(errors="replace"), {key.lower(): value for key, value in pairs})

    def start(self, *arguments: str) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "provisioner", "serve", *arguments],
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._up, 240, f"readiness; see {self.log.read_text()[-2000:]}")

    def _up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            for url in (self.boot, self.media, self.admin):
                with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                    pass
        except (urllib.error.URLError, OSError):
            return False
        return tftp_answers(self.tftp)

    def stop(self) -> None:
        """Stop it as an administrator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)
        self.process = None


def tftp_answers(address: tuple[str, int]) -> bool:
    """Whether TFTP is there: the first datagrams to a server that is starting are lost."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        client.sendto(b"\0\1no-such-file\0octet\0", address)
        with contextlib.suppress(TimeoutError, OSError):
            return client.recv(600)[:2] == b"\0\5"
    return False


def served_environment(state: Path) -> dict[str, str]:
    """Settings for a service of its own on loopback."""
    boot, media, admin, tftp = free_port(), free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    return {
        "PROVISIONER_STATE_DIR": str(state),
        "PROVISIONER_BOOT_BIND": f"0.0.0.0:{boot}",
        "PROVISIONER_BOOT_URL": f"http://127.0.0.1:{boot}",
        "PROVISIONER_MEDIA_BIND": f"0.0.0.0:{media}",
        "PROVISIONER_MEDIA_URL": f"http://127.0.0.1:{media}",
        "PROVISIONER_HTTP_BIND": f"127.0.0.1:{admin}",
        "PROVISIONER_TFTP_BIND": f"127.0.0.1:{tftp}",
        "PROVISIONER_TLS": "off",
    }


@pytest.fixture(scope="module")
def served(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real ``provisioner serve`` for the tests of one module, with the subnet `lab` and the distro `rocky-9.6`."""
    yield from _serving(_template, tmp_path_factory.mktemp("served"), {})


@pytest.fixture(scope="module")
def served_by_postgres(_template: Path, _postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same, with a PostgreSQL database of its own."""
    name = copied(_postgres, "initialised", "s")
    database = {"PROVISIONER_DATABASE_URL": postgres_url(_postgres, name)}
    yield from _serving(_template, tmp_path_factory.mktemp("served"), database)


def _serving(template: Path, base: Path, more: dict[str, str]) -> Iterator[Served]:
    shutil.copytree(template, base / "state")
    running_service = Served(served_environment(base / "state") | more, base / "state", log=base / "serve.log")
    running_service.start()
    opened = running_service.site
    world = World(opened, base)
    world.subnet()
    world.distro()
    opened.engine.dispose()
    yield running_service
    running_service.stop()
