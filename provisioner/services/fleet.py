"""Many machines at once, as `resolve` takes them: a few queries whatever their number."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from provisioner.core.includes import Includes
from provisioner.core.lifecycle import RUNNING
from provisioner.core.parameters import ancestry
from provisioner.errors import ProvisionerError, UnknownReference
from provisioner.services import installables
from provisioner.services.drafts import in_force
from provisioner.services.resolve import Parts
from provisioner.store.models import (
    Build,
    Distro,
    Image,
    Interface,
    Machine,
    MachineSecret,
    Profile,
    Subnet,
    Template,
)
from provisioner.store.snapshots import snapshot

Row = Mapping[str, Any]
"""A machine: what of its snapshot a build takes in, and ``id``, ``profile_id``, ``secrets`` (names), ``number`` (of its
next build), ``sealed`` (whether it has a build under way); its interfaces have ``subnet_id``.
"""
_COLUMNS = (
    Machine.id,
    Machine.name,
    Machine.profile_id,
    Machine.serial,
    Machine.uuid,
    Machine.protected,
    Machine.parameters,
    Machine.kernel_options,
    Machine.local_boot,
)


@dataclass(frozen=True)
class Content:
    """All that machines are built from besides themselves, as plain data; profiles and subnets by their row."""

    profiles: Mapping[int, Mapping[str, Any]]
    subnets: Mapping[int, Mapping[str, Any]]
    sources: Mapping[str, str]
    drafts: Mapping[str, str]
    """Later texts of templates that are not served."""
    things: Mapping[str, Sequence[Mapping[str, Any]]]
    """Distros and images."""
    _picked: dict[tuple[str, frozenset[tuple[str, str]]], Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def includes(self) -> Includes:
        """What each template reaches."""
        return Includes(self.sources)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {each["name"]: key for key, each in self.profiles.items()}

    @cached_property
    def _parents(self) -> Mapping[str, str | None]:
        return {each["name"]: each["parent"] for each in self.profiles.values()}

    def lineage(self, profile_id: int) -> list[int]:
        """The profile's ancestors from the root down, the profile itself last."""
        return [self._ids[name] for name in ancestry(self.profiles[profile_id]["name"], self._parents)]

    def parts(self, row: Row) -> Parts:
        """A machine with what it is resolved from."""
        line = [] if row["profile_id"] is None else self.lineage(row["profile_id"])
        subnets = {nic["subnet_id"]: self.subnets[nic["subnet_id"]] for nic in row["interfaces"] if nic["subnet_id"]}
        nics = [
            nic | {"subnet": subnets[nic["subnet_id"]]["name"] if nic["subnet_id"] else None}
            for nic in row["interfaces"]
        ]
        return Parts(
            machine=dict(row) | {"interfaces": nics},
            lineage=[self.profiles[each] for each in line],
            subnets={each["name"]: each for each in subnets.values()},
            sources=self.sources,
            versions={},
            pick=self.pick,
        )

    def pick(self, kind: str, selector: Mapping[str, str], where: str) -> tuple[Mapping[str, Any], str]:
        """The distro or image that a selector means; the same object each time. Raises as `resolve.gather` does."""
        key = kind, frozenset(selector.items())
        if key not in self._picked:
            self._picked[key] = _pick(self.things[kind], kind, selector, where)
        return self._picked[key], ""


def _pick(shown: Sequence[Mapping[str, Any]], kind: str, selector: Mapping[str, str], where: str) -> Mapping[str, Any]:
    if "name" not in selector:
        return installables.newest_fit(kind, shown, selector, where)
    found = next((each for each in shown if each["name"] == selector["name"]), None)
    if found is None:
        raise UnknownReference(
            f"there is no {kind} {selector['name']!r}", where=where, hint=f"see `provisioner {kind} list`"
        )
    return found


