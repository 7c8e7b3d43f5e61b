"""Logging in with a password, sessions, and slowing down those who guess.

**Who is slowed down.** Failures of the last 15 minutes are counted three times: for the pair of user and address (5
are free), for the address (20), and for the user from all addresses together (20). Beyond that each failure doubles
the wait, from one second to five minutes (one minute for the user as a whole), and while somebody waits nothing is
looked at.

- Whoever guesses one user's password from one address is stopped by the pair, which harms nobody else.
- Whoever tries many users from one address is stopped by the address, and so is everybody behind it.
- Whoever guesses one user's password from many addresses is stopped by the user's count. That alone would let
  strangers lock the user out, so it does not count for an address from which this user logged in well within 30 days:
  only somebody at that same address can hold them up. Setting another password forgets those addresses. A user who
  comes from an address for the first time during such an attack has to wait for a free moment, or change address; the
  command line on the server's host needs no login.

An attempt is counted before its password is looked at, in one transaction, so that parallel guesses do not get in below
the limit; the right password takes its count back. Names that are no user's are counted and answered alike.

**Traces.** Each attempt leaves a line in the log (``login``, ``login failed``, with user, address and reason). The
history holds none: strangers could fill it. ``provisioner check`` names who is slowed down.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from provisioner.core import credentials
from provisioner.core import passwords as rules
from provisioner.core.names import object_name
from provisioner.core.policy import active
from provisioner.core.slowdown import WINDOW, Failures, Limit, origin
from provisioner.errors import MalformedName, NotLoggedIn, TooMany
from provisioner.services import objects, passwords
from provisioner.services.site import Actor, Site
from provisioner.store.base import now
from provisioner.store.engine import read, write
from provisioner.store.people import LoginFailure, LoginSession, User
from provisioner.store.snapshots import snapshot

log = structlog.get_logger()
_PAIR, _ADDRESS, _USER = Limit(free=5), Limit(free=20), Limit(free=20, longest=60)
_KNOWN = timedelta(days=30)
_MOST_SESSIONS = 50
_NOBODY = "(not a name)"


@dataclass(frozen=True)
class Attempt:
    """Who tries to log in, where from, and with what password."""

    user: str
    origin: str
    source: str
    password: str = field(repr=False)
    counted_at: datetime | None = None
    """When it was counted, as if it had failed."""
    before: datetime | None = None
    """When something from this address failed last, before that."""

    @property
    def known_key(self) -> str:
        """The row that says that this user logged in well from there."""
        return f"known:{self.user} {self.origin}"

    @property
    def address_key(self) -> str:
        """The row in which all failures from there are counted."""
        return f"from:{self.origin}"

    def limits(self, *, known: bool) -> dict[str, Limit]:
        """The rows in which its failures are counted."""
        limits = {f"pair:{self.user} {self.origin}": _PAIR, self.address_key: _ADDRESS}
        return limits if known else limits | {f"user:{self.user}": _USER}


def login(site: Site, user: object, password: object, source: str) -> dict[str, Any]:
    """Log in. Returns ``token`` (shown only here), ``expires_at``, ``user`` and ``role``.

    Raises NotLoggedIn, in the same words and after the same work whether it is the user or the password that is wrong,
    and for users who are disabled or expired; TooMany with ``retry_after`` in seconds. See this module's text.
    """
    attempt, found = prove(site, user, password, source)
    made, at = credentials.mint(credentials.Kind.SESSION), now()
    anew = passwords.hashed(attempt.password) if passwords.outdated(found.password_hash) else None
    with write(site.engine) as session:
        # It may have been disabled, or given another password, while this one was looked at.
        person = session.get(User, found.id)
        if person is None or person.password_hash != found.password_hash or not _active(person, at):
            raise _wrong()
        forgive(session, attempt)
        if anew is not None:
            _rehash(session, person, anew, attempt)
        row = _open(session, site, person, made, at)
        row.source = attempt.source
        answer = {"token": made.text, "expires_at": _text(row.expires_at), "user": person.name, "role": person.role}
    log.info("login", user=answer["user"], source=attempt.source, session=made.uid)
    return answer


def _open(session: Session, site: Site, person: User, made: credentials.Credential, at: datetime) -> LoginSession:
    """A session for this user; those that are over are swept, and the oldest end where there are too many."""
    idle = at - timedelta(hours=site.settings.session_idle_hours)
    session.execute(delete(LoginSession).where((LoginSession.expires_at <= at) | (LoginSession.last_seen_at <= idle)))
    newest = select(LoginSession).where(LoginSession.user_id == person.id).order_by(LoginSession.id.desc())
    for row in session.scalars(newest.offset(_MOST_SESSIONS - 1)):
        session.delete(row)
    opened = LoginSession(uid=made.uid, secret_hash=made.digest, user_id=person.id, created_at=at, last_seen_at=at)
    opened.expires_at = at + timedelta(days=site.settings.session_days)
    session.add(opened)
    return opened


def prove(site: Site, user: object, password: object, source: str) -> tuple[Attempt, User]:
    """The user whose password this is; each failure counts, as in :func:`login`. Raises NotLoggedIn and TooMany.

    The caller takes the count back with :func:`forgive`, in the transaction of whatever it is needed for.
    """
    attempt = Attempt(_name(user), origin(source), source[:39], rules.presented(password) or "")
    if not attempt.password or attempt.user == _NOBODY:
        # Nothing that anybody could have guessed: it costs nothing, and counts for nothing.
        _failed(attempt, "not even a name and a password")
        raise _wrong()
    _refuse_hasty(site, attempt)
    with passwords.place():
        attempt = _count(site, attempt)
        with read(site.engine) as session:
            found = objects.find(session, User, attempt.user)
            stored = session.scalars(select(User.password_hash)).all()
        is_right = passwords.right(
            found.password_hash if found else None,
            attempt.password,
            [each for each in stored if passwords.outdated(each)],
        )
    if found is None or not is_right or not _active(found, now()):
        _failed(attempt, "unknown user" if found is None else "disabled or expired" if is_right else "wrong password")
        raise _wrong()
    return attempt, found


def logout(site: Site, bearer: str) -> None:
    """End the session of this credential; whatever else it is, nothing happens."""
    presented = credentials.parse(bearer)
    if presented is None or presented.kind is not credentials.Kind.SESSION:
        return
    with write(site.engine) as session:
        row = session.scalars(select(LoginSession).where(LoginSession.uid == presented.uid)).one_or_none()
        if row is not None and presented.proves(row.secret_hash):
            session.delete(row)
            log.info("logout", user=row.user.name, session=row.uid)


def sessions(site: Site, user: str | None = None) -> list[dict[str, Any]]:
    """Who is logged in, or where this user is: ``uid, user, source, created_at, last_seen_at, expires_at``."""
    at = now()
    with read(site.engine) as session:
        query = select(LoginSession).join(User).order_by(User.name, LoginSession.id)
        if user is not None:
            query = query.where(User.id == objects.get(session, User, user).id)
        return [_view(row) for row in session.scalars(query) if alive(site, row, at)]


def alive(site: Site, row: LoginSession, at: datetime) -> bool:
    """Whether the session is neither over nor idle for too long."""
    return at < row.expires_at and at - row.last_seen_at < timedelta(hours=site.settings.session_idle_hours)


def end_all(session: Session, user: User, *, but: str = "") -> None:
    """End the user's sessions, but for the one with this uid; inside a transaction."""
    session.execute(delete(LoginSession).where(LoginSession.user_id == user.id, LoginSession.uid != but))


