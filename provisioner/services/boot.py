"""What a machine gets when it boots from the network; every loader's question comes in here."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection, bindparam, insert, select, update

from provisioner.core.addresses import contains, normal_mac
from provisioner.core.bootplan import BootDecision, BootFacts, Network, admit, decide
from provisioner.core.discovery import BACKOFF, Waiting, next_wait, screen
from provisioner.core.facts import Facts
from provisioner.core.lifecycle import MachineState, NextBoot, Trigger
from provisioner.core.localboot import AUTO
from provisioner.core.markers import fill
from provisioner.core.tokens import new_uid
from provisioner.errors import DatabaseUnavailable, ProvisionerError, StorageFull
from provisioner.render import bootscripts
from provisioner.services import discovery, lastgood, looks, reports, spool, standby
from provisioner.services.attempts import marker_values
from provisioner.services.discovery import Sighting
from provisioner.services.lives import advance, has_room, note, raise_flag, set_build
from provisioner.services.looks import ATTEMPT, SEALED, AttemptSeen, BuildSeen, World
from provisioner.services.site import Site
from provisioner.store.engine import glance, read, together
from provisioner.store.models import Subnet, now

log = structlog.get_logger()
_BOOT_URLS = select(Subnet.cidr, Subnet.boot_url)
_EARLIER = select(ATTEMPT.c.uid).where(ATTEMPT.c.build_id == bindparam("build"))
_SUPERSEDE = update(ATTEMPT).where(ATTEMPT.c.build_id == bindparam("build")).values(superseded=True)
_ADD_ATTEMPT = insert(ATTEMPT)
_FILES = select(SEALED.c.name, SEALED.c.content).where(SEALED.c.build_id == bindparam("build")).order_by(SEALED.c.name)
_NOT_BY_PXELINUX = "PXELINUX cannot start a build: let the DHCP server name undionly.kpxe (BIOS) or snponly.efi (UEFI)"


@dataclass(frozen=True)
class BootRequest:
    """A loader's question."""

    mac: str
    source: str
    loader: str = "ipxe"
    """``ipxe``, ``grub`` or ``pxelinux``."""
    platform: str = "pcbios"
    boot_url: str = ""
    """The URL under which the machine asked; what it is told when neither subnet nor settings say otherwise."""
    peek: bool = False
    """Only look: open no attempt, write nothing (HTTP HEAD)."""
    facts: Facts = field(default_factory=Facts)
    wait: str = ""
    """The seconds that it has just waited in the discovery script, as it sent them; empty at its first question."""
    waited_for: str = ""


@dataclass(frozen=True)
class BootAnswer:
    """The script to send, and the decision it carries out."""

    text: str
    decision: BootDecision
    sighting: Sighting | None = None
    """What is worth recording of the question; the caller has it recorded behind the answer."""


def boot_script(site: Site, request: BootRequest) -> BootAnswer:
    """The script for this machine; opens an attempt where the decision says so.

    Raises MalformedMac alone: whatever else goes wrong, the machine gets its local disk.
    """
    mac = normal_mac(request.mac)
    try:
        if not request.peek and spool.pending(site):
            reports.catch_up(site)
        with glance(site.engine) as connection:
            world = looks.world(connection, mac, _file(request))
        decision = _decide(site, world, request, now())
        waiting, sighting = _discovered(site, mac, request, world)
        if not _writes(world, decision) or request.peek:
            text = _script(site, request, world, decision, waiting)
            return BootAnswer(text, decision, None if request.peek else sighting)
        return replace(_carry_out(site, request, mac, waiting), sighting=sighting)
    except ProvisionerError as error:
        log.warning("boot without a decision", mac=mac, source=request.source, error=str(error))
        down = isinstance(error, DatabaseUnavailable | StorageFull)
        reason = "the database cannot be asked" if down else f"no decision was possible: {error.message}"
        if down and request.wait:
            # It was told to wait, so nobody expects it to come up; many in its place have nothing on their disk yet.
            waiting = replace(Waiting(mac, facts=request.facts), trouble=f"{reason}: waiting for the server")
            decision = BootDecision(NextBoot.DISCOVERY, reason)
            return BootAnswer(_waiting_script(site, request, waiting), decision)
        return BootAnswer(_local_without_database(site, request, mac), BootDecision(NextBoot.LOCAL, reason))


def _discovered(site: Site, mac: str, request: BootRequest, world: World) -> tuple[Waiting, Sighting | None]:
    if world.machine is not None:
        return discovery.registered(mac, request.source, request.facts, world.machine)
    with read(site.engine) as session:
        return discovery.look(session, site, mac, request.source, request.facts, None)


def _file(request: BootRequest) -> str:
    """The name of the sealed script for this loader."""
    return "grub" if request.loader == "grub" else "ipxe"


def _local_without_database(site: Site, request: BootRequest, mac: str) -> str:
    known = standby.recall(site)
    told = replace(request, boot_url=_told_url(site, known.boot_url(request.source), request.boot_url))
    return local_script(told, known.way(mac))


