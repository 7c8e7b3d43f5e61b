"""Whether anything changed, for pages that live: a mark that is another one afterwards."""

from sqlalchemy import func, select

from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, Discovery, Event, Revision


def mark(site: Site, build: int | None = None) -> str:
    """A text that differs from an earlier one when an event, a change or a discovery came in between.

    With ``build``, the id of one, only what happened to it counts. Each is a look at the end of an index.
    """
    with read(site.engine) as session:
        if build is not None:
            state = session.scalar(select(Build.state).where(Build.id == build))
            return f"{session.scalar(select(func.max(Event.id)).where(Event.build_id == build))} {state}"
        newest = [session.scalar(select(func.max(column))) for column in (Event.id, Revision.id, Discovery.last_seen)]
        return " ".join(str(each) for each in newest)
