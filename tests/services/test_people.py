"""S14, S15, S17, S80: users, their passwords, and what ends with them."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import both_engines
from loggedin import ELSEWHERE, HOME, PASSWORD, Clock, quick_hasher, secret_of, session_of, user
from world import ACTOR

from provisioner.core.policy import Principal, Role
from provisioner.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MalformedName,
    NameTaken,
    NotFound,
    NotLoggedIn,
    ProvisionerError,
    Stale,
    TooMany,
)
from provisioner.services import check, logins, people, records, tokens
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.people import User

pytestmark = both_engines
NEW = "another horse, another battery"
NAME = "jane.example.org"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hasher(monkeypatch)


def hash_of(site: Site, name: str) -> str:
    with read(site.engine) as session:
        return session.query(User).filter_by(name=name).one().password_hash


def works(site: Site, bearer: str) -> bool:
    try:
        tokens.authenticate(site, bearer, HOME)
    except NotLoggedIn:
        return False
    return True


def test_s15_s80_a_user_is_shown_without_any_trace_of_the_password(site: Site) -> None:
    view = user(site, expires_at="2030-12-31")
    assert view | {"revision": ""} == {
        "name": "jane",
        "role": "operator",
        "disabled": False,
        "expires_at": "2030-12-31T00:00:00+00:00",
        "revision": "",
    }
    assert people.show(site, "jane") == view
    assert [each["name"] for each in people.listing(site)] == ["admin", "jane"]
    stored = hash_of(site, "jane")
    assert stored.startswith("$argon2id$v=19$")
    user(site, "joe")
    assert hash_of(site, "joe").split("$")[4] != stored.split("$")[4], "a salt each"
    kept = str(records.listing(site))
    for canary in (PASSWORD, stored, stored.split("$")[5]):
        assert canary not in kept


def test_s85_every_change_leaves_a_revision_also_of_the_password(site: Site) -> None:
    user(site)
    people.edit(site, ACTOR, "jane", {"role": "author"})
    people.edit(site, ACTOR, "jane", {"password": NEW})
    people.edit(site, ACTOR, "jane", {"role": "author"})
    people.rename(site, ACTOR, "jane", "jean")
    people.remove(site, ACTOR, "jean")
    rows = [(row["action"], row["name"], row["changed"]) for row in records.listing(site) if row["kind"] == "user"]
    assert rows[:5] == [
        ("remove", "jean", []),
        ("edit", "jean", ["name"]),
        ("edit", "jane", ["password"]),
        ("edit", "jane", ["role"]),
        ("add", "jane", []),
    ]
    assert records.verify(site) == []


UNKNOWN = ("is_admin", "id", "hash", "owner_id", "created_at", "version", "name", "__class__", "metadata")


@pytest.mark.parametrize("key", UNKNOWN)
def test_s13_s14_only_what_may_be_set_is_set(site: Site, key: str) -> None:
    user(site)
    before, stored = people.show(site, "jane"), hash_of(site, "jane")
    for call in (
        lambda: people.edit(site, ACTOR, "jane", {"role": "admin", key: "x"}),
        lambda: people.add(site, ACTOR, "joe", {"role": "viewer", "password": PASSWORD, key: "x"}),
    ):
        with pytest.raises(InvalidInput, match=f"a user has no {key}"):
            call()
    assert people.show(site, "jane") == before
    assert hash_of(site, "jane") == stored
    assert len(people.listing(site)) == 2


def test_s14_who_is_no_administrator_changes_nobody(site: Site) -> None:
    """The right is one of administrators; without it there is only the own password."""
    for role in ("viewer", "operator", "author"):
        user(site, role, role)
        principal = tokens.authenticate(site, session_of(site, role), HOME)
        for verb in ("read", "write"):
            for noun in ("users", "tokens"):
                with pytest.raises(Forbidden):
                    principal.require(noun, verb)


BAD: list[tuple[str, Any]] = [
    ("role", "root"),
    ("role", None),
    ("role", ["admin"]),
    ("disabled", "false"),
    ("disabled", 0),
    ("disabled", None),
    ("expires_at", "soon"),
    ("expires_at", 0),
    ("password", "short"),
    ("password", "x" * 10**6),
    ("password", NAME),
    ("password", None),
    ("password", ["correct horse battery"]),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=lambda value: str(value)[:20])
def test_s12_odd_values_are_refused_and_leave_no_trace(site: Site, key: str, value: Any) -> None:
    user(site, NAME)
    before = records.listing(site), people.listing(site), hash_of(site, NAME)
    with pytest.raises(InvalidInput) as caught:
        people.edit(site, ACTOR, NAME, {key: value})
    assert caught.value.where == key
    with pytest.raises(InvalidInput):
        people.add(
            site, ACTOR, "other", {"role": "viewer", "password": PASSWORD, key: value if value != NAME else "other"}
        )
    assert (records.listing(site), people.listing(site), hash_of(site, NAME)) == before


def test_names_are_checked_and_taken_once(site: Site) -> None:
    user(site)
    for name in ("", "Jane", "a b", "../etc", "j\nane", "x" * 65):
        with pytest.raises(MalformedName):
            user(site, name)
    with pytest.raises(NameTaken):
        user(site)
    with pytest.raises(NameTaken):
        people.rename(site, ACTOR, "jane", "admin")
    with pytest.raises(NotFound, match="there is no user 'jan'"):
        people.edit(site, ACTOR, "jan", {})


def test_r17_a_change_for_another_revision_is_refused(site: Site) -> None:
    seen = user(site)["revision"]
    people.edit(site, ACTOR, "jane", {"role": "viewer"}, expect=seen)
    for late in (
        lambda: people.edit(site, ACTOR, "jane", {"role": "admin"}, expect=seen),
        lambda: people.rename(site, ACTOR, "jane", "jean", expect=seen),
        lambda: people.remove(site, ACTOR, "jane", expect=seen),
    ):
        with pytest.raises(Stale):
            late()
    assert people.show(site, "jane")["role"] == "viewer"


LOSSES: dict[str, dict[str, Any]] = {
    "disabled": {"disabled": True},
    "demoted": {"role": "author"},
    "expired": {"expires_at": datetime.now(UTC)},
    "will expire": {"expires_at": datetime.now(UTC) + timedelta(days=9)},
}


@pytest.mark.parametrize("loss", [*LOSSES, "removed"])
def test_the_last_administrator_stays(site: Site, loss: str) -> None:
    """One who is enabled and never expires is left, whatever else there is."""

    def lose(name: str) -> None:
        if loss == "removed":
            people.remove(site, ACTOR, name)
        else:
            people.edit(site, ACTOR, name, LOSSES[loss])

    user(site, "off", "admin", disabled=True)
    user(site, "leaving", "admin", expires_at="2099-01-01")
    user(site, "author", "author")
    before = records.listing(site)
    with pytest.raises(Conflict, match="admin is the last administrator") as caught:
        lose("admin")
    assert "user add" in caught.value.hint
    assert records.listing(site) == before
    user(site, "second", "admin")
    lose("admin")
    with pytest.raises(Conflict, match="second is the last administrator"):
        lose("second")
    lose("leaving")


def test_two_administrators_who_disable_each_other_do_not_both_succeed(site: Site) -> None:
    user(site, "second", "admin")
    refused: list[ProvisionerError] = []

    def disable(name: str) -> None:
        try:
            people.edit(site, ACTOR, name, {"disabled": True})
        except ProvisionerError as error:
            refused.append(error)

    threads = [threading.Thread(target=disable, args=(name,)) for name in ("admin", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(each) for each in refused] == [Conflict]
    assert sorted(each["disabled"] for each in people.listing(site)) == [False, True]


@pytest.mark.parametrize("loss", [*LOSSES, "removed"])
def test_s17_whoever_loses_rights_loses_session_and_token_at_the_next_request(
    site: Site, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    clock = Clock(monkeypatch)
    user(site, "jane", "admin")
    session = session_of(site)
    token = tokens.add(site, ACTOR, "jane", "ci", {"role": "admin", "expires_at": None})["token"]
    assert works(site, session)
    assert tokens.authenticate(site, token, HOME).role is Role.ADMIN
    if loss == "removed":
        people.remove(site, ACTOR, "jane")
        assert [each["name"] for each in tokens.listing(site)] == []
    else:
        people.edit(site, ACTOR, "jane", LOSSES[loss])
    if loss == "will expire":
        assert works(site, session)
        assert works(site, token)
        clock.turn(days=10)
    assert not works(site, session)
    if loss == "demoted":
        assert tokens.authenticate(site, token, HOME) == Principal("jane", Role.AUTHOR, token="ci")
        people.edit(site, ACTOR, "jane", {"role": "operator"})
        assert tokens.authenticate(site, token, HOME).role is Role.OPERATOR
        assert works(site, session_of(site))
    else:
        assert not works(site, token)
        with pytest.raises(NotLoggedIn):
            session_of(site)


def test_s17_a_session_does_not_come_back_with_its_user(site: Site) -> None:
    """Its row is gone, so enabling somebody again brings no old login back to life."""
    user(site)
    session = session_of(site)
    people.edit(site, ACTOR, "jane", {"disabled": True})
    people.edit(site, ACTOR, "jane", {"disabled": False})
    assert not works(site, session)
    assert logins.sessions(site, "jane") == []


def test_who_gains_rights_or_is_renamed_stays_logged_in(site: Site) -> None:
    user(site, "jane", "viewer")
    session = session_of(site)
    people.edit(site, ACTOR, "jane", {"role": "operator", "expires_at": "2099-01-01"})
    people.rename(site, ACTOR, "jane", "jean")
    principal = tokens.authenticate(site, session, HOME)
    assert (principal.who, principal.role) == ("jean", Role.OPERATOR)


def test_removing_a_user_leaves_a_revision_of_each_token(site: Site) -> None:
    user(site)
    for name in ("ci", "cd"):
        tokens.add(site, ACTOR, "jane", name, {})
    people.remove(site, ACTOR, "jane")
    gone = [(row["kind"], row["name"]) for row in records.listing(site) if row["action"] == "remove"]
    assert gone == [("user", "jane"), ("token", "cd"), ("token", "ci")]


def test_another_password_ends_all_sessions_but_the_one_that_set_it(site: Site) -> None:
    user(site, "jane", "admin")
    mine, other = session_of(site), session_of(site, source=ELSEWHERE)
    token = tokens.add(site, ACTOR, "jane", "ci", {})["token"]
    me = tokens.authenticate(site, mine, HOME)
    people.edit(site, ACTOR, "jane", {"password": NEW}, keep_session=me.session)
    assert [works(site, each) for each in (mine, other, token)] == [True, False, True]
    with pytest.raises(NotLoggedIn):
        session_of(site)
    assert logins.login(site, "jane", NEW, HOME)["user"] == "jane"


@pytest.mark.parametrize("role", Role)
def test_everybody_may_change_the_own_password(site: Site, role: Role) -> None:
    user(site, "jane", role.value)
    mine, other = session_of(site), session_of(site, source=ELSEWHERE)
    me = tokens.authenticate(site, mine, HOME)
    people.change_password(site, ACTOR, me, PASSWORD, NEW, HOME)
    assert [works(site, each) for each in (mine, other)] == [True, False]
    assert logins.login(site, "jane", NEW, HOME)["role"] == role
    assert records.listing(site)[0]["changed"] == ["password"]


def test_s19c_the_own_password_is_no_way_around_the_slow_down(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever took over a session guesses no faster than at the login; right answers cost nothing."""
    clock = Clock(monkeypatch)
    user(site)
    me = tokens.authenticate(site, session_of(site), HOME)
    for _ in range(5):
        with pytest.raises(Forbidden, match="the old password is wrong"):
            people.change_password(site, ACTOR, me, "not the password", NEW, HOME)
    with pytest.raises(TooMany):
        people.change_password(site, ACTOR, me, PASSWORD, NEW, HOME)
    clock.turn(seconds=1)
    for old, new in ((PASSWORD, NEW), (NEW, PASSWORD)) * 4:
        people.change_password(site, ACTOR, me, old, new, HOME)


