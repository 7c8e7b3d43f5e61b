"""`provisioner inventory`: what the real Ansible makes of it, and a sync from NetBox."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import inside
from conftest import Served
from netbox_server import TOKEN, NetBoxServer, netbox_server
from world import World

from provisioner.services import machines
from provisioner.services.machines import InterfaceInput

ANSIBLE = Path(sys.executable).parent
ODD = {
    "motd": "{{ lookup('pipe', 'touch /tmp/evaluated') }}",
    "header": "#jinja2:variable_start_string:'[['\n[[ 1 + 1 ]]",
    "nested": {"list": ["{% raw %}", "plain"], "__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n00"},
    "ansible_connection": "local",
    "name": "somebody",
    "zeit": "Grüße\u2028\n'\"\\",
    "count": 3,
    "nothing": "",
}


def scene(world: World) -> None:
    """Two machines with odd values."""
    world.ready(parameters=ODD)
    nics = [InterfaceInput("52:54:00:12:34:57", "127.0.2.12"), InterfaceInput("52:54:00:12:34:58")]
    machines.add(world.site, world.actor, "db01.example.com", nics, {})


@pytest.fixture
def script(empty: Served, tmp_path: Path) -> Path:
    """The two lines that make a dynamic inventory of the program."""
    path = tmp_path / "provisioner.sh"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m provisioner inventory "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(served: Served, script: Path, program: str, *arguments: str) -> str:
    """A program of ansible-core, with the script as its inventory; its warnings are failures here."""
    home = script.parent / "home"
    environment = os.environ | served.environment | {"HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home / "tmp")}
    command = [sys.executable, ANSIBLE / program, "-i", script, *arguments]
    done = subprocess.run(
        command, env=environment, cwd=script.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_ansible_inventory_lists_groups_and_variables(empty: Served, tmp_path: Path, script: Path) -> None:
    inside(empty, tmp_path, scene)
    found = json.loads(run(empty, script, "ansible-inventory", "--list"))
    assert found["profiles"] == {"children": ["profile_rocky9"]}
    assert found["profile_rocky9"]["hosts"] == ["web01"]
    assert sorted(found["state_ready"]["hosts"]) == ["db01.example.com", "web01"]
    assert sorted(found["subnet_lab"]["hosts"]) == ["db01.example.com", "web01"]
    web01 = found["_meta"]["hostvars"]["web01"]
    assert web01["ansible_host"] == "127.0.2.11"
    assert (web01["count"], web01["zeit"], web01["nothing"]) == (3, ODD["zeit"], "")
    assert (web01["param_name"], web01["param_ansible_connection"]) == ("somebody", "local")
    assert found["_meta"]["hostvars"]["db01.example.com"]["provisioner"]["interfaces"][1] == {
        "name": "nic1", "mac": "52:54:00:12:34:58", "ip": None, "subnet": None,
    }  # fmt: skip


@pytest.mark.slow
def test_ansible_inventory_draws_the_graph_and_shows_a_host(empty: Served, tmp_path: Path, script: Path) -> None:
    inside(empty, tmp_path, scene)
    graph = run(empty, script, "ansible-inventory", "--graph")
    assert "  |--@profiles:\n  |  |--@profile_rocky9:\n  |  |  |--web01\n" in graph
    shown = json.loads(run(empty, script, "ansible-inventory", "--host", "web01"))
    assert shown["provisioner"]["profile"] == "rocky9"


@pytest.mark.slow
def test_s34_ansible_evaluates_no_value_of_a_machine(empty: Served, tmp_path: Path, script: Path) -> None:
    """A task that prints every variable: what looks like a template comes out as it went in."""
    canary = tmp_path / "evaluated"
    odd = ODD | {"motd": f"{{{{ lookup('pipe', 'touch {canary}') }}}}"}
    inside(empty, tmp_path, lambda world: world.ready(parameters=odd))
    book = tmp_path / "book.yaml"
    task = {"ansible.builtin.copy": {"content": "{{ [motd, header, nested] | to_json }}", "dest": f"{tmp_path}/seen"}}
    play = {"hosts": "profile_rocky9", "gather_facts": False, "connection": "local", "tasks": [task]}
    book.write_text(json.dumps([play]))
    run(empty, script, "ansible-playbook", str(book), "-e", f"ansible_python_interpreter={sys.executable}")
    motd, header, nested = json.loads((tmp_path / "seen").read_text())
    assert (motd, header) == (odd["motd"], odd["header"])
    assert nested == {"list": ["{% raw %}", "plain"], "param___ansible_vault": ODD["nested"]["__ansible_vault"]}
    assert not canary.exists()


@pytest.mark.slow
def test_a_thousand_machines(empty: Served, tmp_path: Path, script: Path) -> None:
    def crowd(world: World) -> None:
        world.subnet(cidr="127.0.0.0/16")
        world.distro()
        with_own = [(f"n{number:04}", f"52:54:00:01:{number // 256:02x}:{number % 256:02x}") for number in range(1000)]
        for number, (name, mac) in enumerate(with_own):
            nics = [InterfaceInput(mac, f"127.0.{8 + number // 250}.{1 + number % 250}")]
            machines.add(world.site, world.actor, name, nics, {"profile": "rocky9", "parameters": {"number": number}})

    inside(empty, tmp_path, crowd)
    found = json.loads(run(empty, script, "ansible-inventory", "--list"))
    assert len(found["profile_rocky9"]["hosts"]) == 1000
    assert found["_meta"]["hostvars"]["n0999"]["number"] == 999


def test_without_machines_the_answer_is_an_empty_inventory(empty: Served) -> None:
    found = json.loads(empty.cli("inventory", "--list").stdout)
    assert found["_meta"] == {"hostvars": {}}
    assert found["all"]["hosts"] == []


def test_list_and_host_and_their_errors(ready: Served) -> None:
    everyone = json.loads(ready.cli("inventory", "--list").stdout)
    assert json.loads(ready.cli("inventory", "--host", "web01").stdout) == everyone["_meta"]["hostvars"]["web01"]
    assert "not-found" in ready.cli("inventory", "--host", "nobody", code=3).stderr
    assert "not both" in ready.cli("inventory", "--list", "--host", "web01", code=1).stderr
    assert "stand alone" in ready.cli("inventory", "--list", "sync", "netbox", code=1).stderr
    assert "Examples:" in ready.cli("inventory").stdout


# NetBox in ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def netbox(empty: Served, tmp_path: Path) -> Iterator[NetBoxServer]:
    """A NetBox that the installation's settings name, and the networks of its devices."""
    inside(empty, tmp_path, lambda world: (world.subnet("lab", "10.0.2.0/24"), world.subnet("lab6", "fd00:2::/64")))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with netbox_server() as server:
        profiles = [{"tag": "db", "profile": "rocky9"}]
        settings = {"url": server.url, "token_file": str(token), "profiles": profiles}
        empty.environment["PROVISIONER_NETBOX"] = json.dumps(settings)
        yield server


