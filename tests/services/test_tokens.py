"""S11, S17, S19c, S28: API tokens, and what any credential stands for."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import both_engines
from loggedin import ELSEWHERE, HOME, Clock, quick_hasher, secret_of, session_of, user
from structlog.testing import capture_logs
from world import ACTOR

from provisioner.core.credentials import Kind, mint
from provisioner.core.policy import Principal, Role, lesser
from provisioner.errors import (
    Conflict,
    InvalidInput,
    MalformedName,
    NameTaken,
    NotLoggedIn,
    Stale,
    UnknownReference,
)
from provisioner.services import check, people, records, tokens
from provisioner.services.site import Site, open_site
from provisioner.store.engine import read, write
from provisioner.store.people import ApiToken, LoginSession

pytestmark = both_engines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hasher(monkeypatch)


def add(site: Site, name: str = "ci", owner: str | None = "jane", **fields: Any) -> str:
    return str(tokens.add(site, ACTOR, owner, name, fields)["token"])


def refused(site: Site, bearer: Any) -> bool:
    """All refusals are one: nothing tells why."""
    with pytest.raises(NotLoggedIn) as caught:
        tokens.authenticate(site, bearer, HOME)
    return caught.value.as_dict() == {
        "code": "not-logged-in",
        "detail": "this needs a credential that is good",
        "hint": NotLoggedIn.default_hint,
        "where": "",
    }


def test_s28_a_token_is_shown_once_and_stored_as_a_hash(site: Site) -> None:
    user(site)
    made = tokens.add(site, ACTOR, "jane", "ci", {"role": "viewer", "scope": ["builds", "machines"]})
    text = made.pop("token")
    assert text.startswith(f"pvt_{made['uid']}_")
    assert tokens.show(site, "ci") == made == tokens.listing(site)[0]
    assert (made["user"], made["role"], made["scope"], made["state"]) == (
        "jane",
        "viewer",
        ["machines", "builds"],
        "active",
    )
    year = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=364) < year < timedelta(days=366), "a year, unless said otherwise"
    with read(site.engine) as session:
        row = session.query(ApiToken).one()
        assert len(row.secret_hash) == 64
        assert row.secret_hash not in str((made, records.listing(site)))
    assert tokens.authenticate(site, text, HOME) == Principal("jane", Role.VIEWER, ("machines", "builds"), "ci")


def test_a_session_is_a_credential_too(site: Site) -> None:
    user(site)
    bearer = session_of(site)
    assert bearer.startswith("pvs_")
    found = tokens.authenticate(site, bearer, HOME)
    assert (found.who, found.role, found.scope, found.token) == ("jane", Role.OPERATOR, (), "")
    assert found.session == bearer.split("_")[1]


ODD = ["", "-1", "None", "null", "[]", "0", "true", "x" * 10**6, None, 0, True, [], {}, "pvt_", "é" * 60, "pvt_\0"]


@pytest.mark.parametrize("bearer", ODD, ids=lambda value: str(value)[:10])
def test_s11_s12_odd_credentials_are_refused(site: Site, bearer: Any) -> None:
    assert refused(site, bearer)


def test_s11_s19c_wrong_ones_of_the_right_shape_are_refused(site: Site) -> None:
    """Another secret, another's id, the other kind, one that nobody has: all in the same words."""
    user(site)
    token, session, other = add(site), session_of(site), add(site, "cd")
    uid, secret = token.split("_", 2)[1:]
    wrong = [
        mint(Kind.TOKEN).text,
        mint(Kind.SESSION).text,
        f"pvs_{uid}_{secret}",
        f"pvt_{session.split('_', 2)[1]}_{session.split('_', 2)[2]}",
        f"pvt_{other.split('_')[1]}_{secret}",
        token[:-1] + ("a" if token[-1] != "a" else "b"),
        token + "a",
        token.upper(),
    ]
    with capture_logs() as logs:
        assert all(refused(site, each) for each in wrong)
    assert len(logs) == len(wrong)
    for each in (secret, secret_of(session), *map(secret_of, wrong[:2])):
        assert each not in str(logs)
    assert tokens.authenticate(site, token, HOME)


ENDS: dict[str, Callable[[Site], Any]] = {
    "revoked": lambda site: tokens.revoke(site, ACTOR, "ci"),
    "removed": lambda site: tokens.remove(site, ACTOR, "ci"),
    "owner disabled": lambda site: people.edit(site, ACTOR, "jane", {"disabled": True}),
    "owner expired": lambda site: people.edit(site, ACTOR, "jane", {"expires_at": datetime.now(UTC)}),
    "owner removed": lambda site: people.remove(site, ACTOR, "jane"),
}


