"""A plan's rows, made ready to be switched in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from provisioner.core.lifecycle import MachineState
from provisioner.core.planning import Change, Plan
from provisioner.services import quarantine
from provisioner.services.landscape import Landscape, blank
from provisioner.store.bulk import Link, Staged
from provisioner.store.models import Discovery
from provisioner.store.search import words_of


@dataclass(frozen=True)
class Ready:
    """Rows to be staged, and what they were made from besides administered objects."""

    staged: Staged
    waiting: frozenset[str]
    """What the quarantine said of the machines that are added; see `signs`."""
    fresh: frozenset[str]
    """Addresses that their machines had not before."""
    rewired: bool
    """Whether DHCP has to know."""


def ready(session: Session, plan_id: str, plan: Plan, land: Landscape) -> Ready:
    """The rows of a plan that refuses nothing."""
    changes = sorted((*plan.created, *plan.changed), key=lambda each: each.index)
    maker = _Maker(session, plan_id, land)
    for number, change in enumerate(changes):
        maker.take(number, change)
    return Ready(
        Staged(maker.machines, maker.interfaces, maker.tags, maker.links),
        frozenset(sign for each in maker.adopted for sign in signs(each)),
        frozenset(ip for change in changes for ip in change.fresh),
        maker.rewired,
    )


def signs(rows: Sequence[Discovery]) -> list[str]:
    """What rows in quarantine say, so far as a machine takes it over."""
    return [json.dumps([row.mac, row.serial, row.uuid, row.facts], sort_keys=True) for row in rows]


class _Maker:
    def __init__(self, session: Session, plan_id: str, land: Landscape) -> None:
        self._session, self._plan_id, self._land = session, plan_id, land
        self._added = self._nics = 0
        self.machines: list[dict[str, Any]] = []
        self.interfaces: list[dict[str, Any]] = []
        self.tags: list[dict[str, Any]] = []
        self.links: list[Link] = []
        self.adopted: list[list[Discovery]] = []
        self.rewired = False

    def take(self, number: int, change: Change) -> None:
        """Make the rows of one machine."""
        before, after = change.before or {}, change.after
        own: dict[str, Any] = {"facts": None, "flag": "", "state": _state(change)}
        if change.before is None:
            self._added += 1
            own |= self._inherited(change)
            after = {**after, **{key: own.pop(key) for key in ("serial", "uuid")}}
            if own["state"] == MachineState.DISCOVERED:
                after |= {"state": "discovered", "retired": False}
        parts = {part: after[part] != before.get(part) for part in ("interfaces", "tags")}
        self.rewired |= parts["interfaces"] or after["name"] != before.get("name")
        place = {"plan_id": self._plan_id, "number": number}
        added = self._added if change.before is None else None
        self.machines.append(
            {key: after[key] for key in _COPIED}
            | {"profile_id": self._land.profiles[after["profile"]] if after["profile"] else None}
            | {"target_id": change.target, "added": added, "words": _words(after)}
            | {"recabled": parts["interfaces"], "relabelled": parts["tags"]}
            | {"before": change.before, "after": after}
            | own
            | place
        )
        self.links.append(Link.of(change.target, added, change.before, after))
        if parts["tags"]:
            self.tags += [{**place, "tag": tag} for tag in after["tags"]]
        if parts["interfaces"]:
            self.interfaces += [
                self._interface(change, position, nic) | place for position, nic in enumerate(after["interfaces"])
            ]

    def _interface(self, change: Change, position: int, nic: Mapping[str, Any]) -> dict[str, Any]:
        row = change.nics[position]
        kept = None if change.target is None or row is None else self._land.interfaces[change.target][row]
        if kept is None:
            self._nics += 1
        return {
            "position": position,
            "added": self._nics if kept is None else None,
            "target_id": kept,
            "name": nic["name"],
            "mac": nic["mac"],
            "ip": nic["ip"],
            "subnet_id": self._land.subnets[nic["subnet"]] if nic["subnet"] else None,
        }

    def _inherited(self, change: Change) -> dict[str, Any]:
        """What a machine that is added is by itself, and takes over from the quarantine."""
        macs = [nic["mac"] for nic in change.after["interfaces"] if nic["mac"]]
        rows = [self._land.quarantine[mac] for mac in macs if mac in self._land.quarantine]
        machine = blank(change.after["name"])
        machine.serial, machine.uuid = change.after["serial"], change.after["uuid"]
        machine.state = _state(change) or MachineState.READY
        if rows:
            rows.sort(key=lambda row: row.id)
            quarantine.inherit(self._session, machine, rows, ready=False)
            self.adopted.append(rows)
        return {key: getattr(machine, key) for key in ("serial", "uuid", "facts", "state", "flag")}


_COPIED = (
    "name", "protected", "description", "parameters", "kernel_options", "serial", "uuid", "local_boot", "inventory",
)  # fmt: skip


def _state(change: Change) -> str | None:
    """The state that the row asks for; None leaves it."""
    before = (change.before or {}).get("retired", False)
    if change.after["retired"] == before:
        return None
    return MachineState.RETIRED if change.after["retired"] else MachineState.READY


def _words(after: Mapping[str, Any]) -> str:
    facts = (after["serial"], after["uuid"], after["inventory"])
    nics = after["interfaces"]
    return words_of(after["name"], facts, [nic["mac"] for nic in nics], [nic["ip"] for nic in nics])
