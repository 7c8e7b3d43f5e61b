"""Two people change one thing: what the other did, for the form that keeps what was typed."""

from typing import Any

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
