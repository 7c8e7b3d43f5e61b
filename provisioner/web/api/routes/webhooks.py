"""Webhooks: who is told of what, and what came of each delivery."""

from typing import Any

from provisioner.errors import Conflict, NameTaken
from provisioner.services import deliveries, listing, webhooks
from provisioner.web.api.operations import Call, Operations
from provisioner.web.api.shapes.common import PageQuery, Rename
from provisioner.web.api.shapes.webhooks import (
    DeliveryPage,
    DeliveryQuery,
    DeliveryView,
    NewWebhook,
    Tested,
    WebhookBody,
    WebhookEdit,
    WebhookPage,
    WebhookView,
)

operations = Operations()


@operations.add("GET", "/webhooks", noun="webhooks", query=PageQuery, answer=WebhookPage)
def list_webhooks(call: Call) -> Any:
    """List webhooks."""
    return listing.page(call.site, "webhooks", **call.query.given())


@operations.add(
    "POST", "/webhooks", noun="webhooks", body=WebhookBody, answer=NewWebhook, status=201, errors=(NameTaken, Conflict)
)
def add_webhook(call: Call) -> Any:
    """Add a webhook: it is told of what happens from then on."""
    fields = call.body.given()
    return webhooks.add(call.site, call.actor, fields.pop("name"), fields)


@operations.add("GET", "/webhooks/{name}", noun="webhooks", answer=WebhookView)
def show_webhook(call: Call) -> Any:
    """Show a webhook, with its latest delivery."""
    return webhooks.show(call.site, call.names["name"])


@operations.add(
    "PATCH",
    "/webhooks/{name}",
    noun="webhooks",
    body=WebhookEdit,
    answer=NewWebhook,
    match=True,
    errors=(Conflict,),
)
def change_webhook(call: Call) -> Any:
    """Change a webhook. Another host without a secret clears the secret and disables it."""
    fields = call.body.given()
    new_secret = fields.pop("new_secret", False)
    return webhooks.edit(call.site, call.actor, call.names["name"], fields, expect=call.expect, new_secret=new_secret)


@operations.add("DELETE", "/webhooks/{name}", noun="webhooks", match=True)
def remove_webhook(call: Call) -> None:
    """Remove a webhook, with the deliveries that wait."""
    webhooks.remove(call.site, call.actor, call.names["name"], expect=call.expect)


@operations.add(
    "POST", "/webhooks/{name}:rename", noun="webhooks", body=Rename, answer=WebhookView, match=True, errors=(NameTaken,)
)
def rename_webhook(call: Call) -> Any:
    """Give a webhook another name."""
    return webhooks.rename(call.site, call.actor, call.names["name"], call.body.name, expect=call.expect)


@operations.add("POST", "/webhooks/{name}:test", noun="webhooks", lasting=True, answer=Tested, errors=(Conflict,))
def test_webhook(call: Call) -> Any:
    """Send a `ping` now and say what came; it takes up to ten seconds."""
    return webhooks.test(call.site, call.actor, call.names["name"])


@operations.add("GET", "/webhooks/{name}/deliveries", noun="webhooks", query=DeliveryQuery, answer=DeliveryPage)
def list_deliveries(call: Call) -> Any:
    """A webhook's deliveries, the newest first, with what came of each."""
    query = call.query
    return deliveries.listing(call.site, call.names["name"], query.limit, query.cursor)


@operations.add("POST", "/deliveries/{uid}:redeliver", noun="webhooks", answer=DeliveryView)
def redeliver(call: Call) -> Any:
    """Try a delivery again."""
    return deliveries.redeliver(call.site, call.actor, call.names["uid"])
