"""What a build's machine is at the server of its configuration management, and what is still to be done there."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from provisioner.store.base import Base, Id, now
from provisioner.store.models import Build


class Handoff(Base):
    """One round of a build's handoff: the identity that was made for it. `build retry-handoff` makes another round."""

    __tablename__ = "handoff"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    machine_id: Mapped[int | None] = mapped_column(ForeignKey("machine.id", ondelete="SET NULL"))
    round: Mapped[int] = mapped_column(default=1)
    tool: Mapped[str] = mapped_column(String(16))
    identity: Mapped[str] = mapped_column(String(253), default="")
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    public: Mapped[dict[str, Any]] = mapped_column(default=dict)
    kept: Mapped[bytes | None]
    """Secrets that stay with us, as encrypted JSON."""
    enrols: Mapped[bool] = mapped_column(default=False)
    issues: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(16), default="prepared")
    """``prepared``, ``enrolled`` (the tool's server is ready for it), ``issued``, ``revoked``."""
    fingerprint: Mapped[str] = mapped_column(String(128), default="")
    """Of the key that the identity was issued to, where the tool's server tells it."""
    reached: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Where a machine that is configured from here can be reached: ``address`` and ``host_keys``."""
    created_at: Mapped[datetime] = mapped_column(default=now)
    issued_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    build: Mapped[Build] = relationship()
    __table_args__ = (
        Index("uq_handoff_build_id_round", "build_id", "round", unique=True),
        Index("ix_handoff_tool_identity", "tool", "identity"),
        Index("ix_handoff_machine_id_state", "machine_id", "state"),
    )


class Outbox(Base):
    """An effect to carry out after commit at a tool's server; those of one machine one after the other."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str] = mapped_column(String(32))
    """``enrol``, ``revoke`` or ``push``."""
    handoff_id: Mapped[int] = mapped_column(ForeignKey("handoff.id", ondelete="CASCADE"))
    machine_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    """Kept when the machine is removed: its order must stay."""
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is tried next, or when whoever has it counts as dead; None once it is over."""
    tries: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    done_at: Mapped[datetime | None]
    handoff: Mapped[Handoff] = relationship()
