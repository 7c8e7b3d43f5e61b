"""What somebody who looks at the whole installation wants to know: what runs, what is stuck, what failed and why."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select, text
from sqlalchemy.orm import Session, selectinload

from provisioner.core import progress
from provisioner.core.lifecycle import BuildState, MachineState, Phase
from provisioner.core.progress import Usual
from provisioner.core.waiting import PEOPLE
from provisioner.services import builds
from provisioner.services.arming import find_build
from provisioner.services.lives import phase
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import (
    Attempt,
    Build,
    Discovery,
    Distro,
    Event,
    Image,
    Machine,
    Subnet,
    now,
)

_COMPARED = 300
"""So many of the newest finished builds are what a build is compared with."""
_LOOKED_AT = 500
"""So many builds under way are asked whether they are stuck, the oldest first: stuck ones grow old."""
_TOLD = 50
"""So many stuck ones are counted."""
_TAIL_LINES = 3
_ORDER = (BuildState.INSTALLING, BuildState.BOOTING, BuildState.BUILT, BuildState.ARMED)
_STATES = tuple(phase.state.value for phase in progress.UNDER_WAY)


def counts(site: Site) -> dict[str, Any]:
    """How many ``machines`` and ``builds`` are in each state, and how many machines there are (``total``).

    Besides, how many are in quarantine (``waiting``) and how many somebody should look at (``flagged``).
    """
    with read(site.engine) as session:
        machines = _by_state(session, Machine.state, MachineState)
        return {
            "machines": machines,
            "total": sum(machines.values()),
            "builds": _by_state(session, Build.state, BuildState),
            "waiting": session.scalar(select(func.count()).select_from(Discovery)) or 0,
            "flagged": session.scalar(select(func.count()).select_from(Machine).where(text("machine.flag <> ''"))) or 0,
        }


def first_steps(site: Site) -> list[dict[str, Any]]:
    """What is to be done until the first build, each step with whether it is ``done``; empty once there is a build."""
    with read(site.engine) as session:
        if _any(session, Build.id):
            return []
        subnet, machine = _any(session, Subnet.id), _any(session, Machine.id)
        installable = _any(session, Distro.id) or _any(session, Image.id)
        chosen = session.scalar(select(Machine.id).where(Machine.profile_id.is_not(None)).limit(1)) is not None
    steps = [("subnet", subnet), ("distro", installable), ("machine", machine), ("profile", chosen), ("build", False)]
    return [{"step": name, "done": done} for name, done in steps]


def under_way(site: Site, most: int = 25) -> dict[str, Any]:
    """Builds under way, those that install first: ``items`` (see `build`), and how many there are in all, ``total``."""
    with read(site.engine) as session:
        total = session.scalar(select(func.count()).select_from(Build).where(Build.state.in_(_STATES))) or 0
        found: list[Build] = []
        for state in _ORDER:
            query = select(Build).where(Build.state == state).order_by(Build.id.desc()).limit(most - len(found))
            found += session.scalars(query.options(*_SHOWN)) if len(found) < most else ()
        return {"items": _told(session, found), "total": total}


def build(site: Site, id_or_name: int | str) -> dict[str, Any]:
    """One build, by its id or the latest of a machine, as `builds.show` tells it, without its timeline.

    Besides: ``step`` (the last that it reported), ``doing`` (the same in words), ``said`` (the machine's own words for
    it), ``said_at`` (when it last gave a sign), ``stage`` (a place in `core.progress.STAGES`), ``began_at`` (when the
    part that runs began: the installation, or the handoff), ``usual`` (the median of that part in seconds, None if
    there is no build of the profile to compare with), ``compared`` (with how many), ``halted`` (why, or None),
    ``stuck``, and ``there``: whether the machine still is. Raises NotFound.
    """
    with read(site.engine) as session:
        return _told(session, [find_build(session, id_or_name)])[0]


def told(site: Site, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Builds as `build` tells them, the newest first."""
    with read(site.engine) as session:
        query = select(Build).where(Build.id.in_(ids)).order_by(Build.id.desc()).options(*_SHOWN)
        return _told(session, session.scalars(query).all())


