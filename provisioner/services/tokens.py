"""API tokens, and what any credential stands for at this moment."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core import policy
from provisioner.core.credentials import Credential, Kind, mint, parse
from provisioner.core.moments import moment
from provisioner.core.names import object_name
from provisioner.core.policy import Principal, Role
from provisioner.errors import Conflict, InvalidInput, NotLoggedIn
from provisioner.services import lastuse, logins, objects, people
from provisioner.services.site import Actor, Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.people import ApiToken, LoginSession, User
from provisioner.store.snapshots import snapshot

log = structlog.get_logger()
DEFAULT_DAYS = 365
_MOST_DAYS = 36_500


def authenticate(site: Site, bearer: str, source: str) -> Principal:
    """Whom an API token or a session stands for, with what it may do at this moment.

    The user's row is looked at each time: one who is disabled, expired, removed or has lost a role loses it with the
    next request. Raises NotLoggedIn, without saying why; the log says it. When the database cannot be written this
    still answers; when it cannot be read it raises DatabaseUnavailable.
    """
    presented = parse(bearer)
    if presented is None:
        raise _refused("not shaped like a credential" if bearer else "none given", source)
    at = now()
    with read(site.engine) as session:
        row = _row(session, presented)
        # What is compared with nothing costs the same.
        if not presented.proves(row.secret_hash if row else None) or row is None:
            raise _refused("unknown", source, presented)
        if not policy.active(disabled=row.user.disabled, expires_at=row.user.expires_at, at=at):
            raise _refused("its user is disabled or expired", source, presented, row.user.name)
        principal = _token(row, at) if isinstance(row, ApiToken) else _session(site, row, at)
        if principal is None:
            raise _refused("expired or revoked", source, presented, row.user.name)
    lastuse.note(site, row, at, source)
    return principal


def _row(session: Session, presented: Credential) -> ApiToken | LoginSession | None:
    if presented.kind is Kind.TOKEN:
        return session.scalars(select(ApiToken).where(ApiToken.uid == presented.uid)).one_or_none()
    return session.scalars(select(LoginSession).where(LoginSession.uid == presented.uid)).one_or_none()


def _token(row: ApiToken, at: datetime) -> Principal | None:
    if not policy.active(disabled=row.revoked_at is not None, expires_at=row.expires_at, at=at):
        return None
    role = policy.lesser(Role(row.role), Role(row.user.role))
    return Principal(row.user.name, role, scope=tuple(row.scope), token=row.name)


def _session(site: Site, row: LoginSession, at: datetime) -> Principal | None:
    if not logins.alive(site, row, at):
        return None
    return Principal(row.user.name, Role(row.user.role), session=row.uid)


def _refused(why: str, source: str, presented: Credential | None = None, user: str = "") -> NotLoggedIn:
    log.info("credential refused", why=why, source=source, uid=presented.uid if presented else "", user=user)
    return NotLoggedIn("this needs a credential that is good")


def add(site: Site, actor: Actor, owner: str | None, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make an API token for a user; None is the only administrator there is. The view has ``token``, its text, which is
    shown only here.

    ``fields``: role (never above the owner's; left out, the owner's), scope (nouns; empty or left out is all that the
    role may), and either expires_at (None is never) or days (left out, 365). Raises InvalidInput, NameTaken, Conflict.
    """
    made = mint(Kind.TOKEN)
    with write(site.engine) as session:
        objects.refuse_taken(session, ApiToken, object_name(name))
        user = _only_admin(session) if owner is None else objects.refer(session, User, owner, "user")
        if not policy.active(disabled=user.disabled, expires_at=user.expires_at, at=now()):
            raise Conflict(
                f"user {user.name} is disabled or expired: the token would open nothing",
                hint=f"provisioner user edit {user.name} --enabled --never",
            )
        token = ApiToken(name=name, uid=made.uid, secret_hash=made.digest, user=user, role=user.role, scope=[])
        token.last_used_from = ""
        _apply(token, {"days": DEFAULT_DAYS} | _one_expiry(fields))
        objects.save(session, actor, token, None)
        return view(token) | {"token": made.text}


def _only_admin(session: Session) -> User:
    found = people.active_admins(session)
    if len(found) != 1:
        names = ", ".join(each.name for each in found) or "none"
        raise InvalidInput(f"whose token? administrators: {names}", where="user", hint="name its user: --user NAME")
    return found[0]


