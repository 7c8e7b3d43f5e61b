"""AWX as its published API describes it: a stand-in, since there is no AWX to be had here."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for
from handoff.ansiblelab import MARKS, finished
from handoff.awx_server import StandIn, awx
from handoff.canary import Canaries
from handoff.firstday import FirstDay
from handoff.rootdir import Root, Wire
from handoff.setup_steps import steps

pytestmark = MARKS


@pytest.fixture
def machine(lan: Wire) -> Iterator[Root]:
    with finished(lan) as root:
        yield root


@pytest.fixture(scope="module")
def controller(lan: Wire, credentials: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with awx(tmp_path_factory.mktemp("awx"), lan.host) as state:
        text = steps("Credentials for AWX").replace("/var/lib/provisioner/credentials", str(credentials))
        subprocess.run(
            ["sh", "-euc", text.replace("/etc/ssl/certs/awx-ca.pem", str(state.ca))],
            env={"PATH": "/usr/bin:/bin", "HOST_CONFIG_KEY": state.key, "AWX_TOKEN": state.token},
            check=True,
        )
        yield state


def callback(controller: StandIn, **more: Any) -> dict[str, Any]:
    """The handoff's settings."""
    files = {"host_config_key": "awx-site-key", "token": "awx-token", "ca": "awx-ca.pem"}
    return {"tool": "awx", "server": controller.url, "template": 7, "timeout": 600} | files | more


@pytest.mark.parametrize(("outcome", "state", "code"), [("successful", "configured", 0), ("failed", "failed", 3)])
def test_awx_s_job_decides(
    served: Served, lan: Wire, machine: Root, controller: StandIn, outcome: str, state: str, code: int
) -> None:
    """A stand-in for AWX: it was never tried with a real one."""
    controller.outcome, controller.away = outcome, 1
    controller.hosts[machine.address] = machine.name
    day = FirstDay(served, lan, machine)
    day.register(callback(controller))
    day.install()
    assert day.boot().returncode == code, day.log() + day.build_log()
    assert day.state() == state
    assert "503" in day.log() and "PLAY RECAP" in day.build_log()
    variables = json.loads(controller.jobs[-1]["extra_vars"])
    assert variables["provisioner"]["name"] == machine.name


def test_s80_s81_neither_the_key_nor_the_token_is_told_to_anybody(
    served: Served, lan: Wire, machine: Root, controller: StandIn
) -> None:
    controller.outcome = "successful"
    controller.hosts[machine.address] = machine.name
    day = FirstDay(served, lan, machine)
    day.register(callback(controller))
    canaries = Canaries({"host config key": controller.key, "token": controller.token})
    with canaries.in_processes():
        day.install()
        assert day.boot().returncode == 0, day.log() + day.build_log()
    canaries.assert_nowhere(served, machine.name, left=[machine.path / "var/log"])


def test_awx_with_another_certificate_hears_nothing(
    served: Served, lan: Wire, machine: Root, controller: StandIn, credentials: Path
) -> None:
    before = len(controller.asked)
    day = FirstDay(served, lan, machine)
    day.register(callback(controller, ca=""))
    day.install()
    assert day.boot().returncode == 3
    assert "is not trusted; nothing was sent" in day.build_log()
    assert controller.asked[before:] == []


def test_awx_without_a_token_reports_through_the_api(
    served: Served, lan: Wire, machine: Root, controller: StandIn, tmp_path: Path
) -> None:
    controller.hosts[machine.address] = machine.name
    day = FirstDay(served, lan, machine)
    day.register(callback(controller, token=""))
    day.install()
    process = day.begin(tmp_path / "log")
    wait_for(lambda: controller.jobs and controller.jobs[-1]["limit"] == machine.name, what="the callback")
    assert day.state() == "built"
    bearer = served.cli_json("token", "add", "awx", "--user", "admin", "--role", "operator", "--scope", "handoffs")
    headers = ["-H", f"Authorization: Bearer {bearer['token']}", "-H", "Content-Type: application/json"]
    url = f"{served.admin}/api/v1/builds/{day.build()['id']}:configured"
    command = ["curl", "-sS", "-w", "%{http_code}", *headers, "-d", '{"ok": true, "message": "job 7"}', url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("200"), done.stdout
    assert process.wait(120) == 0
    assert day.state() == "configured"
