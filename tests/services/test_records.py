"""The history as people read it: filters, pages, renames, what changed."""

from typing import Any

import pytest
from conftest import both_engines
from hypothesis import example, given
from hypothesis import strategies as st
from world import ACTOR, MAC, World

from provisioner.core.asof import as_of
from provisioner.core.differences import differences
from provisioner.errors import InvalidInput, NotFound
from provisioner.services import arming, builds, listing, machines, people, profiles, records
from provisioner.services.site import Actor, Site

JANE = Actor(who="jane", origin="api", request="r-17", reason="ticket 4711")


def told(site: Site, **asked: Any) -> list[tuple[str, str, str]]:
    """Action, kind and name of the revisions, through pages of two."""
    found, cursor = [], None
    while True:
        got = records.page(site, limit=2, cursor=cursor, **asked)
        found += [(each["action"], each["kind"], each["name"]) for each in got["items"]]
        cursor = got["next"]
        if cursor is None:
            return found


@both_engines
def test_s85_a_change_says_who_from_where_why_and_field_by_field_what(world: World) -> None:
    world.ready()
    machines.edit(world.site, JANE, "web01", {"description": "front", "parameters": {"a": {"b": 1, "c/d": 2}}})
    machines.edit(world.site, JANE, "web01", {"parameters": {"a": {"b": 1, "c/d": 3}}})
    newest, before = records.page(world.site, object="web01", limit=2)["items"]
    assert newest["changes"] == [{"pointer": "/parameters/a/c~1d", "before": 2, "after": 3}]
    assert {each["pointer"] for each in before["changes"]} == {"/description", "/parameters/a"}
    expected = {"actor": "jane", "origin": "api", "request": "r-17", "reason": "ticket 4711", "action": "edit"}
    assert expected.items() <= newest.items()
    assert newest == records.show(world.site, newest["id"])
    assert newest["before"]["parameters"] == {"a": {"b": 1, "c/d": 2}}


def test_s80_secrets_are_masked_before_and_after(world: World) -> None:
    world.ready()
    world.secret("correct horse battery staple")
    people.add(world.site, ACTOR, "jane", {"role": "viewer", "password": "correct horse battery staple"})
    history = str(records.page(world.site, limit=50))
    assert "root_password" in history
    assert "correct horse" not in history
    assert "$6$" not in history
    assert "argon2" not in history


@both_engines
def test_the_history_of_an_object_follows_its_names(world: World) -> None:
    """By either name; another machine that takes the old name later is told too, and nothing of anybody else."""
    world.armed()
    builds.cancel(world.site, ACTOR, "web01")
    machines.rename(world.site, ACTOR, "web01", "db01")
    machines.edit(world.site, ACTOR, "db01", {"description": "renamed"})
    world.machine("other", "52:54:00:00:00:09", "127.0.2.19")
    renamed = [
        ("edit", "machine", "db01"),
        ("edit", "machine", "db01"),
        ("edit", "build", "web01/1"),
        ("add", "build", "web01/1"),
        ("add", "machine", "web01"),
    ]
    assert told(world.site, object="db01") == renamed
    assert told(world.site, object="web01") == renamed
    machine_alone = [each for each in renamed if each[1] == "machine"]
    assert told(world.site, object="machine/web01") == machine_alone
    assert told(world.site, object="build/web01/1") == [each for each in renamed if each[1] == "build"]
    assert told(world.site, object="profile/web01") == []
    assert told(world.site, object="nosuch") == []
    machines.remove(world.site, ACTOR, "db01")
    # SQLite gives the removed row's number to this one.
    world.machine("web09", MAC, "127.0.2.29")
    assert told(world.site, object="machine/db01") == [("remove", "machine", "db01"), *machine_alone]
    assert told(world.site, object="web09") == [("add", "machine", "web09")]


@both_engines
def test_the_last_machine_removed_leaves_its_number_but_not_its_history(world: World) -> None:
    world.ready()
    machines.remove(world.site, ACTOR, "web01")
    world.machine("web02", MAC, "127.0.2.11")
    assert told(world.site, object="web02") == [("add", "machine", "web02")]
    assert told(world.site, object="web01") == [("remove", "machine", "web01"), ("add", "machine", "web01")]


