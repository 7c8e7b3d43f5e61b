"""A real Salt master and real minions, between namespaces and the running service."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, wait_for
from handoff.canary import Canaries
from handoff.firstday import FirstDay
from handoff.rootdir import Root, Wire
from handoff.saltlab import Master, salt_base
from handoff.setup_steps import linked, steps

from provisioner.handoff.protocol import Host
from provisioner.handoff.salt import Salt

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first of a kind makes its root directory
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
TOP = "base:\n  '*': [motd]\n"
MOTD = "/etc/motd:\n  file.managed:\n    - contents: Salt looks after {{ grains.id }}\n"
SECRET = "/etc/provisioner/secrets/salt-minion-key"
MINION = "/etc/salt/pki/minion"


@pytest.fixture(scope="module")
def master(lan: Wire, served: Served) -> Iterator[Master]:
    """Set up by the documented steps; what it tells an administrator is among the credentials."""
    with lan.root("salt", salt_base()) as root:
        running = Master(root)
        running.set_up()
        running.state("top.sls", TOP)
        running.state("motd.sls", MOTD)
        directory = served.state / "credentials"
        directory.mkdir(mode=0o700, exist_ok=True)
        running.credentials(directory)
        linked(steps("salt: Provisioner on the master's host"), directory / "salt-pki", running.keys)
        yield running


@pytest.fixture
def machine(lan: Wire, request: pytest.FixtureRequest) -> Iterator[Root]:
    """A finished machine of its own for each test."""
    with lan.root(f"web{len(lan.roots):02d}", salt_base()) as root:
        yield root


def salt(master: Master, **more: Any) -> dict[str, Any]:
    """The handoff's settings."""
    api = {} if "pki" in more else {"api": f"https://{master.root.address}:8000", "api_ca": "salt-api.pem"}
    known = {"tool": "salt", "master": master.root.address, "master_finger": master.finger(), "timeout": 300}
    return known | api | more


def standing(minion: Root) -> str:
    """What the master has to say to this minion: ``accepted``, ``rejected`` (it has another key), ``unknown``."""
    done = minion.run(["timeout", "120", "salt-call", "--no-color", "test.ping"], code=None)
    if (done.returncode, "True" in done.stdout) == (0, True):
        return "accepted"
    said = done.stdout + done.stderr
    if done.returncode == 77 and "has rejected this minion's public key" in said:
        return "rejected"
    assert done.returncode == 2 and "has the minion key been accepted?" in said, f"{done.returncode}: {said}"
    return "unknown"


def test_salt_a_machine_is_configured_with_a_key_of_its_own_and_no_other_key_is_taken(
    served: Served, lan: Wire, master: Master, machine: Root
) -> None:
    """Also: the key of the build before is cut off; and nobody is told a secret (S80, S81)."""
    day = FirstDay(served, lan, machine)
    day.register(salt(master))
    password = master.root.read("/etc/salt/pki/api/password")
    canaries = Canaries({"salt-api password": password})
    with canaries.in_processes():
        day.install()
        first = machine.read(SECRET)
        canaries.add("the minion's key", first[: first.index("-----BEGIN PUBLIC")])
        done = day.boot()
    assert done.returncode == 0, day.log()
    assert day.state() == "configured"
    assert machine.read("/etc/motd") == f"Salt looks after {machine.name}\n"
    assert "Succeeded: 1 (changed=1)" in day.build_log()
    assert machine.name in master.accepted()
    with lan.root("thief", salt_base()) as thief:
        shutil.copytree(machine.path / "etc/salt", thief.path / "etc/salt", dirs_exist_ok=True)
        assert standing(thief) == "accepted", "the thief is set up like the machine"
        for name in ("minion.pem", "minion.pub"):
            (thief.path / f"etc/salt/pki/minion/{name}").unlink()
        assert standing(thief) == "rejected", "another key under the machine's id"
        assert standing(machine) == "accepted"

        shutil.copytree(machine.path / "etc/salt", thief.path / "etc/salt", dirs_exist_ok=True)
        machine.write("/etc/motd", "")
        day.install()
        second = machine.read(SECRET)
        assert second != first
        assert day.boot().returncode == 0, day.log()
        assert day.state() == "configured"
        assert machine.read("/etc/motd") == f"Salt looks after {machine.name}\n"
        assert standing(thief) == "rejected", "the key of the build before"
    canaries.add("the minion's second key", second[: second.index("-----BEGIN PUBLIC")])
    assert not (machine.path / "etc/provisioner/secrets").exists()
    canaries.assert_nowhere(
        served,
        machine.name,
        left=[machine.path / "var/log", master.root.path / "var/log"],
    )
    served.cli("machine", "remove", machine.name, "--yes")
    wait_for(lambda: machine.name not in master.accepted(), what="the removal of the key")
    assert standing(machine) == "unknown"


