"""People, their sessions, and tokens of programs. Passwords, sessions and tokens are kept as hashes alone."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from provisioner.store.base import Administered, Base, Id, now


class User(Administered):
    """Somebody who may log in to the admin plane."""

    __tablename__ = "user"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str] = mapped_column(String(255))
    disabled: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime | None]


class ApiToken(Administered):
    """A program's credential: never more than its owner may do, narrowed to its scope."""

    __tablename__ = "api_token"
    name: Mapped[str] = mapped_column(String(64), unique=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True)
    """The part of the token that is no secret, by which it is found."""
    secret_hash: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    scope: Mapped[list[Any]] = mapped_column(default=list)
    """The nouns it may touch; empty is all that its role may."""
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    last_used_from: Mapped[str] = mapped_column(String(39), default="")
    user: Mapped[User] = relationship()


class LoginSession(Base):
    """Somebody who logged in with a password."""

    __tablename__ = "login_session"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    last_seen_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    source: Mapped[str] = mapped_column(String(39), default="")
    user: Mapped[User] = relationship()


class LoginFailure(Base):
    """How often a login failed lately, for a user or from an address."""

    __tablename__ = "login_failure"
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    count: Mapped[int] = mapped_column(default=0)
    last_at: Mapped[datetime] = mapped_column(default=now, index=True)
