"""Many machines in one transaction that holds the write lock for well under a second.

Rows are prepared and staged before, in short transactions; then one statement a table switches them in. ORM hooks see
nothing of it, so revisions, search words and sequences are written here.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Select,
    String,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from provisioner.errors import Conflict
from provisioner.store import history
from provisioner.store.base import UtcTime
from provisioner.store.engine import is_sqlite, read, write
from provisioner.store.models import (
    AddressHold,
    Discovery,
    Interface,
    Machine,
    MachineTag,
    MachineWords,
    Revision,
)
from provisioner.store.plans import STAGED, Plan, StagedInterface, StagedMachine, StagedTag

CHUNK = 1000
"""Machines that are staged, or taken away again, in one short transaction."""
_BREATH = 0.1
"""Seconds between such transactions: SQLite's waiters look at the lock that often, and would starve without."""
_ONE_APPLIES = 0x70726170
_FIELDS = (
    "name", "protected", "description", "profile_id", "parameters", "kernel_options", "serial", "uuid", "local_boot",
    "inventory",
)  # fmt: skip


@contextmanager
def alone(engine: Engine, directory: Path, seconds: float) -> Iterator[None]:
    """Let one process at a time apply a plan; whoever dies lets the next one in.

    Raises Conflict after ``seconds``. ``directory`` is what processes of a host that share an SQLite database share.
    """
    holding = _file_lock(directory) if engine.dialect.name == "sqlite" else _advisory_lock(engine)
    with holding as try_lock:
        deadline = time.monotonic() + seconds
        while not try_lock():
            if time.monotonic() > deadline:
                raise Conflict("another plan is being applied", hint="wait until it is done, then try again")
            time.sleep(0.05)
        yield


@contextmanager
def _file_lock(directory: Path) -> Iterator[Any]:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def try_lock() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield try_lock
    finally:
        os.close(handle)


@contextmanager
def _advisory_lock(engine: Engine) -> Iterator[Any]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        key = {"key": _ONE_APPLIES}
        try:
            yield lambda: connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one()
        finally:
            connection.execute(text("SELECT pg_advisory_unlock_all()"))


@dataclass(frozen=True)
class Staged:
    """The rows of a plan, for `stage`; ``links`` are for the chain of revisions, one for each machine."""

    machines: Sequence[Mapping[str, Any]]
    interfaces: Sequence[Mapping[str, Any]]
    tags: Sequence[Mapping[str, Any]]
    links: Sequence["Link"]


@dataclass(frozen=True)
class Link:
    """What of a revision is hashed and known before the lock; the number of a new machine counts from 1."""

    target: int | None
    added: int | None
    content: str

    @classmethod
    def of(
        cls, target: int | None, added: int | None, before: Mapping[str, Any] | None, after: Mapping[str, Any]
    ) -> "Link":
        """The link of one machine."""
        parts = [after["name"], "add" if before is None else "edit", before, after]
        return cls(target, added, ",".join(_canonical(part) for part in parts))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def stage(engine: Engine, staged: Staged) -> Iterator[int]:
    """Write the staged rows, a chunk a transaction; yields how many machines are there after each."""
    for first in range(0, len(staged.machines), CHUNK):
        numbers = range(first, first + CHUNK)
        with write(engine) as session:
            session.execute(insert(StagedMachine), list(staged.machines[first : first + CHUNK]))
            for model, rows in ((StagedInterface, staged.interfaces), (StagedTag, staged.tags)):
                part = [row for row in rows if row["number"] in numbers]
                if part:
                    session.execute(insert(model), part)
        _breathe(engine, len(staged.machines))
        yield min(first + CHUNK, len(staged.machines))


def unstage(engine: Engine) -> None:
    """Remove all staged rows, a chunk a transaction. Only for whoever is :func:`alone`."""
    with read(engine) as session:
        left = {
            plan: most
            for model in STAGED
            for plan, most in session.execute(select(model.plan_id, func.max(model.number)).group_by(model.plan_id))
        }
    for plan, most in left.items():
        for first in range(0, most + 1, CHUNK):
            with write(engine) as session:
                for model in STAGED:
                    here = (model.plan_id == plan, model.number >= first, model.number < first + CHUNK)
                    session.execute(delete(model).where(*here))
            _breathe(engine, most + 1)


def _breathe(engine: Engine, machines: int) -> None:
    if machines > CHUNK and engine.dialect.name == "sqlite":
        time.sleep(_BREATH)


def quarantined(session: Session, plan_id: str) -> list[Discovery]:
    """The rows in quarantine of machines that the staged plan adds."""
    nics = select(StagedInterface.mac).join(
        StagedMachine,
        (StagedMachine.plan_id == StagedInterface.plan_id) & (StagedMachine.number == StagedInterface.number),
    )
    added = nics.where(StagedInterface.plan_id == plan_id, StagedMachine.added.is_not(None))
    return list(session.scalars(select(Discovery).where(Discovery.mac.in_(added)).order_by(Discovery.id)))


