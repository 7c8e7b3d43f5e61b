"""A machine's life without a server: boots, events and time that goes by, for tests of pages."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from world import IP, MAC, token_in

from provisioner.core.facts import from_query
from provisioner.services import attempts, boot, discovery, reports
from provisioner.services.boot import BootRequest
from provisioner.services.discovery import Sighting
from provisioner.services.reports import Report
from provisioner.services.site import Site
from provisioner.store.engine import write
from provisioner.store.models import Attempt, Build, Discovery, Event

_MOMENTS = {
    Build: ("armed_at", "built_at", "ended_at"),
    Event: ("at",),
    Attempt: ("opened_at",),
    Discovery: ("first_seen", "last_seen"),
}


@dataclass
class Life:
    """One machine as it talks to us."""

    site: Site
    mac: str = MAC
    ip: str = IP
    answer: str = ""
    token: str = ""
    handoff: str = ""

    def boots(self) -> "Life":
        """It boots from the network, and fetches its answer file."""
        self.answer = token_in(boot.boot_script(self.site, BootRequest(self.mac, self.ip)).text, "answer")
        self.token = token_in(self._file("answer"), "event")
        return self

    def says(self, step: str, message: str = "", log: str = "") -> "Life":
        """It reports a step; before it says `built`, it leaves its handoff on the disk."""
        if step == "built":
            self.handoff = token_in(self._file("handoff"), "configured")
        reports.event(self.site, self.token, self.ip, Report(step, message, log))
        return self

    def done(self, *, ok: bool = True, message: str = "") -> "Life":
        """Its handoff reports."""
        reports.configured(self.site, self.handoff, self.ip, ok=ok, message=message)
        return self

    def _file(self, name: str) -> str:
        return attempts.fetch(self.site, self.answer, name, self.ip).text


def arrives(site: Site, mac: str, ip: str, **said: str) -> None:
    """A machine that nobody registered asks for its script."""
    discovery.record(site, [Sighting(mac, ip, from_query(said), is_new=True)])


def goes_by(site: Site, seconds: float) -> None:
    """All that happened, happened so many seconds earlier."""
    with write(site.engine) as session:
        for model, names in _MOMENTS.items():
            table: Any = model
            for row in session.execute(select(table.id, *(getattr(table, name) for name in names))).all():
                earlier = {
                    name: moment - timedelta(seconds=seconds)
                    for name, moment in zip(names, row[1:], strict=True)
                    if isinstance(moment, datetime)
                }
                session.execute(update(table).where(table.id == row[0]).values(**earlier))