@pytest.mark.parametrize("end", ENDS)
def test_s11_s17_a_token_ends_with_the_next_request(site: Site, end: str) -> None:
    user(site)
    token, other = add(site), add(site, "other", "admin")
    assert tokens.authenticate(site, token, HOME)
    ENDS[end](site)
    assert refused(site, token)
    assert tokens.authenticate(site, other, HOME), "nobody else's"


def test_s11_an_expired_token_is_refused_at_its_very_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    user(site)
    by_days, for_ever = add(site, days=1), add(site, "for-ever", expires_at=None)
    clock.turn(hours=23, minutes=59, seconds=59)
    assert tokens.authenticate(site, by_days, HOME)
    clock.turn(seconds=1)
    assert refused(site, by_days)
    assert tokens.show(site, "ci")["state"] == "expired"
    clock.turn(days=36_500)
    assert tokens.authenticate(site, for_ever, HOME)
    tokens.edit(site, ACTOR, "ci", {"days": 7})
    assert tokens.authenticate(site, by_days, HOME)


@pytest.mark.parametrize(("wanted", "owners"), list(itertools.product(Role, repeat=2)))
def test_s16_s17_a_token_never_has_more_than_its_owner(site: Site, wanted: Role, owners: Role) -> None:
    user(site, "jane", owners.value)
    token = add(site, role="viewer")
    if lesser(wanted, owners) is wanted:
        assert tokens.edit(site, ACTOR, "ci", {"role": wanted.value})["role"] == wanted
    else:
        for change in (
            lambda: add(site, "more", role=wanted.value),
            lambda: tokens.edit(site, ACTOR, "ci", {"role": wanted.value}),
        ):
            with pytest.raises(InvalidInput, match=f"{wanted} is more than jane may, who is {owners}"):
                change()
    held = tokens.authenticate(site, token, HOME).role
    assert lesser(held, owners) is held
    people.edit(site, ACTOR, "jane", {"role": "viewer"})
    assert tokens.authenticate(site, token, HOME).role is Role.VIEWER


BAD: list[tuple[dict[str, Any], str]] = [
    ({"role": "root"}, "role"),
    ({"role": None}, "role"),
    ({"scope": ["machine"]}, "scope"),
    ({"scope": "machines"}, "scope"),
    ({"scope": None}, "scope"),
    ({"days": 0}, "days"),
    ({"days": True}, "days"),
    ({"days": "7"}, "days"),
    ({"days": 10**9}, "days"),
    ({"expires_at": "2020-01-01"}, "expires_at"),
    ({"expires_at": "soon"}, "expires_at"),
    ({"expires_at": None, "days": 5}, "expires_at"),
    ({"secret_hash": "x"}, ""),
    ({"uid": "x"}, ""),
    ({"user": "admin"}, ""),
    ({"revoked_at": None}, ""),
]


@pytest.mark.parametrize(("fields", "where"), BAD, ids=str)
def test_s12_s14_odd_fields_are_refused_and_leave_no_trace(site: Site, fields: dict[str, Any], where: str) -> None:
    user(site)
    add(site)
    before = tokens.listing(site), records.listing(site)
    for call in (lambda: tokens.edit(site, ACTOR, "ci", fields), lambda: add(site, "cd", **fields)):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.where == where
    assert (tokens.listing(site), records.listing(site)) == before


def test_names_and_owners_are_checked(site: Site) -> None:
    user(site)
    add(site)
    with pytest.raises(NameTaken):
        add(site)
    for name in ("", "A", "a b", "x" * 65):
        with pytest.raises(MalformedName):
            add(site, name)
    with pytest.raises(UnknownReference, match="user: there is no user 'nobody'"):
        add(site, "x", "nobody")
    people.edit(site, ACTOR, "jane", {"disabled": True})
    with pytest.raises(Conflict, match="user jane is disabled or expired"):
        add(site, "x")
    assert tokens.show(site, "ci")["state"] == "suspended"


def test_without_an_owner_it_is_the_only_administrators(site: Site) -> None:
    add(site, "first", None)
    assert tokens.show(site, "first")["user"] == "admin"
    user(site, "off", "admin", disabled=True)
    add(site, "second", None)
    user(site, "other", "admin")
    with pytest.raises(InvalidInput, match="administrators: admin, other") as caught:
        add(site, "third", None)
    assert "--user" in caught.value.hint


def test_revoked_is_for_good(site: Site) -> None:
    user(site)
    token = add(site)
    at = tokens.revoke(site, ACTOR, "ci")["revoked_at"]
    assert tokens.revoke(site, ACTOR, "ci")["revoked_at"] == at
    with pytest.raises(Conflict, match="revoked for good"):
        tokens.edit(site, ACTOR, "ci", {"days": 5})
    assert refused(site, token)
    assert [row["action"] for row in records.listing(site, "ci")] == ["edit", "add"], "again is no change"


