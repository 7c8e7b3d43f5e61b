"""How far a build is, in words, and when its silence means that somebody should look."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from provisioner.core.lifecycle import Phase

STAGES = ("armed", "booting", "installing", "built", "configured")
"""The way of every build that goes well."""
BEFORE_SCRIPT = ("dhcp", "loader", "loader-failed", "media")
"""What firmware asks for around its script, and what installers ask for again: no sign that a build goes on."""
NO_SIGNS = ("flag", "refused-event", "refused-report")
"""Events that a stranger may cause: they do not say that the build goes on."""
NO_STEPS = (
    *NO_SIGNS,
    "handoff-enrol",
    "handoff-revoke",
    "halt",
    "failed",
    "handoff-failed",
    "continued",
    "cancelled",
    "local-boot",
)
"""Events that do not say what a build does."""
_DOING = {
    "armed": "waiting for the machine to boot",
    "dhcp": "asking for a boot loader",
    "loader": "loading the boot loader",
    "loader-failed": "asking for a boot loader",
    "media": "loading the installer",
    "script": "loading the installer",
    "answer": "starting the installer",
    "installer": "starting the installer",
    "secret": "starting the installer",
    "disk": "writing to the disk",
    "packages": "installing packages",
    "configure": "setting up the system",
    "handoff": "setting up the system",
    "reboot": "restarting in between",
    "built": "starting from its own disk",
    "halt": "halted",
    "retry-handoff": "waiting for another run of its handoff",
    "handoff-log": "running its configuration management",
    "handoff-ready": "being configured from here",
    "handoff-waits": "waiting for the server of its configuration management",
    "identity-issued": "running its configuration management",
    "configured": "done",
}
# Servers take minutes to start, slow mirrors minutes for a step; a person who waits at the rack looks sooner.
_PATIENCE = {Phase.ARMED: 3600.0, Phase.BOOTING: 600.0, Phase.INSTALLING: 1200.0, Phase.BUILT: 1800.0}
_LOADER_PATIENCE = 180.0

UNDER_WAY = tuple(_PATIENCE)
"""The phases in which something is expected from the machine."""


@dataclass(frozen=True)
class Usual:
    """Medians of a profile's earlier builds, in seconds; None where there is none to compare with."""

    install: float | None = None
    """From the boot script to `built`."""
    handoff: float | None = None
    """From `built` to `configured`."""
    builds: int = 0
    """How many they are the medians of."""


def doing(kind: str) -> str:
    """What a build is at after an event of this kind; the installer's own word for a step that is none of ours."""
    return _DOING.get(kind, kind)


def stage(phase: Phase) -> int:
    """The place in `STAGES` that a build in this phase reached; of one that failed, the last that it surely did."""
    reached = {Phase.FAILED: 0, Phase.FAILED_HANDOFF: 3, Phase.CANCELLED: 0}
    return reached[phase] if phase in reached else STAGES.index(phase.value)


def is_stuck(phase: Phase, silent: float, asked: float | None, usual: Usual) -> bool:
    """Whether a build should be looked at: nothing came for longer than it reasonably takes.

    ``silent`` is seconds since its last sign. ``asked`` is seconds since its firmware first asked for an address or a
    loader, None if it did not: firmware that asks and does not come on to its script is stuck within minutes.
    """
    if phase not in _PATIENCE:
        return False
    if phase is Phase.ARMED and asked is not None and asked > _LOADER_PATIENCE:
        return True
    known = {Phase.INSTALLING: usual.install, Phase.BUILT: usual.handoff}.get(phase)
    return silent > max(_PATIENCE[phase], known or 0.0)


def usual(took: Iterable[tuple[float | None, float | None]]) -> Usual:
    """The medians of what earlier builds took: each the seconds of its installation and of its handoff."""
    pairs = list(took)
    installs = [install for install, _ in pairs if install is not None]
    handoffs = [handoff for _, handoff in pairs if handoff is not None]
    return Usual(_median(installs), _median(handoffs), len(pairs))


def by_profile(rows: Iterable[tuple[str, float | None, float | None]]) -> Mapping[str, Usual]:
    """`usual` of each profile; ``rows`` are its name and what one build took."""
    grouped: dict[str, list[tuple[float | None, float | None]]] = {}
    for profile, install, handoff in rows:
        grouped.setdefault(profile, []).append((install, handoff))
    return {profile: usual(each) for profile, each in grouped.items()}


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 1) if values else None
