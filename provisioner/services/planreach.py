"""What a plan of machines would do to them: shown to who watches a rehearsal, although nothing of it is written."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.services import fleet
from provisioner.services.fleet import Row
from provisioner.services.radius import Reach, Seen, Watch
from provisioner.services.site import Site
from provisioner.services.staging import Ready
from provisioner.store.engine import watch_of
from provisioner.store.models import Machine, Subnet

_OWN = ("name", "profile_id", "serial", "uuid", "protected", "parameters", "kernel_options", "local_boot")


def note(session: Session, site: Site, ready: Ready) -> None:
    """Let the watch of a rehearsal, if there is one, see these rows as a change of machines.

    Those that are added get numbers that no row has.
    """
    watch, staged = watch_of(site.engine), ready.staged.machines
    if not isinstance(watch, Watch) or not staged:
        return
    content = fleet.content(session)
    targets = [row["target_id"] for row in staged if row["target_id"] is not None]
    there = {row["id"]: row for row in fleet.rows(session, Machine.id.in_(targets))}
    subnets: dict[str, int] = {name: key for key, name in session.execute(select(Subnet.id, Subnet.name))}
    rows = {}
    for row in staged:
        key = -row["added"] if row["target_id"] is None else row["target_id"]
        rows[key] = _row(key, row, there.get(key), subnets)
    nothing: frozenset[int] = frozenset()
    reach = Reach(nothing, nothing, nothing, frozenset(rows), frozenset())
    watch.seen.append(Seen(content, content, rows, reach))


def _row(key: int, staged: Mapping[str, Any], there: Row | None, subnets: Mapping[str, int]) -> Row:
    fresh = {"secrets": (), "number": 1, "sealed": False}
    kept = fresh if there is None else {field: there[field] for field in fresh}
    interfaces = [
        {
            "name": nic["name"],
            "mac": nic["mac"],
            "ip": nic["ip"],
            "subnet_id": subnets[nic["subnet"]] if nic["subnet"] else None,
        }
        for nic in staged["after"]["interfaces"]
    ]
    return {"id": key} | {field: staged[field] for field in _OWN} | kept | {"interfaces": interfaces}
