"""S28, S12, S19c: the texts of credentials, what may be a password, and how long to wait after failures."""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.credentials import Credential, Kind, mint, parse
from provisioner.core.moments import moment
from provisioner.core.passwords import chosen, presented
from provisioner.core.slowdown import Failures, Limit, origin
from provisioner.errors import InvalidInput

AT = datetime(2030, 1, 1, tzinfo=UTC)


@given(st.sampled_from(Kind))
def test_s28_what_is_minted_is_read_again_and_shows_its_secret_nowhere(kind: Kind) -> None:
    made = mint(kind)
    assert parse(made.text) == made
    assert made.proves(made.digest)
    assert made.secret not in f"{made} {made!r} {made.digest} {made.uid}"
    assert len(made.secret) == 43, "43 letters of 64 are 256 bit"


def test_s28_no_two_are_alike() -> None:
    many = [mint(Kind.TOKEN) for _ in range(1000)]
    assert len({each.uid for each in many}) == len({each.secret for each in many}) == 1000


@given(st.text(max_size=80) | st.none() | st.integers() | st.booleans() | st.lists(st.text()))
@example("pvt_0123456789abcdef_" + "x" * 43 + "\n")
@example("pvx_0123456789abcdef_" + "x" * 43)
@example("pvt_0123456789ABCDEF_" + "x" * 43)
@example("pvt_0123456789abcde\u0661_" + "x" * 43)
@example("pvt_" * 250_000)
def test_s12_what_is_not_shaped_like_a_credential_is_none(text: Any) -> None:
    assert parse(text) is None


@given(st.integers(0, 42), st.sampled_from("AZaz09_-"))
def test_s19c_another_secret_proves_nothing(at: int, char: str) -> None:
    made = mint(Kind.SESSION)
    other = Credential(made.kind, made.uid, made.secret[:at] + char + made.secret[at + 1 :])
    assert other.proves(made.digest) == (other.secret == made.secret)
    assert not made.proves(None)
    assert not made.proves("")


@pytest.mark.parametrize("value", ["", None, 0, -1, True, [], {}, b"bytes", "x" * 1025, "x" * 10**6, "\ud800" * 20])
def test_s12_what_cannot_be_a_password_is_none_and_is_not_chosen(value: Any) -> None:
    assert presented(value) is None
    with pytest.raises(InvalidInput, match="12 to 1024 characters"):
        chosen(value, "jane")


@pytest.mark.parametrize(
    "value", ["-1", "None", "null", "elevenchars", "jane.example.org", "JANE.example.ORG", "a" * 30]
)
def test_s12_weak_passwords_are_not_chosen(value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chosen(value, "jane.example.org")
    assert value not in str(caught.value) or value in {"-1"}, "errors go into logs"


def test_s15_one_password_typed_on_two_keyboards() -> None:
    composed, apart = (unicodedata.normalize(form, "Übergrößenträger") for form in ("NFC", "NFD"))
    assert composed != apart
    assert presented(apart) == presented(composed) == chosen(apart, "jane")


LIMIT = Limit(free=5)


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 0), (4, 0), (5, 1), (6, 2), (7, 4), (12, 128), (13, 256), (14, 300)]
)
def test_s19c_five_are_free_then_each_doubles_the_wait(count: int, seconds: int) -> None:
    assert Failures(count, AT).seconds(LIMIT, AT) == seconds
    assert Failures(count, AT).seconds(LIMIT, AT + timedelta(seconds=seconds)) == 0


@given(st.integers(0, 10**9), st.integers(-(10**6), 10**6), st.integers(0, 50))
def test_s19c_nobody_waits_longer_than_the_longest_whatever_the_clock_does(count: int, passed: int, free: int) -> None:
    """Also when the clock was set back: no lock for ever."""
    wait = Failures(count, AT).seconds(Limit(free), AT + timedelta(seconds=passed))
    assert 0 <= wait <= 300
    if count < free or passed >= 300:
        assert wait == 0


def test_s19c_failures_are_forgotten_after_a_quarter_of_an_hour() -> None:
    assert not Failures(10**6, AT).stale(AT + timedelta(seconds=899))
    assert Failures(10**6, AT).stale(AT + timedelta(seconds=900))


def test_s19c_an_ipv6_host_cannot_walk_through_its_network() -> None:
    assert origin("2001:db8:0:1::5") == origin("2001:db8:0:1:ffff::9") != origin("2001:db8:0:2::5")
    assert origin("192.0.2.1") != origin("192.0.2.2")
    assert origin("nonsense" * 20) == ("nonsense" * 20)[:39]


@pytest.mark.parametrize(
    "text", ["2030-01-01", "2030-01-01T00:00:00Z", "2030-01-01T02:00:00+02:00", " 2030-01-01 ", AT]
)
def test_moments_in_several_spellings(text: Any) -> None:
    assert moment(text, "expires_at") == AT


@pytest.mark.parametrize("text", ["", "tomorrow", "2030-13-01", "9999-12-31T23:59:59-14:00", None, 5, [], "x" * 10**6])
def test_s12_odd_moments_are_refused(text: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a date"):
        moment(text, "expires_at")
