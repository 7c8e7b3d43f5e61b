"""An opened installation: what every use case gets first."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from provisioner.errors import ProvisionerError, StateDirectory
from provisioner.services.keys import Keys
from provisioner.settings import Settings
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

    def rehearsing(self, watch: Callable[[Session], None] | None = None) -> "Site":
        """The same installation, with every change rolled back at its end: for `--dry-run`.

        ``watch`` is shown each change before it is rolled back (see `services.radius.Watch`).
        """
        return replace(self, engine=dry_run(self.engine, watch))

    @property
    def media_dir(self) -> Path:
        """The media store: files under their SHA-256."""
        return self.settings.state_dir / "media"

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
    if not (settings.state_dir / "keys").is_dir():
        raise StateDirectory(f"{settings.state_dir} is not initialised", where="state_dir")
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
