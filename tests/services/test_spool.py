"""Reports that come while the database cannot be asked: taken, applied once, in their order, before anything else."""

import dataclasses
import fcntl
import json
import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from conftest import both_engines
from outage import down
from sqlalchemy import event as engine_event
from sqlalchemy import select
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import NextBoot
from provisioner.errors import DatabaseUnavailable, ProvisionerError, StorageFull, TokenRefused
from provisioner.services import arming, attempts, boot, builds, check, keeper, machines, reports, spool
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.services.site import Site
from provisioner.store.engine import open_engine, read, write
from provisioner.store.models import Attempt, Event, now

REQUEST = BootRequest(MAC, IP)
STORY = ("disk", "packages", "built")


@dataclasses.dataclass
class Machine:
    """An attempt under way, and its tokens."""

    site: Site
    answer: str
    event: str
    handoff: str


@pytest.fixture
def machine(site: Site, world: World) -> Machine:
    """web01, whose installer has fetched its files."""
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    answer = token_in(boot.boot_script(site, REQUEST).text, "answer")
    text = attempts.fetch(site, answer, "answer", IP).text
    handoff = attempts.fetch(site, answer, "handoff", IP).text
    return Machine(site, answer, token_in(text, "event"), token_in(handoff, "configured"))


def tell(broken: Site, machine: Machine, *steps: str) -> None:
    """The installer reports while the database is down."""
    for step in steps:
        assert reports.event(broken, machine.event, IP, Report(step, f"about {step}")).state == "spooled"


def kinds(site: Site) -> list[str]:
    """The timeline's kinds, reports alone."""
    known = {*STORY, "failed", "configured", "refused-event", "handoff-failed", "refused-report"}
    return [each["kind"] for each in builds.show(site, "web01")["events"] if each["kind"] in known]


@both_engines
def test_r23_reports_are_applied_in_their_order_with_their_times(site: Site, machine: Machine) -> None:
    began = now()
    with down(site) as broken:
        tell(broken, machine, *STORY)
        taken = reports.configured(broken, machine.handoff, IP, ok=True, message="good")
        assert taken.state == "spooled"
    ended = now()
    assert spool.pending(site)
    assert [finding.what for finding in check.spooled(site)] == [f"reports of 1 attempts wait in {site.spool_dir}"]
    keeper.look(site)
    assert not spool.pending(site)
    assert list(check.spooled(site)) == []
    assert kinds(site) == [*STORY, "configured"]
    shown = builds.show(site, "web01")
    assert shown["state"] == "configured"
    with read(site.engine) as session:
        times = session.scalars(select(Event.at).where(Event.kind.in_(STORY)).order_by(Event.id)).all()
    assert began <= times[0] <= times[1] <= times[2] <= ended, "when it was said, not when it was applied"
    assert machines.show(site, "web01")["state"] == "configured"


@both_engines
def test_r23_killed_after_the_commit_nothing_is_applied_twice(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, *STORY)
    saved = site.settings.state_dir / "saved"
    shutil.copytree(site.spool_dir, saved)
    reports.catch_up(site)
    for _ in range(2):  # as if the process had died before it removed the files
        shutil.copytree(saved, site.spool_dir, dirs_exist_ok=True)
        assert spool.pending(site)
        reports.catch_up(site)
    assert kinds(site) == list(STORY)
    assert not spool.pending(site)


@both_engines
@pytest.mark.parametrize("who", ["boot", "event", "fetch", "unwrap"])
def test_whoever_comes_first_finds_the_spool_taken_in(site: Site, machine: Machine, who: str) -> None:
    with down(site) as broken:
        tell(broken, machine, "disk", *(["built"] if who == "boot" else []))
    if who == "boot":
        assert boot.boot_script(site, REQUEST).decision.next_boot is NextBoot.LOCAL
    elif who == "event":
        assert reports.event(site, machine.event, IP, Report("packages")).state == "installing"
        assert kinds(site) == ["disk", "packages"]
    elif who == "fetch":
        attempts.fetch(site, machine.answer, "answer", IP)
    else:
        assert attempts.unwrap(site, machine.answer, "root_password", "n", IP).startswith("$6$")
    assert kinds(site)[0] == "disk"
    assert not spool.pending(site)


