"""Which directories of this host media publishes: the trees of registered distros, and those that were imported for
distros that are gone, since builds may be sealed with them. Nothing else.
"""

from pathlib import Path

from sqlalchemy import select

from provisioner.errors import DatabaseUnavailable
from provisioner.services import standby, trees
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Distro


def tree(site: Site, distro: str) -> Path | None:
    """The directory of a distro's tree, or None if it has none here; also while the database is down."""
    try:
        with read(site.engine) as session:
            found = session.scalar(select(Distro.tree).where(Distro.name == distro))
    except DatabaseUnavailable:
        found = standby.recall(site).trees.get(distro)
    if found is None:
        return trees.kept(site, distro)
    return Path(found) if found.startswith("/") else None