def forget_addresses(session: Session, user: User) -> None:
    """Nowhere did this user log in well before; inside a transaction."""
    session.execute(delete(LoginFailure).where(LoginFailure.key.startswith(f"known:{user.name} ", autoescape=True)))


def slowed(site: Site) -> list[str]:
    """Whom guesses at passwords slow down at this moment, in words."""
    at = now()
    limits = {"pair": _PAIR, "from": _ADDRESS, "user": _USER}
    with read(site.engine) as session:
        rows = session.scalars(select(LoginFailure).order_by(LoginFailure.key)).all()
    return [
        f"{row.key.partition(':')[2].replace(' ', ' from ')} ({row.count} failures)"
        for row in rows
        if (limit := limits.get(row.key.partition(":")[0])) and _failures(row).seconds(limit, at)
    ]


def _view(row: LoginSession) -> dict[str, Any]:
    times = {key: _text(getattr(row, key)) for key in ("created_at", "last_seen_at", "expires_at")}
    return {"uid": row.uid, "user": row.user.name, "source": row.source, **times}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _name(user: object) -> str:
    try:
        return object_name(user.strip().lower()) if isinstance(user, str) and len(user) <= 100 else _NOBODY
    except MalformedName:
        return _NOBODY


def _active(user: User, at: datetime) -> bool:
    return active(disabled=user.disabled, expires_at=user.expires_at, at=at)


