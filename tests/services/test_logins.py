"""S12, S15, S17, S19c, S61: logging in, and slowing down those who guess."""

import itertools
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from conftest import both_engines
from loggedin import ELSEWHERE, HOME, PASSWORD, Clock, QuickHasher, quick_hasher, secret_of, session_of, user
from structlog.testing import capture_logs
from world import ACTOR

from provisioner import logs
from provisioner.errors import NotLoggedIn, ProvisionerError, TooMany
from provisioner.services import check, logins, passwords, people, records, tokens
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.people import LoginFailure, LoginSession, User

pytestmark = both_engines
WRONG = "not the password at all"


@pytest.fixture(autouse=True)
def hasher(monkeypatch: pytest.MonkeyPatch) -> QuickHasher:
    return quick_hasher(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def outcome(site: Site, name: Any = "jane", password: Any = WRONG, source: str = HOME) -> str:
    """What came of it: in, wrong, or the seconds to wait."""
    try:
        logins.login(site, name, password, source)
    except TooMany as error:
        return str(error.details["retry_after"])
    except NotLoggedIn:
        return "wrong"
    return "in"


def guess(site: Site, times: int, name: str = "jane", source: str = HOME) -> list[str]:
    return [outcome(site, name, source=source) for _ in range(times)]


def test_a_login_gives_a_session_until_it_is_ended(site: Site) -> None:
    user(site)
    answer = logins.login(site, " Jane ", PASSWORD, HOME)
    assert (answer["user"], answer["role"]) == ("jane", "operator")
    assert datetime.fromisoformat(answer["expires_at"]) > datetime.now().astimezone() + timedelta(days=6)
    (shown,) = logins.sessions(site, "jane")
    assert (shown["user"], shown["source"], shown["uid"]) == ("jane", HOME, answer["token"].split("_")[1])
    assert answer["token"] not in str(shown)
    other = session_of(site)
    logins.logout(site, answer["token"])
    logins.logout(site, answer["token"])
    with pytest.raises(NotLoggedIn):
        tokens.authenticate(site, answer["token"], HOME)
    assert tokens.authenticate(site, other, HOME).who == "jane"


def test_a_logout_ends_only_what_it_proves(site: Site) -> None:
    user(site)
    session, token = session_of(site), tokens.add(site, ACTOR, "jane", "ci", {})["token"]
    for bearer in ("", "nonsense", token, session[:-1] + ("a" if session[-1] != "a" else "b")):
        logins.logout(site, bearer)
    assert tokens.authenticate(site, session, HOME)
    assert tokens.authenticate(site, token, HOME)


ODD: list[Any] = [
    "",
    "-1",
    "None",
    "null",
    "[]",
    "0",
    "true",
    None,
    [],
    0,
    -1,
    True,
    {},
    b"x",
    "x" * 10**6,
    "\ud800",
    "\0",
]


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:10])
def test_s12_odd_names_and_passwords_are_refused(site: Site, hasher: QuickHasher, odd: Any) -> None:
    """Neither opens anything, alone, together or with the other one right; what can be nobody's costs no hashing."""
    user(site)
    for name, password in ((odd, PASSWORD), ("jane", odd), (odd, odd), ("admin", odd), ("", odd)):
        with pytest.raises(NotLoggedIn, match=r"^user name or password is wrong$"):
            logins.login(site, name, password, HOME)
    if not isinstance(odd, str) or len(odd) > 1024:
        assert hasher.work == []
    assert logins.sessions(site) == []
    assert len(people.listing(site)) == 2


def test_s15_unknown_wrong_and_disabled_are_equal_in_words_and_work(site: Site, hasher: QuickHasher) -> None:
    """The same error, one comparison at the same cost, the same rows written: nothing tells which it was."""
    user(site)
    user(site, "off", disabled=True)
    user(site, "gone", expires_at="2020-01-01")
    seen = []
    for number, (name, password) in enumerate(
        (
            ("jane", WRONG),
            ("nobody", WRONG),
            ("nobody", PASSWORD),
            ("off", PASSWORD),
            ("gone", PASSWORD),
            ("off", WRONG),
        )
    ):
        hasher.work.clear()
        with pytest.raises(NotLoggedIn) as caught:
            logins.login(site, name, password, f"192.0.2.{number}")
        with read(site.engine) as session:
            rows = [row.key.partition(":")[0] for row in session.query(LoginFailure) if row.key.endswith(f".{number}")]
        seen.append((caught.value.as_dict(), tuple(hasher.work), tuple(sorted(rows))))
    assert len({str(each) for each in seen}) == 1, seen
    assert len(seen[0][1]) == 1


def test_s15_the_slow_down_does_not_tell_who_exists(site: Site, clock: Clock) -> None:
    user(site)
    assert guess(site, 9, "jane", HOME) == guess(site, 9, "nobody", ELSEWHERE)
    clock.turn(seconds=1)
    assert guess(site, 3, "jane", HOME) == guess(site, 3, "nobody", ELSEWHERE)


