"""Users: their roles, passwords, and when they end.

One administrator who is enabled and never expires stays whatever is asked, so that nobody locks everybody out.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioner.core import passwords as rules
from provisioner.core import policy
from provisioner.core.moments import moment
from provisioner.core.names import object_name
from provisioner.core.policy import Principal, Role
from provisioner.errors import Conflict, Forbidden, InvalidInput, NotLoggedIn
from provisioner.services import logins, objects, passwords
from provisioner.services.site import Actor, Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.people import ApiToken, User
from provisioner.store.snapshots import snapshot


def add(site: Site, actor: Actor, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add a user; ``fields`` as in :func:`edit`, of which role and one of password and password_hash are needed."""
    for needed in ("role", "password"):
        if fields.get(needed) is None and not (needed == "password" and fields.get("password_hash") is not None):
            raise InvalidInput(f"a user needs a {needed}", where=needed, hint=f"give {needed}")
    ready = _hashed(object_name(name), fields)
    with write(site.engine) as session:
        objects.refuse_taken(session, User, name)
        user = User(name=name, disabled=False)
        _apply(user, ready)
        objects.save(session, actor, user, None)
        return view(user)


def edit(
    site: Site,
    actor: Actor,
    name: str,
    fields: Mapping[str, Any],
    *,
    expect: str | None = None,
    keep_session: str = "",
) -> dict[str, Any]:
    """Change role, password, disabled or expires_at (None is never). Whoever calls this has the right to.

    ``password_hash`` instead of a password is a hash that another system made: argon2, bcrypt, SHA crypt, yescrypt.
    Another password, and every loss of rights, ends the user's sessions in the same transaction, but for the one with
    the uid ``keep_session``; the user's tokens lose the same rights with the next request. Raises Conflict for what
    would leave no administrator.
    """
    ready = _hashed(name, fields)
    with write(site.engine) as session:
        user = objects.get(session, User, name)
        objects.expect(user, expect)
        before, role, stays = snapshot(user), Role(user.role), _lasting_admin(user)
        _apply(user, ready)
        if stays and not _lasting_admin(user):
            _refuse_last(session, user)
        objects.save(session, actor, user, before)
        if "password" in ready:
            logins.forget_addresses(session, user)
        if "password" in ready or policy.lesser(role, Role(user.role)) is not role or not _active(user):
            logins.end_all(session, user, but=keep_session)
        return view(user)


def change_password(site: Site, actor: Actor, principal: Principal, old: object, new: object, source: str = "") -> None:
    """Change the own password; whoever logged in may, whatever the role. Ends the user's other sessions.

    Wrong old passwords are counted as failed logins are. Raises Forbidden (an API token; the old password is wrong),
    InvalidInput, TooMany.
    """
    if principal.token:
        raise Forbidden("an API token cannot change a password", hint="log in with the old one first")
    ready = _hashed(principal.who, {"password": new})
    try:
        attempt, found = logins.prove(site, principal.who, old, source)
    except NotLoggedIn:
        # Not 401: the session itself is good, and stays.
        raise Forbidden("the old password is wrong", where="old", hint="try again") from None
    with write(site.engine) as session:
        user = objects.get(session, User, principal.who)
        if user.password_hash != found.password_hash:
            raise Conflict("the password was changed meanwhile", hint="log in again")
        before = snapshot(user)
        _apply(user, ready)
        objects.save(session, actor, user, before)
        logins.forget_addresses(session, user)
        logins.forgive(session, attempt)
        logins.end_all(session, user, but=principal.session)


def rename(site: Site, actor: Actor, name: str, new_name: str, *, expect: str | None = None) -> dict[str, Any]:
    """Give a user another name; sessions and tokens go on. What the history says of the old name stays."""
    with write(site.engine) as session:
        user = objects.get(session, User, name)
        objects.expect(user, expect)
        before = snapshot(user)
        objects.refuse_taken(session, User, object_name(new_name))
        logins.forget_addresses(session, user)
        user.name = new_name
        objects.save(session, actor, user, before)
        return view(user)


def remove(site: Site, actor: Actor, name: str, *, expect: str | None = None) -> None:
    """Remove a user with all sessions and tokens; each token leaves its revision too."""
    with write(site.engine) as session:
        user = objects.get(session, User, name)
        objects.expect(user, expect)
        if _lasting_admin(user):
            _refuse_last(session, user)
        for token in session.scalars(select(ApiToken).where(ApiToken.user_id == user.id).order_by(ApiToken.id)):
            objects.remove(session, actor, token)
        logins.end_all(session, user)
        logins.forget_addresses(session, user)
        objects.remove(session, actor, user)


def show(site: Site, name: str) -> dict[str, Any]:
    """One user; nothing of the password."""
    with read(site.engine) as session:
        return view(objects.get(session, User, name))


def listing(site: Site) -> list[dict[str, Any]]:
    """All users by name."""
    with read(site.engine) as session:
        return [view(user) for user in objects.listing(session, User)]


def active_admins(session: Session) -> list[User]:
    """The administrators who can log in at this moment, by name."""
    return [user for user in objects.listing(session, User) if user.role == Role.ADMIN and _active(user)]


def view(user: User) -> dict[str, Any]:
    """The user as people see it: no password, not even masked."""
    # A mask in the place of the password would come back as the password of somebody who sends the whole object.
    return {key: value for key, value in objects.view(user).items() if key != "password"}


def _active(user: User) -> bool:
    return policy.active(disabled=user.disabled, expires_at=user.expires_at, at=now())


def _lasting_admin(user: User) -> bool:
    return user.role == Role.ADMIN and not user.disabled and user.expires_at is None


def _refuse_last(session: Session, user: User) -> None:
    with session.no_autoflush:
        others = session.scalars(select(User).where(User.role == Role.ADMIN.value, User.id != user.id)).all()
    if not any(_lasting_admin(each) for each in others):
        raise Conflict(
            f"{user.name} is the last administrator who is enabled and does not expire",
            hint="make another one first: `provisioner user add NAME --role admin`",
        )


def _hashed(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the password hashed: that takes a tenth of a second, too long for a transaction."""
    unknown = set(fields) - {*_CHECKS}
    if unknown:
        known = ", ".join(sorted(_CHECKS))
        raise InvalidInput(f"a user has no {', '.join(sorted(unknown))[:80]} to be set", hint=f"it has {known}")
    ready = dict(fields)
    if ready.get("password") is not None and ready.get("password_hash") is not None:
        raise InvalidInput("a password and a hash of one are given", where="password_hash", hint="give one of them")
    if ready.get("password_hash") is not None:
        ready["password"] = passwords.imported(ready.pop("password_hash"))
    elif "password" in ready:
        ready["password"] = passwords.hashed(rules.chosen(ready["password"], name))
    ready.pop("password_hash", None)
    return ready


def _apply(user: User, ready: Mapping[str, Any]) -> None:
    for key, value in ready.items():
        _CHECKS[key](user, value)


def _role(user: User, value: object) -> None:
    user.role = policy.role(value).value


def _password(user: User, value: str) -> None:
    user.password_hash = value


def _disabled(user: User, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(
            f"{str(value)[:40]!r} is neither true nor false", where="disabled", hint="give true or false"
        )
    user.disabled = value


def _expires_at(user: User, value: object) -> None:
    user.expires_at = None if value is None else moment(value, "expires_at")


_CHECKS: Mapping[str, Callable[[User, Any], None]] = {
    "role": _role,
    "password": _password,
    "password_hash": _password,
    "disabled": _disabled,
    "expires_at": _expires_at,
}
