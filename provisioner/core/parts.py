"""A body that is too long for one plan, in several: what must be looked at together stays together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from provisioner.core.identity import serial_key


def own(machine: Mapping[str, Any]) -> list[str]:
    """What a machine has that no other may have; dummies are nobody's own."""
    found = {key: machine.get(key) for key in ("name", "inventory")} | {"serial": serial_key(machine.get("serial"))}
    nics = [(key, nic.get(key)) for nic in machine.get("interfaces", ()) for key in ("mac", "ip")]
    return [f"{key} {value}" for key, value in (*found.items(), *nics) if value]


def parts(rows: Sequence[Iterable[str]], there: Iterable[Iterable[str]], most: int) -> list[list[int]]:
    """The numbers of the rows, at most ``most`` in a part.

    ``rows`` are what each machine of the body has of its own (name, addresses, serial number), ``there`` what each
    registered machine has. Rows that have one of these in common, or with one registered machine, come into one part:
    two that swap their addresses, for example. Only where more than ``most`` belong together are they cut.
    """
    found: list[list[int]] = []
    for group in _groups(rows, there):
        for first in range(0, len(group), most):
            some = group[first : first + most]
            if not found or len(found[-1]) + len(some) > most:
                found.append([])
            found[-1] += some
    return found


def _groups(rows: Sequence[Iterable[str]], there: Iterable[Iterable[str]]) -> list[list[int]]:
    """Rows that belong together, by the first of each."""
    above: dict[object, object] = {}

    def root(node: object) -> object:
        while (higher := above.setdefault(node, node)) != node:
            above[node] = above[higher]
            node = above[node]
        return node

    for number, owned in enumerate(rows):
        for each in owned:
            above[root(each)] = root(number)
    for owned in there:
        nodes = [each for each in owned if each in above]
        for each in nodes[1:]:
            above[root(each)] = root(nodes[0])
    groups: dict[object, list[int]] = {}
    for number in range(len(rows)):
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())
