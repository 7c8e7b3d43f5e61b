"""Objects and renderings as they were at some moment, told by the history."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.core.asof import as_of
from provisioner.core.differences import differences
from provisioner.core.lifecycle import MachineState, Phase
from provisioner.errors import BuildNotPossible, InvalidInput, NotFound, UnknownReference
from provisioner.services import installables, sealing
from provisioner.services.arming import masked, sealed_files
from provisioner.services.drafts import of_snapshot
from provisioner.services.lives import phase
from provisioner.services.resolve import BuildRequest, Gathered, Parts, assemble
from provisioner.services.site import Site
from provisioner.store import history
from provisioner.store.engine import read
from provisioner.store.models import Build, Revision, now

_MOST_ANCESTORS = 100


@dataclass(frozen=True)
class _Then:
    """A moment: the time, and the newest revision that was there."""

    session: Session
    at: datetime
    until: int

    def named(self, kind: str, name: str) -> Revision:
        """The state of the object that had the name then. Raises NotFound, with what is known of it."""
        if kind == "machine" and looks_like_mac(name):
            found = history.with_mac_then(self.session, normal_mac(name), self.until)
        else:
            name = name.strip().lower() if kind == "machine" else name
            found = history.named_then(self.session, kind, name, self.until)
        if found is None:
            raise NotFound(
                f"there was no {kind} {name!r} at {_iso(self.at)}", hint=_known(self.session, kind, name, self.until)
            )
        return found

    def referred(self, kind: str, name: str, by: Revision) -> Revision:
        """The state then of the object that the revision names, whatever it was called by then."""
        told = history.named_then(self.session, kind, name, by.id)
        state = None if told is None else history.state_of(self.session, kind, told.object_id, self.until)
        if state is None:
            raise UnknownReference(f"the history holds no {kind} {name!r} of then", where=f"{by.kind} {by.name}")
        return state

    def told(self, state: Revision) -> dict[str, Any]:
        """The snapshot of a state; what it refers to has the name of then, not that of when this was written."""
        after = _snapshot(state)
        if state.kind == "machine":
            nics = [dict(nic) for nic in after["interfaces"]]
            for nic in nics:
                nic["subnet"] = nic["subnet"] and self.referred("subnet", nic["subnet"], state).name
            after["interfaces"] = nics
        for field in ("profile", "parent"):
            if after.get(field):
                after[field] = self.referred("profile", after[field], state).name
        return after

    def all(self, kind: str) -> dict[str, Revision]:
        """The states of all objects of a kind, by name."""
        return {each.name: each for each in history.all_then(self.session, kind, self.until)}


def machine(site: Site, name: str, at: str | datetime) -> dict[str, Any]:
    """A machine as it was at that moment, in the shape of `machines.show`.

    ``at`` is a moment, or a text as `core.asof.as_of` reads it, of UTC. ``name`` is the name, or any spelling of a
    MAC, that it had then. Its state is that of its builds; flags and facts are not in the history. Raises NotFound,
    which says when it was added, renamed or removed, and InvalidInput for a moment that is none or still to come.
    """
    with read(site.engine) as session:
        then = _then(session, at)
        state = then.named("machine", name)
        first, _ = _course(session, state)
        return then.told(state) | {
            "state": _machine_state(session, state, first, then.at),
            "flag": "",
            "facts": {},
            "revision": f"{state.object_id}.{state.id}",
            "created_at": _iso(first.at),
            "updated_at": _iso(state.at),
        }


def profile(site: Site, name: str, at: str | datetime) -> dict[str, Any]:
    """A profile as it was at that moment, in the shape of `profiles.show`. Raises as `machine` does."""
    return shown(site, "profile", name, at)


def shown(site: Site, kind: str, name: str, at: str | datetime) -> dict[str, Any]:
    """An object of any kind as it was at that moment: its snapshot and its revision. Raises as `machine` does."""
    with read(site.engine) as session:
        then = _then(session, at)
        state = then.named(kind, name)
        return then.told(state) | {"revision": f"{state.object_id}.{state.id}"}


def diff(site: Site, kind: str, name: str, old: str | datetime, new: str | datetime) -> list[dict[str, Any]]:
    """What changed on an object between two moments, as `core.differences` tells it; renames are followed.

    ``name`` is the one that it had at the later moment.
    """
    with read(site.engine) as session:
        later = _then(session, new).named(kind, name)
        earlier = history.state_of(session, kind, later.object_id, _then(session, old).until)
        return differences({} if earlier is None else earlier.after, later.after)


def render(site: Site, name: str, at: str | datetime, request: BuildRequest | None = None) -> dict[str, Any]:
    """The files of a machine as they were at that moment, tokens masked: ``files``, and where they come from.

    ``source`` is ``build``: the sealed files of ``build``, the latest that was made or under way then; or
    ``revisions``: rendered from that day's machine, profile, subnets, templates and media. A ``request`` with
    parameters always renders. Raises NotFound as `machine` does, and what arming raises where that day's objects do
    not render.
    """
    with read(site.engine) as session:
        then = _then(session, at)
        state = then.named("machine", name)
        first, names = _course(session, state)
        told = {"machine": state.name, "as_of": _iso(then.at)}
        build = None if request is not None else _build_of(session, state, first, names, then.at)
        if build is not None:
            files = {each.name: zlib.decompress(each.content).decode() for each in sealed_files(session, build)}
            because = f"the sealed files of build {build.number}, armed {_iso(build.armed_at)}"
            return told | {
                "source": "build",
                "build": build.number,
                "because": because,
                "files": masked(site, files, build.sealed["interfaces"]),
            }
        number = _builds_by(session, state, first, names, then.at) + 1
        gathered = _gathered(then, state, request or BuildRequest())
        secrets = tuple(_snapshot(state).get("secrets", {}))
    made = sealing.make(site, gathered, number=number, secrets=secrets)
    because = "it had no build then: rendered from the machine, profile, subnets, templates and media of that moment"
    if request is not None:
        because = "rendered from the machine, profile, subnets, templates and media of that moment"
    return told | {
        "source": "revisions",
        "build": None,
        "because": because,
        "files": masked(site, made.files, gathered.interfaces),
    }


def _then(session: Session, at: str | datetime) -> _Then:
    parsed = as_of(at, UTC) if isinstance(at, str) else at.astimezone(UTC)
    if parsed.date() > now().date():
        raise InvalidInput(f"{_iso(parsed)} is still to come", where="as_of", hint="name a moment that has passed")
    return _Then(session, min(parsed, now()), history.moment_of(session, parsed))


def _snapshot(state: Revision) -> dict[str, Any]:
    assert state.after is not None  # noqa: S101 - the history gives no state of what was removed
    return dict(state.after)


def _known(session: Session, kind: str, name: str, until: int) -> str:
    """What the history tells of a name that nobody had at a moment."""
    named = select(Revision).filter_by(kind=kind, name=name)
    before = session.scalars(named.where(Revision.id <= until).order_by(Revision.id.desc()).limit(1)).one_or_none()
    if before is not None and before.action == "remove":
        return f"it was removed at {_iso(before.at)}"
    if before is not None:
        later = history.state_of(session, kind, before.object_id, until)
        return f"by then it was called {later.name}" if later is not None else f"see `provisioner history {name}`"
    after = session.scalars(named.where(Revision.id > until).order_by(Revision.id).limit(1)).one_or_none()
    if after is None:
        return f"there never was one; see `provisioner {kind} list`"
    if after.action == "add":
        return f"it was added at {_iso(after.at)}"
    return f"it was called {(after.before or {}).get('name')} until {_iso(after.at)}"


def _course(session: Session, state: Revision) -> tuple[Revision, set[str]]:
    """The first revision of the object, and the names it had up to this state."""
    theirs = select(Revision).filter_by(kind=state.kind, object_id=state.object_id).where(Revision.id <= state.id)
    added = theirs.where(Revision.action == "add").order_by(Revision.id.desc()).limit(1)
    first = session.scalars(added).one_or_none() or state
    life = [Revision.kind == state.kind, Revision.object_id == state.object_id]
    life += [Revision.id >= first.id, Revision.id <= state.id]
    names = set(session.scalars(select(Revision.name).where(*life).distinct()))
    return first, names


def _theirs(state: Revision, first: Revision, names: set[str], at: datetime) -> Any:
    """Builds of the machine that were armed by then; those of a removed one are known by its names alone."""
    removed = Build.machine_id.is_(None) & Build.machine_name.in_(names)
    owned = or_(Build.machine_id == state.object_id, removed)
    return select(Build).where(owned, Build.armed_at <= at, Build.armed_at >= first.at).order_by(Build.id.desc())


def _builds_by(session: Session, state: Revision, first: Revision, names: set[str], at: datetime) -> int:
    newest = session.scalars(_theirs(state, first, names, at).limit(1)).one_or_none()
    return 0 if newest is None else newest.number


def _build_of(session: Session, state: Revision, first: Revision, names: set[str], at: datetime) -> Build | None:
    """The latest build that was made, or under way, then; not one that was given up before the machine was built."""
    builds: Iterable[Build] = session.scalars(_theirs(state, first, names, at))
    for build in builds:
        given_up = build.built_at is None and phase(build) in {Phase.CANCELLED, Phase.FAILED}
        if not given_up or build.ended_at is None or build.ended_at > at:
            return build
    return None


def _machine_state(session: Session, state: Revision, first: Revision, at: datetime) -> str:
    """What state the machine was in, as its builds tell."""
    after = _snapshot(state)
    if after.get("retired"):
        return MachineState.RETIRED.value
    if after.get("state"):
        return str(after["state"])
    _, names = _course(session, state)
    newest: Build | None = session.scalars(_theirs(state, first, names, at).limit(1)).one_or_none()
    if newest is None:
        return MachineState.READY.value
    ended = newest.ended_at is not None and newest.ended_at <= at
    built = newest.built_at is not None and newest.built_at <= at
    if ended and phase(newest) is Phase.CONFIGURED:
        return MachineState.CONFIGURED.value
    if ended and phase(newest) in {Phase.FAILED, Phase.FAILED_HANDOFF}:
        return MachineState.FAILED.value
    if built:
        return MachineState.BUILT.value
    return MachineState.READY.value if ended else MachineState.BUILDING.value


def _gathered(then: _Then, state: Revision, request: BuildRequest) -> Gathered:
    machine, line = then.told(state), _lineage(then, state)
    subnets = [then.referred("subnet", nic["subnet"], state) for nic in _snapshot(state)["interfaces"] if nic["subnet"]]
    templates = then.all("template")
    told = [state, *line, *subnets, *templates.values()]
    parts = Parts(
        machine=machine,
        lineage=[_snapshot(each) for each in line],
        subnets={each.name: _snapshot(each) for each in subnets},
        sources={name: of_snapshot(_snapshot(each)) for name, each in templates.items()},
        versions={f"{each.kind} {each.name}": f"revision {each.id}" for each in told},
        pick=partial(_pick, then),
    )
    return assemble(parts, request)


def _lineage(then: _Then, state: Revision) -> list[Revision]:
    wanted, by, line = _snapshot(state).get("profile"), state, []
    while wanted is not None:
        by = then.referred("profile", wanted, by)
        line.append(by)
        wanted = _snapshot(by).get("parent")
        if len(line) > _MOST_ANCESTORS:
            raise BuildNotPossible(f"profile {by.name} inherited from itself", hint="see `provisioner history verify`")
    return line[::-1]


def _pick(then: _Then, kind: str, selector: Mapping[str, str], where: str) -> tuple[Mapping[str, Any], str]:
    states = then.all(kind)
    if "name" in selector:
        if selector["name"] not in states:
            raise UnknownReference(f"there was no {kind} {selector['name']!r} then", where=where)
        picked = _snapshot(states[selector["name"]])
    else:
        picked = dict(installables.newest_fit(kind, [_snapshot(each) for each in states.values()], selector, where))
    return picked, f"revision {states[picked['name']].id}"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
