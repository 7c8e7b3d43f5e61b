"""The stages of a build on the way to `configured`, as its events tell them: what is done, under way and to come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

from provisioner.core.lifecycle import ENDED, BuildState, phase_of

_NETWORK = frozenset({"dhcp", "loader", "loader-failed"})
_AROUND = _NETWORK | {"armed", "script", "halt", "flag", "continued", "local-boot", "retry-handoff", "cancelled"}
"""Events that are not the installer's own."""
_LAST = frozenset({"built", "configured", "failed", "handoff-failed", "refused-event", "refused-report", "handoff"}) | {
    f"handoff-{each}" for each in ("enrol", "revoke", "waits", "log", "ready")
}


class Progress(StrEnum):
    """Where a stage stands."""

    DONE = "done"
    UNSEEN = "unseen"
    """A later one is done, so this one is; nobody told us of it. Another server's DHCP, for example."""
    NOW = "now"
    FAILED = "failed"
    COMING = "coming"


@dataclass(frozen=True)
class Stage:
    """One stage. ``at`` is when it was done, in seconds since the build was armed; ``lasted`` since the one before."""

    key: str
    title: str
    progress: Progress
    at: float | None = None
    lasted: float | None = None
    said: str = ""
    """What the last event of the stage said."""


# Kernel and initrd come from a plain file server, which tells nobody: that the answer is asked for shows them loaded.
_STAGES: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("armed", "Armed", ("armed",)),
    ("dhcp", "DHCP", ("dhcp",)),
    ("loader", "Loader", ("loader",)),
    ("script", "Boot script", ("script",)),
    ("kernel", "Kernel", ("answer",)),
    ("answer", "Answer file", ("answer",)),
    ("installer", "Installer", ("built",)),
    ("built", "Built", ("built",)),
    ("handoff", "Handoff", ("configured",)),
    ("configured", "Configured", ("configured",)),
)


def stages(events: Sequence[Mapping[str, Any]], state: str, *, was_built: bool) -> list[Stage]:
    """The stages of a build in this ``state`` with these events, each with ``kind``, ``message``, ``seconds`` (since
    the build was armed) and ``attempt``, oldest first.

    Only the latest attempt counts: one that boots again begins again.
    """
    moments = {"armed": 0.0} | _moments(_latest(events))
    # Reports may be lost while the build goes on; its state is the truth.
    if was_built:
        moments.setdefault("built", None)
    if state == BuildState.CONFIGURED:
        moments.setdefault("configured", None)
    reached = [place for place, (_, _, kinds) in enumerate(_STAGES) if any(kind in moments for kind in kinds)]
    last = max(reached, default=0)
    ended = phase_of(BuildState(state), was_built=was_built) in ENDED
    steps = [each for each in events if each["kind"] not in _AROUND | _LAST and each["attempt"] is not None]
    told: list[Stage] = []
    before = 0.0
    for place, (key, title, kinds) in enumerate(_STAGES):
        at = next((moments[kind] for kind in kinds if moments.get(kind) is not None), None)
        progress = _progress(place, last, reached, state, ended=ended)
        lasted = None if at is None or place == 0 else max(0.0, round(at - before, 1))
        before = before if at is None else max(before, at)
        said = _said(steps[-1]) if key == "installer" and steps and progress is not Progress.COMING else ""
        told.append(Stage(key, title, progress, at, lasted, said))
    return told


def _progress(place: int, last: int, reached: Sequence[int], state: str, *, ended: bool) -> Progress:
    if place in reached:
        return Progress.DONE
    if place < last:
        return Progress.UNSEEN
    if place > last + 1 or state == BuildState.CANCELLED:
        return Progress.COMING
    if state == BuildState.FAILED:
        return Progress.FAILED
    return Progress.COMING if ended else Progress.NOW


def _said(event: Mapping[str, Any]) -> str:
    return f"{event['kind']}: {event['message']}" if event["message"] else str(event["kind"])


def _latest(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The events of the latest attempt, with what the network saw of this power-on before its script was fetched."""
    newest = max((each["attempt"] or 0 for each in events), default=0)
    if newest <= 1:
        return events
    start = next(place for place, each in enumerate(events) if each["attempt"] == newest)
    while start > 0 and events[start - 1]["kind"] in _NETWORK:
        start -= 1
    return [*(each for each in events[:start] if each["kind"] == "armed"), *events[start:]]


def _moments(events: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """When each kind of event came first: installers ask DHCP and TFTP again, which is not the boot loader."""
    found: dict[str, float | None] = {}
    for each in events:
        found.setdefault(each["kind"], each["seconds"])
    return found


def durations(events: Sequence[Mapping[str, Any]]) -> list[float]:
    """What passed before each event since the one before it, in seconds; reports of a spool may come out of order."""
    moments = [0.0, *(each["seconds"] for each in events)]
    return [max(0.0, round(at - before, 1)) for before, at in pairwise(moments)]
