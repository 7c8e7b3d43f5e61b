"""Saving a form: the change is made, or the form comes again with all that was typed and what stands against it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from provisioner.core.merging import Merged
from provisioner.errors import ProvisionerError, Stale
from provisioner.web.ui import conflicts
from provisioner.web.ui.pages import Visit


@dataclass(frozen=True)
class Refused:
    """Why nothing was saved, and what the form shows."""

    error: ProvisionerError
    typed: Mapping[str, Any]
    theirs: list[dict[str, Any]] | None = None
    """What somebody else changed meanwhile."""
    merged: Merged | None = None


def attempt(
    visit: Visit,
    kind: str,
    found: Mapping[str, Any],
    typed: Mapping[str, Any],
    change: Callable[[], object],
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Refused | None:
    """Make the change of the object ``found``; None if that is done.

    ``typed`` has the ``revision`` that the form began with. ``shown`` makes the form's fields of an object.
    """
    try:
        change()
    except Stale as error:
        name, base = str(found["name"]), str(typed["revision"])
        was = conflicts.before(visit.site, kind, name, base)
        merged = conflicts.merged(was, typed, found, shown)
        rows = conflicts.theirs(visit.site, kind, name, base)
        return Refused(error, {**merged.fields, "revision": found["revision"]}, rows, merged)
    except ProvisionerError as error:
        return Refused(error, typed)
    return None
