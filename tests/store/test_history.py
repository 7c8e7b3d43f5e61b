"""Every change has its revision, and nobody removes one unnoticed."""

import pytest
from conftest import both_engines
from sqlalchemy import func, select, text
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
        assert session.scalars(select(Machine.version)).one() == 4


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