def first_script(site: Site, source: str, boot_url: str) -> str:
    """The first script of every iPXE: it asks again with the MAC of the NIC that is open and what SMBIOS says."""
    try:
        with glance(site.engine) as connection:
            found = connection.execute(_BOOT_URLS)
            own = next((url for cidr, url in found if contains(cidr, source)), "")
    except ProvisionerError:
        own = standby.recall(site).boot_url(source)
    return bootscripts.first_ipxe(_told_url(site, own, boot_url))


def _told_url(site: Site, own: str, asked: str) -> str:
    """The boot plane's URL that a machine is told: its subnet's, the setting, or the one under which it asked."""
    return own or site.settings.boot_url or asked or site.settings.boot


def local_script(request: BootRequest, way: str = AUTO) -> str:
    """The way to the local disk for this loader, one of ``core.localboot``; needs nothing but the question itself."""
    if request.loader == "grub":
        return bootscripts.local_grub(way)
    if request.loader == "pxelinux":
        return bootscripts.local_pxelinux()
    return bootscripts.local_ipxe(request.platform, way, request.boot_url)


def _decide(site: Site, world: World, request: BootRequest, at: datetime) -> BootDecision:
    decision = decide(facts(site, world, request.source, at))
    if decision.next_boot is NextBoot.BUILD and request.loader == "pxelinux":
        # What is sealed are scripts for iPXE and GRUB; PXELINUX would take such a script for a broken menu.
        return BootDecision(NextBoot.HALT, _NOT_BY_PXELINUX)
    return decision


def facts(site: Site, world: World, source: str, at: datetime) -> BootFacts:
    """What the decision looks at, from what the database holds."""
    if world.machine is None:
        return BootFacts(None, source=source, discovery=site.settings.discovery != "off")
    build, attempt = world.build, world.attempt
    networks = [Network(subnet.name, subnet.cidr, subnet.dhcp) for subnet in world.subnets]
    return BootFacts(
        machine=MachineState(world.machine.state),
        phase=build.phase if build is not None else None,
        protected=world.machine.protected,
        source=source,
        admission=admit(source, world.assigned, networks),
        attempts=attempt.number if attempt is not None else 0,
        attempt_source=attempt.source if attempt is not None else None,
        attempt_age=(at - attempt.opened_at).total_seconds() if attempt is not None else None,
        disk_touched=build.disk_touched if build is not None else False,
        secret_taken=world.secret_taken,
        released=build.released if build is not None else 0,
        reboot_announced=build is not None and _reboot_announced(build, at),
    )


def _reboot_announced(build: BuildSeen, at: datetime) -> bool:
    if build.reboot_announced:
        return True
    served = build.reboot_served_at
    # The same firmware may ask twice; it must not get the disk once and the installer the second time.
    return served is not None and (at - served).total_seconds() < 60


def _writes(world: World, decision: BootDecision) -> bool:
    return world.build is not None and (
        decision.opens_attempt or decision.flagged or decision.next_boot is not NextBoot.BUILD
    )


@dataclass(frozen=True)
class _Done:
    """What a decision left in the database."""

    answer: BootAnswer
    superseded: Sequence[str] = ()
    kept: lastgood.Kept | None = None


def _carry_out(site: Site, request: BootRequest, mac: str, waiting: Waiting) -> BootAnswer:
    """Decide again while nobody else writes, open the attempt if that is the decision, note what the machine got."""

    def job(connection: Connection) -> _Done:
        # Another fetch may have opened the attempt while this one waited.
        world = looks.world(connection, mac, _file(request))
        moment = now()
        decision = _decide(site, world, request, moment)
        superseded: Sequence[str] = ()
        kept = None
        if world.build is not None and decision.opens_attempt:
            superseded = _supersede(connection, world.build)
            world = _open_attempt(connection, site, request, mac, world, moment)
            kept = _kept(connection, mac, world)
        if world.build is not None:
            _note(connection, request, world, world.build, decision, moment)
        return _Done(BootAnswer(_script(site, request, world, decision, waiting), decision), superseded, kept)

    done = together(site.engine, job)
    for uid in done.superseded:
        lastgood.forget(site, uid)
    if done.kept is not None:
        lastgood.keep(site, done.kept)
    return done.answer


def _supersede(connection: Connection, build: BuildSeen) -> Sequence[str]:
    """End the build's attempts; their uids."""
    earlier = connection.execute(_EARLIER, {"build": build.id}).scalars().all()
    if earlier:
        connection.execute(_SUPERSEDE, {"build": build.id})
    return earlier


