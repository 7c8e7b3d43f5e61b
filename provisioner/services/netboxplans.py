"""Plans of what an inventory says, without the machines that cannot be; several where one would be too long."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from provisioner.core.parts import own, parts
from provisioner.services import plans
from provisioner.services.site import Actor, Site
from provisioner.store.engine import read
from provisioner.store.models import Interface, Machine


def planned(site: Site, actor: Actor, machines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The plans of all machines as if they were one."""
    whole: dict[str, Any] = {"machines": len(machines), "unchanged": 0, "parts": []}
    whole |= {key: [] for key in ("created", "changed", "refused")}
    for numbers in _parts(site, machines):
        some = _without_refused(site, actor, [machines[number] for number in numbers])
        for key in ("created", "changed", "refused"):
            whole[key] += some[key]
        whole["unchanged"] += some["unchanged"]
        if some["id"] is not None:
            whole["parts"].append({"id": some["id"], "machines": some["machines"] - len(some["refused"])})
    return whole | {"ids": [each["id"] for each in whole["parts"]]}


def _parts(site: Site, machines: Sequence[dict[str, Any]]) -> list[list[int]]:
    most = plans.MOST_MACHINES
    if len(machines) <= most:
        return [list(range(len(machines)))]
    with read(site.engine) as session:
        here = session.execute(select(Machine.id, Machine.name, Machine.serial, Machine.inventory))
        there = {key: own({"name": name, "serial": serial, "inventory": at}) for key, name, serial, at in here}
        for key, mac, ip in session.execute(select(Interface.machine_id, Interface.mac, Interface.ip)):
            there[key] += own({"interfaces": [{"mac": mac, "ip": ip}]})
    return parts([own(each) for each in machines], there.values(), most)


def _without_refused(site: Site, actor: Actor, machines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The plan of those machines that can be, with the refusals of the others: one odd device does not stop all."""
    refused: list[dict[str, Any]] = []
    rest = list(machines)
    while rest:
        planned = plans.plan(site, actor, rest)
        if not planned["refused"]:
            return planned | {"machines": len(machines), "refused": refused}
        refused += [each | {"inventory": rest[each["index"]]["inventory"]} for each in planned["refused"]]
        bad = {each["index"] for each in planned["refused"]}
        rest = [each for index, each in enumerate(rest) if index not in bad]
    return {"id": None, "machines": len(machines), "created": [], "changed": [], "refused": refused, "unchanged": 0}
