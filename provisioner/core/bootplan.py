"""The decision at each network boot: what this machine gets, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.addresses import contains
from provisioner.core.lifecycle import MachineState, NextBoot, Phase, next_boot

FREE_ATTEMPTS = 2
"""A third attempt waits for somebody: a machine that comes back a third time is in a loop."""
SAME_ATTEMPT_SECONDS = 60
"""Firmware asks again within this time when a reply was lost; that is still the same power-on."""


class Admission(StrEnum):
    """Whether an address may open an attempt for a machine."""

    ASSIGNED = "assigned"
    IN_SUBNET = "in-subnet"  # admitted, and flagged
    REFUSED = "refused"


@dataclass(frozen=True)
class Network:
    """The part of a subnet that admission looks at."""

    name: str
    cidr: str
    dhcp: str


def admit(source: str, assigned: Sequence[str], networks: Sequence[Network]) -> Admission:
    """Whether a request from ``source`` may open an attempt (DESIGN: a MAC address is not an identity).

    Where we hand out the addresses ourselves, only the assigned one will do.
    """
    if source in assigned:
        return Admission.ASSIGNED
    for network in networks:
        if contains(network.cidr, source):
            return Admission.REFUSED if network.dhcp == "authoritative" else Admission.IN_SUBNET
    return Admission.REFUSED


@dataclass(frozen=True)
class BootFacts:
    """All that the decision looks at."""

    machine: MachineState | None
    phase: Phase | None = None
    protected: bool = False
    source: str = ""
    admission: Admission = Admission.REFUSED
    attempts: int = 0
    attempt_source: str | None = None
    attempt_age: float | None = None
    """Seconds since the latest attempt was opened."""
    disk_touched: bool = False
    """The installer of the latest attempt reported that it writes to a disk."""
    secret_taken: bool = False
    """The latest attempt has unwrapped a secret: what boots again is another power-on, which needs its own."""
    released: int = 0
    """The number of the attempt up to which somebody let this build go on."""
    discovery: bool = True
    """Whether machines that nobody registered are held in the discovery script (the setting)."""
    reboot_announced: bool = False
    """The installer said ``step=reboot``: the next boot is its own, to the disk."""


@dataclass(frozen=True)
class BootDecision:
    """What the machine gets. ``opens_attempt`` is only ever true for BUILD."""

    next_boot: NextBoot
    reason: str
    opens_attempt: bool = False
    flagged: bool = False


def decide(facts: BootFacts) -> BootDecision:
    """The decision for one network boot; pure, so that ``boot explain`` and the boot plane cannot differ."""
    if facts.machine is None and not facts.discovery:
        return BootDecision(NextBoot.LOCAL, "no machine has this MAC address, and discovery is off")
    row = next_boot(facts.machine, facts.phase, protected=facts.protected)
    if row is not NextBoot.BUILD:
        return BootDecision(row, _reason(facts, row))
    if facts.reboot_announced:
        return BootDecision(NextBoot.LOCAL, "the installer announced this reboot; the build goes on from the disk")
    if facts.admission is Admission.REFUSED:
        message = f"the request came from {facts.source}, which is not an address of this machine"
        return BootDecision(NextBoot.HALT, message, flagged=True)
    flagged = facts.admission is Admission.IN_SUBNET
    if _same_attempt(facts):
        return BootDecision(NextBoot.BUILD, f"attempt {facts.attempts} asks again", flagged=flagged)
    refusal = guard(facts)
    if refusal:
        return BootDecision(NextBoot.HALT, refusal)
    return BootDecision(
        NextBoot.BUILD, f"build is {facts.phase}; attempt {facts.attempts + 1}", opens_attempt=True, flagged=flagged
    )


def guard(facts: BootFacts) -> str | None:
    """Why no further attempt is admitted, or None: no machine is wiped twice by accident."""
    number = facts.attempts + 1
    if number <= facts.released:
        return None
    if facts.disk_touched:
        return "an earlier attempt of this build already wrote to a disk and did not finish"
    if number > FREE_ATTEMPTS:
        return f"this would be attempt {number} of this build: the machine keeps coming back"
    return None


def _same_attempt(facts: BootFacts) -> bool:
    return (
        facts.attempts > 0
        and facts.attempt_source == facts.source
        and facts.attempt_age is not None
        and 0 <= facts.attempt_age < SAME_ATTEMPT_SECONDS
        and not facts.disk_touched
        and not facts.secret_taken
    )


def _reason(facts: BootFacts, row: NextBoot) -> str:
    if facts.machine is None:
        return "no machine has this MAC address"
    if row is NextBoot.HALT:
        return "the build failed before the machine was built"
    if facts.protected and facts.machine is MachineState.BUILDING:
        return "the machine is protected"
    if facts.phase is Phase.FAILED_HANDOFF:
        return "the handoff failed, but the machine is installed"
    return f"the machine is {facts.machine}"
