"""S15: users who come with the hash of their password from elsewhere, until they log in."""

from typing import Any

import pytest
from conftest import both_engines
from hashes import FOREIGN
from loggedin import HOME, PASSWORD, QuickHasher, quick_hasher, user
from world import ACTOR

from provisioner.errors import InvalidInput, NotLoggedIn
from provisioner.services import libcrypt, logins, people, records
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.people import User

pytestmark = both_engines


@pytest.fixture(autouse=True)
def hasher(monkeypatch: pytest.MonkeyPatch) -> QuickHasher:
    return quick_hasher(monkeypatch)


def came(site: Site, kind: str, name: str = "ada") -> tuple[str, str]:
    """A user with such a hash: the password and the hash."""
    password, stored = FOREIGN[kind]
    people.add(site, ACTOR, name, {"role": "operator", "password_hash": stored})
    return password, stored


def hash_of(site: Site, name: str = "ada") -> str:
    with read(site.engine) as session:
        return session.query(User).filter_by(name=name).one().password_hash


def refused(site: Site, name: str, password: str, source: str = HOME) -> None:
    with pytest.raises(NotLoggedIn, match=r"^user name or password is wrong$"):
        logins.login(site, name, password, source)


@pytest.mark.parametrize("kind", FOREIGN)
def test_s15_the_first_good_login_makes_the_hash_anew(site: Site, kind: str) -> None:
    password, stored = came(site, kind)
    refused(site, "ada", password + "x")
    refused(site, "ada", password[:-1])
    refused(site, "ada", password + "\0")
    refused(site, "ada", stored)
    assert hash_of(site) == stored
    assert logins.login(site, "ada", password, HOME)["user"] == "ada"
    anew = hash_of(site)
    assert anew.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    row = records.listing(site)[0]
    assert (row["actor"], row["origin"], row["changed"]) == ("ada", f"login ({HOME})", ["password"])
    assert row["reason"] == "the same password, hashed as new ones are"
    logins.login(site, "ada", password, HOME)
    assert hash_of(site) == anew
    assert records.verify(site) == []
    for secret in (stored, anew, stored.rpartition("$")[2]):
        assert secret not in str(records.listing(site)) + str(people.show(site, "ada"))


def test_s15_time_does_not_tell_who_has_which_hash(
    site: Site, hasher: QuickHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every comparison does the work of every kind that is stored, and no longer than it is."""
    spent: list[str] = []
    verifies, spend = libcrypt.verifies, libcrypt.spend

    def verifying(stored: str, password: str) -> bool:
        spent.append(stored[: stored.index("$", 4) + 1].replace("$2a$", "$2b$") if stored[1] == "2" else stored[:3])
        return verifies(stored, password)

    def spending(begins: str, password: str) -> None:
        spent.append(begins)
        spend(begins, password)

    monkeypatch.setattr(libcrypt, "verifies", verifying)
    monkeypatch.setattr(libcrypt, "spend", spending)

    def work(name: str, password: str, source: str) -> tuple[Any, ...]:
        spent.clear()
        hasher.work.clear()
        refused(site, name, password, source)
        return sorted(spent), sorted(each.rpartition("$")[0] for each in hasher.work)

    user(site)
    assert work("jane", "wrong", "192.0.2.1")[0] == []
    came(site, "sha512", "ada")
    came(site, "bcrypt", "bob")
    came(site, "argon2i", "cat")
    people.edit(site, ACTOR, "cat", {"disabled": True})
    names = ("jane", "ada", "bob", "cat", "nobody", "admin")
    seen = [work(name, "wrong", f"192.0.2.1{number}") for number, name in enumerate(names)]
    seen.append(work("cat", "password", "192.0.2.20"))
    assert seen == [seen[0]] * len(seen)
    assert seen[0][0] == ["$2b$10$", "$6$"]
    assert len(seen[0][1]) == 2
    logins.login(site, "ada", FOREIGN["sha512"][0], HOME)
    assert work("nobody", "wrong", "192.0.2.30")[0] == ["$2b$10$"]


def test_a_hash_in_place_of_a_password_ends_sessions(site: Site) -> None:
    user(site)
    logins.login(site, "jane", PASSWORD, HOME)
    password, stored = FOREIGN["sha256"]
    people.edit(site, ACTOR, "jane", {"password_hash": stored})
    assert logins.sessions(site, "jane") == []
    refused(site, "jane", PASSWORD)
    assert logins.login(site, "jane", password, HOME)


def test_what_is_refused_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _, stored = FOREIGN["sha512"]
    before = records.listing(site)
    for fields in (
        {"password_hash": "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/"},
        {"password_hash": stored, "password": PASSWORD},
        {"password_hash": 7},
        {},
    ):
        with pytest.raises(InvalidInput):
            people.add(site, ACTOR, "ada", {"role": "viewer", **fields})
    monkeypatch.setattr(libcrypt, "_library", lambda: None)
    with pytest.raises(InvalidInput, match="this host's crypt library does not know"):
        came(site, "sha512")
    assert records.listing(site) == before
