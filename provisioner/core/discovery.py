"""Machines that wait: for somebody to add them, for a profile, for a build; what their console shows meanwhile."""

from dataclasses import dataclass, field
from enum import StrEnum

from provisioner.core.facts import Facts

BACKOFF = (5, 10, 20, 40, 60)
"""Seconds between a waiting machine's questions; the last goes on for ever."""

NEXT = ": "
"""Between what is wrong and what to type, in a conflict."""


class WaitsFor(StrEnum):
    """What a machine in the discovery script waits for; it sends this back, so that a change is noticed."""

    ADDING = "adding"
    IDENTITY = "identity"  # it contradicts a registered machine
    SUBNET = "subnet"
    PROFILE = "profile"
    BUILD = "build"
    AGAIN = "again"  # nothing to do: the next question may fare better


@dataclass(frozen=True)
class Waiting:
    """A machine in the discovery script."""

    mac: str
    name: str = ""
    """Empty for a machine that nobody registered."""
    has_profile: bool = False
    conflict: str = ""
    """Which registered machine it contradicts, then ``NEXT`` and what to type; empty when none."""
    outside: str = ""
    """The address it asked from, when no subnet of ours contains that."""
    trouble: str = ""
    """Why there is no better answer at the moment; asking again will do."""
    facts: Facts = field(default_factory=Facts)

    @property
    def waits_for(self) -> WaitsFor:
        """The one thing that somebody has to do first."""
        if self.trouble:
            return WaitsFor.AGAIN
        if self.name:
            return WaitsFor.BUILD if self.has_profile else WaitsFor.PROFILE
        if self.conflict:
            return WaitsFor.IDENTITY
        return WaitsFor.SUBNET if self.outside else WaitsFor.ADDING


def next_wait(before: str, waited_for: str, waits_for: WaitsFor) -> int:
    """Seconds until it asks again; ``before`` and ``waited_for`` are what it sent of its last round, unchecked.

    The wait grows until what it waits for changes: somebody is at work on it then.
    """
    if waited_for != waits_for or not before.isascii() or not before.isdigit() or len(before) > 4:
        return BACKOFF[0]
    return next((seconds for seconds in BACKOFF if seconds > int(before)), BACKOFF[-1])


def sentence(waiting: Waiting) -> str:
    """What it waits for, on one line."""
    name, mac = waiting.name, waiting.mac
    return {
        WaitsFor.ADDING: f"{mac} waits to be added",
        WaitsFor.IDENTITY: waiting.conflict.rpartition(NEXT)[0],
        WaitsFor.SUBNET: f"{mac} asked from {waiting.outside}, which no subnet contains: it is not recorded",
        WaitsFor.PROFILE: f"{name} waits for a profile",
        WaitsFor.BUILD: f"{name} waits for a build",
        WaitsFor.AGAIN: waiting.trouble,
    }[waiting.waits_for]


def commands(waiting: Waiting) -> list[str]:
    """What to type on the server."""
    name = waiting.name or "NAME"
    start = f"provisioner build start {name}"
    return {
        WaitsFor.ADDING: [f"provisioner machine add NAME --mac {waiting.mac} --ip ADDRESS --profile PROFILE", start],
        WaitsFor.IDENTITY: [waiting.conflict.rpartition(NEXT)[2]],
        WaitsFor.SUBNET: ["provisioner subnet add NAME --cidr NETWORK"],
        WaitsFor.PROFILE: [f"provisioner machine edit {name} --profile PROFILE", start],
        WaitsFor.BUILD: [start],
        WaitsFor.AGAIN: [],
    }[waiting.waits_for]


def screen(waiting: Waiting) -> list[str]:
    """What its console shows: who it is, what it waits for, and what to type."""
    said = waiting.facts.said
    facts = [("serial", "serial"), ("uuid", "UUID"), ("manufacturer", "made by"), ("product", "product")]
    nobody = "this machine" if waiting.trouble else "unknown machine"
    who = f"Provisioner: {waiting.name or nobody}, MAC address {waiting.mac}"
    told = ", ".join(f"{label} {said[name]}" for name, label in facts if isinstance(said.get(name), str))
    typed = commands(waiting)
    lines = [who, told, sentence(waiting), *(["On the server:", *typed] if typed else [])]
    return [line for line in lines if line]
