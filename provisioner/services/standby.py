"""What boots need to know while the database cannot be asked: a small file, kept fresh while all is well.

It holds no machine but the odd ones: a machine that it does not name gets its local disk in the usual way, as the last
row of the next-boot table says. Sealed files of attempts under way are in ``services.lastgood``.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog
from sqlalchemy import select

from provisioner.core.addresses import contains
from provisioner.errors import ProvisionerError
from provisioner.services import localways
from provisioner.services.files import replacing
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Distro, Subnet

log = structlog.get_logger()


@dataclass(frozen=True)
class Standby:
    """Subnets (CIDR to boot URL, which may be empty), ways to the disk of odd machines, published trees."""

    subnets: dict[str, str] = field(default_factory=dict)
    ways: dict[str, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)

    def boot_url(self, source: str) -> str:
        """The boot URL of the subnet that this address is in, or an empty text."""
        return next((url for cidr, url in self.subnets.items() if contains(cidr, source)), "")

    def way(self, mac: str) -> str:
        """How the machine with this MAC gets to its local disk."""
        return self.ways.get(mac, "auto")


def recall(site: Site) -> Standby:
    """What was known when the database last answered; nothing if that was never."""
    try:
        return Standby(**json.loads(_path(site).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Standby()


def refresh(site: Site) -> Standby:
    """Read it anew, and keep it. Raises DatabaseUnavailable; a full disk only leaves the old file."""
    with read(site.engine) as session:
        fresh = Standby(
            subnets={row.cidr: row.boot_url for row in session.execute(select(Subnet.cidr, Subnet.boot_url))},
            ways=localways.exceptions(session),
            trees={
                name: tree for name, tree in session.execute(select(Distro.name, Distro.tree)) if tree.startswith("/")
            },
        )
    if fresh != recall(site):
        try:
            with replacing(_path(site)) as file:
                file.write(json.dumps(asdict(fresh), indent=1, sort_keys=True).encode())
        except ProvisionerError as error:
            log.warning("what boots need without the database is not kept", error=str(error))
    return fresh


def _path(site: Site) -> Path:
    return site.settings.state_dir / "standby.json"
