"""What the boot plane does beside answering: takes the spool in, and keeps fresh what it needs without the database."""

import threading
import time

import structlog

from provisioner.errors import ProvisionerError
from provisioner.services import reports, spool, standby
from provisioner.services.site import Site

log = structlog.get_logger()
_SECONDS = 1.0


def start(site: Site) -> None:
    """Look every second, in a thread of its own, until the process ends."""
    threading.Thread(target=_keep, args=(site,), name="keeper", daemon=True).start()


def _keep(site: Site) -> None:
    failures = 0
    while True:
        try:
            look(site)
        except ProvisionerError as error:
            log.debug("the database cannot be asked", error=str(error))
        except Exception:  # this loop must survive: without it the spool would stay full
            failures += 1
            log.exception("keeping things fresh failed", failures=failures)
        time.sleep(_SECONDS)


def look(site: Site) -> None:
    """One round. Raises DatabaseUnavailable."""
    if spool.pending(site):
        reports.catch_up(site)
    standby.refresh(site)
