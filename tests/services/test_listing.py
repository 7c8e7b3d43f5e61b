"""Lists: pages, orders, filters and searches, on both engines."""

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import both_engines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from world import ACTOR, World

from provisioner.errors import InvalidInput, TooLarge, UnknownReference
from provisioner.services import listing, machines, people, tokens
from provisioner.services.interfaces import InterfaceInput
from provisioner.services.site import Site
from provisioner.store.engine import write

pytestmark = pytest.mark.slow

MACHINES = {
    # name: (mac, ip, fields)
    "db01": ("52:54:00:aa:00:01", "127.0.2.21", {"serial": "SN-7712", "tags": ["rack-1", "prod"], "profile": "rocky9"}),
    "db02": ("52:54:00:aa:00:02", "127.0.2.22", {"tags": ["rack-2"], "protected": True}),
    "web01": ("52:54:00:12:34:56", "127.0.2.11", {"uuid": "4c4c4544-0051-4410-8053-b4c04f4d3632", "profile": "rocky9"}),
    "web02": ("52:54:00:12:34:57", "127.0.3.12", {"inventory": "netbox/17", "tags": ["prod"]}),
    "web-03": ("52:54:00:12:35:58", None, {"description": "nothing finds this"}),
}


def fill(world: World) -> Site:
    """Five machines in two subnets."""
    world.subnet()
    world.subnet("dmz", "127.0.3.0/24")
    for name, (mac, ip, fields) in MACHINES.items():
        machines.add(world.site, ACTOR, name, [InterfaceInput(mac, ip)], fields)
    return world.site


@pytest.fixture
def filled(world: World) -> Site:
    """A site with the five machines."""
    return fill(world)


def names(site: Site, noun: str = "machines", **asked: Any) -> list[str]:
    """The names in a list, through as many pages as there are of the limit asked for."""
    found, cursor = [], None
    while True:
        got = listing.page(site, noun, cursor=cursor, **asked)
        assert len(got["items"]) <= asked.get("limit", 50)
        found += [each["name"] for each in got["items"]]
        assert len(set(found)) == len(found), f"told twice: {found}"
        cursor = got["next"]
        if cursor is None:
            return found
        assert got["items"], "an empty page that says there is another"


@contextlib.contextmanager
def statements(site: Site) -> Iterator[list[str]]:
    """The SQL statements that are sent meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(site.engine, "before_cursor_execute", note)
    yield seen
    event.remove(site.engine, "before_cursor_execute", note)


@both_engines
@pytest.mark.parametrize("limit", [1, 2, 5, 50])
@pytest.mark.parametrize("sort", ["name", "state", "profile", "created_at", "updated_at"])
def test_every_machine_is_on_one_page_in_every_order(filled: Site, sort: str, limit: int) -> None:
    """Forwards and backwards are each other's reverse, whatever the size of a page."""
    machines.edit(filled, ACTOR, "db01", {"retired": True})
    forwards = names(filled, sort=sort, limit=limit)
    assert sorted(forwards) == sorted(MACHINES)
    assert names(filled, sort=f"-{sort}", limit=limit) == forwards[::-1]


