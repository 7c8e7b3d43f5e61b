"""The life of a machine and of a build: states, transitions and the next boot, in one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from provisioner.errors import IllegalTransition


class MachineState(StrEnum):
    """What is known of a machine as a whole."""

    DISCOVERED = "discovered"
    READY = "ready"
    BUILDING = "building"
    BUILT = "built"
    CONFIGURED = "configured"
    FAILED = "failed"
    RETIRED = "retired"


class BuildState(StrEnum):
    """What people see of a build."""

    ARMED = "armed"
    BOOTING = "booting"
    INSTALLING = "installing"
    BUILT = "built"
    CONFIGURED = "configured"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    """A build's state, with ``failed`` told apart by whether the machine had been built by then.

    The difference decides the next boot: a machine that failed while it was installed is halted, a machine that
    failed in its handoff is a running server.
    """

    ARMED = "armed"
    BOOTING = "booting"
    INSTALLING = "installing"
    BUILT = "built"
    CONFIGURED = "configured"
    FAILED = "failed"
    FAILED_HANDOFF = "failed-handoff"
    CANCELLED = "cancelled"

    @property
    def state(self) -> BuildState:
        """The state that people see."""
        return BuildState.FAILED if self is Phase.FAILED_HANDOFF else BuildState(self.value)


def phase_of(state: BuildState, *, was_built: bool) -> Phase:
    """The phase of a stored build."""
    if state is BuildState.FAILED and was_built:
        return Phase.FAILED_HANDOFF
    return Phase(state.value)


class Trigger(StrEnum):
    """What can happen to a build."""

    ATTEMPT = "attempt"  # the machine fetched its boot script and was admitted
    PROGRESS = "progress"  # the answer file was fetched, or the installer reported a step
    BUILT = "built"
    FAILED = "failed"  # the installer or the handoff reported a failure
    CONFIGURED = "configured"
    CANCEL = "cancel"  # an administrator cancelled it, or armed the next build
    STOP = "stop"  # a secret was asked for twice
    RETRY_HANDOFF = "retry-handoff"


class NextBoot(StrEnum):
    """What a machine gets when it boots from the network."""

    DISCOVERY = "discovery"
    LOCAL = "local"
    BUILD = "build"  # if the guard admits the attempt, else HALT
    HALT = "halt"


@dataclass(frozen=True)
class Row:
    """A row of the table: the machine's state beside a build in this phase, its next boot, and the ways on."""

    machine: MachineState
    next_boot: NextBoot
    moves: Mapping[Trigger, Phase]


# Reports arrive late, twice and out of order; `configured` before `built` means that the report of `built` was lost,
# since only an installed machine can run its handoff.
TABLE: Mapping[Phase, Row] = {
    Phase.ARMED: Row(
        MachineState.BUILDING,
        NextBoot.BUILD,
        {Trigger.ATTEMPT: Phase.BOOTING, Trigger.CANCEL: Phase.CANCELLED},
    ),
    Phase.BOOTING: Row(
        MachineState.BUILDING,
        NextBoot.BUILD,
        {
            Trigger.ATTEMPT: Phase.BOOTING,
            Trigger.PROGRESS: Phase.INSTALLING,
            Trigger.BUILT: Phase.BUILT,
            Trigger.FAILED: Phase.FAILED,
            Trigger.CONFIGURED: Phase.CONFIGURED,
            Trigger.CANCEL: Phase.CANCELLED,
            Trigger.STOP: Phase.FAILED,
        },
    ),
    Phase.INSTALLING: Row(
        MachineState.BUILDING,
        NextBoot.BUILD,
        {
            Trigger.ATTEMPT: Phase.BOOTING,
            Trigger.PROGRESS: Phase.INSTALLING,
            Trigger.BUILT: Phase.BUILT,
            Trigger.FAILED: Phase.FAILED,
            Trigger.CONFIGURED: Phase.CONFIGURED,
            Trigger.CANCEL: Phase.CANCELLED,
            Trigger.STOP: Phase.FAILED,
        },
    ),
    Phase.BUILT: Row(
        MachineState.BUILT,
        NextBoot.LOCAL,
        {
            Trigger.PROGRESS: Phase.BUILT,
            Trigger.BUILT: Phase.BUILT,
            Trigger.FAILED: Phase.FAILED_HANDOFF,
            Trigger.CONFIGURED: Phase.CONFIGURED,
            Trigger.CANCEL: Phase.CANCELLED,
            Trigger.STOP: Phase.FAILED_HANDOFF,
        },
    ),
    Phase.CONFIGURED: Row(MachineState.CONFIGURED, NextBoot.LOCAL, {}),
    Phase.FAILED: Row(MachineState.FAILED, NextBoot.HALT, {}),
    Phase.FAILED_HANDOFF: Row(MachineState.FAILED, NextBoot.LOCAL, {Trigger.RETRY_HANDOFF: Phase.BUILT}),
    Phase.CANCELLED: Row(MachineState.READY, NextBoot.LOCAL, {}),
}

NEXT_BOOT_WITHOUT_BUILD: Mapping[MachineState | None, NextBoot] = {
    None: NextBoot.DISCOVERY,
    MachineState.DISCOVERED: NextBoot.DISCOVERY,
    MachineState.READY: NextBoot.LOCAL,
    MachineState.BUILT: NextBoot.LOCAL,
    MachineState.CONFIGURED: NextBoot.LOCAL,
    MachineState.RETIRED: NextBoot.LOCAL,
}
"""A machine that nobody registered is None. What is not in here boots its disk: no data never means install."""

ENDED = frozenset({Phase.CONFIGURED, Phase.FAILED, Phase.FAILED_HANDOFF, Phase.CANCELLED})
RUNNING = frozenset({Phase.ARMED, Phase.BOOTING, Phase.INSTALLING})


def move(phase: Phase, trigger: Trigger) -> Phase:
    """The phase after the trigger. Raises IllegalTransition."""
    after = TABLE[phase].moves.get(trigger)
    if after is None:
        raise IllegalTransition(f"a build that is {phase.state} cannot take {trigger!r}")
    return after


def machine_state_after(phase: Phase, before: Phase) -> MachineState:
    """The machine's state once its build is in the phase. A build cancelled after `built` leaves a built machine."""
    if phase is Phase.CANCELLED and before is Phase.BUILT:
        return MachineState.BUILT
    return TABLE[phase].machine


def next_boot(machine: MachineState | None, phase: Phase | None, *, protected: bool = False) -> NextBoot:
    """The row of the next-boot table for this machine and its latest build, before the guard is asked."""
    if machine is None or machine is MachineState.DISCOVERED:
        return NextBoot.DISCOVERY
    if machine is MachineState.RETIRED:
        return NextBoot.LOCAL
    if phase is not None and TABLE[phase].machine is machine:
        row = TABLE[phase].next_boot
        return NextBoot.LOCAL if protected and row is NextBoot.BUILD else row
    return NEXT_BOOT_WITHOUT_BUILD.get(machine, NextBoot.LOCAL)
