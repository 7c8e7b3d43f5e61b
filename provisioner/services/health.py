"""The findings of `provisioner check`, kept for a moment: some of them take seconds, and pages ask for them often."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from provisioner.services import check
from provisioner.services.check import Finding
from provisioner.services.site import Site
from provisioner.store.models import now

FRESH_SECONDS = 60.0
_PEOPLES = (check.webhooks, check.administrators, check.forgotten_tokens)
"""They name users, tokens and webhooks, which administrators alone may read."""
_LISTED = (check.flagged,)
"""Flagged machines are as many as there are; lists show them a page at a time."""


@dataclass(frozen=True)
class Health:
    """What was found, errors first, and when."""

    at: datetime
    findings: Sequence[Finding]

    @property
    def errors(self) -> int:
        """How many findings mean that builds or boots fail."""
        return sum(finding.level == "error" for finding in self.findings)


@dataclass(frozen=True)
class _Kept:
    until: float
    open: Health
    whole: Health


_lock = threading.Lock()
_kept: dict[str, _Kept] = {}


def look(site: Site, *, peoples: bool, again: bool = False) -> Health:
    """The findings, at most a minute old, or of this moment if ``again``; without those of single machines.

    ``peoples``: also what is said of users, tokens and webhooks.
    """
    with _lock:
        kept = _kept.get(_key(site))
        if again or kept is None or kept.until < time.monotonic():
            kept = _kept[_key(site)] = _checked(site)
    return kept.whole if peoples else kept.open


def glance(site: Site, *, peoples: bool) -> Health | None:
    """`look`, but while another thread looks, what it found before, or None: nobody queues behind a slow check."""
    if not _lock.acquire(blocking=False):
        return _told(_kept.get(_key(site)), peoples=peoples)
    _lock.release()
    return look(site, peoples=peoples)


def known(site: Site, *, peoples: bool) -> Health | None:
    """The same if it is known already, else None; never waits."""
    kept = _kept.get(_key(site))
    return None if kept is None or kept.until < time.monotonic() else _told(kept, peoples=peoples)


def _told(kept: _Kept | None, *, peoples: bool) -> Health | None:
    if kept is None:
        return None
    return kept.whole if peoples else kept.open


def _checked(site: Site) -> _Kept:
    shown = [each for each in check.CHECKS if each not in (*_PEOPLES, *_LISTED)]
    found = Health(now(), check.run(site, only=shown))
    others = check.run(site, only=_PEOPLES)
    whole = Health(found.at, sorted([*found.findings, *others], key=lambda each: each.level))
    return _Kept(time.monotonic() + FRESH_SECONDS, found, whole)


def _key(site: Site) -> str:
    return f"{site.settings.state_dir} {site.settings.database}"