@both_engines
def test_filters_choose_among_the_changes(world: World) -> None:
    world.ready()
    began = records.page(world.site, limit=1)["items"][0]["at"]
    machines.edit(world.site, JANE, "web01", {"description": "x"})
    profiles.edit(world.site, JANE, "rocky9", {"description": "y"})
    mine = [("edit", "profile", "rocky9"), ("edit", "machine", "web01")]
    assert told(world.site, actor="jane") == mine
    assert told(world.site, actor="jane", kind="machine") == mine[1:]
    assert told(world.site, since=began)[: len(mine)] == mine
    assert told(world.site, since=began, actor="jane", object="web01") == mine[1:]
    assert told(world.site, until=began, actor="jane") == []
    assert told(world.site, since="2000-01-01", until="2000-12-31") == []
    assert told(world.site, sort="id") == told(world.site)[::-1]
    assert listing.page(world.site, "history", limit=2) == records.page(world.site, limit=2)


@both_engines
@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"kind": "machines"}, "kind"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"object": "a\0b"}, "object"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"sort": "actor"}, "sort"),
    ],
)
def test_s37_what_the_history_cannot_be_asked_is_refused_by_name(site: Site, asked: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        records.page(site, **asked)
    assert caught.value.where == where


def test_s37_no_character_of_a_name_means_more_than_itself(world: World) -> None:
    world.ready()
    arming.start(world.site, ACTOR, "web01")
    for name in ("web0_", "%", "web01/%", "machine/%", "' OR 1=1 --"):
        assert told(world.site, object=name) == []


def test_a_revision_that_is_not_there_says_so(site: Site) -> None:
    with pytest.raises(NotFound):
        records.show(site, 10**9)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c", "~d"]), inner, max_size=3),
    max_leaves=12,
)


def _set(tree: Any, pointer: str, value: Any) -> Any:
    if not pointer:
        return value
    head, _, rest = pointer[1:].partition("/")
    key = head.replace("~1", "/").replace("~0", "~")
    rest = f"/{rest}" if rest else ""
    if isinstance(tree, list):
        return [_set(item, rest, value) if str(place) == key else item for place, item in enumerate(tree)]
    return tree | {key: _set(tree.get(key), rest, value)}


def _bare(tree: Any) -> Any:
    """The tree without fields that are None: a difference does not tell None from missing."""
    if isinstance(tree, dict):
        return {key: _bare(value) for key, value in tree.items() if value is not None}
    return [_bare(item) for item in tree] if isinstance(tree, list) else tree


@given(JSON, JSON)
@example({"a": True}, {"a": 1})
def test_differences_put_into_the_one_give_the_other(before: Any, after: Any) -> None:
    """Property: they are complete, and there are none exactly where the two are equal."""
    changed = before
    for each in differences(before, after):
        changed = _set(changed, each["pointer"], each["after"])
    assert _same(_bare(changed), _bare(after))
    assert differences(before, before) == []


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    ("text", "zone", "end", "meant"),
    [
        ("2026-11-20", "utc", True, "2026-11-20T23:59:59.999999+00:00"),
        ("2026-11-20", "utc", False, "2026-11-20T00:00:00+00:00"),
        (" 2026-11-20 14:30 ", "utc", True, "2026-11-20T14:30:00+00:00"),
        ("2026-11-20T14:30:05.5Z", "utc", True, "2026-11-20T14:30:05.500000+00:00"),
        ("2026-11-20T14:30+02:00", "utc", True, "2026-11-20T12:30:00+00:00"),
        ("2026-11-20 14:30", "local", True, "2026-11-20T19:30:00+00:00"),
        ("2026-11-20", "local", True, "2026-11-21T04:59:59.999999+00:00"),
    ],
)
def test_a_moment_is_read_as_people_write_it(
    text: str, zone: str, end: bool, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time
    from datetime import UTC

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert as_of(text, UTC if zone == "utc" else None, end_of_day=end).isoformat() == meant
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{1,5}-[0-9]{1,3}-[0-9]{1,3}[T ]?[0-9:+Z.]{0,12}", fullmatch=True))
def test_a_moment_is_read_or_refused(text: str) -> None:
    """Property: nothing else is raised, whatever is written."""
    try:
        assert as_of(text).utcoffset() is not None
    except InvalidInput as error:
        assert "2026-11-20" in error.hint