def _open_attempt(
    connection: Connection, site: Site, request: BootRequest, mac: str, world: World, moment: datetime
) -> World:
    build, machine = world.build, world.machine
    assert build is not None and machine is not None  # noqa: S101 - decided on a build
    subnet = next((each for each in world.subnets if contains(each.cidr, request.source)), world.subnets[0])
    values: dict[str, Any] = {
        "number": (world.attempt.number if world.attempt else 0) + 1,
        "uid": new_uid(),
        "source": request.source,
        "opened_at": moment,
        "superseded": False,
        "handoff_only": False,
        "addresses": sorted({*world.assigned, request.source}),
        "boot_url": _told_url(site, subnet.boot_url, request.boot_url),
        "media_url": subnet.media_url or site.settings.media_in(subnet.cidr),
    }
    row = connection.execute(_ADD_ATTEMPT, values | {"build_id": build.id, "mac": mac})
    opened = AttemptSeen(id=(row.inserted_primary_key or (0,))[0], **values | {"addresses": tuple(values["addresses"])})
    build = advance(connection, build, machine.state, Trigger.ATTEMPT)
    if build.disk_touched:
        # The disk was touched by an attempt that somebody let go on from; this one starts anew.
        set_build(connection, build, disk_touched=False)
        build = replace(build, disk_touched=False)
    return replace(world, build=build, attempt=opened, secret_taken=False)


def _note(
    connection: Connection,
    request: BootRequest,
    world: World,
    build: BuildSeen,
    decision: BootDecision,
    moment: datetime,
) -> None:
    source = request.source
    if build.reboot_announced and decision.next_boot is NextBoot.LOCAL:
        set_build(connection, build, reboot_announced=False, reboot_served_at=moment)
    if not decision.opens_attempt and not has_room(connection, build):
        return  # anybody can ask in this machine's name, for ever
    if decision.flagged:
        refused = decision.next_boot is NextBoot.HALT
        message = decision.reason if refused else f"attempt from {source}, which is not the assigned address"
        raise_flag(connection, build, message, source=source, attempt=None if refused else world.attempt)
    kinds = {NextBoot.BUILD: "script", NextBoot.LOCAL: "local-boot", NextBoot.HALT: "halt"}
    if decision.next_boot in kinds and not (decision.flagged and decision.next_boot is NextBoot.HALT):
        attempt = world.attempt if decision.next_boot is NextBoot.BUILD else None
        note(connection, build, kinds[decision.next_boot], decision.reason, attempt=attempt, source=source)


def _script(site: Site, request: BootRequest, world: World, decision: BootDecision, waiting: Waiting) -> str:
    if decision.next_boot is NextBoot.BUILD and world.build is not None:
        if world.attempt is None or (request.peek and decision.opens_attempt):
            return f"#!ipxe\n# {decision.reason}\n"
        return fill(looks.text_of(world.script, _file(request)), marker_values(site, world.attempt))
    if decision.next_boot is NextBoot.LOCAL and world.machine is not None:
        own = next((each.boot_url for each in world.subnets if contains(each.cidr, request.source)), "")
        told = replace(request, boot_url=_told_url(site, own, request.boot_url))
        return local_script(told, world.machine.way)
    if decision.next_boot is NextBoot.DISCOVERY:
        return _waiting_script(site, request, waiting)
    if decision.next_boot is NextBoot.HALT and decision.flagged and request.wait:
        # It asked for its lease before it was given its own address: it asks for another, instead of standing still.
        return _waiting_script(site, request, replace(waiting, trouble=decision.reason))
    return plain_script(request, world.machine.name if world.machine else "", decision)


def _waiting_script(site: Site, request: BootRequest, waiting: Waiting) -> str:
    if request.loader == "pxelinux":
        return bootscripts.local_pxelinux()  # it cannot ask again
    lines = screen(waiting)
    if request.loader == "grub":
        return bootscripts.discovery_grub(lines, f"/grub/by-mac/{waiting.mac}", BACKOFF)
    seconds = next_wait(request.wait, request.waited_for, waiting.waits_for)
    return bootscripts.discovery_ipxe(lines, request.boot_url or site.settings.boot, seconds, waiting.waits_for)


def plain_script(request: BootRequest, name: str, decision: BootDecision) -> str:
    """The local disk, or a halt with its message: it needs nothing from the database."""
    if decision.next_boot is NextBoot.LOCAL:
        return local_script(request)
    lines = [f"Provisioner stopped {name or request.mac}:", decision.reason, *_ways_on(name)]
    if request.loader == "grub":
        return bootscripts.halt_grub(lines)
    return bootscripts.halt_pxelinux(lines) if request.loader == "pxelinux" else bootscripts.halt_ipxe(lines)


def _ways_on(name: str) -> list[str]:
    return [
        "Nothing was written to its disks by this boot.",
        f"To look:       provisioner build show {name}",
        f"To go on:      provisioner build continue {name}   (one more attempt; wipes its disk)",
        f"To start anew: provisioner build start {name}",
    ]


def _kept(connection: Connection, mac: str, world: World) -> lastgood.Kept:
    build, attempt = world.build, world.attempt
    assert build is not None and attempt is not None  # noqa: S101 - just opened
    files = connection.execute(_FILES, {"build": build.id}).all()
    return lastgood.Kept(
        uid=attempt.uid,
        mac=mac,
        addresses=list(attempt.addresses),
        boot_url=attempt.boot_url,
        media_url=attempt.media_url,
        opened_at=attempt.opened_at.timestamp(),
        files={name: zlib.decompress(content).decode() for name, content in files},
    )