def test_an_own_password_needs_a_login_and_a_good_new_one(site: Site) -> None:
    user(site)
    token = tokens.authenticate(site, tokens.add(site, ACTOR, "jane", "ci", {})["token"], HOME)
    with pytest.raises(Forbidden, match="API token"):
        people.change_password(site, ACTOR, token, PASSWORD, NEW, HOME)
    me = tokens.authenticate(site, session_of(site), HOME)
    with pytest.raises(InvalidInput):
        people.change_password(site, ACTOR, me, PASSWORD, "short", HOME)
    assert session_of(site)


def test_rehearsing_changes_nothing(site: Site) -> None:
    user(site)
    session = session_of(site)
    before = people.listing(site), records.listing(site)
    rehearsal = site.rehearsing()
    assert people.edit(rehearsal, ACTOR, "jane", {"disabled": True})["disabled"]
    user(rehearsal, "joe")
    people.remove(rehearsal, ACTOR, "jane")
    assert (people.listing(site), records.listing(site)) == before
    assert works(site, session)


def test_check_says_when_no_administrator_can_log_in(site: Site) -> None:
    """Only somebody who edits the database can bring it about."""
    assert not list(check.administrators(site))
    with write(site.engine) as session:
        session.query(User).filter_by(name="admin").one().disabled = True
    assert [(each.level, each.what) for each in check.administrators(site)] == [
        ("error", "no administrator can log in")
    ]


def test_s28_s80_no_file_holds_a_password_a_token_or_a_session(site: Site, tmp_path: Path) -> None:
    user(site)
    session, token = session_of(site), tokens.add(site, ACTOR, "jane", "ci", {})["token"]
    tokens.authenticate(site, token, HOME)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    everything = str((records.listing(site), people.listing(site), tokens.listing(site), logins.sessions(site)))
    for canary in (PASSWORD, session, token, secret_of(session), secret_of(token)):
        assert canary not in everything
        for path in files:
            assert canary.encode() not in path.read_bytes(), path
