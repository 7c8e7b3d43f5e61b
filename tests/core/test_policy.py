"""S16, S17: who may do what, every role with every noun and verb; scopes and lesser roles only ever take away."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.policy import NOUNS, Principal, Role, active, allows, check_scope, lesser, role
from provisioner.errors import Forbidden, InvalidInput

VERBS = ("read", "write")
# viewer, operator, author, admin; r reads, w reads and writes, - neither.
MATRIX = {
    "machines": "r w r w",
    "builds": "r w r w",
    "handoffs": "r w r w",
    "discoveries": "r w r w",
    "subnets": "r r r w",
    "profiles": "r r w w",
    "templates": "r r w w",
    "distros": "r r r w",
    "images": "r r r w",
    "history": "r r r r",
    "users": "- - - w",
    "tokens": "- - - w",
    "webhooks": "- - - w",
}
roles, nouns = st.sampled_from(list(Role)), st.sampled_from(NOUNS)
scopes = st.lists(nouns, unique=True)


def rights(held: Role, scope: list[str] | None = None) -> set[tuple[str, str]]:
    return {(noun, verb) for noun in NOUNS for verb in VERBS if allows(held, noun, verb, scope or ())}


def test_s16_every_role_with_every_noun_and_verb() -> None:
    """The table above is the policy, written a second time by hand."""
    assert set(MATRIX) == set(NOUNS)
    for noun, row in MATRIX.items():
        for held, letter in zip(("viewer", "operator", "author", "admin"), row.split(), strict=True):
            expected = {"-": (False, False), "r": (True, False), "w": (True, True)}[letter]
            assert tuple(allows(Role(held), noun, verb) for verb in VERBS) == expected, (held, noun)


@pytest.mark.parametrize("held", Role)
def test_s13_s16_what_no_row_names_nobody_may_do(held: Role) -> None:
    for noun in ("", "sessions", "settings", "__init__", "machine", "MACHINES", "*"):
        assert not any(allows(held, noun, verb, scope) for verb in VERBS for scope in ((), (noun,), NOUNS))
    for verb in ("", "delete", "execute", "READ", "*"):
        assert not any(allows(held, noun, verb) for noun in NOUNS)


@given(roles, scopes)
def test_s16_a_scope_never_gives_a_right(held: Role, scope: list[str]) -> None:
    assert rights(held, scope) <= rights(held)
    if scope:
        written = {noun for noun, verb in rights(held, scope) if verb == "write"}
        assert written <= set(scope), "beside its nouns a scope only reads"
        assert not written & {"users", "tokens"}, "or it could give itself every other right"


@given(roles, scopes, nouns)
def test_s16_a_wider_scope_takes_no_right_away(held: Role, scope: list[str], more: str) -> None:
    if scope:
        assert rights(held, scope) <= rights(held, [*scope, more])


def test_s16_a_scope_reads_what_its_noun_is_of_no_use_without() -> None:
    assert rights(Role.ADMIN, ["builds"]) == {("builds", "read"), ("builds", "write"), ("machines", "read")}
    assert rights(Role.VIEWER, ["machines"]) == {("machines", "read"), ("discoveries", "read")}
    assert rights(Role.VIEWER, ["users"]) == set()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Role, repeat=2)))
def test_s17_the_lesser_of_two_roles_has_no_right_that_not_both_have(first: Role, second: Role) -> None:
    both = lesser(first, second)
    assert both is lesser(second, first)
    assert rights(both) <= rights(first) & rights(second)
    assert (both is first) == (rights(first) <= rights(second)), "and takes nothing from who has no more anyway"


@given(roles, roles, scopes)
def test_s17_a_scoped_token_of_a_demoted_owner_has_less_than_either(
    first: Role, second: Role, scope: list[str]
) -> None:
    assert rights(lesser(first, second), scope) <= rights(first, scope) & rights(second)


def test_a_principal_says_what_it_may_not() -> None:
    program = Principal("jane", Role.OPERATOR, scope=("builds",), token="ci")
    program.require("builds", "write")
    program.require("machines", "read")
    with pytest.raises(Forbidden, match=r"^jane \(operator, scope builds\) may not write machines$"):
        program.require("machines", "write")
    with pytest.raises(Forbidden, match=r"^jane \(viewer\) may not read users$"):
        Principal("jane", Role.VIEWER).require("users", "read")


ODD: list[Any] = [
    "",
    "-1",
    "None",
    "null",
    "root",
    "ADMIN",
    "admin ",
    None,
    0,
    -1,
    True,
    [],
    {},
    ["admin"],
    "x" * 10**6,
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:20])
def test_s12_odd_roles_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a role") as caught:
        role(value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", ["machines", None, 0, True, {"machines": 1}, [1], [None], [["machines"]], ["x"], [""]]
)
def test_s12_odd_scopes_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        check_scope(value)


@given(st.lists(nouns))
def test_a_scope_has_each_noun_once_and_in_order(given_: list[str]) -> None:
    scope = check_scope(given_)
    assert set(scope) == set(given_)
    assert scope == sorted(set(given_), key=NOUNS.index)


def test_s17_nobody_is_active_who_is_disabled_or_whose_time_has_come() -> None:
    at, moment = datetime(2030, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    assert active(disabled=False, expires_at=None, at=at)
    assert active(disabled=False, expires_at=at + moment, at=at)
    assert not active(disabled=False, expires_at=at, at=at)
    assert not active(disabled=True, expires_at=None, at=at)
