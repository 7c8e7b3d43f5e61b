"""The shapes of webhooks and their deliveries."""

from typing import Annotated, Any, Literal

from pydantic import Field

from provisioner.web.api.shapes.common import Body, Count, Name, NextPage, Query, Revision, Text, View, Word

Url = Annotated[str, Field(max_length=1024, pattern="^https?://[!-~]+$", examples=["https://chat.example.com/hook"])]


class WebhookChange(Body):
    """What of a webhook can be changed; what is left out stays."""

    url: Url = Field("", validate_default=False)
    events: list[Word] = Field(
        default=[], max_length=64, description="names, or groups such as build.*; empty is all", examples=[["build.*"]]
    )
    enabled: bool = True
    description: Text = ""
    secret: Annotated[str, Field(min_length=16, max_length=255)] = Field(
        "",
        validate_default=False,
        description="the key that signs its deliveries; never shown",
        examples=["a key of 16 or more"],
    )


class WebhookEdit(WebhookChange):
    """A change of a webhook."""

    new_secret: bool = Field(False, description="make another secret; it is in this answer alone, as `key`")


class WebhookBody(WebhookChange):
    """A webhook to add; without a `secret` one is made, and shown in this answer alone as `key`."""

    name: Name = Field(examples=["chat"])
    url: Url


class DeliveryView(View):
    """One event for one webhook."""

    uid: str
    event: str
    state: Literal["waiting", "delivered", "given-up"]
    created_at: str
    attempts: int
    status: int | None
    error: str
    due_at: str | None
    delivered_at: str | None
    payload: dict[str, Any]


class DeliveryPage(View):
    """Some deliveries, the newest first."""

    items: list[DeliveryView]
    next: NextPage


class DeliveryQuery(Query):
    """Which deliveries."""

    limit: Count = Field(50, ge=1, le=500, description="how many at most")
    cursor: str | None = Field(None, max_length=1000, description="the `next` of the page before")


class WebhookView(View):
    """A webhook."""

    name: str
    url: str
    events: list[str]
    enabled: bool
    description: str
    secret: str | None = Field(description="masked, other digits after each change; null: none is set")
    waiting: int = Field(description="how many deliveries wait")
    last_delivery: DeliveryView | None
    revision: Revision


class NewWebhook(WebhookView):
    """A webhook that was added."""

    key: str | None = Field(None, description="the secret, if it was made here; shown this once")


class WebhookPage(View):
    """Some webhooks."""

    items: list[WebhookView]
    next: NextPage


class Tested(View):
    """What came of a ping."""

    webhook: str
    url: str
    uid: str
    delivered: bool
    status: int | None
    error: str
    seconds: float