def test_sync_shows_the_plan_and_asks(empty: Served, netbox: NetBoxServer) -> None:
    asked = empty.cli("inventory", "sync", "netbox", stdin="n\n", code=1)
    assert "+ db01  52:54:00:aa:00:04 10.0.2.22, 52:54:00:aa:00:05; profile rocky9" in asked.stdout
    assert "left out: netbox/8 nomac: none of its interfaces" in asked.stdout
    assert "9 to create, 0 to change, 0 as they are, 0 missing, 0 refused, 6 left out" in asked.stdout
    assert empty.cli_json("machine", "list") == []
    done = empty.cli("inventory", "sync", "netbox", stdin="y\n")
    assert "9 created, 0 changed" in done.stdout
    assert len(empty.cli_json("machine", "list")) == 9
    assert "nothing to change" in empty.cli("inventory", "sync", "netbox").stdout


def test_sync_by_cron(empty: Served, netbox: NetBoxServer) -> None:
    empty.cli("inventory", "sync", "netbox", "--yes")
    netbox.device(2)["tags"] = []
    netbox.remove_device(1)
    rehearsed = empty.cli("inventory", "sync", "netbox", "--dry-run").stdout
    assert '~ db01  /tags: ["db", "pxe"] -> []' in rehearsed
    assert "? web01  is not in NetBox any more" in rehearsed
    assert "nothing was changed" in rehearsed
    assert empty.cli_json("machine", "show", "db01")["tags"] == ["db", "pxe"]
    done = json.loads(empty.cli("inventory", "sync", "netbox", "--yes", "--output", "json").stdout)
    assert (done["changed"], done["flagged"]) == (["db01"], ["web01"])
    assert empty.cli_json("machine", "show", "web01")["flag"].startswith("NetBox no longer has netbox/1")


def test_r14_sync_says_what_is_refused_and_applies_the_rest(empty: Served, netbox: NetBoxServer) -> None:
    empty.cli("machine", "add", "other", "--mac", "52:54:00:00:00:99", "--serial", "SN0002")
    done = empty.cli("inventory", "sync", "netbox", "--yes", code=4)
    assert "! db01 (netbox/2) refused:" in done.stdout
    assert "8 created" in done.stdout
    assert "1 of NetBox's devices are refused" in done.stderr


def test_s61_a_name_does_not_move_the_cursor(empty: Served, netbox: NetBoxServer) -> None:
    netbox.device(8)["name"] = "\x1b[2J\nfake"
    shown = empty.cli("inventory", "sync", "netbox", "--dry-run").stdout
    assert "\x1b" not in shown
    assert "\nfake" not in shown


def test_errors_say_what_to_do(empty: Served, netbox: NetBoxServer) -> None:
    netbox.version = "3.7"
    failed = empty.cli("inventory", "sync", "netbox", "--yes", code=1).stderr
    assert "inventory-failed" in failed
    assert "upgrade NetBox" in failed
    assert "NetBox 3.7" in empty.cli("check", code=None).stdout
    empty.environment["PROVISIONER_NETBOX"] = "{}"
    assert "netbox.url" in empty.cli("inventory", "sync", "netbox", code=2).stderr
    empty.environment["PROVISIONER_NETBOX"] = "{x"
    assert "PROVISIONER_NETBOX is not JSON" in empty.cli("inventory", "sync", "netbox", code=2).stderr
    del empty.environment["PROVISIONER_NETBOX"]
    assert "no NetBox is configured" in empty.cli("inventory", "sync", "netbox", code=2).stderr
