"""Webhooks: who is told of events, and what came of it."""

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response

from provisioner.core.webhooks import EVENTS
from provisioner.errors import ProvisionerError
from provisioner.services import deliveries, webhooks
from provisioner.web.ui import csvout, notices, saving
from provisioner.web.ui.forms import words
from provisioner.web.ui.pages import Pages, Visit, path
from provisioner.web.ui.saving import Refused

pages = Pages()
_COLUMNS = ("name", "url", "events", "enabled", "description", "waiting", "last_state", "last_error")
_DELIVERED = ("uid", "event", "state", "created_at", "attempts", "status", "error", "delivered_at")


@pages.get("/webhooks", "webhooks")
def all_webhooks(visit: Visit) -> Response:
    """Who is told of events, and whether that works."""
    rows = webhooks.listing(visit.site)
    if visit.arg("format") == "csv":
        return csvout.answer("webhooks", _COLUMNS, (row | _latest(row) for row in rows))
    return visit.render("people/webhooks.html", rows=rows)


@pages.get("/webhooks:add", "webhooks", verb="write")
def adding_webhook(visit: Visit) -> Response:
    """The form for a new webhook."""
    return _webhook_form(visit, None, {"enabled": True})


@pages.post("/webhooks:add", "webhooks")
def add_webhook(visit: Visit) -> Response:
    """Add it; the secret that signs is made here and shown once."""
    typed = _webhook_typed(visit)
    try:
        made = webhooks.add(visit.site, visit.actor, typed["name"], _webhook_fields(typed))
    except ProvisionerError as error:
        return _webhook_form(visit, None, typed, error)
    return visit.render(
        "people/secret.html", what=f"The secret of webhook {made['name']}", secret=made["key"], back="/webhooks"
    )


@pages.get("/webhooks/<name>", "webhooks")
def webhook(visit: Visit, name: str) -> Response:
    """A webhook with its latest deliveries."""
    found = webhooks.show(visit.site, name)
    if visit.arg("format") == "csv":
        return csvout.answer(f"{name}-deliveries", _DELIVERED, _deliveries(visit, name))
    return _webhook_form(visit, found, _in_form(found) | {"revision": found["revision"]})


@pages.post("/webhooks/<name>/edit", "webhooks")
def edit_webhook(visit: Visit, name: str) -> Response:
    """Change it."""
    found, typed = webhooks.show(visit.site, name), _webhook_typed(visit)
    refused = saving.attempt(
        visit,
        "webhook",
        found,
        typed,
        lambda: webhooks.edit(visit.site, visit.actor, name, _webhook_fields(typed), expect=typed["revision"]),
        _in_form,
    )
    if refused is not None:
        return _webhook_form(visit, found, refused.typed, refused.error, refused)
    return visit.redirect(path("webhooks", name), f"Webhook {name} is changed.", href=f"/history?object=webhook/{name}")


@pages.post("/webhooks/<name>/test", "webhooks")
def test_webhook(visit: Visit, name: str) -> Response:
    """Send it a test event, and say what came of it."""
    told = webhooks.test(visit.site, visit.actor, name)
    words_of = f"status {told['status']}" if told["status"] else told["error"]
    level = "done" if told["delivered"] else "warning"
    notices.say(f"The test event was {'' if told['delivered'] else 'not '}delivered: {words_of}", level=level)
    return visit.redirect(path("webhooks", name))


@pages.post("/webhooks/<name>/remove", "webhooks")
def remove_webhook(visit: Visit, name: str) -> Response:
    """Remove it, with what waits to be delivered."""
    webhooks.remove(visit.site, visit.actor, name, expect=visit.field("revision") or None)
    return visit.redirect("/webhooks", f"Webhook {name} is removed.", href=f"/history?object=webhook/{name}")


def _webhook_typed(visit: Visit) -> dict[str, Any]:
    names = ("name", "url", "events", "description", "revision", "reason")
    typed: dict[str, Any] = {name: visit.field(name).strip() for name in names}
    return typed | {"events": " ".join(words(typed["events"])), "enabled": bool(visit.field("enabled"))}


def _in_form(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """What a form that nobody typed in sends."""
    same = {name: webhook[name] for name in ("url", "description", "enabled")}
    return same | {"events": " ".join(webhook["events"])}


def _latest(webhook: Mapping[str, Any]) -> dict[str, Any]:
    """How its latest delivery fared."""
    last = webhook["last_delivery"] or {}
    return {"last_state": last.get("state"), "last_error": last.get("error")}


def _deliveries(visit: Visit, name: str) -> Iterator[dict[str, Any]]:
    """All that it was sent, the newest first."""
    cursor: str | None = None
    while True:
        got = deliveries.listing(visit.site, name, 500, cursor)
        yield from got["items"]
        cursor = got["next"]
        if cursor is None:
            return


def _webhook_fields(typed: Mapping[str, Any]) -> dict[str, Any]:
    events = words(typed["events"])
    return {"events": events} | {name: typed[name] for name in ("url", "description", "enabled")}


def _webhook_form(
    visit: Visit,
    found: Mapping[str, Any] | None,
    typed: Mapping[str, Any],
    error: ProvisionerError | None = None,
    refused: Refused | None = None,
) -> Response:
    log = deliveries.listing(visit.site, found["name"])["items"] if found else []
    status = error.status if error else 200
    told = {"webhook": found, "typed": typed, "events": EVENTS, "error": error, "refused_by": refused, "log": log}
    return visit.render("people/webhook.html", status, **told)
