"""Builds as people see and steer them; arming is in `arming`."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from provisioner.core.lifecycle import ENDED, Phase, Trigger
from provisioner.core.waiting import waiting
from provisioner.errors import IllegalTransition, NotFound, TooMany
from provisioner.services import handoffs, identities, lastgood
from provisioner.services.arming import build_snapshot, find_build, masked, record_build, sealed_files
from provisioner.services.lives import add_event, apply_trigger, lock, phase
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read, write
from provisioner.store.models import Build, Event, Revision, now


def show(site: Site, name: str | int, number: int | None = None) -> dict[str, Any]:
    """A build with its timeline, and in words what it waits for. A ``name`` that is a number is the build's id."""
    with read(site.engine) as session:
        build = find_build(session, name, number)
        events = _events(session, build)
        told = {"handoff": identities.view(identities.current(session, build.id))}
        return _view(build, events) | told | {"events": [_event(each, build) for each in events]}


def listing(site: Site, name: str | None = None) -> list[dict[str, Any]]:
    """All builds, the newest first, or those of one machine."""
    with read(site.engine) as session:
        query = select(Build).order_by(Build.id.desc())
        if name is not None:
            build = find_build(session, name)
            # A machine keeps its builds when it is renamed; a removed one is known by its name alone.
            theirs = Build.machine_id == build.machine_id
            removed = Build.machine_id.is_(None) & (Build.machine_name == build.machine_name)
            query = query.where(removed if build.machine_id is None else theirs)
        return [_view(build, _events(session, build)) for build in session.scalars(query)]


def sealed(site: Site, name: str | int, number: int | None = None) -> dict[str, Any]:
    """What a build was sealed with: every input, and the files with tokens masked."""
    with read(site.engine) as session:
        build = find_build(session, name, number)
        files = {each.name: zlib.decompress(each.content).decode() for each in sealed_files(session, build)}
        return {"inputs": build.sealed, "files": masked(site, files, build.sealed["interfaces"])}


def log(site: Site, name: str | int, number: int | None = None) -> list[dict[str, Any]]:
    """The events of a build with the logs that came with them."""
    with read(site.engine) as session:
        build = find_build(session, name, number)
        return [
            _event(each, build) | {"log": zlib.decompress(each.log).decode(errors="replace") if each.log else ""}
            for each in _events(session, build)
        ]


def events(site: Site, build_id: int, after: int = 0, limit: int = 500) -> dict[str, Any]:
    """The build's events beyond the one with the id ``after``, oldest first, and whether more may still come."""
    with read(site.engine) as session:
        build = find_build(session, build_id)
        query = select(Event).where(Event.build_id == build.id, Event.id > after).order_by(Event.id).limit(limit + 1)
        found = list(session.scalars(query))
        return {
            "items": [_event(each, build) for each in found[:limit]],
            "next": str(found[limit - 1].id) if len(found) > limit else None,
            "state": build.state,
            "ended": phase(build) in ENDED,
        }


def place(site: Site, build_id: int) -> tuple[str, int]:
    """The machine and the number of a build. Raises NotFound, also when the machine was removed."""
    with read(site.engine) as session:
        build = find_build(session, build_id)
        if build.machine is None:
            raise NotFound(f"{build.machine_name} was removed", hint="add the machine again, then build it")
        return build.machine.name, build.number


def refuse_hasty(site: Site, actor: Actor, count: int = 1) -> None:
    """Raise TooMany if with ``count`` more this actor armed over `builds_per_minute` builds within a minute: a loop
    gone wrong wipes disks.
    """
    most = site.settings.builds_per_minute
    if count > most:
        raise TooMany(
            f"{count} builds are more than the {most} that one may arm within a minute, each of which wipes a machine",
            hint="build them in parts, or raise `builds_per_minute` if that is meant",
        )
    armed = (
        select(Revision.at)
        .where(Revision.actor == actor.who, Revision.kind == "build", Revision.action == "add")
        .order_by(Revision.id.desc())
        .offset(most - count)
        .limit(1)
    )
    with read(site.engine) as session:
        first = session.scalar(armed)
    seconds = 0.0 if first is None else 60 - (now() - first).total_seconds()
    if seconds > 0:
        before = f"{most - count + 1} builds" if count > 1 else f"{most} builds"
        further = f"; {count} more are over {most}" if count > 1 else ""
        raise TooMany(
            f"{actor.who} armed {before} within a minute, each of which wipes a machine{further}",
            hint="wait, or raise `builds_per_minute` if that is meant",
            retry_after=round(seconds) + 1,
        )


