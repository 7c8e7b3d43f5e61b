"""What there is at this moment, for the metrics: one statement on indexes, and a look at the spool."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import CompoundSelect, String, func, literal, select, union_all
from sqlalchemy.types import BigInteger

from provisioner.core.lifecycle import BuildState, MachineState
from provisioner.errors import ProvisionerError
from provisioner.services import spool
from provisioner.services.dhcp import TAKEN, WANTED
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import Build, Counter, Discovery, Machine

UNDER_WAY = (BuildState.ARMED, BuildState.BOOTING, BuildState.INSTALLING, BuildState.BUILT)
"""Those that ended are as many as there ever were; counters of events tell about them."""


@dataclass(frozen=True)
class Gauges:
    """Counts of this moment. ``database`` is whether it could be asked; else only the spool is known."""

    database: bool
    spooled_attempts: int
    spool_aside: int
    builds: dict[str, int] = field(default_factory=dict)
    machines: dict[str, int] = field(default_factory=dict)
    flagged: int = 0
    discoveries: int = 0
    dhcp_behind: int = 0
    """Changes that the DHCP server does not know yet."""


def look(site: Site) -> Gauges:
    """The counts; raises nothing for a database that is down."""
    waiting, aside = len(spool.attempts(site)), len(spool.aside(site))
    try:
        with read(site.engine) as session:
            rows = [(str(what), str(state), int(count)) for what, state, count in session.execute(_counts())]
    except ProvisionerError:
        return Gauges(False, waiting, aside)
    found = {what: {state: count for kind, state, count in rows if kind == what} for what, _, _ in rows}
    counters = found.get("counter", {})
    return Gauges(
        True,
        waiting,
        aside,
        builds={each.value: found.get("build", {}).get(each.value, 0) for each in UNDER_WAY},
        machines={each.value: found.get("machine", {}).get(each.value, 0) for each in MachineState},
        flagged=found["flagged"][""],
        discoveries=found["discovery"][""],
        dhcp_behind=max(0, counters.get(WANTED, 0) - counters.get(TAKEN, 0)),
    )


def _counts() -> CompoundSelect[Any]:
    nothing, count = literal("", String), func.count().cast(BigInteger)
    return union_all(
        select(literal("build", String), Build.state, count).where(Build.state.in_(UNDER_WAY)).group_by(Build.state),
        select(literal("machine", String), Machine.state, count).group_by(Machine.state),
        select(literal("flagged", String), nothing, count).select_from(Machine).where(Machine.flag != ""),
        select(literal("discovery", String), nothing, count).select_from(Discovery),
        select(literal("counter", String), Counter.name, Counter.value).where(Counter.name.in_((WANTED, TAKEN))),
    )
