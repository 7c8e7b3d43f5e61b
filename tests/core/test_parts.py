"""Long bodies in parts: nothing is lost, and what belongs together stays together."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.parts import own, parts

OWN = st.lists(st.sampled_from([f"mac {number}" for number in range(30)]), max_size=3)
ROWS = st.lists(OWN, max_size=40)


@given(ROWS, ROWS, st.integers(1, 20))
def test_every_row_is_in_one_part_of_the_size(rows: list[list[str]], there: list[list[str]], most: int) -> None:
    found = parts(rows, there, most)
    assert sorted(number for part in found for number in part) == list(range(len(rows)))
    assert all(0 < len(part) <= most for part in found)


@given(ROWS, ROWS)
def test_what_has_something_in_common_is_one_part_after_the_other(
    rows: list[list[str]], there: list[list[str]]
) -> None:
    """Parts of one row each show the order: rows that share something, by others too, stand without others between.

    Registered machines share nothing: the database sees to that.
    """
    taken: set[str] = set()
    there = [[each for each in owned if each not in taken and not taken.add(each)] for owned in there]  # type: ignore[func-returns-value]
    order = [part[0] for part in parts(rows, there, 1)]
    place = {number: at for at, number in enumerate(order)}
    groups: list[tuple[set[str], set[int]]] = []
    for number, owned in [*enumerate(rows), *((None, each) for each in there)]:
        things, members = set(owned), set() if number is None else {number}
        for group in [each for each in groups if each[0] & things]:
            groups.remove(group)
            things, members = things | group[0], members | group[1]
        groups.append((things, members))
    for things, members in groups:
        at = sorted(place[number] for number in members)
        if things and at:
            assert at[-1] - at[0] == len(at) - 1


def test_a_swap_over_the_ends_of_a_body_is_in_one_part() -> None:
    there = [
        own({"name": f"n{number}", "interfaces": [{"mac": f"m{number}", "ip": f"10.0.0.{number}"}]})
        for number in range(9)
    ]
    rows = [own({"name": f"n{number}", "interfaces": [{"mac": f"m{number}", "ip": None}]}) for number in range(9)]
    rows[0], rows[8] = rows[0] + ["ip 10.0.0.8"], rows[8] + ["ip 10.0.0.0"]
    assert [sorted(part) for part in parts(rows, there, 3)] == [[0, 1, 8], [2, 3, 4], [5, 6, 7]]
    assert [sorted(part) for part in parts(rows, [], 3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_dummies_bring_nobody_together() -> None:
    rows = [own({"name": f"n{number}", "serial": "To be filled by O.E.M."}) for number in range(4)]
    assert parts(rows, [], 2) == [[0, 1], [2, 3]]
