"""When a credential was last used."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import update

from provisioner.errors import ProvisionerError
from provisioner.services.site import Site
from provisioner.store.engine import hurried, write
from provisioner.store.people import ApiToken, LoginSession

log = structlog.get_logger()
_OFTEN = timedelta(minutes=1)


def note(site: Site, thing: ApiToken | LoginSession, at: datetime, source: str) -> None:
    """Write that it was used at this moment from this address, if that was not written within the last minute.

    Nobody waits for it: while somebody else writes, or the database cannot be written, it is left to the next use.
    """
    last = thing.last_used_at if isinstance(thing, ApiToken) else thing.last_seen_at
    if last is not None and at - last < _OFTEN:
        return
    try:
        with write(hurried(site.engine)) as session:
            if isinstance(thing, ApiToken):
                # Being used is no change of the token: neither its version nor the time of its last change moves.
                values = {"last_used_at": at, "last_used_from": source[:39], "updated_at": ApiToken.updated_at}
                session.execute(update(ApiToken).where(ApiToken.id == thing.id).values(values))
            else:
                session.execute(update(LoginSession).where(LoginSession.id == thing.id).values(last_seen_at=at))
    except ProvisionerError as error:
        log.debug("last use not written", error=str(error))