def walked(site: Site, noun: str = "machines", **asked: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """The pages of a list from its beginning to its end, and back again by the cursors of the pages before."""
    onward, back = [], []
    got = listing.page(site, noun, both=True, **asked)
    assert got["previous"] is None
    while True:
        onward.append([each["revision"] for each in got["items"]])
        if got["next"] is None:
            break
        got = listing.page(site, noun, cursor=got["next"], both=True, **asked)
    while True:
        back.append([each["revision"] for each in got["items"]])
        if got["previous"] is None:
            return onward, back[::-1]
        got = listing.page(site, noun, cursor=got["previous"], both=True, **asked)


@both_engines
@pytest.mark.parametrize("sort", ["name", "-name", "state", "profile", "-profile", "created_at", "-updated_at"])
def test_the_pages_before_are_those_that_came_before(filled: Site, sort: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the beginning a walk back ends with a whole first page, whatever was on the way."""
    machines.edit(filled, ACTOR, "db01", {"retired": True})
    for limit in (1, 2, 3, 5):
        onward, back = walked(filled, sort=sort, limit=limit)
        assert onward == back, limit
    monkeypatch.setattr(listing, "_FEW", 0)
    for conditions in ({"q": "127.0.2"}, {"tag": "prod"}, {"profile": "rocky9"}):
        onward, back = walked(filled, sort=sort, limit=1, **conditions)
        assert onward == back and len(onward) > 1, conditions


def test_a_page_back_is_there_though_what_stood_around_it_is_gone(filled: Site) -> None:
    first = listing.machines(filled, limit=2, both=True)
    second = listing.machines(filled, limit=2, both=True, cursor=first["next"])
    machines.edit(filled, ACTOR, "db02", {"protected": False})
    machines.remove(filled, ACTOR, "db02")
    again = listing.machines(filled, limit=2, both=True, cursor=second["previous"])
    assert [each["name"] for each in again["items"]] == ["db01", "web-03"], "a whole first page"
    assert again["previous"] is None
    for name in ("web-03", "web01", "web02"):
        machines.remove(filled, ACTOR, name)
    gone = listing.machines(filled, limit=2, both=True, cursor=first["next"])
    assert (gone["items"], gone["next"]) == ([], None)
    before = listing.machines(filled, limit=2, both=True, cursor=gone["previous"])
    assert [each["name"] for each in before["items"]] == ["db01"]


def test_a_cursor_back_belongs_to_its_list_too(filled: Site) -> None:
    first = listing.machines(filled, limit=1, both=True)
    second = listing.machines(filled, limit=1, both=True, cursor=first["next"])
    for cursor in (f"~{second['previous']}", "~", "~x"):
        with pytest.raises(InvalidInput):
            listing.machines(filled, limit=1, cursor=cursor)
    with pytest.raises(InvalidInput):
        listing.machines(filled, limit=1, cursor=second["previous"], sort="-name")
    assert "previous" not in listing.machines(filled, limit=1), "the API has no such field"


def test_orders_are_those_that_they_say(filled: Site) -> None:
    machines.edit(filled, ACTOR, "db01", {"retired": True})
    assert names(filled) == ["db01", "db02", "web-03", "web01", "web02"]
    assert names(filled, sort="state")[-1] == "db01"
    assert names(filled, sort="created_at") == list(MACHINES)
    assert names(filled, sort="-updated_at")[0] == "db01"
    assert names(filled, sort="profile") == ["db01", "web01", "db02", "web-03", "web02"]


SEARCHES = [
    ("web", ["web-03", "web01", "web02"]),
    ("WEB01", ["web01"]),
    ("eb0", ["web01", "web02"]),
    ("sn-77", ["db01"]),
    ("7712", ["db01"]),
    ("0051-4410", ["web01"]),
    ("netbox/17", ["web02"]),
    ("127.0.3", ["web02"]),
    ("127.0.2.2", ["db01", "db02"]),
    ("12:34:5", ["web01", "web02"]),
    ("1234.56", ["web01"]),
    ("12-34-57", ["web02"]),
    ("3457", ["web02"]),
    ("5254.0012.3456", ["web01"]),
    ("52-54-00-12-34-56", ["web01"]),
    ("525400AA0001", ["db01"]),
    ("01-52-54-00-aa-00-01", ["db01"]),
    ("net0/52:54:00:aa:00:01", ["db01"]),
    ("web 57", []),
    ("web 3457", ["web02"]),
    ("we", ["web-03", "web01", "web02"]),
    ("d", ["db01", "db02"]),
    ("b0", []),
    ("we 127.0.2", ["web01"]),
    ("bew", []),
    ("nothing", []),
    ("%", []),
    ("%%%", []),
    ("w_b01", []),
    ("'; DROP TABLE machine; --", []),
    ('"', []),
    ('web" OR "db0', []),
    ("web*", []),
    ("NEAR(web db0)", []),
    ("\\", []),
    ("\uff57\uff45\uff42", []),
    ("   ", ["db01", "db02", "web-03", "web01", "web02"]),
]


@both_engines
def test_r12_s37_a_search_finds_parts_of_all_a_machine_is_known_by_and_takes_no_character_for_more(
    filled: Site,
) -> None:
    """Two letters are looked for where names begin; several words must all be found."""
    assert {q: names(filled, q=q) for q, _ in SEARCHES} == dict(SEARCHES)


@both_engines
def test_a_search_is_the_same_where_few_are_sorted_and_where_all_are_walked(
    filled: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among five machines every filter finds few; with the limit at none the other way is taken."""
    asked: list[dict[str, Any]] = [{"q": q} for q, _ in SEARCHES]
    asked += [{"state": "ready"}, {"profile": "rocky9"}, {"subnet": "lab"}, {"tag": "prod"}, {"protected": True}]
    asked += [{"tag": "prod", "state": "ready", "q": "web"}, {"protected": False, "flagged": False}, {"flagged": True}]
    asked = [
        each | {"sort": sort, "limit": 2} for each in asked for sort in ("name", "-state", "profile", "updated_at")
    ]
    few = [names(filled, **each) for each in asked]
    monkeypatch.setattr(listing, "_FEW", 0)
    assert [names(filled, **each) for each in asked] == few


@both_engines
def test_filters_choose_and_are_all_asked_together(filled: Site) -> None:
    with write(filled.engine) as session:
        session.execute(text("UPDATE machine SET flag = 'look at me' WHERE name = 'web02'"))
    machines.edit(filled, ACTOR, "db01", {"retired": True})
    assert names(filled, state="retired") == ["db01"]
    assert names(filled, state="failed") == []
    assert names(filled, profile="rocky9") == ["db01", "web01"]
    assert names(filled, subnet="lab") == ["db01", "db02", "web01"]
    assert names(filled, tag="prod") == ["db01", "web02"]
    assert names(filled, tag="PROD", state="ready") == ["web02"]
    assert names(filled, protected=True) == ["db02"]
    assert names(filled, protected=False, flagged=False, q="web") == ["web-03", "web01"]
    assert names(filled, flagged=True) == ["web02"]
    assert names(filled, state="", profile="", q="", tag=None, flagged=None) == sorted(MACHINES)


@pytest.mark.parametrize(
    "sort", ["__init__", "_private", "metadata", "password_hash", "id; DROP TABLE machine", "--name"]
)
@pytest.mark.parametrize("noun", ["machines", "users", "builds", "history"])
def test_s13_s37_an_order_that_is_none_is_refused_with_those_that_are(site: Site, noun: str, sort: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        listing.page(site, noun, sort=sort)
    assert caught.value.where == "sort"
    assert "sort by" in caught.value.hint


@pytest.mark.parametrize("filter_", ["__init__", "_private", "metadata", "password_hash", "machine_id"])
@pytest.mark.parametrize("noun", ["machines", "users", "tokens", "subnets", "history"])
def test_s13_a_filter_or_a_noun_that_is_none_is_refused(site: Site, noun: str, filter_: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        listing.page(site, noun, **{filter_: "x"})
    assert caught.value.where == filter_
    with pytest.raises(InvalidInput, match="no list"):
        listing.page(site, filter_)


@both_engines
@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"state": "broken"}, "state"),
        ({"state": "ready\0"}, "state"),
        ({"tag": "a\0b"}, "tag"),
        ({"tag": "\ud800"}, "tag"),
        ({"q": "a\0b"}, "q"),
        ({"q": "x" * 300}, "q"),
        ({"q": " ".join("abcdefghijk")}, "q"),
        ({"protected": "yes"}, "protected"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "%00"}, "cursor"),
        ({"cursor": "A" * 3000}, "cursor"),
    ],
)
def test_s37_what_no_list_can_be_asked_is_refused_by_name(filled: Site, asked: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        listing.machines(filled, **asked)
    assert caught.value.where == where


def test_s73_a_page_has_its_largest_size(site: Site) -> None:
    assert listing.machines(site, limit=500) == {"items": [], "next": None}
    with pytest.raises(TooLarge):
        listing.machines(site, limit=501)


def test_a_filter_by_what_there_is_not_says_so(filled: Site) -> None:
    for noun in ("profile", "subnet"):
        with pytest.raises(UnknownReference):
            listing.machines(filled, **{noun: "nosuch"})


def test_a_cursor_is_good_for_its_own_list_alone(filled: Site) -> None:
    """Of another order or filter it would skip machines unseen; each single bit of it is looked at."""
    cursor = listing.machines(filled, limit=2, sort="state", q="web")["next"]
    assert cursor is not None
    assert cursor.isascii()
    assert set(cursor) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert names(filled, limit=1, sort="state", q="web", subnet=None) == ["web-03", "web01", "web02"]
    others: list[dict[str, Any]] = [{}, {"sort": "state"}, {"sort": "-state", "q": "web"}, {"sort": "state", "q": "we"}]
    for other in others:
        with pytest.raises(InvalidInput):
            listing.machines(filled, cursor=cursor, **other)
    with pytest.raises(InvalidInput):
        listing.page(filled, "subnets", cursor=cursor)
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for place in range(len(raw)):
        raw[place] ^= 1
        mangled = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
        raw[place] ^= 1
        with pytest.raises(InvalidInput):
            listing.machines(filled, sort="state", q="web", cursor=mangled)


@both_engines
def test_a_page_takes_as_many_queries_for_one_machine_as_for_many(filled: Site) -> None:
    """No query for each machine, whatever there is to show of it."""
    counted = []
    for limit in (1, 5):
        listing.machines(filled, limit=limit)
        with statements(filled) as sent:
            assert len(listing.machines(filled, limit=limit)["items"]) == limit
        counted.append(len([each for each in sent if each.startswith("SELECT")]))
    assert counted[1] - counted[0] <= 1, "the profile is asked for only where one of the machines has one"
    assert counted[1] <= 7


def test_a_page_of_machines_shows_what_show_does(filled: Site) -> None:
    assert listing.machines(filled, q="db01")["items"] == [machines.show(filled, "db01")]


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 99)),
        st.tuples(st.just("remove"), st.integers(0, 19)),
        st.tuples(st.just("touch"), st.integers(0, 19)),
    ),
    max_size=6,
)


