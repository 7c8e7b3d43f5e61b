"""Every order of what machines and people may do to a build, played against the real services.

One hypothesis state machine; its rules are what can happen, its invariants are what must hold after each step:
R01 (no reinstall loop), R03 (late `built`), R04 (lost, repeated and reordered reports), S23 and S27 (secrets, tokens).
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, update
from world import ACTOR, IP, MAC, OTHER_IP, World, token_in

from provisioner.core.lifecycle import ENDED, TABLE, BuildState, MachineState, NextBoot, Phase, phase_of
from provisioner.errors import Conflict, NotFound, ProvisionerError, SecretGone, TokenRefused
from provisioner.services import arming, attempts, boot, builds, machines, records, reports
from provisioner.services.reports import Report
from provisioner.services.site import Site, open_site
from provisioner.settings import Settings
from provisioner.store.engine import read, write
from provisioner.store.models import Attempt, Build, Event, Machine, Secret

Tokens = dict[str, str]
FOREIGN = "127.0.9.9"
sources = st.sampled_from([IP, IP, IP, OTHER_IP, FOREIGN])
STEPS = ["disk", "packages", "reboot", "built", "built", "failed"]


class BuildLife(RuleBasedStateMachine):
    """One machine, `web01`, and everybody who acts on it."""

    template: Path  # set by the test
    handed_out = Bundle("handed_out")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="life-"))
        shutil.copytree(self.template, self.directory / "state")
        self.site: Site = open_site(Settings(state_dir=self.directory / "state", boot_url="http://127.0.0.1:8080"))
        self.scripts: dict[tuple[int, int], int] = {}
        self.continued = 0  # since the disk of the present build was last touched
        self.attempts_free = 2
        self.disk = False
        self.unwrapped: dict[str, tuple[str, str]] = {}
        self.events = 0

    def teardown(self) -> None:
        self.site.engine.dispose()
        shutil.rmtree(self.directory)

    @initialize(target=handed_out)
    def begin(self) -> Tokens:
        self.world = World(self.site, self.directory)
        self.world.ready()
        self.world.secret()
        self._refused(lambda: arming.start(self.site, ACTOR, "web01"))
        return {"answer": "x" * 54, "event": "x" * 54, "handoff": "x" * 54}

    # What can be seen from the database.

    def state(self) -> tuple[str | None, Phase | None, int, str, int]:
        """The machine's state, its latest build's phase and number, its newest attempt's uid and number."""
        with read(self.site.engine) as session:
            machine = session.scalars(select(Machine)).one_or_none()
            if machine is None:
                return None, None, 0, "", 0
            build = session.scalars(
                select(Build).where(Build.machine_id == machine.id).order_by(Build.number.desc())
            ).first()
            if build is None:
                return machine.state, None, 0, "", 0
            newest = build.attempts[-1] if build.attempts else None
            found = phase_of(BuildState(build.state), was_built=build.built_at is not None)
            return machine.state, found, build.number, newest.uid if newest else "", newest.number if newest else 0

    def lives(self, tokens: Tokens) -> bool:
        """Whether these tokens are those of the newest attempt of the latest build."""
        uid = self.state()[3]
        return bool(uid) and tokens["event"].startswith(uid)

    def event_rows(self) -> int:
        with read(self.site.engine) as session:
            return len(session.scalars(select(Event.id)).all())

    def _refused(self, action: Callable[[], Any], *kinds: type[ProvisionerError]) -> Any:
        """The action's result, or None when it was refused with a typed error."""
        expected = kinds or (Conflict, NotFound)
        try:
            return action()
        except expected:
            return None

    # The machine.

    @rule(target=handed_out, source=sources)
    def boots(self, source: str) -> Tokens:
        machine, phase, number, uid, attempt = self.state()
        answer = boot.boot_script(self.site, boot.BootRequest(MAC, source, boot_url="http://127.0.0.1:8080"))
        after = self.state()
        if machine != MachineState.BUILDING:
            assert answer.decision.next_boot is not NextBoot.BUILD, f"an installer for a machine that is {machine}"
            assert "/answer" not in answer.text
        if machine is None:
            assert answer.decision.next_boot is NextBoot.DISCOVERY
        if phase is Phase.FAILED and machine == MachineState.FAILED:
            assert answer.decision.next_boot is NextBoot.HALT
        if source == FOREIGN:
            assert answer.decision.next_boot is not NextBoot.BUILD
        if after[4] != attempt and after[2] == number:
            assert answer.decision.next_boot is NextBoot.BUILD
            assert after[4] == attempt + 1
            assert not self.disk or self.continued, "an installer after the disk was touched, and nobody clicked"
            assert after[4] <= self.attempts_free, f"attempt {after[4]}, and nobody clicked"
            self.disk, self.continued = False, 0
        if answer.decision.next_boot is not NextBoot.BUILD:
            return {"answer": "x" * 54, "event": "y" * 54, "handoff": "z" * 54}
        assert not (self.disk and after[3] == uid), "the same attempt's installer again, after it wrote to the disk"
        made = token_in(answer.text, "answer")
        values = {"answer": made}
        with read(self.site.engine) as session:
            held = session.scalars(select(Attempt).where(Attempt.uid == made[:22])).one()
            filled = attempts.marker_values(self.site, held)
        return values | {"event": filled["event_token"], "handoff": filled["handoff_token"]}

    @rule(tokens=handed_out, source=sources)
    def fetches(self, tokens: Tokens, source: str) -> None:
        phase, alive, before = self.state()[1], self.lives(tokens), self.event_rows()
        got = self._refused(lambda: attempts.fetch(self.site, tokens["answer"], "answer", source), TokenRefused)
        if got is None:
            return
        assert alive
        assert source != FOREIGN
        assert phase in {Phase.BOOTING, Phase.INSTALLING}
        assert tokens["event"] in got.text
        assert self.event_rows() == before + 1

    @rule(tokens=handed_out, source=sources, nonce=st.sampled_from(["n1", "n2"]))
    def unwraps(self, tokens: Tokens, source: str, nonce: str) -> None:
        alive = self.lives(tokens)
        take = lambda: attempts.unwrap(self.site, tokens["answer"], "root_password", nonce, source)  # noqa: E731
        got = self._refused(take, TokenRefused, SecretGone, NotFound)
        if got is None:
            return
        assert alive
        assert got.startswith("$6$")
        first = self.unwrapped.setdefault(tokens["answer"], (source, nonce))
        assert first == (source, nonce), "the secret was given to two questions of one attempt"

    @rule(tokens=handed_out, source=sources, step=st.sampled_from(STEPS), times=st.integers(1, 3))
    def reports(self, tokens: Tokens, source: str, step: str, times: int) -> None:
        for _ in range(times):
            before, alive, rows = self.state(), self.lives(tokens), self.event_rows()
            take = lambda: reports.event(self.site, tokens["event"], source, Report(step, "m", "log"))  # noqa: E731
            receipt = self._refused(take, TokenRefused)
            after = self.state()
            if receipt is not None:
                assert self.event_rows() > rows, "an accepted report is in the timeline"
            if receipt is None or receipt.repeated or not alive or before[1] in ENDED:
                assert after[:2] == before[:2], "a report without right changes nothing"
            elif step == "built":
                assert after[1] is Phase.BUILT
            elif step == "disk" and before[1] is not Phase.BUILT:
                if not self.disk:
                    self.continued, self.attempts_free = 0, max(after[4], min(self.attempts_free, 2))
                self.disk = True
            if alive and before[1] in {Phase.BOOTING, Phase.INSTALLING} and step == "built":
                assert receipt is not None, "`built` is taken from a live attempt, however old it is (R03)"

    @rule(tokens=handed_out, ok=st.booleans(), times=st.integers(1, 2))
    def handoff_reports(self, tokens: Tokens, ok: bool, times: int) -> None:
        for _ in range(times):
            before, alive, rows = self.state(), self.lives(tokens), self.event_rows()
            take = lambda: reports.configured(self.site, tokens["handoff"], IP, ok=ok, message="m")  # noqa: E731
            receipt = self._refused(take, TokenRefused)
            after = self.state()
            if receipt is not None:
                assert self.event_rows() > rows
            if receipt is None or not alive:
                assert after[:2] == before[:2]
            elif not receipt.repeated:
                assert after[1] is (Phase.CONFIGURED if ok else Phase.FAILED_HANDOFF)

    @rule(hours=st.sampled_from([0.02, 0.02, 1, 7, 80]))
    def time_passes(self, hours: float) -> None:
        """Everything that is stored happened so much earlier."""
        with write(self.site.engine) as session:
            for column in (Attempt.opened_at, Build.armed_at, Build.built_at, Build.reboot_served_at, Secret.taken_at):
                table = column.class_
                rows = session.execute(select(table.id, column).where(column.is_not(None))).all()
                for row, moment in rows:
                    session.execute(
                        update(table).where(table.id == row).values({column: moment - timedelta(hours=hours)})
                    )

    # People.

    @rule()
    def is_armed(self) -> None:
        machine, phase, number, _, _ = self.state()
        done = self._refused(lambda: arming.start(self.site, ACTOR, "web01"))
        self._new_build(done, machine, phase, number)

    @precondition(lambda self: self.state()[2] > 0)
    @rule()
    def is_repeated(self) -> None:
        machine, phase, number, _, _ = self.state()
        done = self._refused(lambda: arming.repeat(self.site, ACTOR, "web01"))
        self._new_build(done, machine, phase, number)

    def _new_build(self, done: Any, machine: str | None, phase: Phase | None, number: int) -> None:
        if done is None:
            assert self.state()[:3] == (machine, phase, number)
            return
        assert machine != MachineState.RETIRED
        assert phase in {None, Phase.BUILT, *ENDED}
        assert self.state()[:3] == (MachineState.BUILDING, Phase.ARMED, number + 1)
        self.disk, self.continued, self.attempts_free = False, 0, 2

    @rule()
    def is_cancelled(self) -> None:
        phase = self.state()[1]
        done = self._refused(lambda: builds.cancel(self.site, ACTOR, "web01"))
        assert (done is not None) is (phase is not None and phase not in ENDED)

    @rule()
    def is_continued(self) -> None:
        if self._refused(lambda: builds.go_on(self.site, ACTOR, "web01")) is not None:
            self.continued += 1
            self.attempts_free = max(self.attempts_free, self.state()[4] + 1)

    @rule()
    def handoff_is_retried(self) -> None:
        phase = self.state()[1]
        done = self._refused(lambda: builds.retry_handoff(self.site, ACTOR, "web01"))
        assert (done is not None) is (phase is Phase.FAILED_HANDOFF)

    @rule(change=st.sampled_from([{"protected": True}, {"protected": False}, {"retired": True}, {"retired": False}]))
    def is_edited(self, change: dict[str, bool]) -> None:
        phase = self.state()[1]
        done = self._refused(lambda: machines.edit(self.site, ACTOR, "web01", change))
        if phase in {Phase.ARMED, Phase.BOOTING, Phase.INSTALLING}:
            # What it is already is no change: an inventory that says so again is not refused.
            refused = any(change.values())
            assert (done is None) == refused, "a machine is not protected or retired under a running build"

    @precondition(lambda self: self.state()[2] > 2)
    @rule()
    def is_removed_and_added_again(self) -> None:
        if self._refused(lambda: (machines.remove(self.site, ACTOR, "web01"), True)) is None:
            return
        assert self.state()[0] is None
        assert builds.show(self.site, "web01")["machine"] == "web01", "builds outlive their machine"
        self.world.machine()
        self.world.secret()
        self.disk, self.continued, self.attempts_free = False, 0, 2

    # What must hold whatever happened.

    @invariant()
    def states_are_legal(self) -> None:
        machine, phase, _, _, _ = self.state()
        if machine is None or machine == MachineState.RETIRED:
            return
        if phase is None:
            assert machine == MachineState.READY
        elif phase is Phase.CANCELLED:
            assert machine in {MachineState.READY, MachineState.BUILT}
        elif machine != MachineState.READY:  # back from `retired`
            assert machine == TABLE[phase].machine
        if phase is not None and phase not in ENDED | {Phase.BUILT}:
            assert machine == MachineState.BUILDING

    @invariant()
    def one_attempt_lives_and_earlier_builds_have_ended(self) -> None:
        with read(self.site.engine) as session:
            for build in session.scalars(select(Build)):
                assert sum(not attempt.superseded for attempt in build.attempts) <= 1
                assert [attempt.number for attempt in build.attempts] == list(range(1, len(build.attempts) + 1))
            running = [each for each in session.scalars(select(Build)) if each.ended_at is None]
            assert len(running) <= 1
            kept = {path.stem for path in (self.site.settings.state_dir / "attempts").glob("*.json")}
            alive = {each.uid for each in session.scalars(select(Attempt).where(Attempt.superseded.is_(False)))}
            assert kept <= alive, "no file of a superseded attempt waits for a stopped database"

    @invariant()
    def history_is_whole(self) -> None:
        assert records.verify(self.site) == []