@contextmanager
def busy(site: Site) -> Iterator[Site]:
    """Another process is applying the spool and does not get on."""
    impatient = dataclasses.replace(site, settings=site.settings.model_copy(update={"lock_seconds": 0.05}))
    with (site.spool_dir / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield impatient


def test_no_attempt_is_opened_until_the_spool_is_in(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "packages")
    moved = dataclasses.replace(REQUEST, source="127.0.2.77")
    with busy(site) as impatient:
        decision = boot.boot_script(impatient, moved).decision
        assert (decision.next_boot, decision.reason) == (NextBoot.LOCAL, "the database cannot be asked")
        assert reports.event(impatient, machine.event, IP, Report("disk")).state == "spooled", "and none overtakes"
    with read(site.engine) as session:
        assert [each.number for each in session.scalars(select(Attempt))] == [1]
    assert boot.boot_script(site, moved).decision.next_boot is NextBoot.HALT, "it touched its disk meanwhile"
    assert kinds(site) == ["packages", "disk"]


def test_looking_takes_nothing_in(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "disk")
    boot.boot_script(site, dataclasses.replace(REQUEST, peek=True))
    assert spool.pending(site)


def test_what_was_built_fetches_its_answer_no_more(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "disk")
        assert attempts.fetch(broken, machine.answer, "answer", IP).text
        tell(broken, machine, "built")
        with pytest.raises(TokenRefused):
            attempts.fetch(broken, machine.answer, "answer", IP)


def test_s24_a_token_that_is_not_genuine_leaves_nothing_on_the_disk(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        for token in ("x" * 54, machine.answer, machine.handoff, machine.event[:-1] + "~"):
            with pytest.raises(TokenRefused):
                reports.event(broken, token, IP, Report("disk"))
        with pytest.raises(TokenRefused):
            reports.configured(broken, machine.event, IP, ok=True, message="")
    assert not spool.pending(site)


def test_who_holds_a_token_does_not_fill_the_disk(site: Site, world: World, machine: Machine) -> None:
    world.machine("web02", "52:54:00:12:34:57", "127.0.2.12")
    arming.start(site, ACTOR, "web02")
    script = boot.boot_script(site, BootRequest("52:54:00:12:34:57", "127.0.2.12")).text
    text = attempts.fetch(site, token_in(script, "answer"), "answer", "127.0.2.12").text
    with down(site) as broken:
        for _ in range(200):
            tell(broken, machine, "packages")
        with pytest.raises(StorageFull):
            reports.event(broken, machine.event, IP, Report("packages"))
        other = reports.event(broken, token_in(text, "event"), "127.0.2.12", Report("disk"))
        assert other.state == "spooled"
    reports.catch_up(site)
    assert kinds(site) == ["packages"] * 200


def test_an_unreadable_report_is_set_aside_and_the_rest_is_applied(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, *STORY)
    second = sorted(site.spool_dir.glob("*/*.json"))[1]
    second.write_bytes(b'{"kind": "ev')
    reports.catch_up(site)
    assert kinds(site) == ["disk", "built"]
    assert not spool.pending(site)
    assert [path.name for path in (site.spool_dir / "aside").iterdir()] == [second.name]


def test_reports_of_a_removed_machine_hold_up_nobody(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "disk")
    builds.cancel(site, ACTOR, "web01")
    machines.remove(site, ACTOR, "web01")
    reports.catch_up(site)
    assert not spool.pending(site)
    (aside,) = (site.spool_dir / "aside").iterdir()
    assert json.loads(next(aside.iterdir()).read_text())["step"] == "disk", "kept for somebody to look at"
    assert [finding.what for finding in check.spooled(site)] == ["1 reports were set aside"]


def test_reports_of_a_cancelled_build_are_noted_as_refused(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "built")
    # Cancelling is somebody's decision at the keyboard; the command does not know of the spool.
    builds.cancel(site, ACTOR, "web01")
    reports.catch_up(site)
    assert kinds(site) == ["refused-event"]
    assert builds.show(site, "web01")["state"] == "cancelled"


def test_a_handoff_is_judged_by_when_it_was_reported(site: Site, machine: Machine) -> None:
    reports.event(site, machine.event, IP, Report("built"))
    with down(site) as broken:
        reports.configured(broken, machine.handoff, IP, ok=True, message="good")
    with write(site.engine) as session:
        build = session.scalars(select(Attempt)).one().build
        assert build.built_at is not None
        build.built_at -= timedelta(hours=site.settings.handoff_hours)
        build.built_at += timedelta(seconds=30)
    (path,) = site.spool_dir.glob("*/*.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"at": content["at"] - 60}))
    reports.catch_up(site)
    assert builds.show(site, "web01")["state"] == "configured"


def test_r19_a_full_database_spools_too(site: Site, machine: Machine) -> None:
    full = open_engine(site.settings.database, lock_seconds=1)
    engine_event.listen(full, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 1"))
    no_room = dataclasses.replace(site, engine=full)
    log = random.Random(1).randbytes(30_000).hex()  # does not shrink much
    assert reports.event(no_room, machine.event, IP, Report("failed", "no", log)).state == "spooled"
    full.dispose()
    reports.catch_up(site)
    assert builds.show(site, "web01")["state"] == "failed"
    assert builds.log(site, "web01")[-1]["log"].endswith(log[-100:])


@pytest.mark.parametrize("workers", [8])
def test_many_report_while_the_database_comes_and_goes(site: Site, machine: Machine, workers: int) -> None:
    """Every report that was acknowledged is in the timeline, once."""
    reported: list[str] = []

    def work(worker: int) -> None:
        for number in range(10):
            with down(site) as broken:
                where = broken if (worker + number) % 2 else site
                step = f"step-{worker}-{number}"
                reports.event(where, machine.event, IP, Report(step))
                reported.append(step)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work, worker) for worker in range(workers)]:
            future.result()
    reports.catch_up(site)
    noted = [each["kind"] for each in builds.show(site, "web01")["events"] if each["kind"].startswith("step-")]
    assert sorted(noted) == sorted(reported)
    for worker in range(workers):
        own = [kind for kind in noted if kind.startswith(f"step-{worker}-")]
        assert own == sorted(own, key=lambda kind: int(kind.split("-")[2])), "the order of each"


def test_a_process_killed_while_it_wrote_leaves_nothing_that_stays(site: Site, machine: Machine) -> None:
    with down(site) as broken:
        tell(broken, machine, "disk")
    (directory,) = (path for path in site.spool_dir.iterdir() if path.is_dir() and len(path.name) == 22)
    half = directory / ".new-killed"
    half.write_bytes(b'{"kind"')
    reports.catch_up(site)
    assert kinds(site) == ["disk"]
    os.utime(half, (0, 0))
    reports.catch_up(site)
    assert not spool.pending(site)


def test_without_a_place_for_the_spool_the_machine_is_told_to_repeat(site: Site, machine: Machine) -> None:
    shutil.rmtree(site.spool_dir)
    site.spool_dir.write_text("not a directory")
    with down(site) as broken, pytest.raises(ProvisionerError) as caught:
        reports.event(broken, machine.event, IP, Report("disk"))
    assert caught.value.status >= 500
    site.spool_dir.unlink()
    assert not isinstance(caught.value, DatabaseUnavailable)
