"""An opened installation: what every use case gets first."""

import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from provisioner.errors import ProvisionerError, StateDirectory
from provisioner.handoff import Host
from provisioner.services.files import Held
from provisioner.services.keys import Keys
from provisioner.settings import ROOTS_STATE_DIR, Settings
from provisioner.store import schema
from provisioner.store.engine import dry_run, open_engine, with_breakers
from provisioner.store.history import Actor

__all__ = ["Actor", "Site", "open_site"]


@dataclass(frozen=True)
class Site:
    """Settings, database and keys of one installation."""

    settings: Settings
    engine: Engine
    keys: Keys
    pretended: MutableMapping[str, Held] = field(default_factory=dict, repr=False, compare=False)
    """Files by SHA-256 that a rehearsal would have put in the media store: open, and gone when it is over."""

    def rehearsing(self, watch: Callable[[Session], None] | None = None) -> "Site":
        """The same installation, with every change rolled back at its end: for `--dry-run`.

        ``watch`` is shown each change before it is rolled back (see `services.radius.Watch`).
        """
        return replace(self, engine=dry_run(self.engine, watch), pretended=getattr(watch, "pretended", {}))

    @property
    def media_dir(self) -> Path:
        """The media store: files under their SHA-256."""
        return self.settings.state_dir / "media"

    @property
    def host(self) -> Host:
        """What the tools of the handoff may use of this host."""
        return Host(self.settings.credentials, self.settings.playbooks)

    @property
    def spool_dir(self) -> Path:
        """Reports of machines that wait for the database."""
        return self.settings.state_dir / "spool"

    @property
    def ramdisk_dir(self) -> Path:
        """Where ``scripts/build-ramdisk`` leaves the deploy ramdisk."""
        return self.settings.state_dir / "ramdisk"


def open_site(settings: Settings, *, serving: bool = False) -> Site:
    """Open an initialised installation.

    Raises StateDirectory (no `init` yet), KeyUnusable, DatabaseUnavailable, or Conflict for another schema. What serves
    boots passes ``serving``: it must start although the database is down, so nothing is asked of it here; and while
    it does not answer, callers are refused at once instead of waiting one after the other.
    """
    if not _initialised(settings.state_dir):
        raise StateDirectory(f"{settings.state_dir} is not initialised", where="state_dir", hint=_to_initialise())
    engine = open_engine(settings.database, lock_seconds=settings.lock_seconds)
    site = Site(
        settings=settings,
        engine=with_breakers(engine) if serving else engine,
        keys=Keys(settings.state_dir / "keys"),
    )
    if not serving:
        try:
            schema.check(site.engine)
        except ProvisionerError:
            site.engine.dispose()
            raise
    return site


def _initialised(state_dir: Path) -> bool:
    try:
        return (state_dir / "keys").is_dir()
    except PermissionError:
        hint = "run this as the user who owns it, for example with sudo"
        raise StateDirectory(f"{state_dir} belongs to another user", where="state_dir", hint=hint) from None


def _to_initialise() -> str:
    """The next step where nothing is initialised: a plain user on root's server wants root's, not one more."""
    if os.geteuid() != 0 and ROOTS_STATE_DIR.is_dir():
        return f"for the one in {ROOTS_STATE_DIR} run this with sudo; for one of your own run `provisioner init` first"
    return "run `provisioner init`"
