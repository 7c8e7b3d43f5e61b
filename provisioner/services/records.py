"""The history, as people read it."""

from typing import Any

from sqlalchemy import select

from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.history import broken_links
from provisioner.store.models import Revision


def listing(site: Site, name: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
    """The newest revisions, or those of the objects with this name; each with the fields that changed."""
    with read(site.engine) as session:
        query = select(Revision).order_by(Revision.id.desc()).limit(limit)
        if name is not None:
            query = query.where((Revision.name == name) | Revision.name.like(f"{name}/%"))
        return [_view(revision) for revision in session.scalars(query)]


def verify(site: Site) -> list[str]:
    """What is wrong with the chain of revisions, in words; empty when nothing is."""
    with read(site.engine) as session:
        return broken_links(session)


def _view(revision: Revision) -> dict[str, Any]:
    before, after = revision.before or {}, revision.after or {}
    both = {*before, *after} if revision.action == "edit" else ()
    changed = sorted(key for key in both if before.get(key) != after.get(key))
    return {
        "id": revision.id,
        "at": revision.at.isoformat(timespec="milliseconds"),
        "actor": revision.actor,
        "origin": revision.origin,
        "kind": revision.kind,
        "name": revision.name,
        "action": revision.action,
        "changed": changed,
        "reason": revision.reason,
        "before": revision.before,
        "after": revision.after,
    }