def stuck(site: Site, most: int = 10) -> dict[str, Any]:
    """Builds that need somebody, the oldest first: ``items`` as `build` tells them, and ``total`` of those looked at.

    They are halted, or nothing came from them for longer than it reasonably takes.
    """
    with read(site.engine) as session:
        columns = select(Build.id, Build.state, Build.armed_at, Build.built_at)
        rows = session.execute(columns.where(Build.state.in_(_STATES)).order_by(Build.id).limit(_LOOKED_AT)).all()
        signs = _signs(session, rows)
        # What is not stuck by the general patience is not by that of a slow profile either.
        silent = [row.id for row in rows if signs[row.id].halted is not None or _is_stuck(row, signs[row.id], Usual())]
        query = select(Build).where(Build.id.in_(silent[:_TOLD])).order_by(Build.id).options(*_SHOWN)
        found = [each for each in _told(session, session.scalars(query).all()) if each["stuck"]]
        return {"items": found[:most], "total": len(found)}


def failed(site: Site, most: int = 10) -> dict[str, Any]:
    """Machines whose latest build failed, the newest failure first: ``items`` as `build` tells them, and ``total``.

    Besides, each has ``tail``, the last lines of the last log that it sent; empty when it sent none.
    """
    with read(site.engine) as session:
        total = session.scalar(select(func.count()).select_from(Machine).where(Machine.state == MachineState.FAILED))
        later = select(func.max(Build.number)).where(Build.machine_id == Machine.id).correlate(Machine)
        query = (
            select(Build)
            .join(Machine, Build.machine_id == Machine.id)
            .where(Machine.state == MachineState.FAILED, Build.state == BuildState.FAILED)
            .where(Build.number == later.scalar_subquery())
            .order_by(Build.id.desc())
            .limit(most)
            .options(*_SHOWN)
        )
        found = _told(session, session.scalars(query).all() if total else ())
        return {"items": [each | {"tail": _tail(session, each["id"])} for each in found], "total": total or 0}


def flagged(site: Site, most: int = 10) -> list[dict[str, Any]]:
    """Machines that somebody should look at: ``machine`` and ``flag``, which says why."""
    with read(site.engine) as session:
        query = select(Machine.name, Machine.flag).where(text("machine.flag <> ''")).order_by(Machine.name).limit(most)
        return [{"machine": name, "flag": flag} for name, flag in session.execute(query)]


_SHOWN = (selectinload(Build.attempts), selectinload(Build.machine))


@dataclass(frozen=True)
class _Signs:
    """What a build last showed of itself; seconds until now."""

    silent: float
    halted: str | None = None
    """Why, if it is."""
    asked: float | None = None
    step: str = "armed"
    said: str = ""
    at: datetime | None = None


def _signs(session: Session, found: Sequence[Any]) -> dict[int, _Signs]:
    asking = Event.kind.in_(progress.BEFORE_SCRIPT)
    signs = Event.kind.not_in((*progress.BEFORE_SCRIPT, *progress.NO_SIGNS))
    steps = Event.kind.not_in((*progress.BEFORE_SCRIPT, *progress.NO_STEPS))
    which = (func.max(_id_of(signs)), func.max(_id_of(steps)), func.min(_id_of(asking)), func.max(_id_of(asking)))
    ids = [build.id for build in found]
    chosen = select(Event.build_id, *which).where(Event.build_id.in_(ids)).group_by(Event.build_id)
    rows = {row[0]: row[1:] for row in session.execute(chosen)} if ids else {}
    wanted = {number for row in rows.values() for number in row if number is not None}
    columns = select(Event.id, Event.kind, Event.message, Event.at).where(Event.id.in_(wanted))
    events = {each.id: each for each in session.execute(columns)} if wanted else {}
    nothing = (None,) * len(which)
    return {each.id: _sign(each, *(events.get(number) for number in rows.get(each.id, nothing))) for each in found}


