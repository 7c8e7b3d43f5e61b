"""Several machines that somebody chose, by their names or by a filter, and what is done to all of them.

What changes machines is a plan (see `plans`): it is looked at first, then carried out whole or not at all. Builds are
armed and cancelled one by one, each with its own answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import Session

from provisioner.core import fields
from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.core.lifecycle import ENDED, RUNNING, BuildState, MachineState, phase_of
from provisioner.errors import MalformedMac, ProvisionerError, TooLarge
from provisioner.services import arming, builds, plans
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read
from provisioner.store.models import Build, Interface, Machine, MachineTag, Profile, Subnet

MOST = plans.MOST_MACHINES
_TOGETHER = 1000
Value = TypeVar("Value")


@dataclass(frozen=True)
class Chosen:
    """Machines by name, as plain data (see `named`), and what was asked for and is not there."""

    machines: Sequence[dict[str, Any]]
    missing: Sequence[str]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [each["name"] for each in self.machines]


def named(site: Site, wanted: Iterable[str]) -> Chosen:
    """Machines by their names, or by any spelling of one of their MACs, each once, in the order of their names.

    Each has ``name``, ``state``, ``protected``, ``flag``, ``profile``, ``tags``, ``has_mac``, and ``build``: the number
    and state of the build that has not ended, or None. Raises TooLarge for more than ``MOST``.
    """
    asked = list(dict.fromkeys(text for each in wanted if (text := each.strip())))
    if len(asked) > MOST:
        raise TooLarge(f"{len(asked)} machines are more than {MOST} at a time", hint="do it in parts")
    with read(site.engine) as session:
        by_text = _found(session, asked)
        rows = _rows(session, sorted(set(by_text.values())))
    return Chosen(sorted(rows, key=lambda row: str(row["name"])), [each for each in asked if each not in by_text])


def states(site: Site, ids: Sequence[int]) -> list[dict[str, Any]]:
    """What of these machines changes by itself: ``id``, ``name``, ``state``, ``flag``, ``protected``."""
    columns = (Machine.id, Machine.name, Machine.state, Machine.flag, Machine.protected)
    with read(site.engine) as session:
        return [dict(row) for row in session.execute(select(*columns).where(Machine.id.in_(ids))).mappings()]


def tags(site: Site, begin: str = "", most: int = 200) -> list[str]:
    """The tags in use that begin so, in order."""
    begin = begin.strip().lower()[:64]
    query = select(MachineTag.tag).where(MachineTag.tag >= begin).distinct().order_by(MachineTag.tag)
    if begin:
        query = query.where(MachineTag.tag < begin + "\U0010ffff")
    with read(site.engine) as session:
        return list(session.scalars(query.limit(most)))


def choices(site: Site, most: int = 1000) -> dict[str, list[str]]:
    """The names of ``profiles`` and ``subnets``, in order, to choose from."""
    with read(site.engine) as session:
        return {
            "profiles": list(session.scalars(select(Profile.name).order_by(Profile.name).limit(most))),
            "subnets": list(session.scalars(select(Subnet.name).order_by(Subnet.name).limit(most))),
        }


def plan_fields(site: Site, actor: Actor, chosen: Chosen, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A plan that gives each machine these fields, as `plans.plan` answers it. A parameter of None is removed."""
    return plans.plan(site, actor, [{"name": name} | dict(changes) for name in chosen.names])


def plan_tags(site: Site, actor: Actor, chosen: Chosen, more: Sequence[str], less: Sequence[str]) -> dict[str, Any]:
    """A plan that adds some tags to each machine and takes others away. Raises InvalidInput for what is no tag."""
    plus, minus = fields.tags(more, "/more"), set(fields.tags(less, "/less"))
    bodies = [{"name": each["name"], "tags": sorted({*each["tags"], *plus} - minus)} for each in chosen.machines]
    return plans.plan(site, actor, bodies)