def edit(
    site: Site, actor: Actor, name: str, fields: Mapping[str, Any], *, expect: str | None = None
) -> dict[str, Any]:
    """Change role, scope, expires_at or days (from this moment); as in :func:`add`. A revoked token stays revoked."""
    with write(site.engine) as session:
        token = objects.get(session, ApiToken, name)
        objects.expect(token, expect)
        before = snapshot(token)
        if token.revoked_at is not None:
            raise Conflict(f"token {name} is revoked for good", hint="make another: `provisioner token add NAME`")
        _apply(token, _one_expiry(fields))
        objects.save(session, actor, token, before)
        return view(token)


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a token another name; its text stays good."""
    with write(site.engine) as session:
        token = objects.get(session, ApiToken, name)
        objects.expect(token, expect)
        before = snapshot(token)
        objects.refuse_taken(session, ApiToken, object_name(new_name))
        token.name = new_name
        objects.save(session, actor, token, before)
        return view(token)


def revoke(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Let a token open nothing from the next request on, for good; it stays in the list. Again is no change."""
    with write(site.engine) as session:
        token = objects.get(session, ApiToken, name)
        objects.expect(token, expect)
        before = snapshot(token)
        token.revoked_at = token.revoked_at or now()
        objects.save(session, actor, token, before)
        return view(token)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a token; it opens nothing from the next request on. The history keeps it."""
    with write(site.engine) as session:
        token = objects.get(session, ApiToken, name)
        objects.expect(token, expect)
        objects.remove(session, actor, token)


def show(site: Site, name: str) -> dict[str, Any]:
    """One token, without its text: nobody has that."""
    with read(site.engine) as session:
        return view(objects.get(session, ApiToken, name))


def listing(site: Site, user: str | None = None) -> list[dict[str, Any]]:
    """All tokens by name, or those of one user."""
    with read(site.engine) as session:
        owner = objects.get(session, User, user) if user is not None else None
        rows = objects.listing(session, ApiToken)
        return [view(token) for token in rows if owner is None or token.user_id == owner.id]


def forgotten(site: Site, days: int) -> list[str]:
    """The names of good tokens that nobody has used for so many days."""
    since = now() - timedelta(days=days)
    with read(site.engine) as session:
        rows = objects.listing(session, ApiToken)
        return [
            each.name for each in rows if _state(each) == "active" and (each.last_used_at or each.created_at) < since
        ]


def view(token: ApiToken) -> dict[str, Any]:
    """The token as people see it: without its secret."""
    used = token.last_used_at.isoformat(timespec="seconds") if token.last_used_at else None
    return objects.view(token) | {
        "state": _state(token),
        "last_used_at": used,
        "last_used_from": token.last_used_from or None,
    }


def _state(token: ApiToken) -> str:
    at = now()
    if token.revoked_at is not None:
        return "revoked"
    if not policy.active(disabled=False, expires_at=token.expires_at, at=at):
        return "expired"
    owner = policy.active(disabled=token.user.disabled, expires_at=token.user.expires_at, at=at)
    return "active" if owner else "suspended"


def _one_expiry(fields: Mapping[str, Any]) -> dict[str, Any]:
    if "days" in fields and "expires_at" in fields:
        raise InvalidInput("give either days or a date, not both", where="expires_at", hint="leave one of them out")
    return dict(fields)


def _apply(token: ApiToken, fields: Mapping[str, Any]) -> None:
    unknown = set(fields) - set(_CHECKS)
    if unknown:
        known = ", ".join(sorted(_CHECKS))
        raise InvalidInput(f"a token has no {', '.join(sorted(unknown))[:80]} to be set", hint=f"it has {known}")
    for key in _CHECKS:
        if key in fields and not (key == "days" and "expires_at" in fields):
            _CHECKS[key](token, fields[key])


def _role(token: ApiToken, value: object) -> None:
    wanted, owners = policy.role(value), Role(token.user.role)
    if policy.lesser(wanted, owners) is not wanted:
        raise InvalidInput(
            f"{wanted} is more than {token.user.name} may, who is {owners}",
            where="role",
            hint=f"give it {' or '.join(sorted({owners, Role.VIEWER}))}, or the user another role first",
        )
    token.role = wanted.value


def _scope(token: ApiToken, value: object) -> None:
    token.scope = policy.check_scope(value)


def _days(token: ApiToken, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_DAYS:
        raise InvalidInput(f"{str(value)[:40]!r} is not a number of days", where="days", hint=f"1 to {_MOST_DAYS}")
    token.expires_at = now() + timedelta(days=value)


def _expires_at(token: ApiToken, value: object) -> None:
    expires_at = None if value is None else moment(value, "expires_at")
    if expires_at is not None and expires_at <= now():
        raise InvalidInput(
            f"{expires_at:%Y-%m-%d %H:%M} UTC is past", where="expires_at", hint=f"revoke it: token revoke {token.name}"
        )
    token.expires_at = expires_at


_CHECKS: Mapping[str, Callable[[ApiToken, Any], None]] = {
    "role": _role,
    "scope": _scope,
    "days": _days,
    "expires_at": _expires_at,
}
