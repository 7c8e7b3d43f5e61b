"""Effects at tools' servers: claimed, carried out, and tried again until they are done.

Those of one machine go one after the other, in the order in which they were queued: an old identity is revoked before
a new one is enrolled. Whoever claimed one and was killed loses it when its lease ends; so each may happen twice.
"""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import structlog
from sqlalchemy import exists, select
from sqlalchemy.orm import aliased

from provisioner import handoff
from provisioner.core.lifecycle import Phase
from provisioner.errors import HandoffUnreachable, ProvisionerError
from provisioner.services import handoffs, identities
from provisioner.services.lives import add_event, lock, phase, printable
from provisioner.services.site import Site
from provisioner.store.engine import read, write
from provisioner.store.handoffs import Outbox
from provisioner.store.models import Build, now

log = structlog.get_logger()
LEASE = timedelta(seconds=90)
_FLUSH_SECONDS = 2.0
_RENEW_SECONDS = 20.0
_LONGEST_WAIT = 600.0
_KEPT_OUTPUT = 60 * 1024
_WORTH_HAVING = {Phase.BOOTING, Phase.INSTALLING, Phase.BUILT}


@dataclass(frozen=True)
class Effect:
    """One claimed effect, with all that carrying it out needs."""

    id: int
    kind: str
    tool: str
    identity: handoff.Identity
    reached: handoff.Reached | None = None


def due(site: Site, at: datetime | None = None) -> list[int]:
    """The ids of effects that can be carried out: none of a machine that an earlier one of it is not done before.

    Raises DatabaseUnavailable.
    """
    earlier = aliased(Outbox)
    blocked = exists().where(
        earlier.machine_id == Outbox.machine_id, earlier.id < Outbox.id, earlier.due_at.is_not(None)
    )
    query = select(Outbox.id).where(Outbox.due_at <= (at or now()), ~blocked).order_by(Outbox.id).limit(100)
    with read(site.engine) as session:
        return list(session.scalars(query))


def claim(site: Site, effect_id: int) -> Effect | None:
    """Take an effect; nobody else takes it until the lease ends. None if it is somebody's, or not wanted any more."""
    with write(site.engine) as session:
        row = session.get(Outbox, effect_id, with_for_update=True)
        if row is None or row.due_at is None or row.due_at > now():
            return None
        wanted = row.handoff
        unwanted = _unwanted(row)
        if unwanted:
            row.due_at, row.done_at, row.error = None, now(), unwanted
            return None
        row.due_at, row.tries = now() + LEASE, row.tries + 1
        build = wanted.build
        identity = handoff.Identity(
            wanted.identity,
            build.machine_name,
            build.number,
            wanted.settings,
            wanted.public,
            identities.kept(site.keys, wanted),
        )
        reached = wanted.reached and handoff.Reached(wanted.reached["address"], tuple(wanted.reached["host_keys"]))
        return Effect(row.id, row.kind, wanted.tool, identity, reached or None)


def _unwanted(row: Outbox) -> str:
    """Why nobody wants this effect any more; empty when it is wanted."""
    wanted = row.handoff
    if row.kind == "revoke":
        return "it is revoked already" if wanted.state == "revoked" else ""
    if wanted.state == "revoked":
        return "the identity was revoked meanwhile"
    return "" if phase(wanted.build) in _WORTH_HAVING else f"the build is {wanted.build.state}"


def carry_out(site: Site, effect: Effect) -> None:
    """Do it and write down what came of it. Raises DatabaseUnavailable alone: then it is done again after its lease."""
    lease = _Lease(site, effect)
    try:
        with lease:
            outcome = _do(site, effect, lease)
    except ProvisionerError as error:
        _failed(site, effect, error)
        return
    _done(site, effect, outcome, lease.output)


def _do(site: Site, effect: Effect, lease: "_Lease") -> bool | int | None:
    tool, mine = handoff.tool(effect.tool), site.host
    if effect.kind == "revoke":
        tool.revoke(effect.identity, mine)
        return True
    if effect.kind == "enrol":
        tool.revoke(effect.identity, mine)
        return tool.enrol(effect.identity, mine)
    if effect.reached is None:
        return 1
    return tool.push(effect.identity, effect.reached, mine, lease.say)


