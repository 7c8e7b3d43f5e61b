"""The tables, as DESIGN's data page has them; people and webhooks are in modules of their own."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from provisioner.store.base import Administered as Administered  # noqa: PLC0414
from provisioner.store.base import Base as Base  # noqa: PLC0414
from provisioner.store.base import Id
from provisioner.store.base import UtcTime as UtcTime  # noqa: PLC0414
from provisioner.store.base import now as now  # noqa: PLC0414


class Machine(Administered):
    """A physical server."""

    __tablename__ = "machine"
    name: Mapped[str] = mapped_column(String(253), unique=True)
    state: Mapped[str] = mapped_column(String(16), default="ready")
    protected: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str] = mapped_column(Text, default="")
    profile_id: Mapped[int | None] = mapped_column(ForeignKey("profile.id"))
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    kernel_options: Mapped[list[Any]] = mapped_column(default=list)
    serial: Mapped[str | None] = mapped_column(String(255), index=True)
    uuid: Mapped[str | None] = mapped_column(String(36), index=True)
    local_boot: Mapped[str | None] = mapped_column(String(32))
    """How its firmware gets to the disk, where its profile's way does not do; None: the profile's."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What it said of itself when it was discovered; never an input of a build."""
    inventory: Mapped[str | None] = mapped_column(String(128), index=True)
    """What an inventory calls it, such as ``netbox/17``; None when none does."""
    flag: Mapped[str] = mapped_column(Text, default="")
    """Why somebody should look at this machine; empty when nobody need."""
    profile: Mapped["Profile | None"] = relationship()
    interfaces: Mapped[list["Interface"]] = relationship(
        back_populates="machine", cascade="all, delete-orphan", order_by="Interface.position"
    )
    secrets: Mapped[list["MachineSecret"]] = relationship(cascade="all, delete-orphan", order_by="MachineSecret.name")
    tags: Mapped[list["MachineTag"]] = relationship(cascade="all, delete-orphan", order_by="MachineTag.tag")
    words: Mapped["MachineWords | None"] = relationship(cascade="all, delete-orphan")
    __table_args__ = (
        Index("ix_machine_state_name", "state", "name"),
        Index("ix_machine_profile_id_name", "profile_id", "name"),
        Index("ix_machine_protected_name", "protected", "name"),
        Index("ix_machine_created_at_id", "created_at", "id"),
        Index("ix_machine_updated_at_id", "updated_at", "id"),
        Index("ix_machine_flagged", "name", sqlite_where=text("flag <> ''"), postgresql_where=text("flag <> ''")),
    )


class MachineTag(Base):
    """A word that somebody put on a machine, to find and to group machines by."""

    __tablename__ = "machine_tag"
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)
    __table_args__ = (Index("ix_machine_tag_tag_machine_id", "tag", "machine_id"),)


class MachineWords(Base):
    """All that a machine is found by, in one lower-case text, written with the machine; see `store.search`."""

    __tablename__ = "machine_words"
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id", ondelete="CASCADE"), primary_key=True)
    words: Mapped[str] = mapped_column(Text)


class Interface(Base):
    """A NIC of a machine."""

    __tablename__ = "interface"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id", ondelete="CASCADE"), index=True)
    position: Mapped[int] = mapped_column(default=0)
    name: Mapped[str] = mapped_column(String(64), default="")
    mac: Mapped[str | None] = mapped_column(String(59), unique=True)
    """None while nobody knows it: its address is kept for the machine."""
    ip: Mapped[str | None] = mapped_column(String(39), unique=True)
    subnet_id: Mapped[int | None] = mapped_column(ForeignKey("subnet.id"))
    machine: Mapped[Machine] = relationship(back_populates="interfaces")
    subnet: Mapped["Subnet | None"] = relationship()
    __table_args__ = (Index("ix_interface_subnet_id_machine_id", "subnet_id", "machine_id"),)


class MachineSecret(Base):
    """A secret that an administrator gave a machine; copied, sealed, into each of its builds."""

    __tablename__ = "machine_secret"
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    ciphertext: Mapped[bytes]
    set_at: Mapped[datetime] = mapped_column(default=now)


class Subnet(Administered):
    """A network and the URLs under which machines there reach us."""

    __tablename__ = "subnet"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    cidr: Mapped[str] = mapped_column(String(43), unique=True)
    gateway: Mapped[str | None] = mapped_column(String(39))
    dns: Mapped[list[Any]] = mapped_column(default=list)
    domain: Mapped[str | None] = mapped_column(String(253))
    dhcp: Mapped[str] = mapped_column(String(16), default="off")
    ranges: Mapped[list[Any]] = mapped_column(default=list)
    """``{"kind": "static" | "dynamic" | "reserved", "start": ..., "end": ...}`` each."""
    boot_url: Mapped[str] = mapped_column(String(255), default="")
    media_url: Mapped[str] = mapped_column(String(255), default="")
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)


