"""The life of a build, against the tables of the design, written out here once more."""

import pytest

from provisioner.core.lifecycle import (
    ENDED,
    RUNNING,
    TABLE,
    BuildState,
    MachineState,
    NextBoot,
    Phase,
    Trigger,
    machine_state_after,
    move,
    next_boot,
    phase_of,
)
from provisioner.errors import IllegalTransition

# The next-boot table of the design: (machine, build in its latest phase) -> what a network boot gets.
ROWS: list[tuple[MachineState | None, Phase | None, NextBoot]] = [
    (None, None, NextBoot.DISCOVERY),
    (MachineState.DISCOVERED, None, NextBoot.DISCOVERY),
    (MachineState.READY, None, NextBoot.LOCAL),
    (MachineState.BUILT, None, NextBoot.LOCAL),
    (MachineState.CONFIGURED, None, NextBoot.LOCAL),
    (MachineState.RETIRED, None, NextBoot.LOCAL),
    (MachineState.READY, Phase.CANCELLED, NextBoot.LOCAL),
    (MachineState.BUILDING, Phase.ARMED, NextBoot.BUILD),
    (MachineState.BUILDING, Phase.BOOTING, NextBoot.BUILD),
    (MachineState.BUILDING, Phase.INSTALLING, NextBoot.BUILD),
    (MachineState.FAILED, Phase.FAILED, NextBoot.HALT),
    (MachineState.FAILED, Phase.FAILED_HANDOFF, NextBoot.LOCAL),
    (MachineState.BUILT, Phase.BUILT, NextBoot.LOCAL),
    (MachineState.CONFIGURED, Phase.CONFIGURED, NextBoot.LOCAL),
    (MachineState.BUILT, Phase.CANCELLED, NextBoot.LOCAL),
]


@pytest.mark.parametrize(("machine", "phase", "expected"), ROWS)
def test_r01_the_next_boot_table_row_by_row(
    machine: MachineState | None, phase: Phase | None, expected: NextBoot
) -> None:
    assert next_boot(machine, phase) is expected


def test_r01_no_other_combination_of_states_installs() -> None:
    builds = {(machine, phase) for machine, phase, expected in ROWS if expected is NextBoot.BUILD}
    for machine in (None, *MachineState):
        for phase in (None, *Phase):
            for protected in (False, True):
                got = next_boot(machine, phase, protected=protected)
                if got is NextBoot.BUILD:
                    assert (machine, phase) in builds
                    assert not protected
                if protected and got is not next_boot(machine, phase):
                    assert (machine, phase) in builds, "protection takes the installer away and nothing else"
                    assert got is NextBoot.LOCAL


# (from, trigger) -> to; what is not in here is refused.
MOVES = {
    ("armed", "attempt"): "booting",
    ("armed", "cancel"): "cancelled",
    ("booting", "attempt"): "booting",
    ("booting", "progress"): "installing",
    ("booting", "built"): "built",
    ("booting", "failed"): "failed",
    ("booting", "configured"): "configured",
    ("booting", "cancel"): "cancelled",
    ("booting", "stop"): "failed",
    ("installing", "attempt"): "booting",
    ("installing", "progress"): "installing",
    ("installing", "built"): "built",
    ("installing", "failed"): "failed",
    ("installing", "configured"): "configured",
    ("installing", "cancel"): "cancelled",
    ("installing", "stop"): "failed",
    ("built", "progress"): "built",
    ("built", "built"): "built",
    ("built", "failed"): "failed-handoff",
    ("built", "configured"): "configured",
    ("built", "cancel"): "cancelled",
    ("built", "stop"): "failed-handoff",
    ("failed-handoff", "retry-handoff"): "built",
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("trigger", Trigger)
def test_r04_every_move_is_listed_and_no_other_is_possible(phase: Phase, trigger: Trigger) -> None:
    expected = MOVES.get((phase.value, trigger.value))
    if expected is None:
        with pytest.raises(IllegalTransition):
            move(phase, trigger)
    else:
        assert move(phase, trigger) is Phase(expected)


def test_r04_an_ended_build_never_runs_again() -> None:
    for phase in ENDED:
        reached = {phase}
        while True:
            further = reached | {after for each in reached for after in TABLE[each].moves.values()}
            if further == reached:
                break
            reached = further
        assert not reached & RUNNING
    assert set(Phase) == ENDED | RUNNING | {Phase.BUILT}


def test_states_that_people_see() -> None:
    for phase in Phase:
        was_built = phase in {Phase.BUILT, Phase.CONFIGURED, Phase.FAILED_HANDOFF}
        assert phase_of(phase.state, was_built=was_built) is phase
    assert Phase.FAILED_HANDOFF.state is BuildState.FAILED
    assert machine_state_after(Phase.CANCELLED, Phase.BUILT) is MachineState.BUILT
    assert machine_state_after(Phase.CANCELLED, Phase.INSTALLING) is MachineState.READY
