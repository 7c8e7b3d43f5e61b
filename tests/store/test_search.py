"""Searching machines: how words are spelled, and that no plan of the database reads every machine."""

import itertools
import string
from typing import Any

import pytest
from benchkit.listing import populate
from conftest import both_engines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from world import ACTOR, World

from provisioner.core.addresses import normal_mac
from provisioner.errors import InvalidInput
from provisioner.services import listing, machines
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.search import spellings, words_of

MAC = st.binary(min_size=6, max_size=6).filter(lambda raw: any(raw) and not raw[0] & 1).map(bytes.hex)


def pairs(digits: str, separator: str) -> str:
    """A MAC with its separator between bytes."""
    return separator.join(digits[place : place + 2] for place in range(0, 12, 2))


def quads(digits: str) -> str:
    """A MAC in Cisco's spelling."""
    return ".".join(digits[place : place + 4] for place in range(0, 12, 4))


@given(MAC, st.sampled_from([":", "-", ".", ""]), st.booleans(), st.integers(0, 16), st.integers(0, 16))
def test_r12_any_part_of_a_mac_in_any_spelling_is_a_part_of_its_words(
    digits: str, separator: str, upper: bool, begin: int, length: int
) -> None:
    """Property: whatever is cut out of a spelling, one of its spellings is in the words of the machine."""
    whole = quads(digits) if separator == "." else pairs(digits, separator) if separator else digits
    part = whole[begin : begin + length]
    if sum(each in string.hexdigits for each in part) < 3 or (
        "." in part and not any(len(group) == 4 for group in part.split("."))
    ):
        return
    words = words_of("web01", (None, None, None), [normal_mac(digits)], [None])
    assert any(each in words for each in spellings((part.upper() if upper else part).lower())), part


@given(MAC)
def test_r12_a_whole_mac_is_one_word_in_every_spelling(digits: str) -> None:
    for spelled in (digits, pairs(digits, ":"), pairs(digits, "-"), quads(digits), f"01-{pairs(digits, '-')}"):
        assert digits in spellings(spelled)


@pytest.mark.parametrize("word", ["10.0", "10.0.2.1", "web-01", "fd00::12", "-", ".", "a-1", "netbox/17"])
def test_what_is_no_part_of_a_mac_stands_for_itself_alone(word: str) -> None:
    """An address' dots are not Cisco's: with them taken away it would find machines at random."""
    assert spellings(word) == [word]


TEXTS = st.text(st.sampled_from("ab1.-% _\"'*\\:()^é\u2028"), max_size=12)


@both_engines
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_s37_a_search_finds_what_holds_every_word_and_no_other(filled: Site, data: st.DataObject) -> None:
    """Property: the index and its way round find the same as looking at each text does."""
    wanted = data.draw(st.one_of(TEXTS, st.sampled_from(WORDS).flatmap(parts)))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(listing, "_FEW", data.draw(st.sampled_from([0, 500])))
            got = [each["name"] for each in listing.machines(filled, q=wanted)["items"]]
    except InvalidInput:
        assert not wanted.isprintable()
        return
    expected = [
        name
        for name, words in sorted(zip(NAMES, WORDS, strict=True))
        if all(has(words, each) for each in wanted.lower().split())
    ]
    assert got == expected


def has(words: str, word: str) -> bool:
    """Whether a machine with these words is found by this one."""
    return words.startswith(word) if len(word) < 3 else any(each in words for each in spellings(word))


def parts(words: str) -> st.SearchStrategy[str]:
    """Parts of a text."""
    return st.tuples(st.integers(0, len(words)), st.integers(1, 9)).map(lambda cut: words[cut[0] : cut[0] + cut[1]])


NAMES = ["ab1", "ab-1", "ba.b1", "a1a1", "bab"]
WORDS = ["ab1 1b%a", "ab-1 a_b1", "ba.b1 a'b\"b*", "a1a1 ab\\ab", "bab é%é b1b (a) ^ab"]