def test_a_token_keeps_its_text_under_another_name(site: Site) -> None:
    user(site)
    token = add(site)
    seen = tokens.show(site, "ci")["revision"]
    tokens.rename(site, ACTOR, "ci", "cd", expect=seen)
    assert tokens.authenticate(site, token, HOME).token == "cd"
    for late in (
        lambda: tokens.rename(site, ACTOR, "cd", "ce", expect=seen),
        lambda: tokens.edit(site, ACTOR, "cd", {"days": 5}, expect=seen),
        lambda: tokens.revoke(site, ACTOR, "cd", expect=seen),
        lambda: tokens.remove(site, ACTOR, "cd", expect=seen),
    ):
        with pytest.raises(Stale):
            late()
    assert tokens.listing(site, "admin") == []
    assert len(tokens.listing(site, "jane")) == 1


def test_the_last_use_is_written_at_most_once_a_minute(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    user(site)
    token = add(site)
    before = tokens.show(site, "ci")

    def used() -> Any:
        view = tokens.show(site, "ci")
        return view["last_used_at"], view["last_used_from"]

    tokens.authenticate(site, token, HOME)
    first = (clock.at.isoformat(timespec="seconds"), HOME)
    assert used() == first
    for _ in range(59):
        clock.turn(seconds=1)
        tokens.authenticate(site, token, ELSEWHERE)
        assert used() == first
    clock.turn(seconds=1)
    tokens.authenticate(site, token, "2001:db8::1")
    assert used() == (clock.at.isoformat(timespec="seconds"), "2001:db8::1")
    assert {**tokens.show(site, "ci"), "last_used_at": None, "last_used_from": None} == before, "no change of the token"
    assert records.verify(site) == []


def test_sessions_stay_alive_by_being_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle for twelve hours, or seven days old, whatever comes first."""
    clock = Clock(monkeypatch)
    user(site)
    busy, idle = session_of(site), session_of(site)
    for hour in range(11, 7 * 24, 11):
        clock.turn(hours=11)
        assert tokens.authenticate(site, busy, HOME)
        assert hour < 12 or refused(site, idle)
    clock.turn(hours=3)
    assert refused(site, busy)


@pytest.mark.parametrize("who", ["this process", "another process"])
def test_a_locked_database_neither_refuses_nor_delays_a_credential(site: Site, who: str) -> None:
    """Somebody writes, and whoever waits may wait an hour: only what waits for nothing gets through."""
    user(site)
    token, session = add(site), session_of(site)
    with write(site.engine) as rows:
        rows.query(LoginSession).one().last_seen_at -= timedelta(hours=1)
    patient = open_site(site.settings.model_copy(update={"lock_seconds": 3600.0}), serving=True)
    # Another engine knows nothing of this one's turns: it meets the lock in the database itself.
    busy = patient if who == "this process" else site
    with ThreadPoolExecutor() as pool, write(busy.engine):
        for bearer in (token, session) * 3:
            assert pool.submit(tokens.authenticate, patient, bearer, HOME).result(timeout=60).who == "jane"
        assert tokens.show(site, "ci")["last_used_at"] is None
    people.edit(patient, ACTOR, "jane", {"role": "viewer"})
    assert tokens.authenticate(patient, token, HOME).role is Role.VIEWER
    assert tokens.show(site, "ci")["last_used_at"] is not None
    patient.engine.dispose()


def test_a_hurried_write_leaves_sqlites_connection_as_patient_as_it_was(site: Site) -> None:
    """Pooled connections serve ordinary writes again, which wait; PostgreSQL keeps nothing there."""
    user(site)
    token = add(site)
    quick = open_site(site.settings.model_copy(update={"lock_seconds": 30.0}))
    with write(site.engine):
        tokens.authenticate(quick, token, HOME)
    tokens.authenticate(quick, token, HOME)
    assert tokens.show(site, "ci")["last_used_at"] is not None
    if site.engine.dialect.name == "sqlite":
        with quick.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    quick.engine.dispose()


def test_check_names_tokens_that_nobody_uses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    user(site)
    used, _, _ = add(site, "used", expires_at=None), add(site, "idle", expires_at=None), add(site, "short", days=90)
    clock.turn(days=179)
    assert not list(check.forgotten_tokens(site))
    tokens.authenticate(site, used, HOME)
    clock.turn(days=2)
    assert [each.what for each in check.forgotten_tokens(site)] == ["token idle was not used for 180 days"]
