"""What happened, for webhooks: timeline, history and quarantine read behind each webhook's own cursor.

Whoever makes events knows nothing of webhooks and pays nothing for them. Writing transactions take turns, so the rows
of a table come in the order of their ids, and none appears behind a cursor. A delivery's id follows from its row: what
is derived twice is one delivery. Rows are told as objects are when they are read, a second later.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, defer, selectinload

from provisioner.core.webhooks import BuildEvent, build_events, delivery_uid, inert, wants
from provisioner.core.webhooks import body as whole
from provisioner.services import quarantine
from provisioner.store.models import Build, Counter, Discovery, Event, Machine, Revision
from provisioner.store.webhooks import Delivery, Webhook

BATCH = 200
"""Rows of each table that one transaction takes: it holds no write lock for longer than a moment."""
_MOST_NAMES = 64
_STATES = {
    f"build.{state}": state
    for state in ("armed", "booting", "installing", "built", "configured", "failed", "cancelled")
}


@dataclass
class Cursor:
    """How far a webhook has been told: the newest event and revision, and when the newest discovery came."""

    event: int = 0
    revision: int = 0
    discovered: str = ""


def name_of(webhook: Webhook) -> str:
    """The name of the counter that holds a webhook's cursor."""
    return f"webhook:{webhook.id}"


def load(session: Session, webhook: Webhook) -> Cursor:
    """The webhook's cursor."""
    row = session.get(Counter, name_of(webhook))
    return Cursor() if row is None else Cursor(row.value, **json.loads(row.text))


def keep(session: Session, webhook: Webhook, cursor: Cursor) -> None:
    """Write the webhook's cursor."""
    text = json.dumps({"revision": cursor.revision, "discovered": cursor.discovered})
    session.merge(Counter(name=name_of(webhook), value=cursor.event, text=text))


def end(session: Session) -> Cursor:
    """Where a webhook begins that is to be told of what happens from here on."""
    return Cursor(
        session.scalar(select(func.max(Event.id))) or 0,
        session.scalar(select(func.max(Revision.id))) or 0,
        _text(session.scalar(select(func.max(Discovery.first_seen)))),
    )


def news(session: Session, webhook: Webhook) -> bool:
    """Whether anything happened since the webhook was told."""
    told, last = load(session, webhook), end(session)
    return (told.event, told.revision) != (last.event, last.revision) or told.discovered < last.discovered


def derive(session: Session, webhook: Webhook, at: datetime) -> bool:
    """Queue what happened since, at most a batch of each table; whether there may be more. Caller commits.

    What was removed in the meantime is told without what only its row knew.
    """
    cursor, last = load(session, webhook), end(session)
    # SQLite gives the id of a removed newest row again, so an end may lie before the cursor.
    cursor.event, cursor.revision = min(cursor.event, last.event), min(cursor.revision, last.revision)
    events = list(session.scalars(_beyond(Event, cursor.event).options(defer(Event.log))))
    revisions = list(session.scalars(_beyond(Revision, cursor.revision)))
    discoveries = list(_discoveries(session, cursor.discovered))
    found = [*_events(session, events), *_revisions(session, revisions), *_discovered(discoveries)]
    for source, event, payload in found:
        if wants(webhook.events, event):
            _queue(session, webhook, source, event, payload, at)
    if events:
        cursor.event = events[-1].id
    if revisions:
        cursor.revision = revisions[-1].id
    if discoveries:
        cursor.discovered = _text(discoveries[-1].first_seen)
    keep(session, webhook, cursor)
    return BATCH in {len(events), len(revisions), len(discoveries)}


def _beyond(model: type[Any], after: int) -> Any:
    return select(model).where(model.id > after).order_by(model.id).limit(BATCH)


def _discoveries(session: Session, after: str) -> Sequence[Discovery]:
    query = select(Discovery).order_by(Discovery.first_seen).limit(BATCH)
    if after:
        query = query.where(Discovery.first_seen > datetime.fromisoformat(after))
    return session.scalars(query).all()