def _failed(site: Site, effect: Effect, error: ProvisionerError) -> None:
    with write(site.engine) as session:
        row = session.get_one(Outbox, effect.id)
        pause = min(
            _LONGEST_WAIT, (5.0 if isinstance(error, HandoffUnreachable) else 20.0) * 2 ** min(row.tries - 1, 8)
        )
        first = not row.error
        row.error = printable(f"{error.message}; {error.hint}" if error.hint else error.message)
        row.due_at = now() + timedelta(seconds=pause * (0.8 + 0.4 * random.random()))  # noqa: S311 - it spreads tries
        if first:
            add_event(session, row.handoff.build, "handoff-waits", f"{effect.kind} at {effect.tool}: {row.error}")
    log.warning(
        "handoff effect failed", kind=effect.kind, tool=effect.tool, identity=effect.identity.name, error=str(error)
    )


def _done(site: Site, effect: Effect, outcome: bool | int | None, output: str) -> None:
    with write(site.engine) as session:
        row = session.get_one(Outbox, effect.id)
        row.due_at, row.done_at, row.error = None, now(), ""
        wanted = row.handoff
        if effect.kind == "push":
            if outcome is None:  # the tool's server reports through the API
                return
            build = lock(session, session.get_one(Build, wanted.build_id))
            good = outcome in handoff.tool(effect.tool).good_exits
            handoffs.conclude(session, build, good=good, message=f"exit status {int(outcome)}", log=output)
            return
        if effect.kind == "revoke":
            wanted.state, wanted.revoked_at = "revoked", now()
        elif wanted.state == "prepared":
            wanted.state = "enrolled"
            if outcome:
                identities.issue(wanted)
        words = {"revoke": "was revoked", "enrol": "is known"}
        add_event(
            session, wanted.build, f"handoff-{effect.kind}", f"{wanted.identity} {words[effect.kind]} at {wanted.tool}"
        )


class _Lease:
    """Holds an effect while it is carried out, and streams what it says into the build's log."""

    def __init__(self, site: Site, effect: Effect) -> None:
        self._site, self._effect = site, effect
        self._lock = threading.Lock()
        self._new: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="handoff lease", daemon=True)
        self._renewed = time.monotonic()
        self.output = ""

    def say(self, text: str) -> None:
        """Take output, in any pieces."""
        with self._lock:
            self._new.append(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.output = (self.output + self._taken())[-_KEPT_OUTPUT:]

    def _taken(self) -> str:
        with self._lock:
            text, self._new = "".join(self._new), []
        return text

    def _keep(self) -> None:
        while not self._over.wait(_FLUSH_SECONDS):
            text = self._taken()
            self.output = (self.output + text)[-_KEPT_OUTPUT:]
            try:
                self._renew(text)
            except ProvisionerError as error:  # the database is away: the lease may end, and the effect happen twice
                log.warning("the lease of a handoff could not be renewed", error=str(error))

    def _renew(self, text: str) -> None:
        if not text and time.monotonic() - self._renewed < _RENEW_SECONDS:
            return
        self._renewed = time.monotonic()
        with write(self._site.engine) as session:
            row = session.get_one(Outbox, self._effect.id)
            row.due_at = now() + LEASE
            if text:
                said = text.strip().rpartition("\n")[2][:300]
                add_event(session, row.handoff.build, "handoff-log", said, log=text)


def waiting(site: Site) -> Iterator[dict[str, Any]]:
    """Effects that were tried and are not done: ``kind``, ``tool``, ``identity``, ``machine``, ``tries``, ``error``."""
    query = select(Outbox).where(Outbox.due_at.is_not(None), Outbox.error != "").order_by(Outbox.id).limit(100)
    with read(site.engine) as session:
        for row in session.scalars(query):
            yield {
                "kind": row.kind,
                "tool": row.handoff.tool,
                "identity": row.handoff.identity,
                "machine": row.handoff.build.machine_name,
                "tries": row.tries,
                "error": row.error,
            }