@pytest.mark.slow
@both_engines
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sort=st.sampled_from(["name", "-name", "state", "-created_at", "created_at", "profile", "-profile"]),
    limit=st.integers(1, 7),
    edits=st.lists(EDITS, min_size=8, max_size=8),
    few=st.sampled_from([0, 500]),
)
def test_no_machine_is_lost_or_told_twice_while_others_come_and_go(
    site: Site, sort: str, limit: int, edits: list[list[tuple[str, int]]], few: int
) -> None:
    """Property: machines that are there all the time are on one page each, whatever happens between pages."""
    with write(site.engine) as session:
        for table in ("machine_tag", "machine_words", "interface", "machine"):
            session.execute(text(f"DELETE FROM {table}"))
    there = {f"m{number:02}" for number in range(0, 40, 2)}
    for number in range(0, 40, 2):
        _add(site, f"m{number:02}", number)
    gone, told, cursor, place = set(), [], None, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_FEW", few)
        while True:
            got = listing.machines(site, sort=sort, limit=limit, cursor=cursor, tag="all")
            told += [each["name"] for each in got["items"]]
            assert len(set(told)) == len(told), "a machine was told twice"
            cursor = got["next"]
            if cursor is None:
                break
            for what, number in edits[place] if place < len(edits) else []:
                gone |= _happen(site, what, number)
            place += 1
    assert there - gone <= set(told), "a machine was lost"
    if sort.removeprefix("-") == "name":
        assert told == sorted(told, reverse=sort.startswith("-"))


