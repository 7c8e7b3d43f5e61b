"""Webhooks: the URLs that are told of events, and the keys that prove who tells."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from provisioner.core import webhooks as rules
from provisioner.core.names import object_name
from provisioner.errors import Conflict, InvalidInput
from provisioner.services import announcing, deliveries, objects
from provisioner.services.site import Actor, Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.models import Counter
from provisioner.store.snapshots import snapshot
from provisioner.store.webhooks import Webhook

_FIELDS = ("url", "events", "enabled", "description", "secret")
_MOST = 100
_SECRET_CHARACTERS = (16, 255)
_DESCRIPTION = 4000


def add(site: Site, actor: Actor, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add a webhook; it is told of what happens from here on.

    ``fields`` as in :func:`edit`, of which url is needed. Without a secret one is made: the view has it as ``key``,
    which nobody is shown again. Raises NameTaken, InvalidInput, Conflict for more than a hundred webhooks.
    """
    if not fields.get("url"):
        raise InvalidInput("a webhook needs a url", where="url", hint="for example https://chat.example.com/hook")
    given = dict(fields)
    made = "" if given.get("secret") else secrets.token_urlsafe(32)
    given["secret"] = made or given["secret"]
    with write(site.engine) as session:
        objects.refuse_taken(session, Webhook, object_name(name))
        if (session.scalar(select(func.count()).select_from(Webhook)) or 0) >= _MOST:
            raise Conflict(f"there are {_MOST} webhooks already", hint="remove one that nobody needs")
        webhook = Webhook(name=name, url="", events=[], enabled=True, description="", ciphertext=None)
        session.add(webhook)
        session.flush()
        _apply(session, site, webhook, given)
        announcing.keep(session, webhook, announcing.end(session))
        objects.save(session, actor, webhook, None)
        return view(session, webhook) | ({"key": made} if made else {})


def edit(
    site: Site,
    actor: Actor,
    name: str,
    fields: Mapping[str, Any],
    *,
    expect: str | None = None,
    new_secret: bool = False,
) -> dict[str, Any]:
    """Change url, events (names or groups such as ``build.*``; empty is all), enabled, description or secret.

    A URL with another scheme, host or port without a secret clears the secret, disables the webhook and drops what
    waits: what signs for one receiver is not given to another. ``new_secret`` makes one, which the view has as
    ``key``. A webhook that is enabled again is told of what happens from then on. Raises NotFound, InvalidInput,
    Stale, Conflict for one that would be enabled without a secret.
    """
    given = dict(fields)
    made = secrets.token_urlsafe(32) if new_secret else ""
    if made:
        given["secret"] = made
    with write(site.engine) as session:
        webhook = objects.get(session, Webhook, name)
        objects.expect(webhook, expect)
        before, told = snapshot(webhook), webhook.enabled
        _apply(session, site, webhook, given)
        if webhook.enabled and not told:
            announcing.keep(session, webhook, announcing.end(session))
        objects.save(session, actor, webhook, before)
        return view(session, webhook) | ({"key": made} if made else {})


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a webhook another name; its deliveries go on."""
    with write(site.engine) as session:
        webhook = objects.get(session, Webhook, name)
        objects.expect(webhook, expect)
        before = snapshot(webhook)
        objects.refuse_taken(session, Webhook, object_name(new_name))
        webhook.name = new_name
        objects.save(session, actor, webhook, before)
        return view(session, webhook)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a webhook with its deliveries, those that wait too."""
    with write(site.engine) as session:
        webhook = objects.get(session, Webhook, name)
        objects.expect(webhook, expect)
        session.execute(delete(Counter).where(Counter.name == announcing.name_of(webhook)))
        objects.remove(session, actor, webhook)


def show(site: Site, name: str) -> dict[str, Any]:
    """One webhook, with its latest delivery and how many wait; nothing of its secret but whether there is one."""
    with read(site.engine) as session:
        return view(session, objects.get(session, Webhook, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All webhooks by name."""
    with read(site.engine) as session:
        return [view(session, webhook) for webhook in objects.listing(session, Webhook)]


def view(session: Session, webhook: Webhook) -> dict[str, Any]:
    """The webhook as people see it."""
    return objects.view(webhook) | deliveries.latest(session, webhook)


def test(site: Site, actor: Actor, name: str) -> dict[str, Any]:
    """Send a `ping` at once, whether the webhook is enabled or not, and say what came: it waits up to ten seconds.

    The view has ``delivered``, ``status``, ``error`` and ``seconds``. Nothing of it is kept. Raises NotFound, Conflict
    for a webhook without a secret, KeyUnusable.
    """
    with read(site.engine) as session:
        webhook = objects.get(session, Webhook, name)
        key, target = deliveries.key_of(site, webhook), rules.parse_url(webhook.url)
    uid = secrets.token_hex(16)
    told = {"id": uid, "event": rules.PING, "at": now().isoformat(timespec="microseconds"), "actor": actor.who}
    began = time.monotonic()
    outcome = deliveries.post(site, target, key, rules.PING, uid, deliveries.body_of(rules.body(told)))
    return {
        "webhook": name,
        "url": webhook.url,
        "uid": uid,
        "delivered": outcome.delivered,
        "status": outcome.status,
        "error": outcome.error,
        "seconds": round(time.monotonic() - began, 3),
    }


def _apply(session: Session, site: Site, webhook: Webhook, fields: Mapping[str, Any]) -> None:
    unknown = set(fields) - set(_FIELDS)
    if unknown:
        raise InvalidInput(f"a webhook has no {', '.join(sorted(unknown))[:80]}", hint=f"it has {', '.join(_FIELDS)}")
    if "description" in fields:
        webhook.description = _description(fields["description"])
    if "events" in fields:
        webhook.events = rules.check_events(fields["events"])
    if "enabled" in fields:
        webhook.enabled = _enabled(fields["enabled"])
    if "url" in fields:
        _set_url(session, site, webhook, fields["url"], kept="secret" in fields)
    if "secret" in fields:
        webhook.ciphertext = site.keys.seal(_secret(fields["secret"]), deliveries.secret_row(webhook.id))
    if fields.get("enabled") and webhook.ciphertext is None:
        raise Conflict(
            f"webhook {webhook.name} has no secret, so nothing can be signed",
            where="secret",
            hint="give its secret with the same change",
        )


def _set_url(session: Session, site: Site, webhook: Webhook, url: object, *, kept: bool) -> None:
    target = rules.parse_url(url)
    why = rules.literal_refusal(target.host, rules.networks(site.settings.webhook_networks))
    if why:
        raise InvalidInput(
            f"nothing is sent to {target.host}: {why}",
            where="url",
            hint="name another receiver; or allow its network with the setting webhook_networks",
        )
    moved = bool(webhook.url) and rules.parse_url(webhook.url).origin != target.origin
    webhook.url = str(url)
    if moved:
        deliveries.forget_waiting(session, webhook)
    if moved and not kept:
        webhook.ciphertext, webhook.enabled = None, False


def _enabled(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{str(value)[:40]!r} is neither true nor false", where="enabled", hint="true or false")
    return value


def _description(value: object) -> str:
    if not isinstance(value, str) or len(value) > _DESCRIPTION:
        raise InvalidInput(f"a description has at most {_DESCRIPTION} characters", where="description")
    return value


def _secret(value: object) -> str:
    least, most = _SECRET_CHARACTERS
    if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
        raise InvalidInput(
            f"a secret has {least} to {most} printable characters", where="secret", hint="leave it out: one is made"
        )
    return value
