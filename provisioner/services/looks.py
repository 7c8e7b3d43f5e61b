"""What the database knows of a machine that boots or reports: one statement for each question, and plain rows.

Boots come a thousand at a time; building objects costs many times what the look-up does.
"""

import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, Table, and_, bindparam, exists, func, or_, select

from provisioner.core.lifecycle import RUNNING, BuildState, Phase, phase_of
from provisioner.core.localboot import AUTO
from provisioner.errors import NotFound
from provisioner.store.models import Attempt, Build, Interface, Machine, Profile, SealedFile, Secret, Subnet

MACHINE, BUILD, ATTEMPT = (cast("Table", each.__table__) for each in (Machine, Build, Attempt))
_INTERFACE, _SUBNET, _PROFILE = (cast("Table", each.__table__) for each in (Interface, Subnet, Profile))
SEALED, SECRET = (cast("Table", each.__table__) for each in (SealedFile, Secret))


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """A machine."""

    id: int
    name: str
    state: str
    protected: bool
    profile_id: int | None
    facts: dict[str, Any] | None
    way: str
    """To its local disk; see ``core.localboot``."""


@dataclass(frozen=True, slots=True)
class BuildSeen:
    """A build; ``latest`` says whether it is its machine's newest."""

    id: int
    machine_id: int | None
    state: str
    built_at: datetime | None
    disk_touched: bool
    released: int
    reboot_announced: bool
    reboot_served_at: datetime | None
    latest: bool = True

    @property
    def phase(self) -> Phase:
        """The build's phase."""
        return phase_of(BuildState(self.state), was_built=self.built_at is not None)


@dataclass(frozen=True, slots=True)
class AttemptSeen:
    """An attempt."""

    id: int
    number: int
    uid: str
    source: str
    opened_at: datetime
    superseded: bool
    handoff_only: bool
    addresses: tuple[str, ...]
    boot_url: str
    media_url: str


@dataclass(frozen=True, slots=True)
class SubnetSeen:
    """A subnet that the machine has an interface in."""

    name: str
    cidr: str
    dhcp: str
    boot_url: str
    media_url: str


@dataclass(frozen=True, slots=True)
class Text:
    """A sealed file, markers unfilled, as it is stored."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class World:
    """What is known of a MAC address: its machine with the newest build and that build's newest attempt."""

    machine: MachineSeen | None = None
    build: BuildSeen | None = None
    attempt: AttemptSeen | None = None
    subnets: tuple[SubnetSeen, ...] = ()
    assigned: tuple[str, ...] = ()
    secret_taken: bool = False
    """By the attempt."""
    script: Text | None = None
    """Of a build that runs."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a token of an attempt stands for."""

    attempt: AttemptSeen
    build: BuildSeen
    machine_state: str
    file: Text | None = None


_BUILD_COLUMNS = [BUILD.c[name].label(f"build_{name}") for name in BuildSeen.__match_args__[:-1]]
_ATTEMPT_COLUMNS = [ATTEMPT.c[name].label(f"attempt_{name}") for name in AttemptSeen.__match_args__]
_FILE_COLUMNS = [SEALED.c.name.label("file_name"), SEALED.c.content.label("file_content")]


def _way() -> Any:
    """The machine's own way, its profile's or the nearest ancestor's; the walk ends at the first."""
    asked = _INTERFACE.alias("way_asked")
    own = (
        select(MACHINE.c.profile_id.label("next"), MACHINE.c.local_boot.label("way"))
        .select_from(asked.join(MACHINE, MACHINE.c.id == asked.c.machine_id))
        .where(asked.c.mac == bindparam("mac"))
        .cte("ways", recursive=True)
    )
    # UNION, not UNION ALL: a circle of profiles ends.
    ways = own.union(
        select(_PROFILE.c.parent_id, _PROFILE.c.local_boot)
        .select_from(_PROFILE.join(own, _PROFILE.c.id == own.c.next))
        .where(own.c.way.is_(None))
    )
    return select(ways.c.way).where(ways.c.way.is_not(None)).limit(1).scalar_subquery()


def _newest_build() -> Any:
    other = BUILD.alias("other_build")
    newest = select(func.max(other.c.number)).where(other.c.machine_id == MACHINE.c.id).scalar_subquery()
    return and_(BUILD.c.machine_id == MACHINE.c.id, BUILD.c.number == newest)


def _newest_attempt() -> Any:
    other = ATTEMPT.alias("other_attempt")
    newest = select(func.max(other.c.number)).where(other.c.build_id == BUILD.c.id).scalar_subquery()
    return and_(ATTEMPT.c.build_id == BUILD.c.id, ATTEMPT.c.number == newest)


