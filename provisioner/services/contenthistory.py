"""The history of a profile or template, as something to go back to."""

import difflib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import or_, select

from provisioner.core.content import dump_profile
from provisioner.errors import NotFound
from provisioner.services import records
from provisioner.services.site import Site
from provisioner.store import history
from provisioner.store.engine import read
from provisioner.store.models import Revision


def page(site: Site, kind: str, name: str, cursor: str | None = None) -> dict[str, Any]:
    """A page of the object's revisions, the newest first, under all the names that it had: ``items`` and cursors.

    Each is a row of `records.page` with ``diff``, what it changed in the text (a profile's is its YAML), unified.
    """
    found = records.page(site, limit=20, cursor=cursor or None, object=f"{kind}/{name}", both=True)
    return found | {"items": [each | {"diff": _diff(kind, each)} for each in found["items"]]}


def content(site: Site, kind: str, name: str, number: int) -> dict[str, Any]:
    """What the object was after this revision: ``id``, ``at``, ``actor``, ``reason``, ``text``, ``draft``, ``diff``.

    ``text`` is a template's newest text then, ``draft`` whether it was one that failed; of a profile its YAML. Raises
    NotFound for a revision of something else, and for the one that removed it.
    """
    with read(site.engine) as session:
        holds = [life.holds() for life in history.lives(session, kind, name)]
        query = select(Revision.id).where(Revision.id == number, or_(*holds)) if holds else None
        known = query is not None and session.scalar(query) is not None
    row = records.show(site, number) if known else None
    if row is None or row["after"] is None:
        hint = f"see `provisioner history {name}`"
        raise NotFound(f"revision {number} does not say what {kind} {name} was", hint=hint)
    told = {key: row[key] for key in ("id", "at", "actor", "reason", "action", "name")}
    draft = bool(row["after"].get("draft")) if kind == "template" else False
    return told | {"text": text_of(kind, row["after"]), "draft": draft, "diff": _diff(kind, row)}


def text_of(kind: str, snapshot: Mapping[str, Any] | None) -> str:
    """The newest text of a template's snapshot, or a profile's snapshot as YAML; empty for None."""
    if snapshot is None:
        return ""
    if kind == "template":
        draft = snapshot.get("draft")
        return str(snapshot["text"] if draft is None else draft)
    return dump_profile(dict(snapshot))


def difference(before: str, after: str, names: tuple[str, str] = ("before", "after")) -> str:
    """A unified diff of two texts; empty if they are the same."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")
    return "\n".join(lines)


def _diff(kind: str, row: dict[str, Any]) -> str:
    if row["before"] is None or row["after"] is None:
        return ""
    return difference(text_of(kind, row["before"]), text_of(kind, row["after"]))
