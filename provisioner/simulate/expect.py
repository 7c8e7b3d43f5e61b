"""What a machine may expect, from what it did itself: a second opinion beside the server's own tables."""

from dataclasses import dataclass, field
from typing import Literal

from provisioner.simulate.plan import SAME_POWER_ON_SECONDS, STEPS, Fault

End = Literal["configured", "handoff-failed", "halted", "off", "stuck", "given-up"]
Known = Literal["no", "maybe", "yes"]
FREE_ATTEMPTS = 2


@dataclass
class Seen:
    """What the machine did, and whether the server knows: ``maybe`` when the answer was lost."""

    attempts: dict[str, float] = field(default_factory=dict)
    """By token digest: when this machine first saw it."""
    lost_scripts: int = 0
    disk: Known = "no"
    built: Known = "no"
    failed: Known = "no"
    configured: Known = "no"
    unwrapped: set[str] = field(default_factory=set)
    refused: bool = False
    """A secret was refused: the server stopped the build."""

    def note(self, what: str, known: Known) -> None:
        """Note that a report was acknowledged, or may have arrived; what is known stays known."""
        if what in {"disk", "built", "failed", "configured"} and getattr(self, what) != "yes":
            setattr(self, what, known)


def next_boots(seen: Seen, now: float) -> frozenset[str]:
    """What the next network boot may get: ``build``, ``halt``, ``local``.

    ``local`` instead of ``build`` is never held against the server: no data never means install.
    """
    if "yes" in {seen.built, seen.configured}:
        return frozenset({"local"})
    kinds = {"local"} if "maybe" in {seen.built, seen.configured} else set()
    if "yes" in {seen.failed, seen.disk} or seen.refused:
        return frozenset(kinds | {"halt"})
    if "maybe" in {seen.failed, seen.disk}:
        kinds.add("halt")
    attempts = len(seen.attempts)
    if attempts >= FREE_ATTEMPTS and now - max(seen.attempts.values()) > SAME_POWER_ON_SECONDS:
        return frozenset(kinds | {"halt"})
    if attempts + seen.lost_scripts >= FREE_ATTEMPTS:
        kinds.add("halt")
    return frozenset(kinds | {"build"})


def ends(fault: Fault | None, seen: Seen, cuts: int) -> frozenset[str]:
    """How the play of this machine may end."""
    if fault is None:
        return frozenset({"configured"})
    if fault.kind == "never":
        return frozenset({"off"})
    if fault.kind == "fail":
        return frozenset({"handoff-failed" if fault.step == "configured" else "halted"})
    if fault.step in {"built", "configured"}:
        return frozenset({"configured"})
    if STEPS.index(fault.step) >= STEPS.index("disk") or seen.refused:
        return frozenset({"halted"})
    return frozenset({"configured", "halted"} if cuts > 1 else {"configured"})
