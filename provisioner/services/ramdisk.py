"""`POST /discovery`: the report of a ramdisk, which knows more of the machine than its firmware does."""

from dataclasses import dataclass

from provisioner.core.bootplan import BootDecision, decide
from provisioner.core.discovery import Waiting
from provisioner.core.facts import Facts
from provisioner.core.lifecycle import NextBoot
from provisioner.services import boot, discovery, looks
from provisioner.services.discovery import Sighting
from provisioner.services.site import Site
from provisioner.store.engine import read
from provisioner.store.models import now


@dataclass(frozen=True)
class Reported:
    """What the ramdisk is told, and what is worth recording of its report."""

    waiting: Waiting
    decision: BootDecision
    """What the machine would get if it booted now."""
    sighting: Sighting | None

    @property
    def waits(self) -> bool:
        """Whether it has to wait for somebody."""
        return self.decision.next_boot is NextBoot.DISCOVERY


def report(site: Site, mac: str, source: str, facts: Facts) -> Reported:
    """Take the report of the machine with this MAC in normal form; it opens no attempt. Raises DatabaseUnavailable."""
    with read(site.engine) as session:
        world = looks.world(session.connection(), mac)
        decision = decide(boot.facts(site, world, source, now()))
        waiting, sighting = discovery.look(session, site, mac, source, facts, world.machine)
        return Reported(waiting, decision, sighting)