@pytest.fixture
def filled(site: Site) -> Site:
    """Machines with words that nothing else would write: every character that means something to some query."""
    with write(site.engine) as session:
        if session.scalar(text("SELECT count(*) FROM machine")):
            return site
    for number, name in enumerate(NAMES):
        machines.add(site, ACTOR, name, [machines.InterfaceInput(f"52:54:00:00:00:{number:02x}")], {})
    with write(site.engine) as session:
        for name, words in zip(NAMES, WORDS, strict=True):
            found = session.scalar(text("SELECT id FROM machine WHERE name = :name"), {"name": name})
            session.execute(
                text("UPDATE machine_words SET words = :w WHERE machine_id = :id"), {"w": words, "id": found}
            )
    return site


def test_the_words_follow_every_change_of_a_machine(world: World) -> None:
    world.ready(serial="SN-1")

    def found(q: str) -> list[str]:
        return [each["name"] for each in listing.machines(world.site, q=q)["items"]]

    assert found("sn-1") == found("127.0.2.11") == found("web0") == ["web01"]
    machines.edit(world.site, ACTOR, "web01", {"serial": "SN-2"}, [machines.InterfaceInput("52:54:00:ab:cd:ef")])
    assert found("sn-1") == found("127.0.2.11") == found("52:54:00:12") == []
    assert found("sn-2") == found("ab:cd:e") == ["web01"]
    machines.rename(world.site, ACTOR, "web01", "db77")
    assert found("web01") == []
    assert found("b77") == ["db77"]
    machines.remove(world.site, ACTOR, "db77")
    assert found("b77") == found("sn-2") == []


ASKED: list[dict[str, Any]] = [
    {**filters, "sort": sort}
    for filters, sort in itertools.product(
        [
            {},
            {"state": "built"},
            {"state": "failed"},
            {"profile": "bulk"},
            {"profile": "rare"},
            {"subnet": "net000"},
            {"tag": "production"},
            {"tag": "canary"},
            {"protected": True},
            {"flagged": True},
            {"q": "node001"},
            {"q": "node0"},
            {"q": "no"},
            {"q": "nosuch"},
            {"state": "built", "tag": "production", "q": "node"},
        ],
        ["name", "-name", "state", "profile", "created_at", "-updated_at"],
    )
]


@pytest.fixture
def many(site: Site) -> Site:
    """Three thousand machines: enough that what is frequent is walked, and what is rare is sorted."""
    populate(site, 3000)
    return site


def test_no_list_of_machines_is_sorted_or_read_whole_on_sqlite(many: Site) -> None:
    """Each query that a page sends reads by an index; none sorts the machines, but the few that a filter left."""
    plans: list[tuple[str, str]] = []

    def note(_connection: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if statement.startswith("SELECT"):
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.append((statement, "\n".join(row[3] for row in rows)))

    event.listen(many.engine, "before_cursor_execute", note)
    for asked in ASKED:
        plans.clear()
        first = listing.machines(many, **asked)
        if first["next"]:
            second = listing.machines(many, **asked, both=True, cursor=first["next"])
            assert listing.machines(many, **asked, cursor=second["previous"]) == first
            third = listing.machines(many, **asked, both=True, cursor=second["next"]) if second["next"] else second
            listing.machines(many, **asked, cursor=third["previous"])
        for statement, plan in plans:
            few = "machine.id IN (" in statement
            for line in plan.splitlines():
                whole = line.startswith(("SCAN machine", "SCAN interface")) and "INDEX" not in line
                assert not whole, (asked, plan, statement)
                assert few or "TEMP B-TREE" not in line or "FROM machine \n" not in statement, (asked, plan, statement)
    event.remove(many.engine, "before_cursor_execute", note)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_a_search_uses_the_trigrams_on_postgresql(many: Site) -> None:
    with read(many.engine) as session:
        rows = session.scalars(
            text("EXPLAIN SELECT machine_id FROM machine_words WHERE words LIKE '%node002999%'")
        ).all()
    assert "ix_machine_words_trigrams" in "\n".join(rows)