def _id_of(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    """The event's id where the condition holds, else nothing."""
    return case((condition, Event.id))


def _sign(build: Any, last: Any, step: Any, first: Any, latest: Any) -> _Signs:
    moment, asked = now(), None
    if phase(build) is Phase.ARMED and first is not None:
        last = step = latest
        asked = (moment - first.at).total_seconds()
    at = build.armed_at if last is None else last.at
    return _Signs(
        silent=(moment - at).total_seconds(),
        halted=last.message if last is not None and last.kind == "halt" else None,
        asked=asked,
        step=step.kind if step is not None else "armed",
        said=step.message if step is not None else "",
        at=at,
    )


def _tail(session: Session, build_id: int) -> str:
    logs = select(Event.log).where(Event.build_id == build_id, Event.log.is_not(None)).order_by(Event.id.desc())
    packed = session.scalar(logs.limit(1))
    lines = zlib.decompress(packed).decode(errors="replace").splitlines() if packed else []
    return "\n".join([line for line in lines if line.strip()][-_TAIL_LINES:])


def _told(session: Session, found: Sequence[Build]) -> list[dict[str, Any]]:
    if not found:
        return []
    usual, signs = _usual(session), _signs(session, found)
    views = builds.views(session, found)
    return [
        view | _state(build, signs[build.id], usual.get(view["profile"], Usual()))
        for build, view in zip(found, views, strict=True)
    ]


def _state(build: Build, signs: _Signs, usual: Usual) -> dict[str, Any]:
    now_in = phase(build)
    handoff = build.built_at is not None
    opened = max((each.opened_at for each in build.attempts if not each.handoff_only), default=None)
    began = build.built_at or opened
    halted = signs.halted if now_in in {Phase.BOOTING, Phase.INSTALLING} else None
    return {
        "step": signs.step,
        "doing": progress.doing(signs.step if halted is None else "halt"),
        "said": signs.said,
        "said_at": signs.at,
        "stage": progress.stage(now_in),
        "began_at": began,
        "usual": usual.handoff if handoff else usual.install,
        "compared": usual.builds,
        "halted": halted,
        "needs_you": halted is not None or now_in in PEOPLE,
        "stuck": halted is not None or _is_stuck(build, signs, usual),
        "there": build.machine is not None,
    }


def _is_stuck(build: Any, signs: _Signs, usual: Usual) -> bool:
    return progress.is_stuck(phase(build), signs.silent, signs.asked, usual)


def _usual(session: Session) -> Mapping[str, Usual]:
    """What the newest builds that went well took, by profile: from the last boot before `built`, and from there on."""
    opened = (
        select(func.max(Attempt.opened_at))
        .where(Attempt.build_id == Build.id, Attempt.opened_at <= Build.built_at)
        .correlate(Build)
        .scalar_subquery()
    )
    profile = Build.sealed["profile"]["name"].as_string()
    query = (
        select(profile, opened, Build.built_at, Build.ended_at)
        .where(Build.state == BuildState.CONFIGURED)
        .order_by(Build.id.desc())
        .limit(_COMPARED)
    )
    return progress.by_profile(_took(session.execute(query)))


def _took(rows: Iterable[Any]) -> Iterable[tuple[str, float | None, float | None]]:
    for profile, opened, built, ended in rows:
        yield profile, _seconds(opened, built), _seconds(built, ended)


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else (end - begin).total_seconds()


def _by_state(session: Session, column: Any, states: Iterable[str]) -> dict[str, int]:
    """How many rows are in each state, in the order of the states; those that no row is in are left out."""
    rows = session.execute(select(column, func.count()).group_by(column)).all()
    found: dict[str, int] = {row[0]: row[1] for row in rows}
    return {str(state): found[state] for state in states if state in found}


def _any(session: Session, key: ColumnElement[Any] | Any) -> bool:
    return session.scalar(select(key).limit(1)) is not None
