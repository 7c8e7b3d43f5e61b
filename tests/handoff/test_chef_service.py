"""Chef through the running service, with stand-ins for server and client: the key of an earlier build is refused."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for

from provisioner.handoff.chef import SECRET
from tests.handoff.canary import Canaries
from tests.handoff.chef_client import add_client, runs
from tests.handoff.chef_server import ChefServer, chef_server
from tests.handoff.hostday import HostDay, at_debug
from tests.handoff.setup_steps import steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def talkative(served: Served) -> Served:
    return at_debug(served)


@pytest.fixture
def server(talkative: Served, tmp_path: Path) -> Iterator[ChefServer]:
    with chef_server(tmp_path) as running:
        running.add_user("provisioner", tmp_path / "chef-admin.pem")
        command = next(line for line in steps("chef: its key").splitlines() if line.startswith("install "))
        owned = command.replace("-o provisioner -g provisioner ", "").replace(
            "/var/lib/provisioner", str(talkative.state)
        )
        subprocess.run(["sh", "-euc", owned], cwd=tmp_path, check=True)
        running.policy_groups["production"] = {"web": {"revision_id": "1"}}
        yield running


def settings_for(server: ChefServer, **more: Any) -> dict[str, Any]:
    policy = {"policy_name": "web", "policy_group": "production"}
    return {"tool": "chef", "server": server.url, "ca_certificate": server.ca, **policy, **more}


def chef_day(served: Served, tmp_path: Path, server: ChefServer, number: int, **more: Any) -> HostDay:
    """A machine that will have a Chef client."""
    day = HostDay(served, tmp_path, number, settings_for(server, **more))
    add_client(day.machine)
    return day


def configured(day: HostDay) -> dict[str, str]:
    """Build it and boot it; its secrets."""
    secrets = day.install()
    day.until("handoff-enrol")
    code, said = day.boot()
    assert code == 0, said + day.machine.log()
    assert day.state() == "configured"
    return secrets


def test_a_rebuild_has_a_key_of_its_own_and_the_earlier_key_is_refused(
    talkative: Served, tmp_path: Path, server: ChefServer
) -> None:
    canaries = Canaries({"the administrator's key": (talkative.state / "credentials/chef-admin.pem").read_text()})
    with canaries.in_processes():
        day = chef_day(talkative, tmp_path, server, 40)
        first = configured(day)
        assert [*server.clients] == [*server.nodes]
        (node,) = server.clients
        assert server.owners == {node: node}
        assert [run["status"] for run in runs(day.machine)] == [200]
        earlier = tmp_path / "earlier"
        (day.machine.root / "etc/chef").rename(earlier)
        second = configured(day)
    assert set(first) == set(second) == {SECRET} and first != second
    with_old = (earlier / "client.rb").read_text().replace(str(day.machine.root / "etc/chef"), str(earlier))
    (earlier / "client.rb").write_text(with_old)
    client = [
        str(day.machine.bin / "chef-client"),
        "-c",
        str(earlier / "client.rb"),
        "-j",
        str(earlier / "first-boot.json"),
    ]
    done = subprocess.run(client, env={"PATH": str(day.machine.bin)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "401" in done.stdout
    assert [run["status"] for run in runs(day.machine)] == [200, 200, 401]
    for number, secrets in enumerate((first, second), 1):
        canaries.add(f"the key of build {number}", secrets[SECRET])
    left = [path for path in day.machine.left() if path.name != "client.pem"]
    assert len(left) > 4
    canaries.assert_nowhere(talkative, day.name, left=left)


def test_a_machine_that_is_removed_loses_its_client_and_its_node(
    talkative: Served, tmp_path: Path, server: ChefServer
) -> None:
    day = chef_day(talkative, tmp_path, server, 41)
    configured(day)
    assert server.clients
    talkative.cli("machine", "remove", day.name, "--yes")
    wait_for(lambda: not server.clients and not server.nodes, what="the revocation")


def test_a_server_that_is_down_is_asked_again(talkative: Served, tmp_path: Path, server: ChefServer) -> None:
    server.broken = 1
    day = chef_day(talkative, tmp_path, server, 42)
    configured(day)
    assert "handoff-waits" in day.kinds()
    assert "503" in talkative.cli("build", "log", day.name).stdout


def test_a_first_run_that_fails_is_tried_again_with_another_key(
    talkative: Served, tmp_path: Path, server: ChefServer
) -> None:
    day = chef_day(talkative, tmp_path, server, 43)
    (day.machine.root / "chef.exits").write_text("1")
    day.install()
    day.until("handoff-enrol")
    assert day.boot()[0] == 3
    assert day.state() == "failed"
    assert "exit status 1" in day.build()["outcome"]
    assert "Chef Infra Client ends with 1" in talkative.cli("build", "log", day.name).stdout
    first = next(iter(server.clients.values())).public_numbers()
    talkative.cli("build", "retry-handoff", day.name)
    wait_for(
        lambda: [each.public_numbers() for each in server.clients.values()] not in ([], [first]), what="another key"
    )
    day.until("handoff-revoke")
    code, said = day.boot()
    assert code == 0, said + day.machine.log()
    assert day.state() == "configured"
    assert [run["status"] for run in runs(day.machine)] == [200, 200]


def test_a_machine_whose_identity_was_never_issued_is_not_believed(
    talkative: Served, tmp_path: Path, server: ChefServer
) -> None:
    """Its report of a good run is not enough: the server never made a client for it."""
    user = server.users.pop("provisioner")
    day = HostDay(talkative, tmp_path, 44, settings_for(server))
    day.machine.program("chef-client", "#!/bin/sh\necho all is well\n")
    day.install()
    day.until("handoff-waits")
    day.boot()
    assert day.state() == "failed"
    assert "was never issued for this build" in day.build()["outcome"]
    server.users["provisioner"] = user


def test_check_says_what_is_wrong_with_the_handoff_and_what_to_do(
    talkative: Served, tmp_path: Path, server: ChefServer
) -> None:
    day = chef_day(talkative, tmp_path, server, 45, policy_group="nowhere")
    told = talkative.cli("check", "--output", "json", code=None).stdout
    (finding,) = [each for each in findings(told) if "nowhere" in json.dumps(each)]
    assert "has no policy group nowhere" in json.dumps(finding)
    assert "chef push nowhere web.rb" in json.dumps(finding)
    day.change(settings_for(server))
    told = talkative.cli("check", "--output", "json", code=None).stdout
    assert not [each for each in findings(told) if server.url in json.dumps(each)]


def findings(told: str) -> list[Any]:
    """What `check` found."""
    found = json.loads(told)
    return list(found["findings"] if isinstance(found, dict) else found)
