"""Which machines of a profile content is rendered for before it is saved: the first, then those that differ from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, cast, func, select
from sqlalchemy.orm import Session, selectinload

from provisioner.core.lifecycle import MachineState
from provisioner.store.models import Interface, Machine, MachineSecret, Profile
from provisioner.store.snapshots import snapshot

_LOOKED_AT = 20_000
"""Machines, the first by name: of more nobody who saves something waits for the comparison."""
Data = Mapping[str, Any]
Found = tuple[Data, Mapping[str, Data]]
"""A machine, and its subnets by name."""


def firsts(session: Session) -> dict[str, Found]:
    """For each profile that has machines which can boot the first of them by name."""
    names = select(func.min(Machine.name)).where(*_bootable()).group_by(Machine.profile_id)
    return dict(_load(session, Machine.name.in_(names)))


@dataclass(frozen=True)
class Others:
    """Further machines by profile, and how many kinds of them there are that are not among these."""

    machines: Mapping[str, tuple[Found, ...]]
    left_out: int


def others(session: Session, firsts: Mapping[str, str], most: int) -> Others:
    """At most so many further machines of these profiles, each with its first: one of each kind, then those whose
    parameters have other values, then whatever comes by name.

    Machines are of a kind that have parameters of the same names, and the same kernel options, way to the disk, subnets
    and names of secrets: what they render to is mostly the same but for their own names, addresses and values.
    """
    ids = session.scalars(select(Profile.id).where(Profile.name.in_(firsts))).all()
    rows = session.execute(_looks(ids)).all()
    taken = set(firsts.values())
    ranks: list[list[str]] = [[], [], []]
    kinds: set[object] = set()
    values: set[object] = set()
    # The first of a profile is among the first rows, and so the first of its kind.
    for name, profile, parameters, *rest in sorted(rows, key=lambda row: (row.name not in taken, row.name)):
        kind = (profile, frozenset(parameters), repr(rest))
        value = (kind, repr(sorted(parameters.items())))
        if name not in taken:
            ranks[0 if kind not in kinds else 1 if value not in values else 2].append(name)
        kinds.add(kind)
        values.add(value)
    names = [name for rank in ranks for name in rank][:most]
    found: dict[str, list[Found]] = {}
    for profile_name, machine in _load(session, Machine.name.in_(names)):
        found.setdefault(profile_name, []).append(machine)
    return Others({profile: tuple(each) for profile, each in found.items()}, max(0, len(ranks[0]) - most))


def _looks(profiles: Sequence[int]) -> Any:
    """What tells machines of these profiles apart, by name."""
    nets = select(func.aggregate_strings(cast(Interface.subnet_id, String), ","))
    secrets = select(func.aggregate_strings(MachineSecret.name, ","))
    nets, secrets = (
        nets.where(Interface.machine_id == Machine.id),
        secrets.where(MachineSecret.machine_id == Machine.id),
    )
    columns: tuple[Any, ...] = (
        Machine.name,
        Machine.profile_id,
        Machine.parameters,
        Machine.kernel_options,
        Machine.local_boot,
        nets.scalar_subquery().label("nets"),
        secrets.scalar_subquery().label("secrets"),
    )
    query = select(*columns).where(*_bootable(), Machine.profile_id.in_(profiles))
    return query.order_by(Machine.name).limit(_LOOKED_AT)


def _bootable() -> tuple[ColumnElement[bool], ...]:
    """Without these no build of it could be made, so nothing would be rendered for it."""
    return (
        Machine.profile_id.is_not(None),
        Machine.state != MachineState.RETIRED.value,
        Machine.id.in_(select(Interface.machine_id).where(Interface.mac.is_not(None))),
        Machine.id.in_(select(Interface.machine_id).where(Interface.subnet_id.is_not(None))),
    )


def _load(session: Session, condition: ColumnElement[bool]) -> list[tuple[str, Found]]:
    query = select(Machine).where(condition).order_by(Machine.name)
    related = (Machine.secrets, Machine.tags)
    nics = selectinload(Machine.interfaces).selectinload(Interface.subnet)
    loaded = session.scalars(query.options(nics, *map(selectinload, related)))
    found: list[tuple[str, Found]] = []
    for machine in loaded:
        assert machine.profile is not None  # noqa: S101 - the queries ask for one
        subnets = {each.subnet.name: snapshot(each.subnet) for each in machine.interfaces if each.subnet}
        found.append((machine.profile.name, (snapshot(machine), subnets)))
    return found