def test_salt_failing_states_fail_the_build_with_their_output_and_retry_handoff_mends_it(
    served: Served, lan: Wire, master: Master, machine: Root
) -> None:
    master.state("fragile.sls", "test -e /etc/mended:\n  cmd.run\n")
    day = FirstDay(served, lan, machine)
    day.register(salt(master, states=["motd", "fragile"], id="name"))
    day.install()
    first = machine.read(SECRET)
    assert day.boot().returncode == 3
    assert (day.state(), day.build()["state"]) == ("failed", "failed")
    assert "Failed:    1" in day.build_log() and "test -e /etc/mended" in day.build_log()
    machine.write("/etc/mended", "")
    served.cli("build", "retry-handoff", machine.name)
    assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"
    assert machine.read(f"{MINION}/minion.pem") not in first


def test_salt_another_master_is_refused_before_it_is_trusted(
    served: Served, lan: Wire, master: Master, machine: Root
) -> None:
    """Its key is not that of the fingerprint: no state of its is applied, and the build fails with Salt's words."""
    before = machine.read("/etc/motd")
    day = FirstDay(served, lan, machine)
    day.register(salt(master, master_finger="ab" * 32))
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    assert "Does not match the authenticating master's key" in day.build_log()
    assert "this is not the master" in day.build_log()
    assert machine.read("/etc/motd") == before
    assert not (machine.path / "etc/salt/pki/minion/minion_master.pub").exists()
    found = served.cli("check", code=None).stdout
    assert f"has the fingerprint {bytes.fromhex(master.finger()).hex(':')}, not ab:ab:" in " ".join(found.split())


def test_salt_through_the_masters_own_directory(served: Served, lan: Wire, master: Master, machine: Root) -> None:
    """For a Provisioner on the master's host."""
    stale = master.keys / "minions_pre" / machine.name
    stale.write_text("-----BEGIN PUBLIC KEY-----\nsomebody was faster\n-----END PUBLIC KEY-----\n")
    day = FirstDay(served, lan, machine)
    day.register(salt(master, pki="salt-pki"))
    day.install()
    assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"
    assert not stale.exists()
    first = master.key_of(machine.name)
    served.cli("build", "start", machine.name)
    assert master.key_of(machine.name) == first, "a build that nobody boots takes nothing away"
    served.cli("build", "cancel", machine.name)
    day.install()
    wait_for(lambda: master.key_of(machine.name) not in (first, ""), what="the second build's key")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"api_password": "wrong-password"}, "refuses provisioner"),
        ({"api_user": "nobody"}, "refuses nobody"),
        ({"api_password": "no-such-file"}, "there is no credential 'no-such-file'"),
        ({"api_ca": "other.pem"}, "is not trusted"),
        ({"master_port": 1}, "cannot be reached from here"),
    ],
)
def test_salt_check_says_what_is_wrong(
    served: Served, master: Master, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    host = Host(served.state / "credentials", tmp_path)
    (host.credentials / "wrong-password").write_text("not this one")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", host.credentials / "other.pem")
    settings = {name: value for name, value in salt(master).items() if name != "tool"}
    assert not list(Salt().probe(settings, host))
    found = [f"{each.what}: {each.why}" for each in Salt().probe(settings | change, host)]
    assert len(found) == 1 and told in found[0]
    assert "not this one" not in found[0]
