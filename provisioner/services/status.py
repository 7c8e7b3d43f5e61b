"""Whether this installation can do its work just now."""

from sqlalchemy import text

from provisioner.errors import ProvisionerError
from provisioner.services.site import Site
from provisioner.store import schema
from provisioner.store.engine import read


def not_ready(site: Site) -> str | None:
    """Why the service cannot take new work, or None. Machines that boot are served all the same."""
    try:
        with read(site.engine) as session:
            session.execute(text("SELECT 1"))
    except ProvisionerError as error:
        return error.message
    return None


def check_schema(site: Site) -> None:
    """Raise unless the database is this program's: DatabaseUnavailable, StateDirectory (empty) or Conflict."""
    schema.check(site.engine)
