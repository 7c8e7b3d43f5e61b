"""A tool for tests, whose server is a list in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from provisioner.errors import HandoffUnreachable
from provisioner.handoff import Credentials, Finding, Host, Identity, Prepared, Reached, Subject, Tool
from provisioner.handoff.protocol import Settings, known


@dataclass
class Pretend(Tool):
    """Notes what is asked of it, in order, and is as far away as a test wants."""

    name = "pretend"
    enrols = True
    issues = True
    good_exits = frozenset({0, 2})
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """What, of which identity, of which of the credentials that were made."""
    kept: list[str] = field(default_factory=list)
    """What was there of our own secrets at each enrolment."""
    away: bool = False
    issued: bool = True
    made: int = 0
    on_push: Callable[[Any], int | None] | None = None

    def check(self, settings: Settings) -> None:
        known(self.name, settings, "server")

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        return Prepared({"timeout": 3600, **settings}, identity=subject.fqdn, secrets=("pretend-key",))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:
        self.made += 1
        return Credentials({"pretend-key": f"theirs-{self.made}"}, {"ours": f"ours-{self.made}"}, {"n": str(self.made)})

    def body(self, prepared: Prepared) -> str:
        return 'cat "$secrets/pretend-key"\n'

    def enrol(self, identity: Identity, host: Host) -> bool:
        self._note("enrol", identity)
        self.kept.append(identity.kept["ours"])
        return self.issued

    def revoke(self, identity: Identity, host: Host) -> None:
        self._note("revoke", identity)

    def push(self, identity: Identity, reached: Reached, host: Host, say: Callable[[str], None]) -> int | None:
        self._note("push", identity)
        say(f"reached {reached.address} with {len(reached.host_keys)} keys\n")
        return self.on_push(identity) if self.on_push is not None else 0

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        if self.away:
            yield Finding("error", "its server is away", "no handoff is good", "switch it on")

    def _note(self, what: str, identity: Identity) -> None:
        if self.away:
            raise HandoffUnreachable("the pretended server gives no answer")
        self.asked.append((what, identity.name, identity.public["n"]))


@dataclass
class Pushed(Pretend):
    """The same, configured from here."""

    name = "pushed"
    enrols = False
    issues = False
    pushes = True

    def body(self, prepared: Prepared) -> str:
        return "ready 127.0.2.11\n"