def why_no_build(machine: Mapping[str, Any]) -> str:
    """Why a machine that `named` tells cannot be built now, in words; empty if nothing is known against it."""
    if machine["protected"]:
        return "protected: no build, no wipe"
    if machine["state"] == MachineState.RETIRED:
        return "retired"
    build = machine["build"]
    if build is not None and build["running"]:
        return f"build {build['number']} is {build['state']}"
    if machine["profile"] is None:
        return "has no profile"
    return "" if machine["has_mac"] else "its MAC address is not known yet"


def build(site: Site, actor: Actor, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | ProvisionerError]]:
    """Arm a build of each machine; each with its result, or with what stood against it.

    Raises TooMany before anything is armed if that would be more than `builds_per_minute`.
    """
    builds.refuse_hasty(site, actor, len(names))
    return arming.start_all(site, actor, names)


def cancel(site: Site, actor: Actor, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any] | ProvisionerError]]:
    """Cancel the build of each machine; each with the build, or with what stood against it."""
    for name in names:
        try:
            yield name, builds.cancel(site, actor, name)
        except ProvisionerError as error:
            yield name, error


def _found(session: Session, asked: Sequence[str]) -> dict[str, int]:
    """The ids of the machines by how they were asked for."""
    spelled = {text: _mac(text) for text in asked if looks_like_mac(text)}
    called = {text: text.lower() for text in asked if text not in spelled}
    by_mac = dict(_pairs(session, Interface.mac, Interface.machine_id, spelled.values()))
    by_name = dict(_pairs(session, Machine.name, Machine.id, called.values()))
    found = {text: by_mac.get(mac) for text, mac in spelled.items()}
    found |= {text: by_name.get(name) for text, name in called.items()}
    return {text: number for text, number in found.items() if number is not None}


def _mac(text: str) -> str:
    try:
        return normal_mac(text)
    except MalformedMac:  # a group address, which no machine has
        return ""


def _pairs(session: Session, key: Any, value: Any, wanted: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for some in _parts(sorted(set(wanted))):
        yield from ((one, other) for one, other in session.execute(select(key, value).where(key.in_(some))))


def _parts(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for begin in range(0, len(values), _TOGETHER):
        yield values[begin : begin + _TOGETHER]


def _rows(session: Session, ids: Sequence[int]) -> list[dict[str, Any]]:
    has_mac = exists().where(Interface.machine_id == Machine.id, Interface.mac.is_not(None)).correlate(Machine)
    columns = (Machine.id, Machine.name, Machine.state, Machine.protected, Machine.flag)
    query = select(*columns, Profile.name.label("profile"), has_mac.label("has_mac"))
    query = query.outerjoin(Profile, Profile.id == Machine.profile_id)
    rows: list[dict[str, Any]] = []
    for some in _parts(ids):
        tagged: dict[int, list[str]] = {}
        for number, tag in _pairs(session, MachineTag.machine_id, MachineTag.tag, some):
            tagged.setdefault(number, []).append(tag)
        going = _going(session, Build.machine_id.in_(some))
        for row in session.execute(query.where(Machine.id.in_(some))).mappings():
            number = row["id"]
            rows.append(dict(row) | {"tags": sorted(tagged.get(number, [])), "build": going.get(number)})
    return rows


def _going(session: Session, which: ColumnElement[bool]) -> dict[int, dict[str, Any]]:
    """The newest build of each machine, where it has not ended."""
    newest = select(Build.machine_id, func.max(Build.number).label("number")).where(which).group_by(Build.machine_id)
    latest = newest.subquery()
    query = select(Build.machine_id, Build.number, Build.state, Build.built_at.is_not(None).label("built")).join(
        latest, (latest.c.machine_id == Build.machine_id) & (latest.c.number == Build.number)
    )
    found: dict[int, dict[str, Any]] = {}
    for number, build_number, state, built in session.execute(query):
        phase = phase_of(BuildState(state), was_built=bool(built))
        if number is not None and phase not in ENDED:
            found[number] = {"number": build_number, "state": state, "running": phase in RUNNING}
    return found