def switch(session: Session, actor: history.Actor, plan_id: str, links: Sequence[Link], moment: datetime) -> list[int]:
    """Switch the staged rows of a plan in, each with its revision.

    Returns the machines that were there and got interfaces that wait in quarantine. The caller has made sure that the
    rows still fit, and says to DHCP that they changed.
    """
    base, first = _last_id(session, Machine), _last_id(session, Revision)
    added = sum(link.added is not None for link in links)
    if added < len(links):
        _edit_machines(session, plan_id, first, moment)
    if added:
        _add_machines(session, plan_id, base, first, moment)
        _count_on(session, Machine, base + added)
    _switch_interfaces(session, plan_id, base)
    _switch_tags(session, plan_id, base)
    _switch_words(session, plan_id, base)
    _switch_revisions(session, actor, plan_id, (base, first), links, moment)
    found = _recabled_in_quarantine(session, plan_id)
    taken = select(StagedInterface.ip).where(StagedInterface.plan_id == plan_id, StagedInterface.ip.is_not(None))
    session.execute(delete(AddressHold).where(AddressHold.ip.in_(taken)))
    new = select(Interface.mac).join(StagedMachine, Interface.machine_id == base + StagedMachine.added)
    macs = new.where(StagedMachine.plan_id == plan_id)
    session.execute(delete(Discovery).where(Discovery.mac.in_(macs)))
    session.execute(update(Plan).where(Plan.id == plan_id).values(applied_at=moment))
    return found


def _last_id(session: Session, model: type[Machine | Interface | Revision]) -> int:
    """The highest row number given so far, by the sequence too: PostgreSQL does not give one twice."""
    highest = session.scalar(select(func.max(model.id))) or 0
    if is_sqlite(session):
        return highest
    sequence = text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:name, 'id')::regclass)")
    return max(highest, session.execute(sequence, {"name": model.__tablename__}).scalar() or 0)


def _count_on(session: Session, model: type[Machine | Interface | Revision], last: int) -> None:
    if not is_sqlite(session) and last:
        name = {"name": model.__tablename__, "last": last}
        session.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), name)


def _machine_id(base: int) -> ColumnElement[int]:
    return func.coalesce(StagedMachine.target_id, base + StagedMachine.added)


def _revision_id(first: int) -> ColumnElement[int]:
    """The revision that a staged machine gets; the version of an object is its last one."""
    return first + StagedMachine.number + 1


def _parts(model: type[StagedInterface | StagedTag], plan_id: str, *columns: Any) -> Select[Any]:
    """Columns of staged interfaces or tags, and of their staged machines."""
    theirs = (StagedMachine.plan_id == model.plan_id) & (StagedMachine.number == model.number)
    joined = select(*columns).select_from(model).join(StagedMachine, theirs)
    return joined.where(model.plan_id == plan_id)


def _targets(plan_id: str, *conditions: Any) -> Select[Any]:
    chosen = select(StagedMachine.target_id).where(StagedMachine.plan_id == plan_id)
    return chosen.where(StagedMachine.target_id.is_not(None), *conditions)


def _edit_machines(session: Session, plan_id: str, first: int, moment: datetime) -> None:
    values: dict[str, Any] = {each: getattr(StagedMachine, each) for each in _FIELDS}
    values |= {"state": func.coalesce(StagedMachine.state, Machine.state), "version": _revision_id(first)}
    there = (StagedMachine.plan_id == plan_id, StagedMachine.target_id == Machine.id)
    # Names may change places: the constraint looks at each row as it is written. No name begins so.
    renamed = update(Machine).where(*there, StagedMachine.name != Machine.name)
    nameless = renamed.values(name=literal("~") + cast(Machine.id, String))
    session.execute(nameless, execution_options={"synchronize_session": False})
    changed = update(Machine).where(*there).values(**values, updated_at=moment)
    session.execute(changed, execution_options={"synchronize_session": False})


def _add_machines(session: Session, plan_id: str, base: int, first: int, moment: datetime) -> None:
    values: dict[str, Any] = {each: getattr(StagedMachine, each) for each in (*_FIELDS, "facts", "flag")}
    values |= {"id": base + StagedMachine.added, "state": func.coalesce(StagedMachine.state, "ready")}
    values |= {
        "version": _revision_id(first),
        "created_at": literal(moment, UtcTime),
        "updated_at": literal(moment, UtcTime),
    }
    rows = select(*values.values()).where(StagedMachine.plan_id == plan_id, StagedMachine.added.is_not(None))
    session.execute(insert(Machine).from_select(list(values), rows.order_by(StagedMachine.number)))


