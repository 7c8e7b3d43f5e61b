"""Chef and Cinc: settings, the server's API (a stand-in verifies the signatures), and the script with real shells."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for

from provisioner.errors import CredentialMissing, HandoffRefused, HandoffUnreachable, InvalidInput
from provisioner.handoff.chef import SECRET, Chef
from provisioner.handoff.chef_signing import requester
from provisioner.handoff.protocol import Credentials, Host, Identity, Prepared, Subject
from tests.handoff.chef_client import add_client, runs
from tests.handoff.chef_server import Asked, ChefServer, chef_server
from tests.handoff.onhost import SHELLS, OnHost, members, signal_group

pytestmark = pytest.mark.slow

SUBJECT = Subject("web01", "Web01.example.com", "web", 7)
SERVER = "https://chef.example.com/organizations/acme"
POLICY = {"server": SERVER, "policy_name": "web", "policy_group": "production"}
CHEF = Chef()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ChefServer]:
    with chef_server(tmp_path) as running:
        running.add_user("provisioner", tmp_path / "credentials/chef-admin.pem")
        running.policy_groups["production"] = {"web": {"revision_id": "1"}}
        yield running


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "credentials", tmp_path / "playbooks")


def settings_for(server: ChefServer, **more: Any) -> dict[str, Any]:
    return {**POLICY, "server": server.url, "ca_certificate": server.ca, **more}


def made(settings: dict[str, Any]) -> tuple[Prepared, Credentials, Identity]:
    """What arming makes."""
    CHEF.check(settings)
    prepared = CHEF.prepare(settings, SUBJECT)
    credentials = CHEF.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    identity = Identity(
        prepared.identity, SUBJECT.name, SUBJECT.build, prepared.settings, credentials.public, credentials.kept
    )
    return prepared, credentials, identity


@pytest.mark.parametrize(
    "settings",
    [
        {**POLICY},
        {**POLICY, "server": f"{SERVER}/"},
        {**POLICY, "server": "https://[2001:db8::1]:8443/organizations/acme"},
        {
            **POLICY,
            "program": "cinc-client",
            "license": "accept",
            "node_name": "name",
            "user": "jane",
            "key": "jane.pem",
        },
        {"server": SERVER, "run_list": ["role[web]", "recipe[ntp::default]", "recipe[a@1.2.3]", "ntp"]},
        {"server": SERVER, "run_list": [], "environment": "staging", "timeout": 600},
    ],
)
def test_good_settings_pass(settings: dict[str, Any]) -> None:
    CHEF.check(settings)
    assert CHEF.prepare(settings, SUBJECT) == CHEF.prepare(settings, SUBJECT)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "server"),
        ({**POLICY, "server": "http://chef.example.com/organizations/acme"}, "server"),
        ({**POLICY, "server": "https://chef.example.com"}, "server"),
        ({**POLICY, "server": f"{SERVER}'; system('id'); '"}, "server"),
        ({**POLICY, "server": f"{SERVER}\n"}, "server"),
        ({"server": SERVER}, "policy_name"),
        ({"server": SERVER, "policy_name": "web"}, "policy_group"),
        ({**POLICY, "policy_name": "a'b"}, "policy_name"),
        ({**POLICY, "run_list": []}, "run_list"),
        ({**POLICY, "environment": "x"}, "policy_name"),
        ({"server": SERVER, "run_list": "role[web]"}, "run_list"),
        ({"server": SERVER, "run_list": ["role[web]'"]}, "run_list"),
        ({"server": SERVER, "run_list": [5]}, "run_list"),
        ({**POLICY, "node_name": "web01"}, "node_name"),
        ({**POLICY, "program": "/bin/sh"}, "program"),
        ({**POLICY, "license": "yes"}, "license"),
        ({**POLICY, "user": "a b"}, "user"),
        ({**POLICY, "key": "../../etc/shadow"}, "key"),
        ({**POLICY, "ca_certificate": "nonsense"}, "ca_certificate"),
        ({**POLICY, "ca_certificate": 5}, "ca_certificate"),
        ({**POLICY, "validation_key": "x"}, "validation_key"),
        ({**POLICY, "timeout": 0}, "timeout"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        CHEF.check(settings)
    assert caught.value.where == f"handoff.{where}"
    assert caught.value.hint


def test_s80_a_private_key_in_the_place_of_the_certificate_is_refused(server: ChefServer, host: Host) -> None:
    """A profile is readable: nobody may put a key into one by mistake."""
    both = server.ca + host.text("chef-admin.pem")
    with pytest.raises(InvalidInput) as caught:
        CHEF.check({**POLICY, "ca_certificate": both})
    assert "PRIVATE KEY" not in str(caught.value)


def test_the_node_is_named_like_the_fqdn_or_the_machine_and_each_round_has_a_key_of_its_own() -> None:
    prepared, first, _ = made({**POLICY})
    assert (prepared.identity, prepared.secrets) == ("web01.example.com", (SECRET,))
    assert CHEF.prepare({**POLICY, "node_name": "name"}, SUBJECT).identity == "web01"
    second = CHEF.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    assert set(first.secrets) == set(prepared.secrets)
    assert first.secrets != second.secrets and first.public != second.public
    assert requester("x", first.secrets[SECRET], "").key.key_size == 2048
    assert "PRIVATE" not in json.dumps([dict(prepared.settings), dict(first.public)])
    assert "PRIVATE" not in CHEF.body(prepared)


def test_enrolling_makes_the_client_as_the_user_and_the_node_as_that_client(server: ChefServer, host: Host) -> None:
    """As `knife bootstrap` does: so the client may write its node, and nothing else."""
    _, _, identity = made(settings_for(server))
    CHEF.revoke(identity, host)
    assert CHEF.enrol(identity, host) is True
    assert server.asked == [
        Asked("provisioner", "DELETE", "/clients/web01.example.com", 404),
        Asked("provisioner", "DELETE", "/nodes/web01.example.com", 404),
        Asked("provisioner", "POST", "/clients", 201),
        Asked("web01.example.com", "POST", "/nodes", 201),
    ]
    node = server.nodes["web01.example.com"]
    assert (node["policy_name"], node["policy_group"], node["run_list"]) == ("web", "production", [])
    assert server.owners == {"web01.example.com": "web01.example.com"}
    CHEF.revoke(identity, host)
    assert (server.clients, server.nodes) == ({}, {})


def test_a_run_list_goes_into_the_node_with_its_environment(server: ChefServer, host: Host) -> None:
    settings = {"server": server.url, "ca_certificate": server.ca, "run_list": ["role[web]"], "environment": "staging"}
    _, _, identity = made(settings)
    CHEF.enrol(identity, host)
    node = server.nodes[identity.name]
    assert (node["run_list"], node["chef_environment"]) == (["role[web]"], "staging")
    assert not {"policy_name", "policy_group"} & set(node)


@pytest.mark.parametrize("case", ["key", "rights", "organization", "taken", "broken", "ca", "gone", "missing"])
def test_what_the_server_refuses_comes_with_its_reason_and_the_next_step(
    server: ChefServer, host: Host, case: str, tmp_path: Path
) -> None:
    settings = settings_for(server)
    expected: tuple[type[Exception], str, str] = (HandoffRefused, "", "")
    match case:
        case "key":
            server.users["provisioner"] = requester("x", made(settings)[1].secrets[SECRET], "").key.public_key()
            expected = (HandoffRefused, "Failed to authenticate", "15 minutes")
        case "rights":
            server.clients["provisioner"] = server.users.pop("provisioner")
            expected = (HandoffRefused, "missing post permission", "--admin")
        case "organization":
            settings["server"] = settings["server"].replace("acme", "other")
            expected = (HandoffRefused, "organization not found", "org-list")
        case "taken":
            CHEF.enrol(made(settings)[2], host)
            expected = (HandoffRefused, "already exists", "retry-handoff")
        case "broken":
            server.broken = 1
            expected = (HandoffUnreachable, "503", "")
        case "ca":
            del settings["ca_certificate"]
            expected = (HandoffUnreachable, "not trusted", "nothing was sent")
        case "gone":
            with socket.create_server(("127.0.0.1", 0)) as unused:
                settings["server"] = f"https://127.0.0.1:{unused.getsockname()[1]}/organizations/acme"
            expected = (HandoffUnreachable, "gives no answer", "")
        case "missing":
            (tmp_path / "credentials/chef-admin.pem").unlink()
            expected = (CredentialMissing, "chef-admin.pem", "0600")
    with pytest.raises(expected[0]) as caught:
        CHEF.enrol(made(settings)[2], host)
    assert expected[1] in str(caught.value)
    assert expected[2] in caught.value.hint  # type: ignore[attr-defined]
    findings = list(CHEF.probe(settings, host))
    if case in {"key", "organization", "ca", "gone", "missing"}:
        assert [each.level for each in findings] == ["error"]
        assert expected[1] in findings[0].why or case == "organization"


def test_an_earlier_key_is_worth_nothing_once_it_is_revoked(server: ChefServer, host: Host) -> None:
    _, first, identity = made(settings_for(server))
    CHEF.enrol(identity, host)
    _, _, second = made(settings_for(server))
    CHEF.revoke(second, host)
    CHEF.enrol(second, host)
    old = Identity(
        identity.name, "web01", 7, {**identity.settings, "user": identity.name, "key": "old.pem"}, identity.public
    )
    (host.credentials / "old.pem").write_text(first.secrets[SECRET])
    with pytest.raises(HandoffRefused, match="Failed to authenticate"):
        CHEF.revoke(old, host)


def test_probe_is_silent_when_all_is_well_and_leaves_nothing(server: ChefServer, host: Host) -> None:
    assert list(CHEF.probe(settings_for(server), host)) == []
    assert list(CHEF.probe({"server": server.url, "ca_certificate": server.ca, "run_list": ["ntp"]}, host)) == []
    assert {each.method for each in server.asked} == {"GET"}
    assert (server.clients, server.nodes) == ({}, {})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"policy_group": "nowhere"}, "has no policy group nowhere"),
        ({"policy_name": "db"}, "production has no policy db"),
    ],
)
def test_probe_says_what_is_not_in_place_and_what_to_do(
    server: ChefServer, host: Host, change: dict[str, str], why: str
) -> None:
    (finding,) = CHEF.probe(settings_for(server, **change), host)
    assert finding.level == "error"
    assert why in finding.why
    assert "chef push" in finding.remedy


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_good_shell(shell: str, server: ChefServer) -> None:
    for settings in (
        settings_for(server),
        {**POLICY, "license": "accept"},
        {"server": SERVER, "run_list": ["role[web]"]},
    ):
        body = "handoff() {\n" + CHEF.body(made(settings)[0]) + "}\n"
        subprocess.run([*SHELLS[shell], "-n"], input=body, text=True, check=True)


def finished(tmp_path: Path, server: ChefServer, host: Host, shell: str = "dash", **more: Any) -> OnHost:
    """An installed machine whose node is enrolled."""
    prepared, credentials, identity = made(settings_for(server, **more))
    CHEF.revoke(identity, host)
    CHEF.enrol(identity, host)
    machine = OnHost(tmp_path / "machine", shell=shell)
    machine.install_tool("chef", prepared, dict(credentials.secrets))
    return machine


def body_of(machine: OnHost) -> tuple[int, str]:
    """Run the body alone: the report goes nowhere. Its exit status as the result file has it."""
    script = machine.etc / "handoff.sh"  # a function, since busybox prefers its own sleep to any program
    script.write_text(script.read_text().replace("\n", "\nsleep() { :; }\n", 1))
    machine.boot()
    status, code = (machine.etc / "handoff.result").read_text().split()
    assert (status == "ok") == (code == "0")
    return int(code), machine.log()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_configures_the_client_and_runs_it_once(
    tmp_path: Path, server: ChefServer, host: Host, shell: str
) -> None:
    machine = finished(tmp_path, server, host, shell, license="accept")
    add_client(machine)
    code, log = body_of(machine)
    assert code == 0, log
    (run,) = runs(machine)
    etc = machine.root / "etc/chef"
    options = ["--once", "--no-fork", "--no-color", "-c", str(etc / "client.rb"), "-j", str(etc / "first-boot.json")]
    assert run["arguments"] == options
    assert run["config"] == {
        "chef_server_url": server.url,
        "node_name": "web01.example.com",
        "log_location": "STDOUT",
        "chef_license": "accept",
        "client_key": str(etc / "client.pem"),
        "trusted_certs_dir": str(etc / "trusted_certs"),
    }
    assert run["first_boot"] == {"policy_name": "web", "policy_group": "production"}
    assert (run["key_mode"], run["certificates"], run["status"]) == ("0o600", ["provisioner.pem"], 200)
    assert server.nodes["web01.example.com"]["automatic"] == {"platform": "stand-in"}
    assert not machine.secrets.exists()
    assert "PRIVATE" not in log


@pytest.mark.parametrize(
    ("there", "program", "wanted"),
    [
        (["chef-client"], "", "chef-client"),
        (["cinc-client", "chef-client"], "", "cinc-client"),
        (["cinc-client", "chef-client"], "chef-client", "chef-client"),
        (["cinc-client"], "cinc-client", "cinc-client"),
    ],
)
def test_the_client_that_is_there_is_run_with_its_own_directory(
    tmp_path: Path, server: ChefServer, host: Host, there: list[str], program: str, wanted: str
) -> None:
    """Cinc's packages have a chef-client too, which is no Chef: cinc-client goes first."""
    machine = finished(tmp_path, server, host, **({"program": program} if program else {}))
    for name in there:
        add_client(machine, name)
    assert body_of(machine)[0] == 0
    (run,) = runs(machine)
    assert run["program"] == wanted
    assert run["config"]["client_key"] == str(machine.root / "etc" / wanted.removesuffix("-client") / "client.pem")


