"""Identities over the life of builds: made, enrolled, issued and revoked, whatever crashes in between."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from conftest import both_engines
from sqlalchemy import select
from world import ACTOR, IP, MAC, OTHER_IP, World, token_in

from provisioner.errors import BuildNotPossible, IllegalTransition, InvalidInput, SecretGone, TokenRefused
from provisioner.handoff import tools
from provisioner.services import arming, attempts, boot, builds, check, handoffs, machines, outbox, profiles, reports
from provisioner.services.boot import BootRequest
from provisioner.services.reports import Report
from provisioner.store.engine import read, write
from provisioner.store.handoffs import Handoff, Outbox
from provisioner.store.models import Build, now
from tests.handoff.pretend import Pretend, Pushed

pytestmark = both_engines
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    pretend = Pretend()
    monkeypatch.setitem(tools._TOOLS, "pretend", pretend)
    return pretend


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> Pushed:
    pretend = Pushed()
    monkeypatch.setitem(tools._TOOLS, "pushed", pretend)
    return pretend


class Life:
    """A machine that is built again and again, and the worker when a test lets it work."""

    def __init__(self, world: World, tool: str) -> None:
        self.world, self.site = world, world.site
        world.ready()
        self.hand_to(tool)

    def hand_to(self, tool: str) -> None:
        profile = machines.show(self.site, "web01")["profile"]
        profiles.edit(self.site, ACTOR, profile, {"handoff": {"tool": tool, "timeout": 600}})

    def arm(self) -> None:
        arming.start(self.site, ACTOR, "web01")

    def boot(self) -> str:
        """Power on: the handoff script of the attempt."""
        script = boot.boot_script(self.site, BootRequest(MAC, IP)).text
        self.answer = token_in(script, "answer")
        text = attempts.fetch(self.site, self.answer, "handoff", IP).text
        self.handoff = token_in(text, "configured")
        self.event = token_in(attempts.fetch(self.site, self.answer, "answer", IP).text, "event")
        return text

    def installed(self) -> str:
        """Armed, booted and built."""
        self.arm()
        text = self.boot()
        self.work()
        reports.event(self.site, self.event, IP, Report("built"))
        return text

    def report(self, *, ok: bool = True, exit_code: int = 0) -> str:
        return reports.configured(self.site, self.handoff, IP, ok=ok, message="", exit_code=exit_code).state

    def work(self, rounds: int = 10) -> None:
        for _ in range(rounds):
            found = outbox.due(self.site)
            if not found:
                return
            for effect_id in found:
                effect = outbox.claim(self.site, effect_id)
                if effect is not None:
                    outbox.carry_out(self.site, effect)

    def states(self) -> list[str]:
        with read(self.site.engine) as session:
            return list(session.scalars(select(Handoff.state).order_by(Handoff.id)))

    def hurry(self) -> None:
        """As if every pause of the outbox were over."""
        with write(self.site.engine) as session:
            for row in session.scalars(select(Outbox).where(Outbox.due_at.is_not(None))):
                row.due_at = now()


@pytest.fixture
def life(world: World, tool: Pretend) -> Life:
    return Life(world, "pretend")


def test_an_identity_is_enrolled_when_the_machine_begins_and_a_good_run_makes_configured(
    life: Life, tool: Pretend
) -> None:
    life.arm()
    life.work()
    assert (life.states(), tool.asked) == (["prepared"], [])
    text = life.boot()
    assert "theirs-1" not in text
    life.work()
    assert tool.asked == [("revoke", "web01", "1"), ("enrol", "web01", "1")]
    assert (life.states(), tool.kept) == (["issued"], ["ours-1"])
    with read(life.site.engine) as session:
        assert session.scalars(select(Handoff.kept)).all() == [None], "it has served its purpose"
    assert attempts.unwrap(life.site, life.answer, "pretend-key", "n", IP) == "theirs-1"
    reports.event(life.site, life.event, IP, Report("built"))
    assert life.report(exit_code=2) == "configured"
    told = builds.show(life.site, "web01")["handoff"]
    assert (told["tool"], told["identity"], told["state"], told["round"]) == ("pretend", "web01", "issued", 1)


def test_building_again_revokes_the_old_identity_before_the_new_one_is_enrolled(life: Life, tool: Pretend) -> None:
    life.installed()
    life.report()
    life.arm()
    assert life.states() == ["issued", "prepared"], "an armed build that may be cancelled takes nobody's identity"
    tool.asked.clear()
    life.boot()
    life.work()
    assert tool.asked == [("revoke", "web01", "1"), ("revoke", "web01", "2"), ("enrol", "web01", "2")]
    assert life.states() == ["revoked", "issued"]


def test_a_cancelled_arming_leaves_the_running_machine_its_identity(life: Life, tool: Pretend) -> None:
    life.installed()
    life.report()
    life.arm()
    builds.cancel(life.site, ACTOR, "web01")
    life.work()
    assert life.states() == ["issued", "revoked"]
    assert ("revoke", "web01", "1") not in tool.asked[2:]


@pytest.mark.parametrize("step", ["cancel", "failed", "removed"])
def test_what_ends_a_build_or_a_machine_revokes_its_identity(life: Life, tool: Pretend, step: str) -> None:
    life.arm()
    life.boot()
    life.work()
    if step == "failed":
        reports.event(life.site, life.event, IP, Report("failed"))
    else:
        builds.cancel(life.site, ACTOR, "web01")
    if step == "removed":
        machines.remove(life.site, ACTOR, "web01")
    life.work()
    assert life.states() == ["revoked"]
    assert tool.asked[-1] == ("revoke", "web01", "1")


def test_s23_who_asks_for_a_secret_a_second_time_costs_the_build_its_identity(life: Life, tool: Pretend) -> None:
    """In another round of an installed machine, too: the machine goes on from its disk, the identity is revoked."""
    life.installed()
    life.report(ok=False, exit_code=1)
    builds.retry_handoff(life.site, ACTOR, "web01")
    life.work()
    token = token_in(handoffs.again(life.site, life.handoff, IP), "configured")
    attempts.unwrap(life.site, token, "pretend-key", "n", IP)
    with pytest.raises(SecretGone):
        attempts.unwrap(life.site, token, "pretend-key", "another", IP)
    life.work()
    assert life.states() == ["revoked", "revoked"]
    assert tool.asked[-1] == ("revoke", "web01", "2")
    assert boot.boot_script(life.site, BootRequest(MAC, IP)).decision.next_boot.value == "local"


def test_a_machine_that_is_removed_takes_its_identity_along(life: Life, tool: Pretend) -> None:
    life.installed()
    life.report()
    tool.away = True
    machines.remove(life.site, ACTOR, "web01")
    life.work()
    assert life.states() == ["issued"]
    tool.away = False
    life.hurry()
    life.work()
    assert life.states() == ["revoked"]


def test_a_server_that_is_away_is_asked_again_and_check_says_so(life: Life, tool: Pretend) -> None:
    life.arm()
    life.boot()
    tool.away = True
    life.work()
    assert life.states() == ["prepared"]
    assert outbox.due(life.site) == [], "it waits"
    told = [each.what for each in check.run(life.site, only=[check.handoffs])]
    assert told[0] == "handoff pretend: its server is away"
    assert "pretend: enrol of web01 (web01) fails: the pretended server gives no answer" in told[1]
    assert "handoff-waits" in [each["kind"] for each in builds.show(life.site, "web01")["events"]]
    tool.away = False
    life.hurry()
    life.work()
    assert life.states() == ["issued"]
    assert check.run(life.site, only=[check.handoffs]) == []


def test_who_is_killed_while_it_works_loses_its_lease_and_another_does_it(life: Life, tool: Pretend) -> None:
    life.arm()
    life.boot()
    (effect_id,) = outbox.due(life.site)
    assert outbox.claim(life.site, effect_id) is not None
    assert outbox.claim(life.site, effect_id) is None
    assert outbox.due(life.site) == []
    assert outbox.due(life.site, now() + outbox.LEASE + timedelta(seconds=1)) == [effect_id]
    life.hurry()
    life.work()
    assert life.states() == ["issued"]


def test_a_good_run_is_not_believed_before_the_identity_was_issued(life: Life, tool: Pretend) -> None:
    tool.issued = False
    life.installed()
    assert life.states() == ["enrolled"]
    assert life.report() == "failed"
    assert "web01 was never issued for this build" in builds.show(life.site, "web01")["outcome"]


@pytest.mark.parametrize(("ok", "code", "state"), [(True, 1, "failed"), (False, 0, "failed"), (True, 2, "configured")])
def test_the_tool_says_which_exit_status_is_good(life: Life, *, ok: bool, code: int, state: str) -> None:
    life.installed()
    assert life.report(ok=ok, exit_code=code) == state


def test_retry_handoff_has_new_secrets_for_that_step_alone(life: Life, tool: Pretend) -> None:
    """The old token asks for the new script and opens nothing else; the machine boots from its disk meanwhile."""
    life.arm()
    life.boot()
    life.work()
    attempts.unwrap(life.site, life.answer, "pretend-key", "n", IP)
    reports.event(life.site, life.event, IP, Report("built"))
    with pytest.raises(IllegalTransition):
        builds.retry_handoff(life.site, ACTOR, "web01")
    life.report(ok=False, exit_code=1)
    old = life.handoff
    assert handoffs.again(life.site, old, IP) == ""
    assert boot.boot_script(life.site, BootRequest(MAC, IP)).decision.next_boot.value == "local"
    told = builds.retry_handoff(life.site, ACTOR, "web01")
    assert (told["state"], told["attempts"], told["handoff"]["round"]) == ("built", 1, 2)
    life.work()
    assert life.states() == ["revoked", "issued"]
    assert tool.asked[-3:] == [
        ("revoke", "web01", "1"),
        ("revoke", "web01", "2"),
        ("enrol", "web01", "2"),
    ]
    with pytest.raises(TokenRefused):
        handoffs.again(life.site, old, OTHER_IP)
    text = handoffs.again(life.site, old, IP)
    life.handoff = token_in(text, "configured")
    for refused in (old, life.answer):
        with pytest.raises(TokenRefused):
            attempts.unwrap(life.site, refused, "pretend-key", "other", IP)
    assert attempts.unwrap(life.site, life.handoff, "pretend-key", "n", IP) == "theirs-2"
    assert boot.boot_script(life.site, BootRequest(MAC, IP)).decision.next_boot.value == "local"
    assert life.report() == "configured"
    with pytest.raises(TokenRefused):
        handoffs.again(life.site, old, IP)


def test_another_round_opens_no_other_secret_of_the_machine(life: Life) -> None:
    life.world.secret()
    life.installed()
    life.report(ok=False, exit_code=1)
    builds.retry_handoff(life.site, ACTOR, "web01")
    token = token_in(handoffs.again(life.site, life.handoff, IP), "configured")
    with pytest.raises(TokenRefused):
        attempts.unwrap(life.site, token, "root_password", "n", IP)


def test_a_handoff_beyond_its_limit_fails_with_what_it_said_last(life: Life) -> None:
    life.installed()
    handoffs.running(life.site, life.handoff, IP, "x", "one\ntwo\nconnection refused\n")
    assert handoffs.overdue(life.site, now() + timedelta(seconds=590)) == 0
    assert handoffs.overdue(life.site, now() + timedelta(seconds=610)) == 1
    told = builds.show(life.site, "web01")
    assert told["state"] == "failed"
    assert (
        told["outcome"] == "handoff: pretend did not confirm within 600 s; it said last: one | two | connection refused"
    )
    assert handoffs.overdue(life.site, now() + timedelta(seconds=610)) == 0
    builds.retry_handoff(life.site, ACTOR, "web01")
    assert handoffs.overdue(life.site, now() + timedelta(seconds=590)) == 0, "its time begins anew"


def test_a_build_without_a_tool_has_no_limit(world: World) -> None:
    world.armed()
    with write(world.site.engine) as session:
        build = session.scalars(select(Build)).one()
        build.state, build.built_at = "built", now() - timedelta(days=2)
    assert handoffs.overdue(world.site) == 0


def test_the_tools_server_may_report_in_the_machines_place(life: Life) -> None:
    life.installed()
    number = builds.show(life.site, "web01")["id"]
    told = builds.report_handoff(life.site, ACTOR, number, ok=False, message="no", log="the end")
    assert (told["state"], told["outcome"]) == ("failed", "handoff: no")
    with pytest.raises(IllegalTransition):
        builds.report_handoff(life.site, ACTOR, number, ok=True)
    builds.retry_handoff(life.site, ACTOR, "web01")
    assert builds.report_handoff(life.site, ACTOR, number, ok=True)["state"] == "configured"


def test_two_machines_cannot_have_one_identity(world: World, life: Life, tool: Pretend, monkeypatch: Any) -> None:
    def one_name(settings: Any, subject: Any) -> Any:
        prepared = Pretend.prepare(tool, settings, subject)
        return type(prepared)(prepared.settings, "one-name", prepared.secrets)

    monkeypatch.setattr(tool, "prepare", one_name)
    life.arm()
    world.machine("web02", "52:54:00:00:00:02", "127.0.2.12")
    with pytest.raises(BuildNotPossible, match="one-name is the pretend identity of web01"):
        arming.start(life.site, ACTOR, "web02")


def test_repeat_makes_new_credentials(life: Life, tool: Pretend) -> None:
    life.installed()
    life.report()
    arming.repeat(life.site, ACTOR, "web01")
    life.boot()
    life.work()
    assert attempts.unwrap(life.site, life.answer, "pretend-key", "n", IP) == "theirs-2"
    assert life.states() == ["revoked", "issued"]


# A machine that is configured from here


@pytest.fixture
def reached(world: World, pushed: Pushed) -> Iterator[Life]:
    yield Life(world, "pushed")


def test_a_machine_that_is_ready_is_configured_from_here_once(reached: Life, pushed: Pushed) -> None:
    reached.installed()
    for _ in range(3):
        assert (
            handoffs.ready(reached.site, reached.handoff, IP, IP, [HOST_KEY, f"{HOST_KEY} root@web01", ""]).state
            == "built"
        )
    reached.work()
    assert [what for what, _, _ in pushed.asked] == ["push"]
    assert handoffs.ready(reached.site, reached.handoff, IP, IP, [HOST_KEY]).state == "configured"
    log = [each["log"] for each in builds.log(reached.site, "web01") if each["kind"] == "configured"]
    assert log == [f"reached {IP} with 1 keys\n"]


def test_a_push_that_fails_fails_the_build_with_its_output(reached: Life, pushed: Pushed) -> None:
    pushed.on_push = lambda _: 4
    reached.installed()
    handoffs.ready(reached.site, reached.handoff, IP, IP, [HOST_KEY])
    reached.work()
    assert builds.show(reached.site, "web01")["outcome"] == "handoff: exit status 4"


def test_only_the_machine_itself_is_ready_and_only_with_host_keys(reached: Life, pushed: Pushed) -> None:
    reached.installed()
    with pytest.raises(TokenRefused):
        handoffs.ready(reached.site, reached.handoff, OTHER_IP, OTHER_IP, [HOST_KEY])
    with pytest.raises(InvalidInput):
        handoffs.ready(reached.site, reached.handoff, IP, IP, ["", "x"])
    assert handoffs.ready(reached.site, reached.handoff, IP, "198.51.100.9", [HOST_KEY]).state == "built"
    with read(reached.site.engine) as session:
        row = session.scalars(select(Handoff)).one()
        assert row.reached == {"address": IP, "host_keys": [HOST_KEY]}, "an address that is not its own is not taken"


def test_a_tool_that_is_not_pushed_has_nobody_ready(life: Life) -> None:
    life.installed()
    with pytest.raises(TokenRefused):
        handoffs.ready(life.site, life.handoff, IP, IP, [HOST_KEY])
