"""Before a change of content is saved: what it would do, shown beside what was typed."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from provisioner.errors import ContentError
from provisioner.services import radius
from provisioner.services.site import Site
from provisioner.web.ui.pages import Visit

_DRY_RUN = "--dry-run"
"""A hint at it says that not every machine was rendered; a review has done so."""


@dataclass(frozen=True)
class Review:
    """A rehearsed change: what came of it, what was found wrong and odd, and the machines that it reaches."""

    after: Mapping[str, Any] | None
    """The object as it would be; None for one that validation refuses."""
    problems: Sequence[Mapping[str, str]]
    """Errors: ``where``, ``message``, ``hint``."""
    warnings: Sequence[Mapping[str, str]]
    told: Mapping[str, Any] | None
    """What `services.radius.report` says; None when no machine can be reached, or the visitor may not see machines."""
    mark: str
    """Of what was typed: whoever saves sends it back, and so has seen this."""

    @property
    def breaks(self) -> int:
        """How many machines could not be built any more."""
        if self.told is None:
            return 0
        grouped = sum(len(each["machines"]) for each in self.told["groups"] if each["problem"])
        return int(self.told["failed"]) + grouped


def rehearse(visit: Visit, change: Callable[[Site], Mapping[str, Any]], mark: str) -> Review:
    """Carry a change out and take it back. Errors of what was typed are raised; what validation finds is told."""
    watch = radius.Watch(visit.site)
    problems: Sequence[Mapping[str, str]] = ()
    after: Mapping[str, Any] | None = None
    try:
        after = change(visit.site.rehearsing(watch))
    except ContentError as error:
        problems = problems_of(error)
    told = reached(visit, watch) if visit.may("machines", "read") else None
    found = after or {}
    problems = problems or found.get("problems") or ()
    warnings = [each for each in found.get("warnings") or () if told is None or _DRY_RUN not in each["hint"]]
    return Review(after, placed(problems), placed(warnings), told, mark)


def reached(visit: Visit, watch: radius.Watch) -> dict[str, Any] | None:
    """What the changes that were watched do to machines; meanwhile the page that waits is told how far it is."""
    with visit.noting() as noted:
        return radius.report(visit.site, watch, noted)


def problems_of(error: ContentError) -> Sequence[Mapping[str, str]]:
    """All that validation found wrong."""
    told = error.details.get("problems")
    return placed(told or [{"where": error.where, "message": error.message, "hint": error.hint}])


def placed(problems: Sequence[Mapping[str, str]]) -> Sequence[Mapping[str, str]]:
    """The same with ``output``, the line of the rendered file that a message begins with: it is not the template's."""
    rows = []
    for each in problems:
        found = re.match(r"line (\d+): ", each["message"]) if ":" in each["where"] else None
        rest = {"message": each["message"][found.end() :], "output": found[1]} if found else {"output": ""}
        rows.append({**each, **rest})
    return rows


def mark_of(visit: Visit, names: Sequence[str]) -> str:
    """A short text that is another one when any of these fields of the form is."""
    digest = hashlib.sha256()
    for name in names:
        text = visit.field(name).encode(errors="surrogatepass")
        digest.update(f"{name} {len(text)} ".encode() + text)
    return digest.hexdigest()[:16]
