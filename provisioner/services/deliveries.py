"""The queue of deliveries: filled from what happened, tried until each is taken or given up, kept for a while.

Deliveries of one webhook go one after the other, in the order in which they are due, so in the order of what happened.
One that failed waits for its own next try and holds up none behind it: a receiver that cannot digest one event still
gets the others. Where no receiver answers at all the webhook rests for a moment, and its order is kept.
"""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session

from provisioner.core import webhooks as rules
from provisioner.core.webhooks import Target
from provisioner.errors import Conflict, KeyUnusable, NotFound
from provisioner.services import announcing, objects, outbound
from provisioner.services.outbound import Outcome
from provisioner.services.paging import Order, asked, fetch
from provisioner.services.site import Actor, Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.webhooks import Delivery, Webhook

log = structlog.get_logger()
LEASE = timedelta(seconds=45)
"""What was claimed and not settled by then is tried again: whoever claimed it was killed."""
BATCH = 25
KEPT = timedelta(days=14)
MOST_KEPT = 20_000
"""Deliveries kept of one webhook, those that wait included: the oldest go first."""
_PRUNED_AT_ONCE = 1000
_AGENT = "Provisioner-Webhook/1"


@dataclass(frozen=True)
class Job:
    """One delivery to try: the body is what every try of it sends."""

    uid: str
    event: str
    body: bytes


@dataclass(frozen=True)
class Batch:
    """Deliveries of one webhook that are due, claimed for whoever got this."""

    webhook_id: int
    name: str
    url: str
    key: str
    trouble: str
    """Why none of them can be signed; empty when they can."""
    jobs: tuple[Job, ...]


def queue_news(site: Site, at: datetime | None = None) -> bool:
    """Queue what happened since for every enabled webhook; whether there is more. Raises DatabaseUnavailable.

    Nothing is written where there is no webhook, or nothing happened.
    """
    with read(site.engine) as session:
        wanting = [row.id for row in _enabled(session) if announcing.news(session, row)]
    more = False
    for webhook_id in wanting:
        with write(site.engine) as session:
            webhook = session.get(Webhook, webhook_id)
            if webhook is not None and webhook.enabled:
                more = announcing.derive(session, webhook, at or now()) or more
    return more


def due(site: Site, at: datetime | None = None) -> list[int]:
    """The ids of enabled webhooks that have something to deliver. Raises DatabaseUnavailable."""
    waits = select(Delivery.id).where(Delivery.webhook_id == Webhook.id, Delivery.due_at <= (at or now())).exists()
    with read(site.engine) as session:
        return list(session.scalars(select(Webhook.id).where(Webhook.enabled, waits).order_by(Webhook.id)))


def claim(site: Site, webhook_id: int, at: datetime | None = None) -> Batch | None:
    """Take what is due of a webhook; nobody else takes it until the lease ends. Settle it before that."""
    moment = at or now()
    with write(site.engine) as session:
        webhook = session.get(Webhook, webhook_id)
        if webhook is None or not webhook.enabled:
            return None
        query = select(Delivery).where(Delivery.webhook_id == webhook_id, Delivery.due_at <= moment)
        rows = list(session.scalars(query.order_by(Delivery.due_at, Delivery.id).limit(BATCH)))
        for row in rows:
            row.due_at = moment + LEASE
        jobs = tuple(Job(row.uid, row.kind, body_of(row.payload)) for row in rows)
        return Batch(webhook.id, webhook.name, webhook.url, *_key(site, webhook), jobs) if jobs else None


def send(site: Site, batch: Batch, job: Job) -> Outcome:
    """Try one delivery; takes at most `outbound.SECONDS`."""
    if batch.trouble:
        return Outcome(error=batch.trouble)
    return post(site, rules.parse_url(batch.url), batch.key, job.event, job.uid, job.body)