def _add(site: Site, name: str, number: int) -> None:
    fields = {"tags": ["all"], "profile": "rocky9" if number % 3 else None, "retired": number % 4 == 0}
    machines.add(site, ACTOR, name, [InterfaceInput(f"52:54:00:00:01:{number:02x}")], fields)


def _happen(site: Site, what: str, number: int) -> set[str]:
    """One change between two pages; the machines that were not there all the time any more."""
    if what == "add":
        if not names(site, q=f"m{number:02}x"):
            _add(site, f"m{number:02}x", 100 + number)
        return set()
    name = f"m{number * 2:02}"
    if name not in names(site, limit=500):
        return {name}
    if what == "touch":
        machines.edit(site, ACTOR, name, {"description": "touched"})
        return set()
    machines.remove(site, ACTOR, name)
    return {name}


@both_engines
@pytest.mark.parametrize(
    "noun", ["subnets", "profiles", "templates", "distros", "images", "users", "tokens", "webhooks"]
)
def test_other_nouns_have_pages_too(world: World, noun: str) -> None:
    world.subnet()
    world.subnet("dmz", "127.0.3.0/24")
    world.distro()
    people.add(world.site, ACTOR, "jane", {"role": "viewer", "password": "correct horse battery"})
    everything = names(world.site, noun, limit=500)
    assert names(world.site, noun, limit=1) == everything == sorted(everything)
    assert names(world.site, noun, limit=2, sort="-created_at") == names(world.site, noun, sort="created_at")[::-1]
    if everything:
        assert everything[0] in names(world.site, noun, q=everything[0][1:].upper())
    assert names(world.site, noun, q="%") == []