class AddressHold(Base):
    """An address that was handed out as free and is kept for whoever asked, until they use it or it lapses."""

    __tablename__ = "address_hold"
    ip: Mapped[str] = mapped_column(String(39), primary_key=True)
    subnet_id: Mapped[int] = mapped_column(ForeignKey("subnet.id", ondelete="CASCADE"), index=True)
    until: Mapped[datetime]
    holder: Mapped[str] = mapped_column(String(128))


class Template(Administered):
    """The source of an answer file or script, or a snippet; the kind is the first part of the name."""

    __tablename__ = "template"
    name: Mapped[str] = mapped_column(String(96), unique=True)
    text: Mapped[str] = mapped_column(Text)
    """What is in force; empty while no text of it was ever good."""
    draft: Mapped[str | None] = mapped_column(Text)
    """A later text that fails, kept for its author and never served."""
    problems: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """What is wrong with the draft: ``where``, ``message`` and ``hint`` each."""


class Distro(Administered):
    """Something installable. Kernel and initrd are in the media store under their SHA-256."""

    __tablename__ = "distro"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    os: Mapped[str] = mapped_column(String(32))
    os_version: Mapped[str] = mapped_column(String(32))
    arch: Mapped[str] = mapped_column(String(16), default="x86_64")
    kernel_sha256: Mapped[str] = mapped_column(String(64))
    kernel_name: Mapped[str] = mapped_column(String(128))
    initrd_sha256: Mapped[str] = mapped_column(String(64))
    initrd_name: Mapped[str] = mapped_column(String(128))
    tree: Mapped[str] = mapped_column(String(1024), default="")
    """A URL, or an absolute path of this host that media serves under the distro's name."""
    files: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Further files of the media store, by role (``iso``, ``rootfs``): ``sha256``, ``name``, ``size`` each."""


class Image(Administered):
    """A disk image, golden or stem-cell, in the media store under its SHA-256."""

    __tablename__ = "image"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    os: Mapped[str] = mapped_column(String(32))
    os_version: Mapped[str] = mapped_column(String(32))
    arch: Mapped[str] = mapped_column(String(16), default="x86_64")
    format: Mapped[str] = mapped_column(String(16), default="raw.gz")
    root: Mapped[str] = mapped_column(String(128), default="")
    sha256: Mapped[str] = mapped_column(String(64))
    file_name: Mapped[str] = mapped_column(String(128))
    size: Mapped[int] = mapped_column(BigInteger)


class Profile(Administered):
    """What to build. Fields that are None are inherited from the parent."""

    __tablename__ = "profile"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("profile.id"), index=True)
    description: Mapped[str] = mapped_column(Text, default="")
    distro: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    image: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    template: Mapped[str | None] = mapped_column(String(96))
    kernel_options: Mapped[list[Any]] = mapped_column(default=list)
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    handoff: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    local_boot: Mapped[str | None] = mapped_column(String(32))
    tested_with: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(Text)
    """The YAML it was loaded from, so that export gives back the same bytes; None once changed by other means."""
    parent: Mapped["Profile | None"] = relationship(remote_side="Profile.id")


class Build(Base):
    """One numbered run of making a machine; sealed when armed. It outlives its machine: builds are kept for good."""

    __tablename__ = "build"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    machine_id: Mapped[int | None] = mapped_column(ForeignKey("machine.id", ondelete="SET NULL"))
    machine_name: Mapped[str] = mapped_column(String(253))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16), default="armed")
    sealed: Mapped[dict[str, Any]]
    """Every input: revisions, hashes, resolved parameters with provenance."""
    armed_at: Mapped[datetime] = mapped_column(default=now)
    built_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(Text, default="")
    disk_touched: Mapped[bool] = mapped_column(default=False)
    released: Mapped[int] = mapped_column(default=0)
    reboot_announced: Mapped[bool] = mapped_column(default=False)
    reboot_served_at: Mapped[datetime | None]
    machine: Mapped[Machine | None] = relationship()
    attempts: Mapped[list["Attempt"]] = relationship(
        back_populates="build", cascade="all, delete-orphan", order_by="Attempt.number"
    )
    __table_args__ = (
        Index("uq_build_machine_id_number", "machine_id", "number", unique=True),
        Index("ix_build_state_id", "state", "id"),
    )


class SealedFile(Base):
    """A file of a sealed build, with markers, compressed with zlib."""

    __tablename__ = "sealed_file"
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[bytes]


class Attempt(Base):
    """One power-on of the machine within a build. ``uid`` is what its tokens are derived from."""

    __tablename__ = "attempt"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    number: Mapped[int]
    uid: Mapped[str] = mapped_column(String(22), unique=True)
    opened_at: Mapped[datetime] = mapped_column(default=now)
    superseded: Mapped[bool] = mapped_column(default=False)
    handoff_only: Mapped[bool] = mapped_column(default=False)
    mac: Mapped[str] = mapped_column(String(59))
    source: Mapped[str] = mapped_column(String(39))
    addresses: Mapped[list[Any]] = mapped_column(default=list)
    """The addresses it is bound to: the assigned ones and the one that fetched its script."""
    boot_url: Mapped[str] = mapped_column(String(255))
    media_url: Mapped[str] = mapped_column(String(255))
    build: Mapped[Build] = relationship(back_populates="attempts")
    __table_args__ = (Index("uq_attempt_build_id_number", "build_id", "number", unique=True),)


class Event(Base):
    """Something that happened to a machine in a build; append-only."""

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    machine_id: Mapped[int | None] = mapped_column(ForeignKey("machine.id", ondelete="SET NULL"), index=True)
    build_id: Mapped[int | None] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int | None]
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(String(39), default="")
    flagged: Mapped[bool] = mapped_column(default=False)
    log: Mapped[bytes | None]
    spool_id: Mapped[str | None] = mapped_column(String(64))
    """The name under which this report lay in the spool, so that it is applied once."""
    __table_args__ = (Index("uq_event_spool_id", "spool_id", unique=True),)


class BuildTraffic(Base):
    """How much a build's machine fetched from here one way, counted up while it runs."""

    __tablename__ = "build_traffic"
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"), primary_key=True)
    way: Mapped[str] = mapped_column(String(16), primary_key=True)
    """``tftp``, ``media`` (kernel, initrd, image) or ``tree`` (an install tree that this host serves)."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    transfers: Mapped[int] = mapped_column(BigInteger, default=0)


class Discovery(Base):
    """A machine that nobody registered and that asked for its script: quarantined until somebody adds it."""

    __tablename__ = "discovery"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    mac: Mapped[str] = mapped_column(String(59), unique=True)
    first_seen: Mapped[datetime] = mapped_column(default=now)
    last_seen: Mapped[datetime] = mapped_column(default=now, index=True)
    times: Mapped[int] = mapped_column(default=1)
    source: Mapped[str] = mapped_column(String(39), default="")
    serial: Mapped[str | None] = mapped_column(String(255), index=True)
    uuid: Mapped[str | None] = mapped_column(String(36), index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What it said of itself: inert text, cut and printable."""
    conflict: Mapped[str] = mapped_column(Text, default="")
    """Which registered machine it contradicts; empty when none."""


