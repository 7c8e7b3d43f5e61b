"""What tests of people, tokens and logins share: a clock to turn, a hasher that is quick and counts, users."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from argon2 import PasswordHasher
from world import ACTOR

from provisioner.services import logins, passwords, people, tokens
from provisioner.services.site import Site

PASSWORD = "correct horse battery"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.9"


class Clock:
    """The services' clock, which stands still until it is turned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = datetime.now(UTC)
        for module in (people, tokens, logins):
            monkeypatch.setattr(module, "now", lambda: self.at)

    def turn(self, **by: float) -> None:
        """Let so much time pass."""
        self.at += timedelta(**by)


class QuickHasher(PasswordHasher):
    """argon2id at its cheapest; ``work`` has the parameters of every hash that a password was compared with."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.work: list[str] = []

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002 - the library's name
        self.work.append(re.sub(r"[^$]+\$[^$]+$", lambda found: str(len(found[0])), hash))
        return super().verify(hash, password)


def quick_hasher(monkeypatch: pytest.MonkeyPatch) -> QuickHasher:
    """Hash and verify cheaply in this test."""
    hasher = QuickHasher()
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    return hasher


def user(site: Site, name: str = "jane", role: str = "operator", **fields: Any) -> dict[str, Any]:
    """A user with the password that all have here."""
    return people.add(site, ACTOR, name, {"role": role, "password": PASSWORD, **fields})


def session_of(site: Site, name: str = "jane", source: str = HOME) -> str:
    """The credential of somebody who logs in."""
    return str(logins.login(site, name, PASSWORD, source)["token"])


def secret_of(credential: str) -> str:
    """What nobody may learn of a token or session: all after its kind and number, underscores too."""
    return credential.split("_", 2)[2]
