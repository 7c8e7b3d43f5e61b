"""Versions in the order people mean."""

from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.versions import newest, version_key


def test_numbers_count_by_value() -> None:
    ordered = ["9", "9.2", "9.9", "9.10", "10", "10.0.1"]
    assert sorted(["10", "9.10", "9", "10.0.1", "9.2", "9.9"], key=version_key) == ordered
    assert newest(ordered, str) == "10.0.1"
    assert newest(["24.04", "22.04.5"], lambda version: version) == "24.04"


@given(st.lists(st.text(max_size=12), min_size=1))
@example(["9²", "9"])
@example(["stream", "9"])
@example(["٩", "9"])
def test_any_texts_have_an_order(versions: list[str]) -> None:
    assert newest(versions, str) in versions
    keys = sorted(version_key(each) for each in versions)
    assert version_key(newest(versions, str)) == keys[-1]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=4), st.lists(st.integers(0, 200), min_size=1, max_size=4))
def test_dotted_numbers_compare_as_tuples(one: list[int], two: list[int]) -> None:
    keys = [version_key(".".join(map(str, parts))) for parts in (one, two)]
    assert (keys[0] < keys[1]) is (one < two)
