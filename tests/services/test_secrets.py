"""Secrets and tokens: what is in the database opens nothing (S22, S28, S80, S84)."""

import pytest
from conftest import both_engines
from sqlalchemy import select, update
from world import ACTOR, IP, MAC, World, token_in

from provisioner.errors import InvalidInput, KeyUnusable
from provisioner.services import arming, attempts, boot, builds, machines, reports
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import MachineSecret, Secret

CLEAR = "correct-horse-battery-staple"


def stored(site: Site, machine: str) -> str:
    """The machine's stored root password, opened."""
    with read(site.engine) as session:
        found = machines.find(session, machine)
        return site.keys.open(found.secrets[0].ciphertext, machines.secret_row(found.id, "root_password"))


@both_engines
def test_s22_one_password_two_salts(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    world.machine("web02", "52:54:00:12:34:57", None, profile=None)
    for name in ("web01", "web02"):
        machines.set_secret(site, ACTOR, name, "root_password", CLEAR)
    hashes = {stored(site, "web01"), stored(site, "web02")}
    assert len(hashes) == 2
    assert all(each.startswith("$6$") for each in hashes)
    machines.set_secret(site, ACTOR, "web01", "root_password", CLEAR)
    assert stored(site, "web01") not in hashes, "set again, salted again"
    machines.set_secret(site, ACTOR, "web01", "root_password", None)
    assert machines.show(site, "web01")["secrets"] == {}


@pytest.mark.parametrize("weak", ["$1$salt$hash", "$md5$x", "$sha1$x", "$2a$x", "$apr1$x"])
def test_s22_weak_crypt_is_refused(site: Site, world: World, weak: str) -> None:
    world.subnet()
    world.machine(profile=None)
    with pytest.raises(InvalidInput, match="too weak"):
        machines.set_secret(site, ACTOR, "web01", "root_password", weak)
    assert machines.show(site, "web01")["secrets"] == {}


@both_engines
def test_s84_ciphertexts_that_change_places_open_nothing(site: Site, world: World) -> None:
    world.ready()
    world.secret("one", "join_key")
    world.secret("two", "other_key")
    arming.start(site, ACTOR, "web01")
    with write(site.engine) as session:
        first, second = session.scalars(select(Secret).order_by(Secret.name))
        first.ciphertext, second.ciphertext = second.ciphertext, first.ciphertext
        rows = session.scalars(select(MachineSecret)).all()
        assert not {b"one", b"two"} & {row.ciphertext for row in rows}
    token = token_in(boot.boot_script(site, boot.BootRequest(MAC, IP)).text, "answer")
    for name in ("join_key", "other_key"):
        with pytest.raises(KeyUnusable, match="moved or damaged"):
            attempts.unwrap(site, token, name, "n", IP)
    with write(site.engine) as session:
        session.execute(update(Secret).values(ciphertext=b"xxxx" + b"y" * 40))
    with pytest.raises(KeyUnusable):
        attempts.unwrap(site, token, "join_key", "n", IP)


def test_s28_s80_no_file_of_the_state_directory_holds_a_clear_secret_or_a_token(site: Site, world: World) -> None:
    world.ready()
    world.secret(CLEAR)
    world.secret("canary-join-key", "join_key")
    arming.start(site, ACTOR, "web01")
    answer = token_in(boot.boot_script(site, boot.BootRequest(MAC, IP)).text, "answer")
    text = attempts.fetch(site, answer, "answer", IP).text
    event = token_in(text, "event")
    hashed = attempts.unwrap(site, answer, "root_password", "n", IP)
    attempts.unwrap(site, answer, "join_key", "n", IP)
    reports.event(site, event, IP, reports.Report("disk", "message", "log"))
    handoff = token_in(attempts.fetch(site, answer, "handoff", IP).text, "configured")
    assert CLEAR not in text
    shown = str(
        [
            builds.show(site, "web01"),
            builds.log(site, "web01"),
            builds.sealed(site, "web01"),
            machines.show(site, "web01"),
        ]
    )
    searched = 0
    for path in site.settings.state_dir.rglob("*"):
        if path.is_file() and "keys" not in path.parts:
            searched += 1
            content = path.read_bytes()
            for canary in (CLEAR, "canary-join-key", hashed, answer, event, handoff, answer[22:], event[22:]):
                assert canary.encode() not in content, path
                assert canary not in shown
    assert searched > 3
