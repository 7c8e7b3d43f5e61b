"""S23: a secret is given out once in each attempt, whoever asks and how often at once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import select, update
from world import ACTOR, IP, MAC, OTHER_IP, World, token_in

from provisioner.errors import ProvisionerError, SecretGone, TokenRefused
from provisioner.services import arming, attempts, boot, builds, machines
from provisioner.services.boot import BootRequest
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Attempt, Build, Machine, Secret


def booted(site: Site, source: str = IP) -> str:
    """The answer token that a boot of web01 gives."""
    return token_in(boot.boot_script(site, BootRequest(MAC, source)).text, "answer")


@pytest.fixture
def token(site: Site, world: World) -> str:
    """The answer token of an attempt of a build with a root password."""
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    return booted(site)


def outcome(action: Any) -> str:
    """What came of it: the value, or the error's class."""
    try:
        return str(action())
    except ProvisionerError as error:
        return type(error).__name__


@both_engines
def test_s23_of_fifty_parallel_unwraps_exactly_one_succeeds(site: Site, token: str) -> None:
    def take(number: int) -> str:
        return outcome(lambda: attempts.unwrap(site, token, "root_password", f"nonce{number}", IP))

    with ThreadPoolExecutor(50) as pool:
        results = Counter(result[:3] for result in pool.map(take, range(50)))
    assert results["$6$"] == 1, results
    assert results["Sec"] >= 1
    assert sum(results.values()) == results["$6$"] + results["Sec"] + results["Tok"], "refusals are typed"
    assert "possible interception" in machines.show(site, "web01")["flag"]
    shown = builds.show(site, "web01")
    assert shown["state"] == "failed"
    assert "possible interception" in shown["outcome"]
    assert boot.boot_script(site, BootRequest(MAC, IP)).decision.next_boot.value == "halt"


@both_engines
def test_s23_a_lost_reply_is_answered_again_within_a_minute(site: Site, token: str) -> None:
    first = attempts.unwrap(site, token, "root_password", "n", IP)
    assert attempts.unwrap(site, token, "root_password", "n", IP) == first
    with write(site.engine) as session:
        taken = session.scalars(select(Secret.taken_at)).one()
        assert taken is not None
        session.execute(update(Secret).values(taken_at=taken - timedelta(seconds=61)))
    with pytest.raises(SecretGone):
        attempts.unwrap(site, token, "root_password", "n", IP)
    assert builds.show(site, "web01")["state"] == "failed"


@both_engines
@pytest.mark.parametrize(("nonce", "source"), [("other", IP), ("n", OTHER_IP)])
def test_s23_another_nonce_or_place_stops_the_build(site: Site, token: str, nonce: str, source: str) -> None:
    attempts.unwrap(site, token, "root_password", "n", IP)
    with pytest.raises(SecretGone):
        attempts.unwrap(site, token, "root_password", nonce, source)
    assert builds.show(site, "web01")["state"] == "failed"
    assert not list((site.settings.state_dir / "attempts").glob("*.json"))


@both_engines
def test_s23_the_next_attempt_gets_the_secret_again_and_the_old_token_is_dead(site: Site, token: str) -> None:
    attempts.unwrap(site, token, "root_password", "n", IP)
    with write(site.engine) as session:
        session.execute(update(Attempt).values(opened_at=Attempt.opened_at, source="127.0.2.50"))
    second = booted(site)
    assert second != token
    assert outcome(lambda: attempts.unwrap(site, token, "root_password", "n", IP)) == "TokenRefused"
    assert attempts.unwrap(site, second, "root_password", "m", IP).startswith("$6$")


def test_s23_from_a_foreign_address_nothing_is_taken(site: Site, token: str) -> None:
    assert outcome(lambda: attempts.unwrap(site, token, "root_password", "n", "127.0.9.9")) == "TokenRefused"
    assert "127.0.9.9" in machines.show(site, "web01")["flag"]
    assert attempts.unwrap(site, token, "root_password", "n", IP).startswith("$6$")


@pytest.mark.parametrize("nonce", ["", "x" * 65])
def test_s23_a_nonce_is_needed(site: Site, token: str, nonce: str) -> None:
    with pytest.raises(TokenRefused):
        attempts.unwrap(site, token, "root_password", nonce, IP)
    assert attempts.unwrap(site, token, "root_password", "n", IP)


def test_s23_without_the_master_key_nothing_is_consumed(site: Site, token: str) -> None:
    key = site.settings.state_dir / "keys" / "master.key"
    saved = key.read_bytes()
    key.unlink()
    assert outcome(lambda: attempts.unwrap(site, token, "root_password", "n", IP)) == "KeyUnusable"
    assert attempts.fetch(site, token, "answer", IP).text, "boots go on without it"
    key.write_bytes(saved)
    assert attempts.unwrap(site, token, "root_password", "m", IP).startswith("$6$")


@both_engines
def test_s27_removed_machine_tokens_dead_builds_and_history_stay(site: Site, token: str) -> None:
    builds.cancel(site, ACTOR, "web01")
    machines.remove(site, ACTOR, "web01")
    assert outcome(lambda: attempts.fetch(site, token, "answer", IP)) == "TokenRefused"
    assert outcome(lambda: attempts.unwrap(site, token, "root_password", "n", IP)) == "TokenRefused"
    assert builds.show(site, "web01")["state"] == "cancelled"
    assert "answer" in builds.sealed(site, "web01")["files"]
    with read(site.engine) as session:
        assert session.scalars(select(Machine)).all() == []
        assert session.scalars(select(Build)).one().machine_id is None


@both_engines
def test_r12_parallel_boots_from_one_address_open_one_attempt(site: Site, world: World) -> None:
    world.armed()
    with ThreadPoolExecutor(12) as pool:
        tokens = set(pool.map(lambda _: booted(site), range(12)))
    assert len(tokens) == 1
    with read(site.engine) as session:
        assert [each.number for each in session.scalars(select(Attempt))] == [1]


@both_engines
def test_r01_parallel_boots_from_many_addresses_open_two_attempts_at_most(site: Site, world: World) -> None:
    world.armed()

    def boots(number: int) -> str:
        return boot.boot_script(site, BootRequest(MAC, f"127.0.2.{100 + number}")).decision.next_boot.value

    with ThreadPoolExecutor(12) as pool:
        results = Counter(pool.map(boots, range(12)))
    assert results["build"] == 2
    assert results["halt"] == 10