def _wrong() -> NotLoggedIn:
    return NotLoggedIn(
        "user name or password is wrong", hint="try again, or let an administrator run `provisioner user password NAME`"
    )


def _failed(attempt: Attempt, why: str) -> None:
    # Of a name only what may be one: people type passwords into the wrong field.
    log.warning("login failed", user=attempt.user, source=attempt.source, why=why)


def _refuse_hasty(site: Site, attempt: Attempt) -> None:
    """Refuse who must wait before anything costs: no write, no place among those who log in."""
    with read(site.engine) as session:
        _wait(session, attempt, now())


def _wait(session: Session, attempt: Attempt, at: datetime) -> dict[str, LoginFailure | None]:
    """The rows in which the attempt's failures are counted. Raises TooMany while somebody must wait."""
    known = session.get(LoginFailure, attempt.known_key)
    limits = attempt.limits(known=known is not None and at - known.last_at < _KNOWN)
    rows = {key: session.get(LoginFailure, key) for key in limits}
    seconds = max(_failures(row).seconds(limits[key], at) if row else 0 for key, row in rows.items())
    if seconds:
        log.info("login refused for now", user=attempt.user, source=attempt.source, seconds=seconds)
        raise TooMany(
            f"too many logins failed; try again in {seconds} s",
            hint="wait; guesses are slowed down by user and by address",
            retry_after=seconds,
        )
    return rows


def _failures(row: LoginFailure) -> Failures:
    return Failures(row.count, row.last_at)


def _count(site: Site, attempt: Attempt) -> Attempt:
    at = now()
    with write(site.engine) as session:
        rows = _wait(session, attempt, at)
        before = earlier.last_at if (earlier := rows[attempt.address_key]) else None
        for key, row in rows.items():
            if row is None:
                session.add(LoginFailure(key=key, count=1, last_at=at))
            else:
                row.count, row.last_at = 1 if _failures(row).stale(at) else row.count + 1, at
        _sweep_failures(session, at)
    return replace(attempt, counted_at=at, before=before)


def forgive(session: Session, attempt: Attempt) -> None:
    """The password was right: the user's counts are gone; the address's only gets back what this attempt took, or
    whoever has a password of their own could guess others' without end.
    """
    for key in attempt.limits(known=False):
        row = session.get(LoginFailure, key)
        if row is not None and key == attempt.address_key and row.count > 1:
            row.count -= 1
            if row.last_at == attempt.counted_at and attempt.before is not None:
                row.last_at = attempt.before  # others behind this address need not wait for who got in
        elif row is not None:
            session.delete(row)
    session.merge(LoginFailure(key=attempt.known_key, count=0, last_at=now()))


def _rehash(session: Session, person: User, anew: str, attempt: Attempt) -> None:
    before = snapshot(person)
    person.password_hash = anew
    why = "the same password, hashed as new ones are"
    objects.save(session, Actor(person.name, f"login ({attempt.source})", reason=why), person, before)


def _sweep_failures(session: Session, at: datetime) -> None:
    known = LoginFailure.key.startswith("known:")
    session.execute(delete(LoginFailure).where(~known, LoginFailure.last_at <= at - WINDOW))
    session.execute(delete(LoginFailure).where(known, LoginFailure.last_at <= at - _KNOWN))
