"""The sealed files of attempts under way, on disk beside the database, for while the database cannot be asked.

Nothing secret is in them: tokens are derived from the uid and a key, and what a secret unwraps to is never here.
"""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from provisioner.errors import ProvisionerError
from provisioner.services.files import replacing
from provisioner.services.site import Site

log = structlog.get_logger()
_UID = re.compile(r"^[A-Za-z0-9_-]{22}$")


@dataclass(frozen=True)
class Kept:
    """One attempt with its sealed files, markers unfilled."""

    uid: str
    mac: str
    addresses: list[str]
    boot_url: str
    media_url: str
    opened_at: float
    files: dict[str, str]


def keep(site: Site, kept: Kept) -> None:
    """Remember an attempt. If that fails the boot goes on: only the help for a stopped database is lost."""
    try:
        directory = _directory(site)
        directory.mkdir(mode=0o700, exist_ok=True)
        with replacing(directory / f"{kept.uid}.json") as file:
            file.write(json.dumps(vars(kept)).encode())
    except (ProvisionerError, OSError) as error:
        log.warning("attempt not kept on disk", uid=kept.uid, error=str(error))


def forget(site: Site, uid: str) -> None:
    """The attempt ended: its files may not be fetched any more."""
    (_directory(site) / f"{uid}.json").unlink(missing_ok=True)


def recall(site: Site, uid: str) -> Kept | None:
    """An attempt that is under way and young enough to fetch its files, or None."""
    if not _UID.match(uid):
        return None
    try:
        kept = Kept(**json.loads((_directory(site) / f"{uid}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return kept if time.time() - kept.opened_at < site.settings.answer_hours * 3600 else None


def sweep(site: Site) -> None:
    """Remove what is too old to be fetched."""
    oldest = time.time() - site.settings.answer_hours * 3600
    for path in _directory(site).glob("*.json"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _directory(site: Site) -> Path:
    return site.settings.state_dir / "attempts"
