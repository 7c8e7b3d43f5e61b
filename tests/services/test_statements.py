"""What one question of a machine costs: indexed statements that can be counted, and no object that is built for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import event, text
from sqlalchemy.dialects import sqlite
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import NextBoot
from provisioner.services import arming, attempts, boot, looks, profiles, reports
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.services.site import Site
from provisioner.store.base import Base
from provisioner.store.engine import read

pytestmark = pytest.mark.slow

REQUEST = BootRequest(MAC, IP)


@contextmanager
def asked(site: Site) -> Iterator[list[str]]:
    """The statements of what happens inside, by their first words; objects that were loaded are in it too."""
    seen: list[str] = []

    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        words = text.split()
        if words[0] in {"WITH", "SELECT", "INSERT", "UPDATE", "DELETE"} and "pg_advisory_xact_lock" not in text:
            seen.append(
                {"WITH": "SELECT", "INSERT": f"INSERT {words[2]}", "UPDATE": f"UPDATE {words[1]}"}.get(
                    words[0], "SELECT"
                )
            )

    def loaded(thing: Any, _: Any) -> None:
        seen.append(f"object {type(thing).__name__}")

    event.listen(site.engine, "before_cursor_execute", statement)
    event.listen(Base, "load", loaded, propagate=True)
    yield seen
    event.remove(site.engine, "before_cursor_execute", statement)
    event.remove(Base, "load", loaded)


@both_engines
def test_the_script_of_a_ready_machine_is_one_statement_whatever_its_way(site: Site, world: World) -> None:
    world.ready()
    parent = None
    for name, way in (("root", "exit"), ("middle", None), ("leaf", None)):
        profiles.add(site, ACTOR, {"name": name, "parent": parent, "local_boot": way})
        parent = name
    world.machine("odd", "52:54:00:00:00:02", "127.0.2.12", profile="leaf")
    for request in (REQUEST, BootRequest("52:54:00:00:00:02", "127.0.2.12")):
        with asked(site) as seen:
            answer = boot.boot_script(site, request)
        assert answer.decision.next_boot is NextBoot.LOCAL
        assert seen == ["SELECT"]
    assert "sanboot" not in answer.text, "its grandparent's way"


@both_engines
def test_the_script_of_an_attempt_under_way_is_one_statement(site: Site, world: World) -> None:
    world.armed()
    text = boot.boot_script(site, REQUEST).text
    with asked(site) as seen:
        assert boot.boot_script(site, REQUEST).text == text
    assert seen == ["SELECT"]


@both_engines
@pytest.mark.parametrize("name", ["answer", "handoff"])
def test_an_answer_is_one_look_and_its_note(site: Site, world: World, name: str) -> None:
    world.armed()
    answer = token_in(boot.boot_script(site, REQUEST).text, "answer")
    with asked(site) as seen:
        attempts.fetch(site, answer, name, IP)
    assert seen == ["SELECT", "SELECT", "UPDATE build", "INSERT event"], "the first moves the build on"
    with asked(site) as seen:
        attempts.fetch(site, answer, name, IP)
    assert seen == ["SELECT", "INSERT event"]


@both_engines
def test_an_event_is_one_look_and_what_it_changes(site: Site, world: World) -> None:
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    answer = token_in(boot.boot_script(site, REQUEST).text, "answer")
    token = token_in(attempts.fetch(site, answer, "answer", IP).text, "event")
    with asked(site) as seen:
        attempts.unwrap(site, answer, "root_password", "n", IP)
    assert seen == ["SELECT", "SELECT", "UPDATE secret", "INSERT event"]
    wanted = {
        "packages": ["SELECT", "INSERT event"],
        "disk": ["SELECT", "UPDATE build", "INSERT event"],
        "built": ["SELECT", "UPDATE build", "UPDATE machine", "INSERT event"],
    }
    for step, statements in wanted.items():
        with asked(site) as seen:
            reports.event(site, token, IP, Report(step, "about it"))
        assert seen == statements, step


@pytest.mark.parametrize("statement", ["_WORLD", "_HELD"])
def test_both_looks_go_by_indices_however_many_machines_there_are(site: Site, statement: str) -> None:
    given = {"mac": MAC, "script": "ipxe", "uid": "u", "file": "answer"}
    compiled = getattr(looks, statement).compile(dialect=sqlite.dialect(paramstyle="named"))
    with read(site.engine) as session:
        plan = session.execute(text(f"EXPLAIN QUERY PLAN {compiled}"), dict(compiled.params) | given).all()
    steps = [str(row[3]) for row in plan]
    assert [step for step in steps if step.startswith("SCAN") and step != "SCAN ways"] == []
    assert any("INDEX" in step for step in steps)
