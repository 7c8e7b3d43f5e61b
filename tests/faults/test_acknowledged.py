"""R20: what was acknowledged is there, however many reported at the moment when the power went."""

import contextlib
import http.client
import os
import shutil
import signal
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from played import Played, processes
from world import World

from provisioner.services import builds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MACHINES = 12
KILLS = 3
BETWEEN = 120
"""Acknowledged reports between two kills."""


@pytest.fixture
def machines(_template: Path, tmp_path: Path) -> Iterator[list[Played]]:
    """Machines that install, of a service of the test's own."""
    shutil.copytree(_template, tmp_path / "state")
    served = Served(served_environment(tmp_path / "state"), tmp_path / "state", log=tmp_path / "log")
    site = served.site
    world = World(site, tmp_path)
    world.subnet()
    world.distro()
    found = []
    for number in range(1, MACHINES + 1):
        name, mac, ip = f"ack{number:02}", f"52:54:00:ac:00:{number:02}", f"127.0.2.{number}"
        world.machine(name, mac, ip)
        found.append(Played(served, site, name, mac, ip).arm())
    served.start()
    yield found
    served.stop()
    for pid in processes(served.state):
        os.kill(pid, signal.SIGKILL)
    site.engine.dispose()


class Reporter(threading.Thread):
    """One machine's installer: reports again and again over one connection, and keeps what was acknowledged."""

    def __init__(self, machine: Played, token: str, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._machine, self._token, self._over = machine, token, over
        self.acknowledged: list[str] = []

    def run(self) -> None:
        """Until it is over."""
        number = 0
        while not self._over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(
                    urllib.parse.urlsplit(self._machine.served.boot).netloc,
                    source_address=(self._machine.ip, 0),
                    timeout=30,
                )
                with contextlib.closing(connection):
                    while not self._over.is_set():
                        number += 1
                        self._report(connection, f"report {number}")
            self._over.wait(0.05)

    def _report(self, connection: http.client.HTTPConnection, message: str) -> None:
        body = urllib.parse.urlencode({"step": "packages", "message": message})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"/build/{self._token}/event", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            self.acknowledged.append(message)


def test_r20_of_reports_that_came_at_once_none_that_was_acknowledged_is_lost(machines: list[Played]) -> None:
    served, over = machines[0].served, threading.Event()
    reporters = [Reporter(machine, machine.tokens()["event"], over) for machine in machines]
    for reporter in reporters:
        reporter.start()
    try:
        for kill in range(1, KILLS + 1):
            told = sum(len(each.acknowledged) for each in reporters)
            wait_for(
                lambda told=told: sum(len(each.acknowledged) for each in reporters) > told + BETWEEN,  # type: ignore[misc]
                120,
                f"reports before kill {kill}",
            )
            for pid in processes(served.state):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            served.process.wait(120)
            served.start()
    finally:
        over.set()
        for reporter in reporters:
            reporter.join(60)
    for machine, reporter in zip(machines, reporters, strict=True):
        kept = [each["message"] for each in builds.log(machine.site, machine.name) if each["kind"] == "packages"]
        assert set(reporter.acknowledged) <= set(kept), machine.name
        assert len(kept) == len(set(kept)), "and none is there twice"
        assert kept == sorted(kept, key=lambda message: int(message.split()[1])), "in their order"
