"""Which trees on this host builds still install from: sealed with the distro's name, which is all that their files
say of it.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from provisioner.core.lifecycle import RUNNING, BuildState
from provisioner.errors import StillInUse
from provisioner.services.site import Site
from provisioner.store.base import now
from provisioner.store.models import Build


@dataclass(frozen=True)
class Need:
    """A name under which builds were sealed with a directory of this host."""

    distro: str
    tree: str
    builds: int
    example: str
    """One of the builds: ``web01/3``."""
    machine: str
    """Whose build that is."""

    @property
    def said(self) -> str:
        """The builds, in words."""
        more = f" and {self.builds - 1} more" if self.builds > 1 else ""
        return f"build {self.example}{more}"


def needs(session: Session, site: Site) -> list[Need]:
    """Of every build that has not ended: not built yet, or built and not configured within `handoff_hours`."""
    name, tree = (Build.sealed["distro"][key].as_string() for key in ("name", "tree"))
    fresh = now() - timedelta(hours=site.settings.handoff_hours)
    # What was just built may still take packages in its first boot.
    still = or_(
        Build.state.in_([phase.state.value for phase in RUNNING]),
        and_(Build.state == BuildState.BUILT.value, Build.built_at > fresh),
    )
    query = select(name, tree, func.count(), func.min(Build.id)).where(still, tree.like("/%")).group_by(name, tree)
    rows = session.execute(query.order_by(name, tree)).all()
    firsts = {build.id: build for build in session.scalars(select(Build).where(Build.id.in_([row[3] for row in rows])))}
    found = []
    for distro, path, count, first in rows:
        build = firsts[first]
        found.append(Need(distro, path, count, f"{build.machine_name}/{build.number}", build.machine_name))
    return found


def refuse_other_tree(session: Session, site: Site, name: str, tree: str) -> None:
    """Raise StillInUse if builds install from another tree by this distro's name: it may not come to mean ``tree``."""
    for need in needs(session, site):
        if need.distro == name and need.tree != tree:
            raise StillInUse(
                f"{need.tree}, served as {name}, is needed by {need.said}",
                where="tree",
                hint=f"wait until that has ended, or `provisioner build cancel {need.machine}`; or register the other"
                " tree under a name of its own",
            )