def test_without_a_client_and_without_a_package_it_says_so(tmp_path: Path, server: ChefServer, host: Host) -> None:
    machine = finished(tmp_path, server, host)
    code, log = body_of(machine)
    assert code == 127
    assert "there is no cinc-client or chef-client here" in log
    assert not machine.secrets.exists()


def test_a_missing_client_is_installed(tmp_path: Path, server: ChefServer, host: Host) -> None:
    machine = finished(tmp_path, server, host, program="chef-client")
    add_client(machine, "hidden")
    install = f'case $* in *"install chef") cp "{machine.bin}/hidden" "{machine.bin}/chef-client" ;; esac'
    machine.program("apt-get", f"#!/bin/sh\n{install}\n")
    code, log = body_of(machine)
    assert code == 0, log
    assert len(runs(machine)) == 1


@pytest.mark.parametrize(
    ("exits", "code", "times", "said"),
    [
        ("1", 1, 1, "ends with 1"),
        ("213 0", 0, 2, "has replaced itself; running it again"),
        ("213 1", 1, 2, "has replaced itself"),
        ("37", 37, 1, "wants a reboot before it can go on"),
        ("41", 41, 1, "ends with 41"),
        ("172", 172, 1, "set license: accept"),
    ],
)
def test_rfc_62_exit_codes(
    tmp_path: Path, server: ChefServer, host: Host, exits: str, code: int, times: int, said: str
) -> None:
    machine = finished(tmp_path, server, host)
    add_client(machine, exits=exits)
    found, log = body_of(machine)
    assert (found, len(runs(machine))) == (code, times)
    assert said in log