def _queue(session: Session, webhook: Webhook, source: str, event: str, payload: dict[str, Any], at: datetime) -> None:
    uid = delivery_uid(f"{webhook.id} {_text(webhook.created_at)}", source, event)
    if session.scalar(select(Delivery.id).where(Delivery.uid == uid)) is None:
        body = whole(payload | {"id": uid, "event": event})
        session.add(
            Delivery(webhook_id=webhook.id, uid=uid, kind=event, payload=body, created_at=at, due_at=at, attempts=0)
        )


_Found = tuple[str, str, dict[str, Any]]


def _events(session: Session, rows: Sequence[Event]) -> Iterator[_Found]:
    ids = {row.build_id for row in rows if row.build_id is not None}
    query = select(Build).where(Build.id.in_(ids)).options(defer(Build.sealed))
    query = query.options(selectinload(Build.machine).selectinload(Machine.interfaces))
    builds = {build.id: build for build in session.scalars(query)}
    for row in rows:
        build = builds.get(row.build_id or 0)
        if build is None:
            continue
        for event in build_events(_described(session, row, build)):
            state = _STATES.get(event, build.state)
            yield (
                f"event {row.id} {_text(row.at)}",
                event,
                {
                    "at": _text(row.at),
                    "machine": _machine(build),
                    "build": {"id": build.id, "number": build.number, "attempt": row.attempt, "state": state},
                    "step": inert(row.kind, 64) if row.attempt is not None and not row.flagged else None,
                    "message": inert(row.message),
                },
            )


def _described(session: Session, row: Event, build: Build) -> BuildEvent:
    before = select(Event.id).where(
        Event.build_id == row.build_id, Event.attempt == row.attempt, Event.kind == row.kind, Event.id < row.id
    )
    repeated = row.attempt is not None and session.scalar(before.limit(1)) is not None
    return BuildEvent(
        row.kind,
        row.attempt,
        row.flagged,
        repeated,
        row.message,
        build.state,
        build.built_at is not None,
        build.outcome,
    )


def _machine(build: Build) -> dict[str, Any]:
    machine = build.machine
    if machine is None:
        return {"name": build.machine_name, "state": None, "profile": None, "macs": []}
    return {
        "name": machine.name,
        "state": machine.state,
        "profile": machine.profile.name if machine.profile else None,
        "macs": [each.mac for each in machine.interfaces],
    }


def _revisions(session: Session, rows: Sequence[Revision]) -> Iterator[_Found]:
    ours = [row for row in rows if row.kind == "machine"]
    ids = {row.object_id for row in ours}
    found = session.execute(select(Machine.id, Machine.state).where(Machine.id.in_(ids)))
    states = {row.id: row.state for row in found}
    for row in ours:
        shown = row.after or row.before or {}
        event = {"add": "machine.added", "remove": "machine.removed"}.get(row.action, "machine.changed")
        if row.action == "add" and row.actor == "discovery" and shown.get("state") == "discovered":
            event = "machine.discovered"
        yield (
            f"revision {row.id} {row.hash}",
            event,
            {
                "at": _text(row.at),
                "machine": {
                    "name": row.name,
                    "state": states.get(row.object_id),
                    "profile": shown.get("profile"),
                    "macs": [each["mac"] for each in shown.get("interfaces", [])],
                },
                "message": inert(row.reason),
                "actor": inert(row.actor, 128),
                "changed": _changed(row) if event == "machine.changed" else None,
            },
        )


def _changed(row: Revision) -> list[str]:
    """The names of what changed: values may be anything, a parameter's too."""
    before, after = row.before or {}, row.after or {}
    names = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return names[:_MOST_NAMES]


def _discovered(rows: Sequence[Discovery]) -> Iterator[_Found]:
    for row in rows:
        facts = quarantine.view(row)
        said = {key: inert(facts.get(key), 128) for key in ("vendor", "product", "serial", "uuid")}
        yield (
            f"discovery {row.id} {_text(row.first_seen)}",
            "machine.discovered",
            {
                "at": _text(row.first_seen),
                "machine": {"name": None, "state": "discovered", "profile": None, "macs": [row.mac], **said},
                "message": inert(row.conflict),
            },
        )


def _text(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")
