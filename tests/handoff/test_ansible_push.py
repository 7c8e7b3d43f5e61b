"""ansible-playbook of this host's worker against a real sshd, between real namespaces and the service."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for
from handoff.ansiblelab import MARKS, PLAYBOOK, VAULTED, finished, vaulted
from handoff.canary import Canaries
from handoff.firstday import FirstDay
from handoff.rootdir import Root, Wire
from handoff.setup_steps import steps
from sqlalchemy import select

from provisioner.handoff.ansible_push import AnsiblePush
from provisioner.handoff.protocol import Host
from provisioner.services import identities
from provisioner.store.engine import read
from provisioner.store.handoffs import Handoff
from provisioner.store.models import Build

pytestmark = MARKS


@pytest.fixture
def machine(lan: Wire) -> Iterator[Root]:
    with finished(lan) as root:
        yield root


@pytest.fixture(scope="module")
def playbooks(served: Served) -> Path:
    directory = served.state / "playbooks"
    directory.mkdir(exist_ok=True)
    (directory / "site.yml").write_text(PLAYBOOK)
    return directory


def test_the_playbook_of_the_documentation_is_one(served: Served, tmp_path: Path) -> None:
    """Its steps but for pip: what they leave passes `check`."""
    text = steps("Playbooks for ansible-push").replace("/var/lib/provisioner", str(tmp_path))
    lines = [line for line in text.splitlines() if not line.startswith("pip install ")]
    subprocess.run(["sh", "-euc", "\n".join(lines)], check=True)
    host = Host(tmp_path / "credentials", tmp_path / "playbooks")
    assert list(AnsiblePush().probe({"playbook": "site.yml", "timeout": 60}, host)) == []


def push(**more: Any) -> dict[str, Any]:
    """The handoff's settings."""
    return {"tool": "ansible-push", "playbook": "site.yml", "timeout": 600, "variables": {"colour": "green"}} | more


def test_push_by_the_worker_configures_the_machine_and_the_key_is_gone_afterwards(
    served: Served, lan: Wire, machine: Root, playbooks: Path, credentials: Path, tmp_path: Path
) -> None:
    """Over a real sshd, which checks `from` and the time; the private key is told to nobody (S80, S81)."""
    day = FirstDay(served, lan, machine)
    machine.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA somebody else's", 0o600)
    day.register(push(**vaulted(credentials), **{"from": lan.host}))
    canaries = Canaries({"vault password": (credentials / "vault-password").read_text(), "vaulted variable": VAULTED})
    with canaries.in_processes():
        day.install()
        canaries.add("private key", _private_key(served, machine.name))
        process = day.begin(tmp_path / "log")
        let_in = wait_for(lambda: _line(machine), what="the key on the machine")
        assert process.wait(300) == 0, (tmp_path / "log").read_text() + day.build_log()
    assert re.match(
        rf'restrict,pty,from="{lan.host}",expiry-time="\d{{14}}" ssh-ed25519 \S+ provisioner-handoff$', let_in
    )
    assert day.state() == "configured"
    assert machine.read("/etc/by-ansible").split() == [machine.name, day.profile, "green"]
    assert machine.read("/etc/secret-by-ansible") == f"{VAULTED}\n"
    assert machine.read("/root/.ssh/authorized_keys") == "ssh-ed25519 AAAA somebody else's\n"
    assert "PLAY RECAP" in day.build_log()
    # Another test may have one at this moment.
    wait_for(lambda: not list(Path("/dev/shm").glob("provisioner-ansible-*")), what="no key left in memory")
    canaries.assert_nowhere(served, machine.name, left=[machine.path / "var/log", machine.path / "root"])


def _line(machine: Root) -> str:
    text = machine.read("/root/.ssh/authorized_keys")
    return next((line for line in text.splitlines() if line.endswith(" provisioner-handoff")), "")


def _round(served: Served, name: str) -> Handoff:
    """The latest round of the machine's handoff."""
    site = served.site
    try:
        with read(site.engine) as session:
            query = select(Handoff).join(Build).where(Build.machine_name == name).order_by(Handoff.id.desc()).limit(1)
            row = session.scalars(query).one()
            session.expunge(row)
            return row
    finally:
        site.engine.dispose()


def _private_key(served: Served, name: str) -> str:
    """What the service keeps sealed; the canaries are looked for in all that is not."""
    site = served.site
    try:
        with read(site.engine) as session:
            query = select(Handoff).join(Build).where(Build.machine_name == name).order_by(Handoff.id.desc()).limit(1)
            return identities.kept(site.keys, session.scalars(query).one())["private_key"]
    finally:
        site.engine.dispose()


def test_push_that_fails_fails_the_build_with_its_output_and_another_round_has_another_key(
    served: Served, lan: Wire, machine: Root, playbooks: Path, tmp_path: Path
) -> None:
    day = FirstDay(served, lan, machine)
    day.register(push(variables={"colour": "grey", "fragile": True}))
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    assert "failed=1" in day.build_log() and "/etc/mended" in day.build_log()
    first = _round(served, machine.name)
    assert first.kept is None, "nobody needs the private key any more"
    machine.write("/etc/mended", "")
    served.cli("build", "retry-handoff", machine.name)
    assert day.boot().returncode == 0, day.log() + day.build_log()
    assert day.state() == "configured"
    assert _round(served, machine.name).public != first.public
    assert _line(machine) == ""


def test_push_refuses_a_machine_with_other_host_keys_than_it_reported(
    served: Served, lan: Wire, machine: Root, playbooks: Path
) -> None:
    """Whoever answers at its address in its place has no key that the build recorded, and gets nothing."""
    day = FirstDay(served, lan, machine)
    machine.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/another"])
    machine.write("/etc/ssh/sshd_config.d/other.conf", "HostKey /etc/ssh/another\n")
    day.register(push())
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    assert "Host key verification failed" in day.build_log()
    assert not (machine.path / "etc/by-ansible").exists()


def test_push_ends_at_the_time_limit(served: Served, lan: Wire, machine: Root, playbooks: Path) -> None:
    (playbooks / "slow.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks: [{command: sleep 4713}]\n")
    day = FirstDay(served, lan, machine)
    day.register(push(playbook="slow.yml", timeout=25))
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    wait_for(lambda: not _command_lines("slow.yml"), what="the end of ansible-playbook")


def _command_lines(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "ansible-playbook" in line and word in line:
            found.append(line)
    return found
