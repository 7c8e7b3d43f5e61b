"""Every change has its revision, and nobody removes one unnoticed."""

import pytest
from conftest import both_engines
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session
from world import ACTOR, World

from provisioner.errors import NameTaken
from provisioner.services import machines, records
from provisioner.services.site import Site
from provisioner.store import history
from provisioner.store.engine import read, write
from provisioner.store.models import Counter, Machine, Revision


@pytest.fixture
def chain(site: Site, world: World) -> Site:
    """A site with some revisions."""
    world.subnet()
    world.machine(profile=None)
    for number in range(3):
        machines.edit(site, ACTOR, "web01", {"description": f"change {number}"})
    assert records.verify(site) == []
    return site


def ids(site: Site) -> list[int]:
    """The revisions' row numbers."""
    with read(site.engine) as session:
        return list(session.scalars(select(Revision.id).order_by(Revision.id)))


def tamper(site: Site, *statements: str) -> list[str]:
    """What `history verify` says once somebody has changed the tables behind our back."""
    with write(site.engine) as session:
        for statement in statements:
            session.execute(text(statement))
    return records.verify(site)


@both_engines
@pytest.mark.parametrize(
    "change",
    ["actor = 'nobody'", "reason = 'x'", "name = 'web02'", "before = NULL", "after = '{}'", "action = 'add'",
     "origin = 'x'", "request = 'x'", "object_id = 99", "kind = 'subnet'", "at = '2020-01-01 00:00:00'"],
)  # fmt: skip
def test_verify_finds_every_edited_column(chain: Site, change: str) -> None:
    row = ids(chain)[-2]
    assert tamper(chain, f"UPDATE revision SET {change} WHERE id = {row}") == [f"revision {row} was edited"]


@both_engines
def test_verify_finds_a_row_that_was_removed(chain: Site) -> None:
    rows = ids(chain)
    assert tamper(chain, f"DELETE FROM revision WHERE id = {rows[-2]}") == [
        f"before revision {rows[-1]} a row was removed or moved"
    ]


@both_engines
def test_verify_finds_the_first_row_removed(chain: Site) -> None:
    assert "removed or moved" in tamper(chain, f"DELETE FROM revision WHERE id = {ids(chain)[0]}")[0]


@both_engines
def test_verify_finds_rows_that_changed_places(chain: Site) -> None:
    one, two = ids(chain)[-3:-1]
    found = tamper(
        chain,
        f"UPDATE revision SET id = 100000 WHERE id = {one}",
        f"UPDATE revision SET id = {one} WHERE id = {two}",
        f"UPDATE revision SET id = {two} WHERE id = 100000",
    )
    assert any("removed or moved" in problem for problem in found)


@both_engines
def test_verify_finds_the_tail_cut_off(chain: Site) -> None:
    rows = ids(chain)
    assert tamper(chain, f"DELETE FROM revision WHERE id >= {rows[-2]}") == [f"revisions after {rows[-3]} were removed"]


@both_engines
def test_verify_finds_the_tip_removed_with_the_tail(chain: Site) -> None:
    found = tamper(
        chain, f"DELETE FROM revision WHERE id = {ids(chain)[-1]}", "DELETE FROM counter WHERE name = 'revision'"
    )
    assert len(found) == 1
    assert "tip" in found[0]


@both_engines
def test_a_revision_says_what_changed_and_nothing_is_noted_for_no_change(chain: Site) -> None:
    before = ids(chain)
    machines.edit(chain, ACTOR, "web01", {"description": "change 2"})
    assert ids(chain) == before
    newest = records.listing(chain, "web01")[0]
    assert newest["changed"] == ["description"]
    assert (newest["actor"], newest["origin"], newest["action"]) == ("tester", "tests", "edit")
    with read(chain.engine) as session:
        counted = session.scalar(select(func.count()).select_from(Revision))
        tip = session.get_one(Counter, "revision")
        assert tip.value == counted
        assert session.scalars(select(Machine.version)).one() == newest["id"]


@both_engines
def test_an_error_rolls_back_everything(chain: Site) -> None:
    before, revisions = machines.listing(chain), ids(chain)
    with pytest.raises(ZeroDivisionError), write(chain.engine) as session:
        machine = session.scalars(select(Machine)).one()
        machine.description = "half-written"
        session.flush()
        history.record(
            session, ACTOR, kind="machine", object_id=machine.id, name="web01", before={}, after={"half": "written"}
        )
        session.flush()
        raise ZeroDivisionError
    with pytest.raises(NameTaken):
        machines.rename(chain, ACTOR, "web01", "web01")
    assert machines.listing(chain) == before
    assert ids(chain) == revisions
    assert records.verify(chain) == []


@both_engines
def test_a_dry_run_changes_nothing_and_says_what_it_would_do(chain: Site) -> None:
    before, revisions = machines.listing(chain), ids(chain)
    rehearsal = chain.rehearsing()
    assert machines.edit(rehearsal, ACTOR, "web01", {"description": "tried"})["description"] == "tried"
    machines.remove(rehearsal, ACTOR, "web01")
    assert machines.listing(chain) == before == machines.listing(rehearsal)
    assert ids(chain) == revisions