def post(site: Site, target: Target, key: str, event: str, uid: str, body: bytes) -> Outcome:
    """POST one signed body."""
    stamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "X-Provisioner-Event": event,
        "X-Provisioner-Delivery": uid,
        "X-Provisioner-Timestamp": stamp,
        "X-Provisioner-Signature": rules.signature(key, stamp, body),
    }
    allowed = rules.networks(site.settings.webhook_networks)
    return outbound.post(target, headers, body, allowed=allowed, ca_file=site.settings.webhook_ca_file)


def settle(site: Site, batch: Batch, outcomes: Mapping[str, Outcome], at: datetime | None = None) -> None:
    """Write down what came of a batch; what was not tried is due at once, before what came later."""
    moment = at or now()
    with write(site.engine) as session:
        # By uid: SQLite gives the ids of removed rows again.
        found = session.scalars(select(Delivery).where(Delivery.uid.in_([job.uid for job in batch.jobs])))
        rows = {row.uid: row for row in found}
        for job in batch.jobs:
            row, outcome = rows.get(job.uid), outcomes.get(job.uid)
            if row is None:
                continue  # the webhook was removed meanwhile
            if outcome is None:
                row.due_at = row.created_at if row.attempts == 0 else moment
            else:
                _settle(row, outcome, moment)
                if row.due_at is None and not outcome.delivered:
                    log.warning("webhook delivery given up", webhook=batch.name, kind=row.kind, error=outcome.error)


def _settle(row: Delivery, outcome: Outcome, at: datetime) -> None:
    row.attempts, row.status, row.error = row.attempts + 1, outcome.status, outcome.error
    if outcome.delivered:
        row.due_at, row.delivered_at = None, at
    else:
        row.due_at = rules.next_try(row.attempts, at, random.random())  # noqa: S311 - it spreads tries, no more


def prune(site: Site, at: datetime | None = None) -> int:
    """Remove what is settled and old, and the oldest of a webhook that has too many; how many, at most a thousand.

    Call it again while it removes some: no transaction holds the write lock for long.
    """
    old = (at or now()) - KEPT
    with read(site.engine) as session:
        settled = select(Delivery.id).where(Delivery.due_at.is_(None), Delivery.created_at < old)
        gone = list(session.scalars(settled.limit(_PRUNED_AT_ONCE)))
        for webhook in objects.listing(session, Webhook):
            gone += _too_many(session, webhook)
    gone = gone[:_PRUNED_AT_ONCE]
    if gone:
        with write(site.engine) as session:
            session.execute(delete(Delivery).where(Delivery.id.in_(gone)))
    return len(gone)


def _too_many(session: Session, webhook: Webhook) -> Sequence[int]:
    own = select(Delivery.id).where(Delivery.webhook_id == webhook.id)
    newest = session.scalar(own.order_by(Delivery.id.desc()).offset(MOST_KEPT).limit(1))
    if newest is None:
        return []
    rows = session.scalars(own.where(Delivery.id <= newest).order_by(Delivery.id).limit(_PRUNED_AT_ONCE)).all()
    waiting = session.scalar(
        select(func.count()).select_from(Delivery).where(Delivery.id.in_(rows), Delivery.due_at.is_not(None))
    )
    if waiting:
        log.error("webhook has too many deliveries waiting, the oldest are dropped", webhook=webhook.name, rows=waiting)
    return rows


def listing(site: Site, name: str, limit: int = 50, cursor: str | None = None) -> dict[str, Any]:
    """A page of a webhook's deliveries, the newest first: ``items`` and ``next``. Raises NotFound, InvalidInput."""
    page = asked("deliveries", limit, cursor, "-id", {"webhook": name}, ("id",))
    with read(site.engine) as session:
        webhook = objects.get(session, Webhook, name)
        query = select(Delivery).where(Delivery.webhook_id == webhook.id)
        return fetch(session, query, Order((Delivery.id,), down=True), page, lambda rows: [view(row) for row in rows])


