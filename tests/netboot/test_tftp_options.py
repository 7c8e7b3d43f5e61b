"""Option negotiation (T03, T05, T10, T14), as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.netboot.tftp.options import MAX_IN_FLIGHT, Terms, negotiate

KNOWN = ("blksize", "tsize", "timeout", "windowsize")


def agreed(asked: dict[str, str], size: int = 100_000, blksize: int = 1468, windowsize: int = 16) -> Terms:
    return negotiate(asked, size, blksize=blksize, windowsize=windowsize)


names = st.one_of(st.sampled_from(KNOWN), st.sampled_from(KNOWN).map(str.upper), st.text(max_size=12))
values = st.one_of(st.integers(-2, 70_000).map(str), st.text(max_size=25), st.integers().map(str))


@given(st.dictionaries(names, values, max_size=8), st.integers(0, 2**40), st.integers(8, 65464), st.integers(1, 64))
def test_t10_the_oack_is_a_subset_of_the_request(asked: dict[str, str], size: int, blksize: int, window: int) -> None:
    terms = agreed(asked, size, blksize, window)
    assert list(terms.oack) == [name for name in asked if name in terms.oack], "the client's spelling and order"
    assert {name.lower() for name in terms.oack} <= set(KNOWN)
    assert len({name.lower() for name in terms.oack}) == len(terms.oack)
    said = {name.lower(): int(value) for name, value in terms.oack.items()}
    assert terms.blksize == said.get("blksize", 512)
    assert terms.windowsize == said.get("windowsize", 1)
    assert terms.timeout == said.get("timeout")
    assert said.get("tsize", size) == size


@given(st.integers(8, 10**12), st.integers(8, 65464))
def test_t05_blksize_is_clamped(asked: int, route: int) -> None:
    assert agreed({"blksize": str(asked)}, blksize=route).blksize == min(asked, route)


def test_t05_blksize_never_exceeds_rfc_2348() -> None:
    assert agreed({"blksize": "65535"}, blksize=100_000).oack == {"blksize": "65464"}


@pytest.mark.parametrize("value", ["abc", "-1", "0", "7", "", " 512", "+512", "5_12", "0x200", "1e3", "²", "9" * 5000])
def test_t03_an_impossible_blksize_is_ignored(value: str) -> None:
    assert agreed({"blksize": value, "tsize": "0"}).oack == {"tsize": "100000"}
    assert agreed({"blksize": value}) == Terms()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", "0"),
        ("timeout", "256"),
        ("windowsize", "0"),
        ("windowsize", "65536"),
        ("tsize", "x"),
        ("multicast", "1"),
    ],
)
def test_t10_unknown_options_and_values_out_of_range_are_ignored(option: str, value: str) -> None:
    assert agreed({option: value}).oack == {}


def test_t10_of_an_option_that_is_there_twice_the_first_counts() -> None:
    assert agreed({"BLKSIZE": "1024", "blksize": "600"}).oack == {"BLKSIZE": "1024"}
    assert agreed({"blksize": "x", "BLKSIZE": "1024"}).oack == {}


@given(st.integers(1, 65535), st.integers(8, 65464), st.integers(1, 65535))
def test_t14_windowsize_is_at_most_what_was_asked_and_bounded_in_bytes(asked: int, blksize: int, ours: int) -> None:
    terms = agreed({"windowsize": str(asked), "blksize": str(blksize)}, blksize=65464, windowsize=ours)
    assert 1 <= terms.windowsize <= min(asked, ours)
    assert terms.windowsize == 1 or terms.windowsize * blksize <= MAX_IN_FLIGHT
