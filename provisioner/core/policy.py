"""Who may do what: four roles, a right for each noun and verb, and scopes that narrow a token.

Deny by default: what no row names nobody may do. There are no rights of one object and not another.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from provisioner.errors import Forbidden, InvalidInput


class Role(StrEnum):
    """What somebody is trusted with."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    AUTHOR = "author"
    ADMIN = "admin"


READ, WRITE = "read", "write"
NOUNS = (
    "machines",
    "builds",
    "handoffs",
    "discoveries",
    "subnets",
    "profiles",
    "templates",
    "distros",
    "images",
    "history",
    "users",
    "tokens",
    "webhooks",
)
_VISIBLE = frozenset(NOUNS) - {"users", "tokens", "webhooks"}
_CHANGEABLE = {
    Role.VIEWER: frozenset[str](),
    # Assigns profiles, registers and builds machines.
    Role.OPERATOR: frozenset({"machines", "builds", "handoffs", "discoveries"}),
    # Whoever writes templates is root on the machines that are built from them.
    Role.AUTHOR: frozenset({"profiles", "templates"}),
    Role.ADMIN: frozenset(NOUNS) - {"history"},
}
# Whoever may change these can give themselves every other right; so no scope opens them for writing.
_RIGHTS = frozenset({"users", "tokens"})
# What a scope opens besides its noun, since the noun is of no use without.
_NEEDED = {"machines": frozenset({"discoveries"}), "builds": frozenset({"machines"})}


def role(text: object) -> Role:
    """The role of that name. Raises InvalidInput."""
    try:
        return Role(str(text))
    except ValueError:
        known = ", ".join(Role)
        raise InvalidInput(f"{str(text)[:80]!r} is not a role", where="role", hint=f"choose one of {known}") from None


def check_scope(nouns: object) -> list[str]:
    """The scope in the order of NOUNS, each once; empty is no narrowing. Raises InvalidInput for an unknown noun."""
    hint = f"choose from {', '.join(NOUNS)}"
    if not isinstance(nouns, list | tuple) or not all(isinstance(noun, str) for noun in nouns):
        raise InvalidInput("a scope is a list of nouns", where="scope", hint=hint)
    unknown = set(nouns) - set(NOUNS)
    if unknown:
        raise InvalidInput(f"{', '.join(sorted(unknown))[:80]!r} is not in any scope", where="scope", hint=hint)
    return [noun for noun in NOUNS if noun in nouns]


def allows(held: Role, noun: str, verb: str, scope: Iterable[str] = ()) -> bool:
    """Whether this role may ``read`` or ``write`` objects of the noun; ``scope`` narrows it to some nouns.

    A scope may read, not write, what its nouns are of no use without: builds their machines, machines the discoveries.
    It never writes users or tokens, which would be a way out of it.
    """
    narrowed = frozenset(scope)
    if narrowed and verb == WRITE and noun in _RIGHTS:
        return False
    if narrowed and noun not in narrowed:
        beside = verb == READ and any(noun in _NEEDED.get(each, ()) for each in narrowed)
        if not beside:
            return False
    if verb == READ:
        return noun in _VISIBLE or (noun in NOUNS and held is Role.ADMIN)
    return verb == WRITE and noun in _CHANGEABLE[held]


def lesser(first: Role, second: Role) -> Role:
    """The role that has only the rights of both: what a token of ``first`` may do once its owner is ``second``."""
    if first is second or second is Role.ADMIN:
        return first
    return second if first is Role.ADMIN else Role.VIEWER


def active(*, disabled: bool, expires_at: datetime | None, at: datetime) -> bool:
    """Whether somebody, or a token, that may be disabled and may expire is good at this moment."""
    return not disabled and (expires_at is None or at < expires_at)


@dataclass(frozen=True)
class Principal:
    """Whoever a credential stands for, with what it may do at this moment."""

    who: str
    """The user's name."""
    role: Role
    scope: tuple[str, ...] = ()
    token: str = ""
    """The name of the API token; empty for somebody who logged in."""
    session: str = ""
    """The uid of the session; empty for an API token."""

    def may(self, noun: str, verb: str) -> bool:
        """Whether it may ``read`` or ``write`` objects of the noun."""
        return allows(self.role, noun, verb, self.scope)

    def require(self, noun: str, verb: str) -> None:
        """Raise Forbidden unless it may."""
        if not self.may(noun, verb):
            narrowed = f", scope {' '.join(self.scope)}" if self.scope else ""
            raise Forbidden(f"{self.who} ({self.role}{narrowed}) may not {verb} {noun}")
