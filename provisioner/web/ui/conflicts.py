"""Two people change one thing: what the other did, for the form that keeps what was typed."""

from collections.abc import Callable, Mapping
from typing import Any

from provisioner.core.merging import Merged, fields_together
from provisioner.errors import ProvisionerError
from provisioner.services import records
from provisioner.services.site import Site


def theirs(site: Site, kind: str, name: str, base: str) -> list[dict[str, Any]]:
    """The changes of this object since the revision ``base`` (``ID.VERSION``) that a form was opened with.

    Each is a row of the history: ``at``, ``actor``, ``reason``, ``changes``. Empty where the history does not say.
    """
    version = base.rpartition(".")[2]
    if not version.isdigit():
        return []
    try:
        found = records.page(site, limit=20, object=f"{kind}/{name}")["items"]
    except ProvisionerError:
        return []
    return [each for each in found if each["id"] > int(version)]


def before(site: Site, kind: str, name: str, base: str) -> Mapping[str, Any] | None:
    """What the object was when the form with the revision ``base`` was opened; None where the history does not say."""
    version = base.rpartition(".")[2]
    if not version.isascii() or not version.isdigit() or len(version) > 18:
        return None
    try:
        row = records.show(site, int(version))
        known = {each["id"] for each in records.page(site, limit=100, object=f"{kind}/{name}")["items"]}
    except ProvisionerError:
        return None
    snapshot: Mapping[str, Any] | None = row["after"] if row["kind"] == kind and row["id"] in known else None
    return snapshot


def merged(
    was: Mapping[str, Any] | None,
    typed: Mapping[str, Any],
    now: Mapping[str, Any],
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Merged:
    """What was typed, with the fields that somebody else changed and that nobody typed in.

    ``shown`` makes what stands in the form's fields of an object; ``was`` and ``now`` are the object as the form began
    with it, see `before`, and as it is.
    """
    return Merged(typed, (), ()) if was is None else fields_together(shown(was), typed, shown(now))
