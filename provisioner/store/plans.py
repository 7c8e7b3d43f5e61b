"""Plans of bulk changes, and the rows that wait to be switched in by one of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from provisioner.store.base import Base, now


class Plan(Base):
    """What a body of machines would do, as it was computed; gone after a day."""

    __tablename__ = "plan"
    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(128))
    fence: Mapped[int] = mapped_column(BigInteger)
    """How many revisions there were when it was computed."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what it does: the same plan has the same one, whenever it is computed."""
    body: Mapped[bytes]
    """The machines as they were sent, JSON compressed with zlib."""
    answer: Mapped[bytes]
    """What was answered, likewise."""
    applied_at: Mapped[datetime | None]


class StagedMachine(Base):
    """A machine as it will be. ``added`` counts those that are new, from 1; ``target_id`` is one that is there."""

    __tablename__ = "staged_machine"
    plan_id: Mapped[str] = mapped_column(String(22), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    added: Mapped[int | None]
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(253))
    state: Mapped[str | None] = mapped_column(String(16))
    """None: as it is by then."""
    protected: Mapped[bool]
    description: Mapped[str] = mapped_column(Text)
    profile_id: Mapped[int | None] = mapped_column(BigInteger)
    parameters: Mapped[dict[str, Any]]
    kernel_options: Mapped[list[Any]]
    serial: Mapped[str | None] = mapped_column(String(255))
    uuid: Mapped[str | None] = mapped_column(String(36))
    local_boot: Mapped[str | None] = mapped_column(String(32))
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    inventory: Mapped[str | None] = mapped_column(String(128))
    flag: Mapped[str] = mapped_column(Text)
    words: Mapped[str] = mapped_column(Text)
    recabled: Mapped[bool]
    """Whether its interfaces are replaced."""
    relabelled: Mapped[bool]
    """Whether its tags are replaced."""
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any]]


class StagedInterface(Base):
    """An interface as it will be; ``target_id`` is one that stays and is changed."""

    __tablename__ = "staged_interface"
    plan_id: Mapped[str] = mapped_column(String(22), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    added: Mapped[int | None]
    target_id: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(64))
    mac: Mapped[str | None] = mapped_column(String(59))
    ip: Mapped[str | None] = mapped_column(String(39))
    subnet_id: Mapped[int | None] = mapped_column(BigInteger)


class StagedTag(Base):
    """A tag as it will be."""

    __tablename__ = "staged_tag"
    plan_id: Mapped[str] = mapped_column(String(22), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


Index("ix_staged_machine_target", StagedMachine.plan_id, StagedMachine.target_id)
Index("ix_staged_interface_mac", StagedInterface.plan_id, StagedInterface.mac)
STAGED: tuple[type[StagedMachine] | type[StagedInterface] | type[StagedTag], ...] = (
    StagedTag,
    StagedInterface,
    StagedMachine,
)
