"""What is not kept for good: events, after `event_days`. Sealed files and revisions stay."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select

from provisioner.core.lifecycle import RUNNING
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Build, Event, now

AT_ONCE = 1000


def old_events(site: Site, at: datetime | None = None) -> int:
    """Remove events older than `event_days`, but none of a build under way; how many, at most ``AT_ONCE``.

    Call it again while it removes some: no transaction holds the write lock for long. Raises DatabaseUnavailable.
    """
    old = (at or now()) - timedelta(days=site.settings.event_days)
    running = select(Build.id).where(Build.state.in_([phase.state.value for phase in RUNNING]))
    with read(site.engine) as session:
        # Events are written in the order of their time: the oldest are the first, and no index of times is needed.
        first = session.execute(select(Event.id, Event.at, Event.build_id).order_by(Event.id).limit(AT_ONCE)).all()
        kept = set(session.scalars(running)) if first and first[0].at < old else set()
    gone = [each.id for each in first if each.at < old and each.build_id not in kept]
    if gone:
        with write(site.engine) as session:
            session.execute(delete(Event).where(Event.id.in_(gone)))
    return len(gone)