def test_s15_a_hash_with_other_parameters_is_made_anew_at_login(site: Site) -> None:
    """With its revision; a wrong password changes nothing; afterwards it stays."""
    user(site)
    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    with write(site.engine) as session:
        session.query(User).filter_by(name="jane").one().password_hash = old

    def stored() -> str:
        with read(site.engine) as session:
            return session.query(User).filter_by(name="jane").one().password_hash

    assert outcome(site) == "wrong"
    assert stored() == old
    assert outcome(site, password=PASSWORD) == "in"
    anew = stored()
    assert anew.split("$")[3] == "m=8,t=1,p=1"
    assert outcome(site, password=PASSWORD) == "in"
    assert stored() == anew
    row = records.listing(site)[0]
    assert (row["actor"], row["origin"], row["changed"]) == ("jane", f"login ({HOME})", ["password"])
    assert records.verify(site) == []


def test_s15_a_hash_that_is_none_opens_nothing(site: Site) -> None:
    user(site)
    for broken in ("", "x", PASSWORD, "$argon2id$v=19$m=8,t=1,p=1$x$y", "$1$salt$hash"):
        with write(site.engine) as session:
            session.query(User).filter_by(name="jane").one().password_hash = broken
        assert outcome(site, password=PASSWORD, source=f"192.0.2.{len(broken)}") == "wrong"


def test_s19c_five_failures_are_free_then_each_doubles_the_wait(site: Site, clock: Clock, hasher: QuickHasher) -> None:
    """While somebody waits nothing is looked at, not even the right password; asking does not make it longer."""
    user(site)
    assert guess(site, 5) == ["wrong"] * 5
    for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        done = len(hasher.work)
        assert guess(site, 3) == [str(seconds)] * 3
        assert outcome(site, password=PASSWORD) == str(seconds)
        assert len(hasher.work) == done
        clock.turn(seconds=seconds - 0.5)
        assert outcome(site) == "1"
        clock.turn(seconds=0.5)
        assert outcome(site) == "wrong"
    clock.turn(seconds=300)
    assert outcome(site, password=PASSWORD) == "in"
    assert guess(site, 4) == ["wrong"] * 4, "a login clears the count"


def test_s19c_others_are_unaffected(site: Site, clock: Clock) -> None:
    """Other users from the same address, the same user from others, while the counts are small."""
    user(site)
    user(site, "joe")
    guess(site, 7)
    assert outcome(site, password=PASSWORD) == "1"
    assert outcome(site, "joe", PASSWORD) == "in"
    assert outcome(site, "jane", PASSWORD, ELSEWHERE) == "in"


def test_s19c_an_address_that_fails_for_many_users_is_slowed_down_for_all(site: Site, clock: Clock) -> None:
    user(site)
    for number in range(20):
        assert outcome(site, f"user{number}") == "wrong"
    assert outcome(site, password=PASSWORD) == "1"
    assert outcome(site, "nobody") == "1"
    assert outcome(site, password=PASSWORD, source=ELSEWHERE) == "in"
    clock.turn(seconds=1)
    assert outcome(site, password=PASSWORD) == "in"
    assert outcome(site, "user20") == "wrong"
    assert outcome(site, password=PASSWORD) == "2", "a login of one's own does not clear the address"
    clock.turn(minutes=15)
    assert outcome(site, "user21") == "wrong"
    assert outcome(site, "user22") == "wrong"


def test_s19c_an_ipv6_network_counts_as_one_address(site: Site, clock: Clock) -> None:
    user(site)
    for number in range(5):
        assert outcome(site, source=f"2001:db8::{number + 1:x}") == "wrong"
    assert outcome(site, source="2001:db8::ffff:1") == "1"
    assert outcome(site, source="2001:db8:0:1::1", password=PASSWORD) == "in"


def test_s19c_many_addresses_cannot_lock_a_user_out_who_was_here_before(site: Site, clock: Clock) -> None:
    """A user is slowed down as a whole, but from where they logged in well they get in; nobody waits over a minute."""
    user(site)
    assert outcome(site, password=PASSWORD) == "in"
    strangers = [f"198.51.100.{number}" for number in range(100)]
    assert [outcome(site, source=each) for each in strangers[:20]] == ["wrong"] * 20
    for each in strangers[20:30]:
        clock.turn(seconds=60)
        assert outcome(site, source=each) == "wrong"
    assert outcome(site, source=strangers[31], password=PASSWORD) == "60"
    assert outcome(site, password=PASSWORD) == "in"
    people.edit(site, ACTOR, "jane", {"password": "another horse, another battery"})
    guess(site, 1, source=strangers[40])
    for each in strangers[50:75]:
        outcome(site, source=each)
    assert outcome(site, password="another horse, another battery") == "1", "another password forgets old addresses"


def test_s19c_an_address_is_known_for_thirty_days(site: Site, clock: Clock) -> None:
    user(site)
    outcome(site, password=PASSWORD)
    for days, expected in ((29, "wrong"), (2, "1")):
        clock.turn(days=days)
        for number in range(20):
            outcome(site, source=f"198.51.100.{number}")
        assert outcome(site) == expected


