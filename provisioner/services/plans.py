"""Machines by the thousand: what they would change, and that change whole or not at all."""

import json
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from provisioner.core import planning
from provisioner.core.planning import Plan
from provisioner.errors import Conflict, InvalidInput, MalformedContent, NotFound, PlanRefused, Stale, TooLarge
from provisioner.services import dhcp, landscape, planreach, quarantine, staging
from provisioner.services.site import Actor, Site
from provisioner.services.staging import Ready
from provisioner.store import bulk, history
from provisioner.store import plans as tables
from provisioner.store.engine import is_dry_run, read, write
from provisioner.store.models import AddressHold, Machine, now

Progress = Callable[[str, int, int], None]
"""Hears what is being done, and how many machines of how many are."""
MOST_MACHINES = 10_000
KEPT = timedelta(days=1)
_WAIT_SECONDS = 30.0
_TRIES = 5
_MOST_NAMED = 20


@dataclass(frozen=True)
class _Computed:
    """A plan, its rows, and how many revisions there were."""

    plan: Plan
    ready: Ready | None
    """None when rows are refused."""
    fence: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Body:
    """What somebody sent."""

    machines: Sequence[Any]
    flag_missing: str | None = None


def plan(
    site: Site,
    actor: Actor,
    machines: Sequence[Any],
    *,
    flag_missing: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What these machines (plain data, see `core.machineinput`) would change; nothing is changed.

    The watch of a site that rehearses sees it as if it were changed already, unless machines are refused.

    Answers ``id`` (good for a day), ``fence`` (how many revisions there were), ``machines``, ``created`` (``index``,
    ``name``, ``machine``), ``changed`` (``index``, ``name``, ``changes`` of ``pointer``, ``before``, ``after``),
    ``refused`` (``index``, ``name``, ``reason``, ``code``, ``pointer``, ``hint``), ``unchanged``, and ``missing``:
    machines whose ``inventory`` begins with ``flag_missing`` and that are not among these. Raises TooLarge.
    """
    body = _body(machines, flag_missing)
    _tell(progress, "looking at", 0, len(body.machines))
    uid = _uid()
    return _store(site, actor, uid, body, _compute(site, actor, uid, body))


def show(site: Site, uid: str) -> dict[str, Any]:
    """A plan as it was answered. Raises NotFound for one that is unknown or older than a day."""
    with read(site.engine) as session:
        return _answer(_get(session, uid))


def apply(
    site: Site,
    actor: Actor,
    *,
    plan_id: str | None = None,
    machines: Sequence[Any] | None = None,
    flag_missing: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Do what a plan says, or what these machines say, whole or not at all.

    Answers the names ``created`` and ``changed``, ``machines``, ``unchanged``, ``missing``, ``id``, ``applied_at``, and
    ``again``: whether it was applied before, so that nothing was changed. Raises PlanRefused if machines are refused,
    Stale if the world changed since the plan so that it would be another one, NotFound for an unknown plan, Conflict
    while another one is being applied. A site that rehearses does nothing, and its watch sees it.
    """
    computed = None
    if plan_id is None:
        body, plan_id = _body(machines or [], flag_missing), _uid()
        _tell(progress, "looking at", 0, len(body.machines))
        computed = _compute(site, actor, plan_id, body)
        _store(site, actor, plan_id, body, computed)
        if is_dry_run(site.engine):
            return _rehearsed(plan_id, body, computed)
    elif is_dry_run(site.engine):
        answer, body, expected, applied = _planned(site, plan_id)
        if applied:
            return _result(answer, applied, again=True)
        computed = _compute(site, actor, plan_id, body)
        if computed.plan.digest != expected:
            raise _stale(answer, computed)
        return _rehearsed(plan_id, body, computed)
    with bulk.alone(site.engine, site.settings.state_dir, _WAIT_SECONDS):
        sweep(site)
        try:
            return _apply(site, actor, plan_id, computed, progress)
        finally:
            bulk.unstage(site.engine)


def export(site: Site) -> list[dict[str, Any]]:
    """Every machine as plain data by name, as `plan` takes it, and more."""
    with read(site.engine) as session:
        return landscape.everything(session)


def sweep(site: Site) -> None:
    """Forget plans of yesterday, and what a killed process left staged. Only for whoever applies."""
    bulk.unstage(site.engine)
    with read(site.engine) as session:
        old = session.scalars(select(tables.Plan.id).where(tables.Plan.expires_at < now())).all()
    for uid in old:
        with write(site.engine) as session:
            session.execute(delete(tables.Plan).where(tables.Plan.id == uid))


def _apply(site: Site, actor: Actor, uid: str, computed: _Computed | None, progress: Progress | None) -> dict[str, Any]:
    own = computed is not None
    answer, body, expected, applied = _planned(site, uid)
    if applied:
        return _result(answer, applied, again=True)
    for _ in range(_TRIES):
        if computed is None:
            _tell(progress, "comparing", 0, len(body.machines))
            computed = _compute(site, actor, uid, body)
            if computed.plan.digest != expected and not own:
                raise _stale(answer, computed)
        if computed.ready is None:
            raise _refused(uid, body, computed)
        total = len(computed.ready.staged.machines)
        for done in bulk.stage(site.engine, computed.ready.staged):
            _tell(progress, "writing", done, total)
        _tell(progress, "switching", total, total)
        moment = _switch(site, actor, uid, computed)
        if moment is not None:
            return _result(_plain(uid, body, computed), moment, again=False)
        computed = None
        bulk.unstage(site.engine)
    raise Conflict("the machines are being changed all the time", hint="try again when less is going on")


def _planned(site: Site, uid: str) -> tuple[dict[str, Any], _Body, str, str]:
    """A plan that was made: its answer, what was sent, its digest, and when it was applied (empty: it was not)."""
    with read(site.engine) as session:
        row = _get(session, uid)
        applied = row.applied_at.isoformat() if row.applied_at is not None else ""
        return _answer(row), _Body(**_unpack(row.body)), row.digest, applied


def _rehearsed(uid: str, body: _Body, computed: _Computed) -> dict[str, Any]:
    """What applying it would answer."""
    if computed.ready is None:
        raise _refused(uid, body, computed)
    return _result(_plain(uid, body, computed), now().isoformat(), again=False)


def _refused(uid: str, body: _Body, computed: _Computed) -> PlanRefused:
    return PlanRefused(
        f"{len(computed.plan.refused)} of {len(body.machines)} machines are refused; nothing was changed",
        plan=uid,
        refused=[each.plain() for each in computed.plan.refused],
    )


def _switch(site: Site, actor: Actor, uid: str, computed: _Computed) -> str | None:
    """The one transaction that changes anything; None if the world moved since the rows were made."""
    ready = computed.ready
    if ready is None or not ready.staged.machines:
        return _mark(site, uid, computed.fence)
    with write(site.engine) as session:
        if _moved(session, actor, uid, computed.fence, ready):
            return None
        moment = now()
        for target in bulk.switch(session, actor, uid, ready.staged.links, moment):
            quarantine.release(session, session.get_one(Machine, target))
        if ready.rewired:
            dhcp.touch(session)
    return moment.isoformat()


def _mark(site: Site, uid: str, fence: int) -> str | None:
    """A plan that changes nothing is applied by saying so."""
    with write(site.engine) as session:
        if history.count(session) != fence:
            return None
        row = session.get_one(tables.Plan, uid)
        row.applied_at = now()
        return row.applied_at.isoformat()


def _moved(session: Session, actor: Actor, uid: str, fence: int, ready: Ready) -> bool:
    """Whether anything that the rows were made from is not as it was."""
    if history.count(session) != fence:
        return True
    if ready.waiting != frozenset(staging.signs(bulk.quarantined(session, uid))):
        return True
    held = select(AddressHold.ip).where(AddressHold.until > now(), AddressHold.holder != actor.who)
    return not ready.fresh.isdisjoint(session.scalars(held))


def _compute(site: Site, actor: Actor, uid: str, body: _Body) -> _Computed:
    rows, refused = planning.read(body.machines)
    with read(site.engine) as session:
        fence = history.count(session)
        land = landscape.load(session, actor, rows)
        decided = planning.decide(rows, refused, land.world)
        missing = _missing(session, body.flag_missing, decided)
        ready = None if decided.refused else staging.ready(session, uid, decided, land)
        if ready is not None:
            planreach.note(session, site, ready)
    return _Computed(decided, ready, fence, missing)


def _missing(session: Session, prefix: str | None, decided: Plan) -> tuple[str, ...]:
    if not prefix:
        return ()
    theirs = select(Machine.id, Machine.name).where(Machine.inventory.startswith(prefix, autoescape=True))
    return tuple(
        name for number, name in session.execute(theirs.order_by(Machine.name)) if number not in decided.targets
    )


def _body(machines: Any, flag_missing: str | None) -> _Body:
    if not isinstance(machines, Sequence) or isinstance(machines, str):
        raise MalformedContent("the machines are not a list", where="/machines", hint="send a list of machines")
    if len(machines) > MOST_MACHINES:
        raise TooLarge(
            f"{len(machines)} machines are too many",
            where="/machines",
            hint=f"at most {MOST_MACHINES} at a time: send them in parts",
        )
    if not machines:
        raise InvalidInput("there are no machines in it", where="/machines", hint="send at least one")
    return _Body(machines, flag_missing)


def _store(site: Site, actor: Actor, uid: str, body: _Body, computed: _Computed) -> dict[str, Any]:
    answer = _plain(uid, body, computed)
    moment = now()
    row = tables.Plan(
        id=uid,
        created_at=moment,
        expires_at=moment + KEPT,
        actor=actor.who,
        fence=computed.fence,
        digest=computed.plan.digest,
        body=_pack(vars(body)),
        answer=_pack(answer),
    )
    with write(site.engine) as session:
        session.add(row)
    return answer


def _plain(uid: str, body: _Body, computed: _Computed) -> dict[str, Any]:
    decided = computed.plan
    return {
        "id": uid,
        "fence": computed.fence,
        "machines": len(body.machines),
        "created": [{"index": c.index, "name": c.after["name"], "machine": c.after} for c in decided.created],
        "changed": [
            {"index": c.index, "name": (c.before or c.after)["name"], "changes": c.changes} for c in decided.changed
        ],
        "refused": [each.plain() for each in decided.refused],
        "unchanged": decided.unchanged,
        "missing": list(computed.missing),
    }


def _result(answer: Mapping[str, Any], applied_at: str, *, again: bool) -> dict[str, Any]:
    names = {key: [each["name"] for each in answer[key]] for key in ("created", "changed")}
    same = {key: answer[key] for key in ("id", "machines", "unchanged", "missing")}
    return {**same, **names, "applied_at": applied_at, "again": again}


def _stale(answer: Mapping[str, Any], computed: _Computed) -> Stale:
    """Which machines the plan would treat otherwise by now."""
    then = _by_row(answer)
    since = _by_row(_plain("", _Body([]), computed))
    rows = [index for index in {**then, **since} if then.get(index) != since.get(index)]
    names = [{**then, **since}[index][1]["name"] for index in sorted(rows)]
    shown = ", ".join(str(name) for name in names[:_MOST_NAMED])
    return Stale(
        f"the world changed since this plan was made; {len(rows)} machines would be treated otherwise: {shown}",
        hint="make the plan again, look at it, and apply that one",
        plan=answer["id"],
        machines=names[:_MOST_NAMED],
    )


def _by_row(answer: Mapping[str, Any]) -> dict[int, tuple[str, Any]]:
    return {each["index"]: (key, each) for key in ("created", "changed", "refused") for each in answer[key]}


def _get(session: Session, uid: str) -> tables.Plan:
    row = session.get(tables.Plan, uid)
    if row is None or row.expires_at < now():
        raise NotFound(f"there is no plan {uid[:40]!r}", hint=f"plans are kept for {KEPT.days} day: make it again")
    return row


def _answer(row: tables.Plan) -> dict[str, Any]:
    answer: dict[str, Any] = _unpack(row.answer)
    return answer


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, default=list).encode(), 1)


def _unpack(value: bytes) -> Any:
    return json.loads(zlib.decompress(value))


def _uid() -> str:
    return secrets.token_urlsafe(12)


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)
