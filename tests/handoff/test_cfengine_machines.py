"""A real CFEngine hub and real agents, between namespaces and the running service."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Served, wait_for
from handoff.canary import Canaries
from handoff.cfenginelab import WORK, Hub, cfengine_base
from handoff.firstday import FirstDay
from handoff.rootdir import Root, Wire
from handoff.setup_steps import linked, steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first of a kind makes its root directory
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
SECRET = "/etc/provisioner/secrets/cfengine-key"
BOOTSTRAP = ("cf-agent", "--trust-server=no", "--skip-bootstrap-policy-run", "--bootstrap")


@pytest.fixture(scope="module")
def hub(lan: Wire, served: Served) -> Iterator[Hub]:
    """Set up by the documented steps; its directory of keys is linked from the credentials."""
    with lan.root("hub", cfengine_base()) as root:
        running = Hub(root)
        running.set_up()
        directory = served.state / "credentials"
        directory.mkdir(mode=0o700, exist_ok=True)
        linked(steps("cfengine: Provisioner on the hub's host"), directory / "cfengine-ppkeys", running.keys)
        yield running


@pytest.fixture
def machine(lan: Wire, hub: Hub) -> Iterator[Root]:
    """A finished machine of its own for each test, and the hub's policy as it was."""
    hub.policy()
    with lan.root(f"web{len(lan.roots):02d}", cfengine_base()) as root:
        yield root


def cfengine(hub: Hub, **more: Any) -> dict[str, Any]:
    """The handoff's settings."""
    known = {"tool": "cfengine", "hub": hub.root.address, "hub_key": hub.key, "timeout": 300}
    return known | {"ppkeys": "cfengine-ppkeys"} | more


def bootstrap(agent: Root, hub: Hub) -> "subprocess.CompletedProcess[str]":
    """Ask the hub for its policy as this agent."""
    agent.run(["sh", "-c", f"rm -rf {WORK}/inputs/*"])
    return agent.run([*BOOTSTRAP, hub.root.address], code=None)


def public(secret: str) -> str:
    """The public half of what the machine unwrapped."""
    return secret[secret.index("-----BEGIN RSA PUBLIC") :]


def test_cfengine_a_machine_is_configured_with_a_key_of_its_own_and_no_other_key_is_taken(
    served: Served, lan: Wire, hub: Hub, machine: Root
) -> None:
    """Also: the key of the build before is cut off; and nobody is told a secret (S80, S81)."""
    own = machine.read(f"{WORK}/ppkeys/localhost.pub")
    assert own == hub.key, "Debian's package made the key when the image was made: all have the same"
    day = FirstDay(served, lan, machine)
    day.register(cfengine(hub))
    canaries = Canaries()
    with canaries.in_processes():
        day.install()
        first = machine.read(SECRET)
        canaries.add("the agent's key", first[: first.index("-----BEGIN RSA PUBLIC")])
        # A real installation takes minutes; by its end the hub has the key.
        wait_for(lambda: day.build()["handoff"]["state"] == "issued", what="the key at the hub")
        done = day.boot()
    assert done.returncode == 0, day.log()
    assert day.state() == "configured"
    assert machine.read("/etc/by-cfengine") == f"CFEngine looks after {machine.name}\n"
    assert "Bootstrap to" in day.build_log() and "error:" not in day.build_log()
    assert machine.read(f"{WORK}/ppkeys/localhost.pub") == public(first) != own
    assert public(first) in hub.trusted()
    with lan.root("thief", cfengine_base()) as thief:
        shutil.copytree(
            machine.path / "var/lib/cfengine3/ppkeys", thief.path / "var/lib/cfengine3/ppkeys", dirs_exist_ok=True
        )
        assert bootstrap(thief, hub).returncode == 0, "the thief is set up like the machine"
        day.install()
        second = machine.read(SECRET)
        assert day.boot().returncode == 0, day.log()
        assert day.state() == "configured"
        assert public(second) in hub.trusted() and public(first) not in hub.trusted()
        assert bootstrap(thief, hub).returncode != 0, "the key of the build before"
        assert not (thief.path / "var/lib/cfengine3/inputs/promises.cf").exists()
        thief.run(["sh", "-c", f"rm {WORK}/ppkeys/localhost.*; cf-key"])
        assert bootstrap(thief, hub).returncode != 0, "a key that nobody knows"
    assert bootstrap(machine, hub).returncode == 0
    canaries.add("the agent's second key", second[: second.index("-----BEGIN RSA PUBLIC")])
    canaries.assert_nowhere(
        served, machine.name, left=[machine.path / "var/log", machine.path / "var/lib/cfengine3/outputs"]
    )
    served.cli("machine", "remove", machine.name, "--yes")
    wait_for(lambda: public(second) not in hub.trusted(), what="the removal of the key")
    assert bootstrap(machine, hub).returncode != 0


def test_cfengine_another_key_than_the_hubs_is_refused_before_it_is_trusted(
    served: Served, lan: Wire, hub: Hub, machine: Root
) -> None:
    """No policy of its is taken, and the build fails with the agent's words; `check` knew."""
    machine.run(["sh", "-c", f"rm {WORK}/ppkeys/*; cf-key"])
    day = FirstDay(served, lan, machine)
    day.register(cfengine(hub, hub_key=machine.read(f"{WORK}/ppkeys/localhost.pub")))
    assert "is not the directory of a hub with the key in hub_key" in " ".join(
        served.cli("check", code=None).stdout.split()
    )
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    assert f"TRUST FAILED, server presented untrusted key: {hub.digest(hub.key)}" in day.build_log()
    assert "another key than hub_key" in day.build_log()
    assert not (machine.path / "var/lib/cfengine3/inputs/promises.cf").exists()


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("bundle agent nobody_calls_this\n{\n", "syntax error"),
        ('bundle agent mpf_main\n{\n  commands:\n      "/bin/false";\n}\n', "returned 1"),
    ],
)
def test_cfengine_a_bad_first_run_fails_the_build_with_its_output_though_the_agent_ends_with_0(
    served: Served, lan: Wire, hub: Hub, machine: Root, policy: str, told: str
) -> None:
    hub.policy(policy)
    day = FirstDay(served, lan, machine)
    day.register(cfengine(hub, runs=2))
    day.install()
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    assert told in day.build_log()
    assert "the agent still reports errors in run 2" in day.build_log()


def test_cfengine_what_a_second_run_mends_is_good_and_retry_handoff_makes_a_new_key(
    served: Served, lan: Wire, hub: Hub, machine: Root
) -> None:
    """CFEngine converges: one run makes what the next one needs."""
    hub.policy('bundle agent mpf_main\n{\n  commands:\n      "/usr/local/bin/fragile";\n}\n')
    machine.write("/usr/local/bin/fragile", "#!/bin/sh\nexit 1\n", 0o755)
    day = FirstDay(served, lan, machine)
    day.register(cfengine(hub))
    day.install()
    first = machine.read(SECRET)
    assert day.boot().returncode == 3
    assert day.state() == "failed"
    machine.write("/usr/local/bin/fragile", "#!/bin/sh\ntest -e /etc/mended || ! touch /etc/mended\n", 0o755)
    served.cli("build", "retry-handoff", machine.name)
    assert day.boot().returncode == 0, day.log()
    assert day.state() == "configured"
    assert day.log().count("running it once more") == 1
    assert public(first) not in hub.trusted()
    assert machine.read(f"{WORK}/ppkeys/localhost.pub") in hub.trusted()