def test_s19c_parallel_guesses_do_not_get_in_below_the_limit(site: Site, clock: Clock, hasher: QuickHasher) -> None:
    """Fifty at once are looked at five times, as fifty one after the other would be."""
    user(site)
    with ThreadPoolExecutor(5) as pool:
        results = Counter(pool.map(lambda _: outcome(site), range(50)))
    assert results == {"wrong": 5, "1": 45}
    assert len(hasher.work) == 5


def test_s19c_a_flood_of_logins_is_refused_before_it_costs_anything(site: Site, hasher: QuickHasher) -> None:
    user(site)
    with ExitStack() as stack:
        for _ in range(passwords._ADMITTED):
            stack.enter_context(passwords.place())
        assert guess(site, 50) == ["1"] * 50
        assert hasher.work == []
    assert guess(site, 6) == ["wrong"] * 5 + ["1"], "what was not looked at did not count"


def test_s19c_only_a_few_passwords_are_looked_at_at_once(site: Site, hasher: QuickHasher, monkeypatch: Any) -> None:
    user(site)
    running, most = itertools.count(), []
    inside: list[int] = []

    def slow(hash: Any, password: Any) -> bool:  # noqa: A002
        inside.append(next(running))
        most.append(len(inside))
        done = PasswordHasher(time_cost=3, memory_cost=4096, parallelism=1).hash("some work")
        inside.pop()
        return bool(done)

    monkeypatch.setattr(hasher, "verify", slow, raising=False)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: outcome(site, password=PASSWORD, source=f"192.0.2.{number}"), range(24)))
    assert max(most) <= passwords._AT_ONCE


def test_s17_who_was_disabled_while_the_password_was_looked_at_is_refused(site: Site, monkeypatch: Any) -> None:
    user(site)
    right = passwords.right
    for change in ({"disabled": True}, {"disabled": False, "password": "another horse, another battery"}):

        def meanwhile(stored: str | None, password: str, among: Any, change: Any = change) -> bool:
            verdict = right(stored, password, among)
            people.edit(site, ACTOR, "jane", change)
            return verdict

        monkeypatch.setattr(passwords, "right", meanwhile)
        assert outcome(site, password=PASSWORD) == "wrong"
        people.edit(site, ACTOR, "jane", {"disabled": False})
    assert logins.sessions(site) == []


def test_what_is_over_is_swept_and_nobody_has_sessions_without_end(site: Site, clock: Clock) -> None:
    user(site)
    user(site, "joe")
    first = [session_of(site) for _ in range(60)]
    assert len(logins.sessions(site, "jane")) == 50
    assert outcome(site, "joe", PASSWORD) == "in"
    guess(site, 3)
    with pytest.raises(NotLoggedIn):
        tokens.authenticate(site, first[0], HOME)
    assert tokens.authenticate(site, first[-1], HOME)
    clock.turn(hours=13)
    assert logins.sessions(site) == []
    session_of(site, "joe")
    with read(site.engine) as session:
        assert session.query(LoginSession).count() == 1
        assert {row.key.partition(":")[0] for row in session.query(LoginFailure)} == {"known"}


def test_check_names_who_is_slowed_down(site: Site, clock: Clock) -> None:
    user(site)
    guess(site, 4)
    assert not list(check.administrators(site))
    guess(site, 1)
    assert [each.what for each in check.administrators(site)] == [
        f"logins are slowed down: jane from {HOME} (5 failures)"
    ]
    clock.turn(minutes=16)
    assert not list(check.administrators(site))


def test_s85_every_attempt_is_logged_with_its_reason_and_no_password(site: Site) -> None:
    user(site)
    user(site, "off", disabled=True)
    with capture_logs() as lines:
        session = session_of(site)
        for name, password in (("jane", WRONG), ("nobody", WRONG), ("off", PASSWORD), (PASSWORD, "jane"), (None, "")):
            outcome(site, name, password)
        logins.logout(site, session)
    assert [(line["event"], line["user"], line.get("why")) for line in lines] == [
        ("login", "jane", None),
        ("login failed", "jane", "wrong password"),
        ("login failed", "nobody", "unknown user"),
        ("login failed", "off", "disabled or expired"),
        ("login failed", "(not a name)", "not even a name and a password"),
        ("login failed", "(not a name)", "not even a name and a password"),
        ("logout", "jane", None),
    ]
    assert all(line["source"] == HOME for line in lines[:-1])
    for secret in (PASSWORD, WRONG, secret_of(session)):
        assert secret not in str(lines)


HOSTILE = ["a\r\nlogin user=admin", "\x1b[2Jx", "%s{0}{{x}}", "x" * 10**6, "<script>", "../../etc/passwd"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda text: repr(text[:10]))
def test_s61_a_hostile_name_leaves_one_short_line(site: Site, capfd: pytest.CaptureFixture[str], name: str) -> None:
    logs.configure(site.settings.model_copy(update={"log_format": "json"}))
    capfd.readouterr()
    with pytest.raises(ProvisionerError) as caught:
        logins.login(site, name, WRONG, HOME)
    (line,) = capfd.readouterr().err.splitlines()
    assert len(line) < 400
    assert json.loads(line)["event"] == "login failed"
    assert name not in line
    assert name not in str(caught.value.as_dict())