def rehashed(session: Session, row: Revision) -> None:
    """Give a row that was edited the hash that fits it, as somebody would who knows how it is made."""
    row.hash = history.digest(row)
    session.flush()


@both_engines
def test_s85_verify_finds_a_row_that_was_edited_and_hashed_again(chain: Site) -> None:
    """The next row still holds the hash of what it was."""
    rows = ids(chain)
    with write(chain.engine) as session:
        row = session.get_one(Revision, rows[-3])
        row.actor = "nobody"
        rehashed(session, row)
    assert records.verify(chain) == [f"before revision {rows[-2]} a row was removed or moved"]


@both_engines
def test_s85_verify_finds_the_last_row_edited_and_hashed_again_by_the_tip(chain: Site) -> None:
    rows = ids(chain)
    with write(chain.engine) as session:
        row = session.get_one(Revision, rows[-1])
        row.reason = "made up"
        rehashed(session, row)
    assert records.verify(chain) == [f"revisions after {rows[-1]} were removed"]


@both_engines
def test_s85_verify_finds_a_row_that_was_put_in(chain: Site) -> None:
    """With a hash that fits its own content and the row before."""
    rows = ids(chain)
    with write(chain.engine) as session:
        last = session.get_one(Revision, rows[-1])
        content = {column.key: getattr(last, column.key) for column in Revision.__table__.columns}
        forged = Revision(**content | {"id": rows[-1] + 1, "actor": "nobody", "previous_hash": last.hash})
        rehashed(session, forged)
        session.add(forged)
    assert records.verify(chain) == [f"revisions after {rows[-1] + 1} were removed"]


@both_engines
def test_s85_verify_finds_neighbours_that_changed_places_even_when_hashed_again(chain: Site) -> None:
    """Their contents changed places, each with a hash that fits it where it stands; what follows tells."""
    one, two, three = ids(chain)[-3:]
    with write(chain.engine) as session:
        first, second = session.get_one(Revision, one), session.get_one(Revision, two)
        fields = (
            "at",
            "actor",
            "origin",
            "request",
            "reason",
            "kind",
            "object_id",
            "name",
            "action",
            "before",
            "after",
        )
        for field in fields:
            here, there = getattr(first, field), getattr(second, field)
            setattr(first, field, there)
            setattr(second, field, here)
        rehashed(session, first)
        second.previous_hash = first.hash
        rehashed(session, second)
    assert records.verify(chain) == [f"before revision {three} a row was removed or moved"]


@both_engines
def test_a_whole_chain_made_anew_is_found_by_a_hash_kept_elsewhere_alone(chain: Site) -> None:
    """What a chain cannot show: rows and tip forged together. The newest hash, kept elsewhere, shows it."""
    with write(chain.engine) as session:
        kept = session.get_one(Counter, "revision").text
        previous = "0" * 64
        for row in session.scalars(select(Revision).order_by(Revision.id)):
            row.actor, row.previous_hash = "nobody", previous
            rehashed(session, row)
            previous = row.hash
        session.get_one(Counter, "revision").text = previous
    assert records.verify(chain) == []
    with read(chain.engine) as session:
        assert session.get_one(Counter, "revision").text != kept


@both_engines
def test_lives_tell_objects_apart_that_had_one_number(chain: Site) -> None:
    """SQLite gives the number of the last row that was removed to the next one."""
    machines.remove(chain, ACTOR, "web01")
    with write(chain.engine) as session:
        old = session.scalars(select(Revision).filter_by(kind="machine", action="remove")).one()
        history.record(
            session, ACTOR, kind="machine", object_id=old.object_id, name="db01", before=None, after={"name": "db01"}
        )
        session.flush()
        lives = [*history.lives(session, "machine", "web01"), *history.lives(session, None, "db01")]
        told = [
            session.scalars(select(Revision.action).where(life.holds()).order_by(Revision.id)).all() for life in lives
        ]
    assert told == [["add", "edit", "edit", "edit", "remove"], ["add"]]


@both_engines
def test_a_moment_is_a_revision_even_where_the_clock_was_set_back(chain: Site) -> None:
    """What was so then is told by all revisions up to one, not by each one's clock."""
    rows = ids(chain)
    with read(chain.engine) as session:
        stamps = {row.id: row.at for row in session.scalars(select(Revision))}
        for row in rows[-4:]:
            assert history.moment_of(session, stamps[row]) == row
        assert history.moment_of(session, stamps[rows[0]].replace(year=2000)) == 0
        state = history.named_then(session, "machine", "web01", rows[-2])
        assert state is not None
        assert (state.after or {})["description"] == "change 1"
        assert [each.name for each in history.all_then(session, "machine", rows[-1])] == ["web01"]
        assert history.all_then(session, "machine", rows[-5]) == []
