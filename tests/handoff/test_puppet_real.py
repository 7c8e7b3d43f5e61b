"""Handoff to Puppet with a real Puppet server and a real agent, each in a root directory and namespaces of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, wait_for
from cryptography import x509
from handoff.canary import Canaries
from handoff.firstday import FirstDay
from handoff.puppetlab import PuppetServer, over_tls, puppet_base
from handoff.rootdir import Root, wire
from sqlalchemy import select

from provisioner.handoff.puppet import SECRET
from provisioner.services import identities
from provisioner.store.engine import read
from provisioner.store.handoffs import Handoff
from tests.handoff.agent_requests import PP_IMAGE_NAME, PP_ROLE, key, request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
WEB = "web01"


@pytest.fixture(scope="module")
def lab(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PuppetServer, Root, FirstDay]]:
    """The server, set up as documented, and a machine with its first day before it."""
    directory = tmp_path_factory.mktemp("puppet")
    lower = puppet_base()
    with over_tls(_template, directory) as (served, fingerprint), wire() as lan, lan.root("puppet", lower) as there:
        distro(served, directory)
        server = PuppetServer(there, served, fingerprint)
        server.set_up(directory / "puppetserver.log")
        with lan.root(WEB, lower) as machine:
            day = FirstDay(served, lan, machine)
            day.register(server.handoff(role="web"))
            yield server, machine, day
        server.stop()


def distro(served: Served, directory: Path) -> None:
    """What the shipped profile installs."""
    from world import World

    site = served.site
    World(site, directory).distro()
    site.engine.dispose()


def challenge(served: Served) -> str:
    """The challenge of the latest round, as Provisioner keeps it."""
    site = served.site
    try:
        with read(site.engine) as session:
            row = session.scalars(select(Handoff).order_by(Handoff.id.desc()).limit(1)).one()
            return str(identities.kept(site.keys, row)[SECRET])
    finally:
        site.engine.dispose()


def enrolled(served: Served) -> None:
    """Until the worker has seen to it that the CA has nothing of that name."""
    site = served.site

    def done() -> bool:
        with read(site.engine) as session:
            return session.scalars(select(Handoff.state).order_by(Handoff.id.desc()).limit(1)).one() != "prepared"

    wait_for(done, what="the enrolment")
    site.engine.dispose()


def test_s29_s80_s81_a_machines_life_with_puppet(lab: tuple[PuppetServer, Root, FirstDay]) -> None:
    server, machine, day = lab
    served = server.served
    canaries = Canaries()
    assert_check(served, "all is well")
    assert server.waiting() == set(), "a probe leaves nothing"

    with canaries.in_processes():
        day.install()
        known = challenge(served)
        canaries.add("the first challenge", known)
        first_round(day, machine)
    first = server.certificate(WEB)
    assert first is not None
    told = {each.oid.dotted_string: each.value.value[2:].decode() for each in first.extensions if is_puppets(each)}
    assert told == {PP_ROLE: "web", PP_IMAGE_NAME: day.profile}
    assert machine.read("/etc/motd.puppet") == f"role web of {day.profile}\n"
    assert_nothing_left(machine)

    refused_from_here_on(server, day, known)

    with canaries.in_processes():
        machine.run(["rm", "/etc/motd.puppet"])  # as the installer wipes the disk
        day.install()
        enrolled(served)
        assert first.serial_number in server.revoked(), "the old identity is gone before the new one comes"
        assert machine.run(["puppet", "agent", "--test", "--noop"], code=None).returncode == 1
        canaries.add("the second challenge", challenge(served))
        first_round(day, machine)
    second = server.certificate(WEB)
    assert second is not None
    assert second.public_key() != first.public_key()
    assert second.serial_number not in server.revoked()
    canaries.assert_nowhere(
        served, WEB, left=[machine.path / "var/log", machine.path / "etc", server.log, server.root.path / "var/log"]
    )

    served.cli("machine", "remove", WEB, "--yes")
    wait_for(lambda: server.certificate(WEB) is None, what="the end of the certificate of a removed machine")
    assert second.serial_number in server.revoked()


def first_round(day: FirstDay, machine: Root) -> None:
    """The machine boots into its handoff, and is configured."""
    done = day.boot(patience=900)
    assert done.returncode == 0, f"{done.stdout}\n{day.log()}\n{day.build_log()}"
    assert "(exit status 2)" in done.stdout, "the first run changes something"
    assert day.state() == "configured"


def is_puppets(extension: x509.Extension[x509.ExtensionType]) -> bool:
    """Whether it is one of the registered extensions of Puppet."""
    return extension.oid.dotted_string.startswith("1.3.6.1.4.1.34380.1.1.")


def assert_nothing_left(machine: Root) -> None:
    """The challenge is not on the machine any more."""
    assert not (machine.path / "etc/puppet/csr_attributes.yaml").exists()
    assert not (machine.path / "etc/provisioner/secrets").exists()
    conf = machine.read("/etc/puppet/puppet.conf")
    assert "certname = web01" in conf
    assert "\nserver = 198.18." in conf


def assert_check(served: Served, said: str) -> str:
    """What `check` says of the handoffs."""
    told = served.cli("check", code=None).stdout
    about = "\n".join(line for line in told.splitlines() if "handoff" in line or "all is well" in line)
    if said == "all is well":
        assert "handoff" not in about, told
    else:
        assert said in about, told
    return told


def refused_from_here_on(server: PuppetServer, day: FirstDay, known: str) -> None:
    """After completion nobody gets a certificate by this challenge, under this name or another."""
    sealed = {PP_ROLE: "web", PP_IMAGE_NAME: day.profile}
    server.send("evil", request("evil", known, sealed, signer=key(1)))
    assert server.certificate("evil") is None
    assert "evil" in server.waiting()
    # The CA itself refuses a second request under a name that it has signed; so that one is asked for directly.
    assert server.send(WEB, request(WEB, known, sealed, signer=key(1))) == 400
    done = server.root.run(
        ["runuser", "-u", "puppet", "--", "/usr/local/bin/provisioner-autosign", WEB],
        stdin=request(WEB, known, sealed, signer=key(1)),
        code=1,
    )
    assert "refused" in done.stderr
    assert known not in done.stderr
    assert "refused, build 1 is configured" in day.build_log()


def test_check_sees_a_policy_that_signs_everything_or_never_asks(lab: tuple[PuppetServer, Root, FirstDay]) -> None:
    server, _, _ = lab
    file = "/usr/local/bin/provisioner-autosign"
    kept = server.root.read(file)
    served = server.served
    try:
        server.root.write(file, "#!/bin/sh\nexit 0\n", 0o755)
        assert_check(served, "signs requests that Provisioner did not allow")
        server.root.write(file, "#!/bin/sh\nexit 1\n", 0o755)
        assert_check(served, "does not ask Provisioner before it signs")
    finally:
        server.root.write(file, kept, 0o755)
    assert not [name for name in server.waiting() if "probe" in name]
    assert not list((server.root.path / "etc/puppet/puppetserver/ca/signed").glob("*probe*"))
    assert_check(served, "all is well")
