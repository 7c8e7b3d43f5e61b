"""Two changes of one thing are put together where they do not meet, and never otherwise."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.merging import fields_together, lines_together

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "e"]), max_size=12).map("".join)
FIELDS = st.fixed_dictionaries({name: st.sampled_from(["", "x", "y", "z"]) for name in "abc"})


def test_changes_of_other_lines_are_put_together() -> None:
    base = "one\ntwo\nthree\nfour\nfive\n"
    mine, theirs = base.replace("one", "ONE"), base.replace("five", "FIVE") + "six\n"
    assert lines_together(base, mine, theirs) == "ONE\ntwo\nthree\nfour\nFIVE\nsix\n"


def test_changes_of_the_same_or_neighbouring_lines_are_not() -> None:
    base = "one\ntwo\nthree\n"
    assert lines_together(base, "1\ntwo\nthree\n", "uno\ntwo\nthree\n") is None
    assert lines_together(base, "1\ntwo\nthree\n", "one\n2\nthree\n") is None
    assert lines_together(base, base + "mine\n", base + "theirs\n") is None
    assert lines_together("", "mine\n", "theirs\n") is None


@given(base=TEXTS, mine=TEXTS)
def test_one_change_alone_is_that_change(base: str, mine: str) -> None:
    assert lines_together(base, mine, base) == lines_together(base, base, mine) == mine
    assert lines_together(base, mine, mine) == mine


@given(base=TEXTS, mine=TEXTS, theirs=TEXTS)
def test_it_is_the_same_whoever_came_first(base: str, mine: str, theirs: str) -> None:
    assert lines_together(base, mine, theirs) == lines_together(base, theirs, mine)


@given(base=TEXTS, head=TEXTS, tail=TEXTS)
def test_nothing_that_either_wrote_is_lost(base: str, head: str, tail: str) -> None:
    """A change before and one after a line that stays."""
    first, last = f"{base}\n=\n", f"\n=\n{base}"
    old = f"{first}middle{last}"
    made = lines_together(old, f"{head}{old}", f"{old}{tail}")
    assert made is None or made == f"{head}{old}{tail}"


@given(base=FIELDS, mine=FIELDS, theirs=FIELDS)
def test_each_field_is_of_whoever_changed_it(
    base: dict[str, str], mine: dict[str, str], theirs: dict[str, str]
) -> None:
    found = fields_together(base, mine, theirs)
    for name, value in found.fields.items():
        assert value == (theirs[name] if mine[name] == base[name] else mine[name])
        assert (name in found.taken) == (mine[name] == base[name] != theirs[name])
        assert (name in found.both) == (len({base[name], mine[name], theirs[name]}) == 3)