def redeliver(site: Site, actor: Actor, uid: str) -> dict[str, Any]:
    """Send a delivery again, whatever came of it, with the same id and body. Raises NotFound, Conflict."""
    with write(site.engine) as session:
        row = session.scalars(select(Delivery).where(Delivery.uid == uid)).one_or_none()
        if row is None:
            raise NotFound(
                f"there is no delivery {uid[:80]!r}",
                hint="see `provisioner webhook deliveries NAME`; what is settled is kept for 14 days",
            )
        if not row.webhook.enabled:
            raise Conflict(
                f"webhook {row.webhook.name} is disabled: nothing is sent to it",
                hint=f"`provisioner webhook edit {row.webhook.name} --enabled` first",
            )
        row.due_at, row.delivered_at, row.attempts, row.status, row.error = now(), None, 0, None, ""
        log.info("webhook delivery asked for again", uid=uid, webhook=row.webhook.name, actor=actor.who)
        return view(row)


def latest(session: Session, webhook: Webhook) -> dict[str, Any]:
    """How a webhook fares: its latest tried delivery, and how many wait."""
    own = select(Delivery).where(Delivery.webhook_id == webhook.id)
    tried = own.where(or_(Delivery.attempts > 0, Delivery.delivered_at.is_not(None)))
    last = session.scalars(tried.order_by(Delivery.id.desc()).limit(1)).one_or_none()
    waiting = select(func.count()).select_from(Delivery)
    waiting = waiting.where(Delivery.webhook_id == webhook.id, Delivery.due_at.is_not(None))
    return {"waiting": session.scalar(waiting) or 0, "last_delivery": None if last is None else view(last)}


def failing(site: Site) -> list[tuple[str, str, int]]:
    """Enabled webhooks whose latest tried delivery failed: name, error, and how many deliveries wait."""
    found = []
    with read(site.engine) as session:
        for webhook in _enabled(session):
            fares = latest(session, webhook)
            last = fares["last_delivery"]
            if last is not None and last["state"] in {"waiting", "given-up"} and last["attempts"] > 1:
                found.append((webhook.name, last["error"], fares["waiting"]))
    return found


def view(row: Delivery) -> dict[str, Any]:
    """A delivery as people see it."""
    state = "delivered" if row.delivered_at else "waiting" if row.due_at else "given-up"
    return {
        "uid": row.uid,
        "event": row.kind,
        "state": state,
        "created_at": row.created_at.isoformat(timespec="seconds"),
        "attempts": row.attempts,
        "status": row.status,
        "error": row.error,
        "due_at": row.due_at.isoformat(timespec="seconds") if row.due_at else None,
        "delivered_at": row.delivered_at.isoformat(timespec="seconds") if row.delivered_at else None,
        "payload": row.payload,
    }


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The bytes that are sent and signed."""
    return json.dumps(payload, separators=(",", ":")).encode()


def secret_row(webhook_id: int) -> str:
    """The row that a webhook's key is sealed for."""
    return f"webhook:{webhook_id}"


def _key(site: Site, webhook: Webhook) -> tuple[str, str]:
    """The key that signs, and why there is none."""
    if webhook.ciphertext is None:
        return "", "it has no secret"
    try:
        return site.keys.open(webhook.ciphertext, secret_row(webhook.id)), ""
    except KeyUnusable as error:
        return "", error.message


def key_of(site: Site, webhook: Webhook) -> str:
    """The key that signs a webhook's deliveries. Raises Conflict where there is none, KeyUnusable."""
    if webhook.ciphertext is None:
        raise Conflict(
            f"webhook {webhook.name} has no secret: nothing can be signed",
            hint=f"`provisioner webhook edit {webhook.name} --new-secret` makes one",
        )
    return site.keys.open(webhook.ciphertext, secret_row(webhook.id))


def forget_waiting(session: Session, webhook: Webhook) -> None:
    """What waits is not sent any more: it was meant for another receiver."""
    waiting = update(Delivery).where(Delivery.webhook_id == webhook.id, Delivery.due_at.is_not(None))
    session.execute(waiting.values(due_at=None, error="the webhook was changed to another receiver first"))


def _enabled(session: Session) -> Sequence[Webhook]:
    return session.scalars(select(Webhook).where(Webhook.enabled).order_by(Webhook.id)).all()