def cancel(site: Site, actor: Actor, name: str | int) -> dict[str, Any]:
    """Cancel the machine's build: its tokens are dead, its next boot goes to the local disk."""
    with write(site.engine) as session:
        build = lock(session, find_build(session, name))
        if phase(build) in ENDED:
            raise IllegalTransition(
                f"build {build.number} of {build.machine_name} is {build.state} already",
                hint="there is nothing to cancel",
            )
        before = build_snapshot(build)
        apply_trigger(session, build, Trigger.CANCEL, f"cancelled by {actor.who}")
        add_event(session, build, "cancelled", actor.reason or f"by {actor.who}", source=actor.origin)
        record_build(session, actor, build, before)
        uids = [attempt.uid for attempt in build.attempts]
        view = _view(build, [])
    for uid in uids:
        lastgood.forget(site, uid)
    return view


def go_on(site: Site, actor: Actor, name: str | int) -> dict[str, Any]:
    """Let a halted build have one more attempt, although its disk was touched or it came back too often."""
    with write(site.engine) as session:
        build = lock(session, find_build(session, name))
        if phase(build) not in {Phase.BOOTING, Phase.INSTALLING}:
            raise IllegalTransition(
                f"build {build.number} of {build.machine_name} is {build.state}: it is not halted by its guard",
                hint=f"`provisioner build start {build.machine_name}` arms a new one",
            )
        before = build_snapshot(build)
        build.released = max((attempt.number for attempt in build.attempts), default=0) + 1
        add_event(session, build, "continued", f"attempt {build.released} allowed by {actor.who}", source=actor.origin)
        record_build(session, actor, build, before)
        return _view(build, [])


def retry_handoff(site: Site, actor: Actor, name: str | int) -> dict[str, Any]:
    """Hand the machine over once more, as :func:`handoffs.retry` does; the build as it is then."""
    return show(site, handoffs.retry(site, actor, name)["id"])


def report_handoff(
    site: Site, actor: Actor, build_id: int, *, ok: bool, message: str = "", log: str = ""
) -> dict[str, Any]:
    """The tool's own server says how the first run went, as :func:`handoffs.report` does; the build as it is then."""
    return show(site, handoffs.report(site, actor, build_id, ok=ok, message=message, log=log)["id"])


def _events(session: Session, build: Build) -> list[Event]:
    return list(session.scalars(select(Event).where(Event.build_id == build.id).order_by(Event.id)))


def views(session: Session, found: Sequence[Build]) -> list[dict[str, Any]]:
    """Several builds as `show` tells them, without their timelines; in one query more than it took to find them."""
    told: dict[int, list[Event]] = {build.id: [] for build in found}
    query = select(Event).where(Event.build_id.in_(told)).order_by(Event.id).options(defer(Event.log))
    for event in session.scalars(query):
        told[event.build_id or 0].append(event)
    return [_view(build, told[build.id]) for build in found]


def _view(build: Build, events: list[Event]) -> dict[str, Any]:
    happened = [(each.kind, each.message) for each in events]
    return {
        "id": build.id,
        "machine": build.machine_name,
        "number": build.number,
        "state": build.state,
        "profile": build.sealed["profile"]["name"],
        "armed_at": _iso(build.armed_at),
        "built_at": _iso(build.built_at),
        "ended_at": _iso(build.ended_at),
        "seconds": round(((build.ended_at or datetime.now(UTC)) - build.armed_at).total_seconds(), 1),
        "attempts": sum(not each.handoff_only for each in build.attempts),
        "outcome": build.outcome,
        "flag": build.machine.flag if build.machine else "",
        "waits_for": waiting(phase(build), happened, build.machine_name).sentence,
    }


def _event(event: Event, build: Build) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": _iso(event.at),
        "seconds": round((event.at - build.armed_at).total_seconds(), 1),
        "attempt": event.attempt,
        "kind": event.kind,
        "message": event.message,
        "source": event.source,
        "flagged": event.flagged,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
