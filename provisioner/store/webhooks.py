"""Webhooks: who is told of what, and each delivery with what came of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from provisioner.store.base import Administered, Base, Id, now


class Webhook(Administered):
    """A URL that is told of events."""

    __tablename__ = "webhook"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    url: Mapped[str] = mapped_column(String(1024))
    events: Mapped[list[Any]] = mapped_column(default=list)
    """The kinds of events it is told of; empty is all."""
    enabled: Mapped[bool] = mapped_column(default=True)
    description: Mapped[str] = mapped_column(Text, default="")
    ciphertext: Mapped[bytes | None]
    """The key that signs its deliveries, encrypted; None until one is set for this URL."""


class Delivery(Base):
    """One event for one webhook, tried until it is taken or given up."""

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    due_at: Mapped[datetime | None]
    """When it is tried next; None once it was taken or given up."""
    attempts: Mapped[int] = mapped_column(default=0)
    delivered_at: Mapped[datetime | None]
    status: Mapped[int | None]
    error: Mapped[str] = mapped_column(Text, default="")
    webhook: Mapped[Webhook] = relationship()
    __table_args__ = (Index("ix_delivery_webhook_id_id", "webhook_id", "id"), Index("ix_delivery_due_at", "due_at"))
