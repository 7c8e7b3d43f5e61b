"""Rows of names and MACs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.pointers import at, spoken
from provisioner.core.sequences import MOST, counted_macs, expand, following
from provisioner.errors import InvalidInput, MalformedMac, TooLarge


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web01", ["web01"]),
        ("n[001-003]", ["n001", "n002", "n003"]),
        ("n[8-11].lab", ["n8.lab", "n9.lab", "n10.lab", "n11.lab"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("n[1,3,7-9]", ["n1", "n3", "n7", "n8", "n9"]),
        ("n[5]", ["n5"]),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


@given(st.integers(0, 9000), st.integers(0, 999), st.integers(1, 5))
def test_a_run_counts_every_number_once(first: int, more: int, width: int) -> None:
    names = expand(f"n[{first:0{width}d}-{first + more}]")
    assert [int(name.removeprefix("n")) for name in names] == list(range(first, first + more + 1))
    assert len(set(names)) == len(names)
    assert all(len(name) > width for name in names)


@pytest.mark.parametrize(
    "pattern", ["n[", "n]", "n[]", "n[a-b]", "n[3-1]", "n[[1-2]]", "n[1-2", "n[1,1]", "n[-1]", "n[1-2-3]", "n[٣]"]
)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand(pattern)
    assert "n[001-040]" in caught.value.hint


@pytest.mark.parametrize("pattern", ["n[1-10001]", "r[1-101]n[1-100]", "n[1-999999999]", "[0-9999][0-9999][0-9999]"])
def test_s73_a_pattern_is_bounded(pattern: str) -> None:
    with pytest.raises(TooLarge, match=str(MOST)):
        expand(pattern)


@given(st.text(alphabet="n[]0123456789-, ", max_size=30))
def test_garbage_never_crashes(pattern: str) -> None:
    try:
        assert 1 <= len(expand(pattern)) <= MOST
    except InvalidInput as error:
        assert error.hint


def test_macs_count_up() -> None:
    assert counted_macs("5254.0000.00fe", 3) == ["52:54:00:00:00:fe", "52:54:00:00:00:ff", "52:54:00:00:01:00"]
    infiniband = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:0a:e0:ff"
    assert counted_macs(infiniband, 2)[1].endswith("0a:e1:00")
    with pytest.raises(InvalidInput, match="beyond the last"):
        counted_macs("fe:ff:ff:ff:ff:ff", 2**41)
    with pytest.raises(MalformedMac, match="group address"):
        counted_macs("52:ff:ff:ff:ff:ff", 2)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("/interfaces/1/ip", "interface 2 ip"),
        ("/ranges/0", "range 1"),
        ("/profile", "profile"),
        ("/tags/2", "tag 3"),
        ("/etc/provisioner.yaml:3", "/etc/provisioner.yaml:3"),
        ("--range", "--range"),
        ("", ""),
    ],
)
def test_a_pointer_is_read_to_people_in_words(where: str, words: str) -> None:
    assert spoken(where) == words


def test_the_pointer_of_an_inner_field_is_put_after_the_outer_one() -> None:
    with pytest.raises(InvalidInput) as caught, at("/machines/3"), at("/interfaces/1/ip"):
        raise InvalidInput("wrong", where="ip")
    assert caught.value.where == "/machines/3/interfaces/1/ip"
    with pytest.raises(InvalidInput) as caught, at("/tags"):
        raise InvalidInput("wrong", where="/tags/0")
    assert caught.value.where == "/tags/0", "one that is inside already stays"


@pytest.mark.parametrize(
    ("last", "name"),
    [
        ("web01", "web02"),
        ("rack3-09", "rack3-10"),
        ("web99", "web100"),
        ("n07a.lab2.example.com", "n08a.lab2.example.com"),
        ("gateway", ""),
        ("gateway.lab2", ""),
    ],
)
def test_the_name_that_follows(last: str, name: str) -> None:
    assert following(last) == name


@given(st.integers(0, 99_998), st.integers(1, 5))
def test_what_follows_is_the_next_of_a_run(number: int, width: int) -> None:
    assert following(f"n{number:0{width}d}") == f"n{number + 1:0{width}d}"
