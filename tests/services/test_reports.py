"""What a click and a report mean to each other (R01, R04)."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update
from world import ACTOR, IP, MAC, World, token_in

from provisioner.core.lifecycle import NextBoot
from provisioner.errors import TokenRefused
from provisioner.services import arming, attempts, boot, builds, handoffs, machines, records, reports
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Attempt


def later(site: Site) -> None:
    """A minute and more goes by."""
    with write(site.engine) as session:
        for row, moment in session.execute(select(Attempt.id, Attempt.opened_at)).all():
            session.execute(update(Attempt).where(Attempt.id == row).values(opened_at=moment - timedelta(seconds=61)))


def boots(site: Site) -> str:
    """The event token of a boot that gets the installer, or an empty text."""
    answer = boot.boot_script(site, BootRequest(MAC, IP))
    if answer.decision.next_boot is not NextBoot.BUILD:
        return ""
    return token_in(attempts.fetch(site, token_in(answer.text, "answer"), "answer", IP).text, "event")


@pytest.fixture
def event(site: Site, world: World) -> str:
    """The event token of the first attempt."""
    world.armed()
    return boots(site)


def test_r01_a_click_before_the_disk_was_touched_does_not_count_after_it(site: Site, event: str) -> None:
    builds.go_on(site, ACTOR, "web01")
    reports.event(site, event, IP, Report("disk"))
    later(site)
    assert boots(site) == ""
    builds.go_on(site, ACTOR, "web01")
    reports.event(site, event, IP, Report("disk"))
    assert boots(site), "a repeated report takes no click back"


def test_r04_a_retired_machine_stays_retired_whatever_it_reports(site: Site, event: str) -> None:
    reports.event(site, event, IP, Report("built"))
    machines.edit(site, ACTOR, "web01", {"retired": True})
    reports.event(site, event, IP, Report("failed", "late"))
    assert machines.show(site, "web01")["state"] == "retired"
    assert boot.boot_script(site, BootRequest(MAC, IP)).decision.next_boot is NextBoot.LOCAL


def test_r04_a_log_that_is_no_text_is_kept(site: Site, event: str) -> None:
    reports.event(site, event, IP, Report("failed", "bad \udcff\0\x1b[2J", "log \udcff" + "x" * 100_000))
    newest = builds.log(site, "web01")[-1]
    assert "\x1b" not in newest["message"]
    assert len(newest["log"]) == 64 * 1024


def test_a_secret_set_twice_at_once_leaves_two_revisions(site: Site, world: World) -> None:
    world.subnet()
    world.machine(profile=None)
    before = len(records.listing(site))
    world.secret("one", "join_key")
    world.secret("two", "join_key")
    assert len(records.listing(site)) == before + 2


def test_retry_of_a_failed_handoff_takes_reports_again(site: Site, event: str) -> None:
    handoff = token_in(builds_handoff(site), "configured")
    reports.event(site, event, IP, Report("built"))
    assert reports.configured(site, handoff, IP, ok=False, message="no").state == "failed"
    assert reports.configured(site, handoff, IP, ok=False, message="no").repeated
    assert boots(site) == ""
    assert handoffs.again(site, handoff, IP) == ""
    builds.retry_handoff(site, ACTOR, "web01")
    with pytest.raises(TokenRefused):
        reports.configured(site, handoff, IP, ok=True, message="yes")
    later = token_in(handoffs.again(site, handoff, IP), "configured")
    assert later != handoff
    assert reports.configured(site, later, IP, ok=True, message="yes").state == "configured"
    assert arming.start(site, ACTOR, "web01")["number"] == 2


def builds_handoff(site: Site) -> str:
    """The handoff script of the attempt under way."""
    answer = boot.boot_script(site, BootRequest(MAC, IP))
    return attempts.fetch(site, token_in(answer.text, "answer"), "handoff", IP).text