class Secret(Base):
    """A secret of a build, encrypted; taken at most once in each attempt."""

    __tablename__ = "secret"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    build_id: Mapped[int] = mapped_column(ForeignKey("build.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    ciphertext: Mapped[bytes]
    taken_attempt: Mapped[int | None]
    taken_at: Mapped[datetime | None]
    taken_source: Mapped[str] = mapped_column(String(39), default="")
    taken_nonce: Mapped[str] = mapped_column(String(64), default="")
    __table_args__ = (Index("uq_secret_build_id_name", "build_id", "name", unique=True),)


class Revision(Base):
    """A change of an administered object, in the same transaction as the change; hash-chained."""

    __tablename__ = "revision"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(128))
    origin: Mapped[str] = mapped_column(String(64))
    request: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text, default="")
    kind: Mapped[str] = mapped_column(String(16))
    object_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(253))
    action: Mapped[str] = mapped_column(String(16))
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))
    __table_args__ = (
        Index("ix_revision_kind_object_id", "kind", "object_id"),
        Index("ix_revision_kind_name", "kind", "name"),
        Index("ix_revision_at", "at"),
        Index("ix_revision_actor_id", "actor", "id"),
    )


class Counter(Base):
    """A named counter: the tip of the revision chain, the DHCP generation and what the DHCP child took."""

    __tablename__ = "counter"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, default=0)
    text: Mapped[str] = mapped_column(String(255), default="")