def content(session: Session) -> Content:
    """All content as this transaction sees it."""
    profiles = list(session.scalars(select(Profile)))  # all of them first: parents are then found without a query
    templates = session.execute(select(Template.name, Template.text, Template.draft)).all()
    return Content(
        profiles={each.id: snapshot(each) for each in profiles},
        subnets={each.id: snapshot(each) for each in session.scalars(select(Subnet))},
        sources={each.name: in_force(each.name, each.text, each.draft) for each in templates},
        drafts={each.name: each.draft for each in templates if each.draft is not None},
        things={
            "distro": [snapshot(each) for each in session.scalars(select(Distro))],
            "image": [snapshot(each) for each in session.scalars(select(Image))],
        },
    )


def chosen(profiles: Iterable[int], subnets: Iterable[int], machines: Iterable[int]) -> ColumnElement[bool]:
    """Machines with one of these profiles, with an interface in one of these subnets, or of these rows."""
    inside = select(Interface.machine_id).where(Interface.subnet_id.in_(sorted(subnets)))
    return or_(Machine.profile_id.in_(sorted(profiles)), Machine.id.in_(inside), Machine.id.in_(sorted(machines)))


def count(session: Session, condition: ColumnElement[bool]) -> int:
    """How many machines the condition chooses."""
    return session.scalar(select(func.count()).select_from(Machine).where(condition)) or 0


def pages(read: Callable[[], Any], condition: ColumnElement[bool], size: int) -> Iterator[list[Row]]:
    """The machines that the condition chooses, by name, so many at a time; ``read`` opens a transaction for each."""
    after = ""
    while True:
        with read() as session:
            query = select(Machine.id).where(condition, Machine.name > after).order_by(Machine.name).limit(size)
            found = rows(session, Machine.id.in_(session.scalars(query).all()))
        if not found:
            return
        yield found
        after = found[-1]["name"]


def rows(session: Session, condition: ColumnElement[bool]) -> list[Row]:
    """The machines that the condition chooses, by name: four queries."""
    machines = session.execute(select(*_COLUMNS).where(condition).order_by(Machine.name)).mappings().all()
    which = select(Machine.id).where(condition)
    interfaces: dict[int, list[dict[str, Any]]] = {each["id"]: [] for each in machines}
    nics = select(Interface.machine_id, Interface.name, Interface.mac, Interface.ip, Interface.subnet_id)
    for each in session.execute(nics.where(Interface.machine_id.in_(which)).order_by(Interface.position)).mappings():
        interfaces[each["machine_id"]].append(dict(each))
    secrets: dict[int, list[str]] = {}
    named = select(MachineSecret.machine_id, MachineSecret.name).where(MachineSecret.machine_id.in_(which))
    for machine_id, name in session.execute(named.order_by(MachineSecret.name)):
        secrets.setdefault(machine_id, []).append(name)
    running = Build.state.in_([phase.state.value for phase in RUNNING])
    built = select(Build.machine_id, func.max(Build.number), func.max(Build.number).filter(running))
    numbers = {
        machine_id: (last, under_way == last)
        for machine_id, last, under_way in session.execute(
            built.where(Build.machine_id.in_(which)).group_by(Build.machine_id)
        )
    }
    return [
        dict(each)
        | {"interfaces": interfaces[each["id"]], "secrets": tuple(secrets.get(each["id"], ()))}
        | {"number": numbers.get(each["id"], (0, False))[0] + 1, "sealed": numbers.get(each["id"], (0, False))[1]}
        for each in machines
    ]


def picked(content: Content, profile_id: int) -> Mapping[str, Any] | str | None:
    """The distro or image that a profile means, or in words why none; to be compared."""
    for each in reversed(content.lineage(profile_id)):
        for kind in ("image", "distro"):
            if content.profiles[each].get(kind) is not None:
                try:
                    return content.pick(kind, content.profiles[each][kind], "")[0]
                except ProvisionerError as error:
                    return str(error)
    return None


def main_template(content: Content, profile_id: int) -> str | None:
    """The template that a profile names or inherits."""
    lineage = (content.profiles[each] for each in reversed(content.lineage(profile_id)))
    return next((each["template"] for each in lineage if each["template"] is not None), None)