def test_after_a_reboot_that_a_recipe_asked_for_the_run_goes_on(tmp_path: Path, server: ChefServer, host: Host) -> None:
    """Exit code 35: systemd ends the unit at the shutdown; no result is written then, and the key is still there."""
    machine = finished(tmp_path, server, host)
    add_client(machine, exits="35")
    process = machine.start()
    wait_for(lambda: "it runs again after that" in machine.log(), what="the wait for the reboot")
    wait_for(lambda: "sleep 3600" in members(process).values(), what="the pause")
    for each in members(process):  # systemd's signals come one after the other: the shell that writes results last
        os.kill(each, signal.SIGTERM)
    wait_for(lambda: "sleep 3" in members(process).values(), what="the time for that shell to end")
    signal_group(process, signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    assert not (machine.etc / "handoff.result").exists()
    assert (machine.secrets / SECRET).exists()
    assert body_of(machine)[0] == 0
    assert [run["status"] for run in runs(machine)] == [200, 200]


def test_it_waits_with_back_off_until_the_server_answers(tmp_path: Path, server: ChefServer, host: Host) -> None:
    machine = finished(tmp_path, server, host)
    add_client(machine)
    curl = machine.bin / "curl"
    curl.rename(machine.bin / "real-curl")
    count = f'echo x >>"{machine.root}/tries"; [ "$(wc -l <"{machine.root}/tries")" -gt 3 ] || exit 7'
    machine.program("curl", f'#!/bin/sh\ncase $* in *_status*) {count} ;; esac\nexec real-curl "$@"\n')
    code, log = body_of(machine)
    assert code == 0
    assert [line for line in log.splitlines() if "trying again" in line] == [
        f"provisioner: trying again in {pause} s" for pause in (5, 10, 20)
    ]
    assert len(runs(machine)) == 1


def test_a_server_with_another_certificate_is_never_told_anything(
    tmp_path: Path, server: ChefServer, host: Host
) -> None:
    machine = finished(tmp_path, server, host, timeout=2)
    add_client(machine)
    (tmp_path / "other").mkdir()
    with chef_server(tmp_path / "other") as other:
        script = machine.etc / "handoff.sh"
        text = script.read_text()
        assert server.ca.strip() in text
        script.write_text(text.replace(server.ca.strip(), other.ca.strip()))
    asked = len(server.asked)
    code, log = body_of(machine)
    assert code == 1
    assert "certificate" in log
    assert len(server.asked) == asked


@pytest.mark.skipif(not shutil.which("systemctl"), reason="no systemctl here")
@pytest.mark.parametrize("unit", ["chef-client.timer", "chef-client.service", ""])
def test_the_timer_of_the_package_is_enabled(tmp_path: Path, server: ChefServer, host: Host, unit: str) -> None:
    """By the real systemctl, on the machine's directory."""
    machine = finished(tmp_path, server, host)
    add_client(machine)
    if unit:
        path = machine.root / "usr/lib/systemd/system" / unit
        path.parent.mkdir(parents=True)
        path.write_text("[Unit]\nDescription=x\n[Install]\nWantedBy=timers.target\n")
        machine.program("systemctl", '#!/bin/sh\nPATH=/usr/bin:/bin exec /usr/bin/systemctl "$@"\n')
    code, log = body_of(machine)
    assert code == 0, log
    enabled = machine.root / "etc/systemd/system/timers.target.wants"
    assert [each.name for each in enabled.glob("*")] == ([unit] if unit else [])
    assert ("no chef-client.timer" in log) == (not unit)


def test_another_round_replaces_the_key_and_nothing_else(tmp_path: Path, server: ChefServer, host: Host) -> None:
    machine = finished(tmp_path, server, host)
    add_client(machine)
    (machine.root / "etc/chef/client.d").mkdir(parents=True)
    (machine.root / "etc/chef/client.d/local.rb").write_text("# mine")
    (machine.root / "etc/chef/client.pem").write_text("old")
    assert body_of(machine)[0] == 0
    first = (machine.root / "etc/chef/client.pem").read_text()
    prepared, credentials, identity = made(settings_for(server))
    CHEF.revoke(identity, host)
    CHEF.enrol(identity, host)
    (machine.etc / "handoff.result").unlink()
    machine.install_tool("chef", prepared, dict(credentials.secrets))
    assert body_of(machine)[0] == 0
    assert (machine.root / "etc/chef/client.pem").read_text() not in ("old", first)
    assert (machine.root / "etc/chef/client.d/local.rb").read_text() == "# mine"