def test_s80_lists_of_people_and_tokens_hold_no_hash(world: World) -> None:
    people.add(world.site, ACTOR, "jane", {"role": "admin", "password": "correct horse battery"})
    made = tokens.add(world.site, ACTOR, "jane", "ci", {"role": "viewer"})
    with world.site.engine.connect() as connection:
        hashes = [*connection.scalars(text('SELECT password_hash FROM "user"'))]
        hashes += [*connection.scalars(text("SELECT secret_hash FROM api_token"))]
    told = str(listing.page(world.site, "users")) + str(listing.page(world.site, "tokens"))
    assert "jane" in told
    assert "ci" in told
    assert not any(secret in told for secret in (*hashes, str(made["token"])))


def test_templates_are_listed_without_their_texts(site: Site) -> None:
    found = listing.page(site, "templates", q="snippets")["items"]
    assert found
    assert all(set(each) == {"name", "kind", "bytes", "draft", "revision"} for each in found)


@both_engines
def test_builds_are_listed_newest_first_by_machine_and_state(world: World) -> None:
    from provisioner.services import arming, builds

    world.armed()
    world.machine("web02", "52:54:00:12:34:99", "127.0.2.12")
    arming.start(world.site, ACTOR, "web02")
    builds.cancel(world.site, ACTOR, "web01")
    arming.start(world.site, ACTOR, "web01")
    found = listing.page(world.site, "builds")["items"]
    assert [(each["machine"], each["number"]) for each in found] == [("web01", 2), ("web02", 1), ("web01", 1)]
    shown = builds.show(world.site, "web01")
    assert found[0] == {key: shown[key] for key in set(shown) - {"events", "handoff"}} | {
        "seconds": found[0]["seconds"]
    }
    assert [each["number"] for each in listing.page(world.site, "builds", machine="web01", limit=1)["items"]] == [2]
    cancelled = listing.page(world.site, "builds", state="cancelled")["items"]
    assert [(each["machine"], each["number"]) for each in cancelled] == [("web01", 1)]
    with pytest.raises(InvalidInput):
        listing.page(world.site, "builds", state="failed-handoff")
    with statements(world.site) as sent:
        listing.page(world.site, "builds", limit=1)
        one = len(sent)
        listing.page(world.site, "builds", limit=3)
        assert len(sent) - one <= one


def test_every_machine_is_told_page_by_page(filled: Site) -> None:
    assert [each["name"] for each in listing.every(filled, sort="-name")] == sorted(MACHINES, reverse=True)