def _by_mac() -> Any:
    asked, card = _INTERFACE.alias("asked"), _INTERFACE.alias("card")
    running = or_(*(BUILD.c.state == phase.state.value for phase in sorted(RUNNING)))
    taken = exists().where(SECRET.c.build_id == BUILD.c.id, SECRET.c.taken_attempt == ATTEMPT.c.id)
    machine = [MACHINE.c[name].label(f"machine_{name}") for name in MachineSeen.__match_args__[:-1]]
    subnet = [_SUBNET.c[name].label(f"subnet_{name}") for name in SubnetSeen.__match_args__]
    joined = (
        asked.join(MACHINE, MACHINE.c.id == asked.c.machine_id)
        .join(card, card.c.machine_id == MACHINE.c.id)
        .outerjoin(BUILD, _newest_build())
        .outerjoin(ATTEMPT, _newest_attempt())
        .outerjoin(_SUBNET, _SUBNET.c.id == card.c.subnet_id)
        .outerjoin(SEALED, and_(SEALED.c.build_id == BUILD.c.id, SEALED.c.name == bindparam("script"), running))
    )
    columns = [*machine, *_BUILD_COLUMNS, *_ATTEMPT_COLUMNS, *subnet, *_FILE_COLUMNS]
    return (
        select(*columns, card.c.ip.label("card_ip"), _way().label("way"), taken.label("taken"))
        .select_from(joined)
        .where(asked.c.mac == bindparam("mac"))
        .order_by(card.c.position, card.c.id)
    )


def _by_uid() -> Any:
    other = BUILD.alias("later_build")
    later = exists().where(other.c.machine_id == BUILD.c.machine_id, other.c.number > BUILD.c.number)
    joined = (
        ATTEMPT.join(BUILD, BUILD.c.id == ATTEMPT.c.build_id)
        .join(MACHINE, MACHINE.c.id == BUILD.c.machine_id)
        .outerjoin(SEALED, and_(SEALED.c.build_id == BUILD.c.id, SEALED.c.name == bindparam("file")))
    )
    columns = [*_ATTEMPT_COLUMNS, *_BUILD_COLUMNS, *_FILE_COLUMNS]
    return (
        select(*columns, MACHINE.c.state.label("machine_state"), later.label("later"))
        .select_from(joined)
        .where(ATTEMPT.c.uid == bindparam("uid"))
    )


_WORLD, _HELD = _by_mac(), _by_uid()


def world(connection: Connection, mac: str, script: str = "ipxe") -> World:
    """What is known of a MAC address in normal form, with the named sealed script of a build that runs."""
    rows = connection.execute(_WORLD, {"mac": mac, "script": script}).all()
    if not rows:
        return World()
    row = rows[0]
    subnets = [
        SubnetSeen(each.subnet_name, each.subnet_cidr, each.subnet_dhcp, each.subnet_boot_url, each.subnet_media_url)
        for each in rows
        if each.subnet_name is not None
    ]
    return World(
        machine=MachineSeen(
            row.machine_id,
            row.machine_name,
            row.machine_state,
            row.machine_protected,
            row.machine_profile_id,
            row.machine_facts,
            row.way or AUTO,
        ),
        build=_build(row) if row.build_id is not None else None,
        attempt=_attempt(row) if row.attempt_id is not None else None,
        subnets=tuple(subnets),
        assigned=tuple(each.card_ip for each in rows if each.card_ip),
        secret_taken=bool(row.taken),
        script=_file(row),
    )


def held(connection: Connection, uid: str, file: str = "") -> Held | None:
    """The attempt of this uid, its build and the named sealed file; None if there is none or its machine is gone."""
    row = connection.execute(_HELD, {"uid": uid, "file": file}).one_or_none()
    if row is None:
        return None
    return Held(_attempt(row), _build(row, latest=not row.later), row.machine_state, _file(row))


def _build(row: Any, *, latest: bool = True) -> BuildSeen:
    return BuildSeen(
        row.build_id,
        row.build_machine_id,
        row.build_state,
        row.build_built_at,
        row.build_disk_touched,
        row.build_released,
        row.build_reboot_announced,
        row.build_reboot_served_at,
        latest,
    )


def _attempt(row: Any) -> AttemptSeen:
    return AttemptSeen(
        row.attempt_id,
        row.attempt_number,
        row.attempt_uid,
        row.attempt_source,
        row.attempt_opened_at,
        row.attempt_superseded,
        row.attempt_handoff_only,
        tuple(row.attempt_addresses),
        row.attempt_boot_url,
        row.attempt_media_url,
    )


def _file(row: Any) -> Text | None:
    if row.file_name is None:
        return None
    return Text(row.file_name, row.file_content)


def text_of(file: Text | None, name: str) -> str:
    """The text of a sealed file, markers unfilled. Raises NotFound for None: the build has none of this name."""
    if file is None:
        raise NotFound(f"this build has no file {name!r}")
    return zlib.decompress(file.content).decode()
