"""What a machine gets when it boots from the network; every loader's question comes in here."""

from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

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
from provisioner.services import discovery, lastgood, localways, reports, spool, standby
from provisioner.services.arming import sealed_files
from provisioner.services.attempts import marker_values, sealed_text
from provisioner.services.discovery import Sighting
from provisioner.services.lives import add_event, apply_trigger, flag, has_room, latest_build, lock, phase
from provisioner.services.machines import by_mac
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.models import Attempt, Build, Machine, Secret, Subnet, now

log = structlog.get_logger()
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


@dataclass(frozen=True)
class _World:
    """What the database knows of the machine that asks."""

    machine: Machine | None = None
    build: Build | None = None
    attempt: Attempt | None = None
    subnets: list[Subnet] = field(default_factory=list)
    assigned: list[str] = field(default_factory=list)
    secret_taken: bool = False


def boot_script(site: Site, request: BootRequest) -> BootAnswer:
    """The script for this machine; opens an attempt where the decision says so.

    Raises MalformedMac alone: whatever else goes wrong, the machine gets its local disk.
    """
    mac = normal_mac(request.mac)
    try:
        if not request.peek and spool.pending(site):
            reports.catch_up(site)
        with read(site.engine) as session:
            world = _look(session, mac)
            decision = _decide(site, world, request, now())
            waiting, sighting = discovery.look(session, site, mac, request.source, request.facts, world.machine)
            if not _writes(world, decision) or request.peek:
                text = _script(session, site, request, world, decision, waiting)
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


def _local_without_database(site: Site, request: BootRequest, mac: str) -> str:
    known = standby.recall(site)
    told = replace(request, boot_url=_told_url(site, known.boot_url(request.source), request.boot_url))
    return local_script(told, known.way(mac))


def first_script(site: Site, source: str, boot_url: str) -> str:
    """The first script of every iPXE: it asks again with the MAC of the NIC that is open and what SMBIOS says."""
    try:
        with read(site.engine) as session:
            found = session.execute(select(Subnet.cidr, Subnet.boot_url))
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


def _decide(site: Site, world: _World, request: BootRequest, at: datetime) -> BootDecision:
    decision = decide(facts(site, world, request.source, at))
    if decision.next_boot is NextBoot.BUILD and request.loader == "pxelinux":
        # What is sealed are scripts for iPXE and GRUB; PXELINUX would take such a script for a broken menu.
        return BootDecision(NextBoot.HALT, _NOT_BY_PXELINUX)
    return decision