@pytest.fixture
def life(_template: Path) -> Iterator[type[BuildLife]]:
    """The state machine over copies of the initialised state directory."""
    yield type("Life", (BuildLife,), {"template": _template})


@pytest.mark.slow
def test_r01_r03_r04_s23_s27_no_order_of_events_breaks_a_build(
    life: type[BuildLife], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_the_confined_process(monkeypatch)
    run_state_machine_as_test(life, settings=_settings(examples=12, steps=30))


@pytest.mark.full
@pytest.mark.slow
def test_r01_r04_full_no_order_of_events_breaks_a_build(life: type[BuildLife], monkeypatch: pytest.MonkeyPatch) -> None:
    _without_the_confined_process(monkeypatch)
    run_state_machine_as_test(life, settings=_settings(examples=150, steps=60))


def _settings(*, examples: int, steps: int) -> settings:
    """Without shrinking: a step costs real transactions, and a failure prints its steps anyway."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[HypothesisPhase.explicit, HypothesisPhase.reuse, HypothesisPhase.generate],
    )


def _without_the_confined_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering has its own tests; here the same inputs give the same files, so once is enough."""
    made: dict[tuple[str, ...], Any] = {}
    real = arming.make

    def make(site: Site, gathered: Any, *, number: int, secrets: tuple[str, ...]) -> Any:
        key = (gathered.template, *secrets)
        if key not in made:
            made[key] = real(site, gathered, number=number, secrets=secrets)
        return made[key]

    monkeypatch.setattr(arming, "make", make)