def _switch_interfaces(session: Session, plan_id: str, base: int) -> None:
    staged, quietly = StagedInterface, {"synchronize_session": False}
    recabled = _targets(plan_id, StagedMachine.recabled)
    kept = select(staged.target_id).where(staged.plan_id == plan_id, staged.target_id.is_not(None))
    theirs = Interface.machine_id.in_(recabled)
    session.execute(delete(Interface).where(theirs, Interface.id.not_in(kept)), execution_options=quietly)
    # Addresses may change places: the constraint looks at each row as it is written.
    session.execute(update(Interface).where(theirs).values(ip=null()), execution_options=quietly)
    values: dict[str, Any] = {each: getattr(staged, each) for each in ("position", "name", "mac", "ip", "subnet_id")}
    there = (staged.plan_id == plan_id, staged.target_id == Interface.id)
    session.execute(update(Interface).where(*there).values(**values), execution_options=quietly)
    first = _last_id(session, Interface)
    values |= {"id": first + staged.added, "machine_id": _machine_id(base)}
    rows = _parts(staged, plan_id, *values.values()).where(staged.added.is_not(None))
    session.execute(insert(Interface).from_select(list(values), rows.order_by(staged.added)))
    most = session.scalar(select(func.max(staged.added)).where(staged.plan_id == plan_id))
    _count_on(session, Interface, first + most if most else 0)


def _switch_tags(session: Session, plan_id: str, base: int) -> None:
    gone = MachineTag.machine_id.in_(_targets(plan_id, StagedMachine.relabelled))
    session.execute(delete(MachineTag).where(gone), execution_options={"synchronize_session": False})
    rows = _parts(StagedTag, plan_id, _machine_id(base), StagedTag.tag)
    session.execute(insert(MachineTag).from_select(["machine_id", "tag"], rows))


def _switch_words(session: Session, plan_id: str, base: int) -> None:
    # Most changes are of things that nobody is found by, and the index of words costs more than all the rest.
    theirs = (StagedMachine.plan_id == plan_id, StagedMachine.target_id == MachineWords.machine_id)
    other = update(MachineWords).where(*theirs, MachineWords.words != StagedMachine.words)
    session.execute(other.values(words=StagedMachine.words), execution_options={"synchronize_session": False})
    number = _machine_id(base)
    absent = ~select(MachineWords.machine_id).where(MachineWords.machine_id == number).exists()
    rows = select(number, StagedMachine.words).where(StagedMachine.plan_id == plan_id, absent)
    session.execute(insert(MachineWords).from_select(["machine_id", "words"], rows))


def _recabled_in_quarantine(session: Session, plan_id: str) -> list[int]:
    waiting = select(Discovery.id).where(Discovery.mac == StagedInterface.mac).exists()
    rows = _parts(StagedInterface, plan_id, StagedMachine.target_id).where(
        StagedMachine.target_id.is_not(None), waiting
    )
    return list(session.scalars(rows.distinct()))


_SPANS = {
    # CROSS JOIN: else SQLite takes the array apart again for each machine.
    "sqlite": "json_each(:links) AS link CROSS JOIN staged_machine AS staged "
    "WHERE staged.plan_id = :plan AND staged.number = link.key",
    "postgresql": "json_array_elements_text(CAST(:links AS json)) WITH ORDINALITY AS link (value, place) "
    "CROSS JOIN staged_machine AS staged WHERE staged.plan_id = :plan AND staged.number = link.place - 1",
}


def _switch_revisions(
    session: Session,
    actor: history.Actor,
    plan_id: str,
    last_ids: tuple[int, int],
    links: Sequence[Link],
    moment: datetime,
) -> None:
    """The revisions: what each holds is staged, only its place in the chain is known now; see `history.digest`."""
    base, first = last_ids
    tip = history.tip_of(session)
    head = [moment.isoformat(), actor.who, actor.origin, actor.request, actor.reason, "machine"]
    begin, last, hashes = _canonical(head)[:-1], tip.text, [tip.text]
    for link in links:
        number = link.target if link.added is None else base + link.added
        last = hashlib.sha256(f'{begin},{number},{link.content},"{last}"]'.encode()).hexdigest()
        hashes.append(last)
    place = "link.key" if is_sqlite(session) else "link.place - 1"
    statement = text(
        "INSERT INTO revision (id, at, actor, origin, request, reason, kind, object_id, name, action, before, after, "  # noqa: S608 - nothing in it comes from outside
        "previous_hash, hash) "
        f"SELECT :first + {place} + 1, :at, :actor, :origin, :request, :reason, 'machine', "
        "coalesce(staged.target_id, :base + staged.added), staged.name, "
        "CASE WHEN staged.added IS NULL THEN 'edit' ELSE 'add' END, staged.before, staged.after, "
        f"lag(link.value, 1, :tip) OVER (ORDER BY {place}), link.value FROM {_SPANS[session.get_bind().dialect.name]}"
    ).bindparams(bindparam("at", type_=UtcTime()))
    given = {"actor": actor.who, "origin": actor.origin, "request": actor.request, "reason": actor.reason}
    places = {"first": first, "base": base, "plan": plan_id, "at": moment, "tip": tip.text}
    session.execute(statement, {**given, **places, "links": json.dumps(hashes[1:])})
    tip.value, tip.text = tip.value + len(links), last
    session.flush()
    _count_on(session, Revision, first + len(links))