def facts(site: Site, world: _World, source: str, at: datetime) -> BootFacts:
    """What the decision looks at, from what the database holds."""
    if world.machine is None:
        return BootFacts(None, source=source, discovery=site.settings.discovery != "off")
    build, attempt = world.build, world.attempt
    networks = [Network(subnet.name, subnet.cidr, subnet.dhcp) for subnet in world.subnets]
    return BootFacts(
        machine=MachineState(world.machine.state),
        phase=phase(build) if build is not None else None,
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


def _reboot_announced(build: Build, at: datetime) -> bool:
    if build.reboot_announced:
        return True
    served = build.reboot_served_at
    # The same firmware may ask twice; it must not get the disk once and the installer the second time.
    return served is not None and (at - served).total_seconds() < 60


def look(session: Session, mac: str) -> _World:
    """What the database knows of a MAC address, for `boot explain`."""
    return _look(session, mac)


def _look(session: Session, mac: str) -> _World:
    machine = by_mac(session, mac)
    if machine is None:
        return _World()
    build = latest_build(session, machine)
    attempt = None
    if build is not None:
        attempt = session.scalars(
            select(Attempt).where(Attempt.build_id == build.id).order_by(Attempt.number.desc()).limit(1)
        ).one_or_none()
    subnets = [each.subnet for each in machine.interfaces if each.subnet]
    assigned = [each.ip for each in machine.interfaces if each.ip]
    taken = attempt is not None and (
        session.scalar(
            select(Secret.id).where(Secret.build_id == attempt.build_id, Secret.taken_attempt == attempt.id).limit(1)
        )
        is not None
    )
    return _World(machine, build, attempt, subnets, assigned, taken)


def _writes(world: _World, decision: BootDecision) -> bool:
    return world.build is not None and (
        decision.opens_attempt or decision.flagged or decision.next_boot is not NextBoot.BUILD
    )


def _carry_out(site: Site, request: BootRequest, mac: str, waiting: Waiting) -> BootAnswer:
    """Decide again with the rows held, open the attempt if that is the decision, and note what the machine got."""
    opened: Attempt | None = None
    superseded: list[str] = []
    with write(site.engine) as session:
        world = _look(session, mac)
        if world.build is not None:
            lock(session, world.build)
            # Another fetch may have opened the attempt while this one waited for the row.
            session.expire_all()
            world = _look(session, mac)
        moment = now()
        decision = _decide(site, world, request, moment)
        if world.build is not None:
            if decision.opens_attempt:
                superseded = [attempt.uid for attempt in world.build.attempts]
                opened = _open_attempt(session, site, request, mac, world)
                world = replace(world, attempt=opened, secret_taken=False)
            _note(session, request, world, decision, moment)
        answer = BootAnswer(_script(session, site, request, world, decision, waiting), decision)
        kept = _kept(session, opened) if opened is not None else None
    for uid in superseded:
        lastgood.forget(site, uid)
    if kept is not None:
        lastgood.keep(site, kept)
    return answer


def _open_attempt(session: Session, site: Site, request: BootRequest, mac: str, world: _World) -> Attempt:
    build = world.build
    assert build is not None  # noqa: S101 - decided on a build
    for earlier in build.attempts:
        earlier.superseded = True
    apply_trigger(session, build, Trigger.ATTEMPT)
    subnet = next((each for each in world.subnets if contains(each.cidr, request.source)), world.subnets[0])
    attempt = Attempt(
        build_id=build.id,
        number=(world.attempt.number if world.attempt else 0) + 1,
        uid=new_uid(),
        mac=mac,
        source=request.source,
        addresses=sorted({*world.assigned, request.source}),
        boot_url=_told_url(site, subnet.boot_url, request.boot_url),
        media_url=subnet.media_url or site.settings.media_in(subnet.cidr),
    )
    # The disk was touched by an attempt that somebody let go on from; this one starts anew.
    build.disk_touched = False
    session.add(attempt)
    session.flush()
    return attempt


def _note(session: Session, request: BootRequest, world: _World, decision: BootDecision, moment: datetime) -> None:
    build, source = world.build, request.source
    assert build is not None  # noqa: S101 - only called with one
    if build.reboot_announced and decision.next_boot is NextBoot.LOCAL:
        build.reboot_announced, build.reboot_served_at = False, moment
    if not decision.opens_attempt and not has_room(session, build):
        return  # anybody can ask in this machine's name, for ever
    if decision.flagged:
        refused = decision.next_boot is NextBoot.HALT
        message = decision.reason if refused else f"attempt from {source}, which is not the assigned address"
        flag(session, build, message, source=source, attempt=None if refused else world.attempt)
    kinds = {NextBoot.BUILD: "script", NextBoot.LOCAL: "local-boot", NextBoot.HALT: "halt"}
    if decision.next_boot in kinds and not (decision.flagged and decision.next_boot is NextBoot.HALT):
        attempt = world.attempt if decision.next_boot is NextBoot.BUILD else None
        add_event(session, build, kinds[decision.next_boot], decision.reason, attempt=attempt, source=source)


def _script(
    session: Session, site: Site, request: BootRequest, world: _World, decision: BootDecision, waiting: Waiting
) -> str:
    if decision.next_boot is NextBoot.BUILD and world.build is not None:
        if world.attempt is None or (request.peek and decision.opens_attempt):
            return f"#!ipxe\n# {decision.reason}\n"
        name = "grub" if request.loader == "grub" else "ipxe"
        return fill(sealed_text(session, world.build.id, name), marker_values(site, world.attempt))
    if decision.next_boot is NextBoot.LOCAL and world.machine is not None:
        own = next((each.boot_url for each in world.subnets if contains(each.cidr, request.source)), "")
        told = replace(request, boot_url=_told_url(site, own, request.boot_url))
        return local_script(told, localways.way_of(session, world.machine))
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


def note_network(site: Site, mac: str, kind: str, message: str) -> None:
    """Note what DHCP or TFTP did for a machine that is being built; a failure to note it stops no boot."""
    try:
        with read(site.engine) as session:
            machine = by_mac(session, mac)
            build = latest_build(session, machine) if machine is not None else None
            if build is None or machine is None or machine.state != MachineState.BUILDING:
                return
            build_id = build.id
        with write(site.engine) as session:
            add_event(session, session.get_one(Build, build_id), kind, message)
    except ProvisionerError as error:
        log.warning("event not noted", mac=mac, kind=kind, error=str(error))


def _kept(session: Session, attempt: Attempt) -> lastgood.Kept:
    build = session.get_one(Build, attempt.build_id)
    files = {each.name: sealed_text(session, build.id, each.name) for each in sealed_files(session, build)}
    return lastgood.Kept(
        uid=attempt.uid,
        mac=attempt.mac,
        addresses=list(attempt.addresses),
        boot_url=attempt.boot_url,
        media_url=attempt.media_url,
        opened_at=attempt.opened_at.timestamp(),
        files=files,
    )
