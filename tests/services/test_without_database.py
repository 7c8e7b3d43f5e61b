"""The last row of the next-boot table: while the database cannot be asked, nothing is begun."""

import dataclasses
import sqlite3
from datetime import timedelta

import pytest
from conftest import both_engines
from outage import down
from sqlalchemy import delete, select, update
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import NextBoot
from provisioner.errors import DatabaseUnavailable, TokenRefused
from provisioner.services import arming, attempts, boot, builds, reports
from provisioner.services.boot import BootRequest
from provisioner.services.site import Site
from provisioner.store.engine import open_engine, read, write
from provisioner.store.models import Attempt, Event, SealedFile

REQUEST = BootRequest(MAC, IP, platform="efi")


def token(site: Site) -> str:
    """The answer token of a boot of web01."""
    return token_in(boot.boot_script(site, REQUEST).text, "answer")


@both_engines
def test_r01_a_boot_gets_the_local_disk_and_no_attempt_is_opened(site: Site, world: World) -> None:
    world.armed()
    with down(site) as broken:
        for loader in ("ipxe", "grub", "pxelinux"):
            answer = boot.boot_script(broken, dataclasses.replace(REQUEST, loader=loader))
            assert answer.decision.next_boot is NextBoot.LOCAL
            assert "/build/" not in answer.text
            told = dataclasses.replace(REQUEST, loader=loader, boot_url=site.settings.boot_url)
            assert answer.text == boot.local_script(told)
    assert boot.boot_script(site, REQUEST).decision.opens_attempt, "afterwards it is the first attempt"


@both_engines
def test_an_attempt_under_way_fetches_its_files_and_nothing_else(site: Site, world: World) -> None:
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    answer = token(site)
    text = attempts.fetch(site, answer, "answer", IP).text
    with down(site) as broken:
        assert attempts.fetch(broken, answer, "answer", IP).text == text, "the same bytes"
        for refused in ((answer, "answer", "127.0.9.9"), (answer, "nothing", IP), ("x" * 54, "answer", IP)):
            with pytest.raises(TokenRefused):
                attempts.fetch(broken, *refused)
        with pytest.raises(DatabaseUnavailable):
            attempts.unwrap(broken, answer, "root_password", "n", IP)
        assert reports.event(broken, token_in(text, "event"), IP, reports.Report("disk")).state == "spooled"


@both_engines
@pytest.mark.parametrize("end", ["built", "failed", "cancel", "superseded"])
def test_s27_a_dead_token_stays_dead_without_the_database(site: Site, world: World, end: str) -> None:
    world.armed()
    answer = token(site)
    event = token_in(attempts.fetch(site, answer, "answer", IP).text, "event")
    if end == "cancel":
        builds.cancel(site, ACTOR, "web01")
    elif end == "superseded":
        with write(site.engine) as session:
            opened = session.scalars(select(Attempt.opened_at)).one()
            session.execute(update(Attempt).values(opened_at=opened - timedelta(seconds=61)))
        assert token(site) != answer
    else:
        reports.event(site, event, IP, reports.Report(end))
    with down(site) as broken, pytest.raises(TokenRefused):
        attempts.fetch(broken, answer, "answer", IP)


def test_r01_a_build_that_cannot_be_read_boots_the_local_disk(site: Site, world: World) -> None:
    world.armed()
    with write(site.engine) as session:
        session.execute(delete(SealedFile))
    answer = boot.boot_script(site, REQUEST)
    assert answer.decision.next_boot is NextBoot.LOCAL
    with read(site.engine) as session:
        assert session.scalars(select(Attempt)).all() == [], "and no attempt is used up"


def test_a_locked_database_delays_no_answer_and_opens_nothing(site: Site, world: World) -> None:
    world.armed()
    answer = token(site)
    impatient = dataclasses.replace(site, engine=open_engine(site.settings.database, lock_seconds=0.05))
    holder = sqlite3.connect(site.settings.state_dir / "provisioner.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert attempts.fetch(impatient, answer, "answer", IP).text, "it only reads; that it was fetched is not noted"
    moved = boot.boot_script(impatient, dataclasses.replace(REQUEST, source="127.0.2.77"))
    assert moved.decision.next_boot is NextBoot.LOCAL
    holder.execute("ROLLBACK")
    holder.close()
    impatient.engine.dispose()
    with read(site.engine) as session:
        assert [each.number for each in session.scalars(select(Attempt))] == [1]
        assert "answer" not in session.scalars(select(Event.kind)).all()


@both_engines
def test_r03_built_is_taken_long_after_the_answer_token_expired(site: Site, world: World) -> None:
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    answer = token(site)
    event = token_in(attempts.fetch(site, answer, "answer", IP).text, "event")
    with write(site.engine) as session:
        opened = session.scalars(select(Attempt.opened_at)).one()
        session.execute(update(Attempt).values(opened_at=opened - timedelta(hours=7)))
    for refused in (
        lambda: attempts.fetch(site, answer, "answer", IP),
        lambda: attempts.unwrap(site, answer, "root_password", "n", IP),
    ):
        with pytest.raises(TokenRefused):
            refused()
    assert reports.event(site, event, IP, reports.Report("built")).state == "built"
    assert boot.boot_script(site, REQUEST).decision.next_boot is NextBoot.LOCAL
