"""An opened installation: what every use case gets first."""

from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Engine

from provisioner.errors import ProvisionerError, StateDirectory
from provisioner.services.keys import Keys
from provisioner.settings import Settings
from provisioner.store import schema
from provisioner.store.engine import dry_run, open_engine
from provisioner.store.history import Actor

__all__ = ["Actor", "Site", "open_site"]


@dataclass(frozen=True)
class Site:
    """Settings, database and keys of one installation."""

    settings: Settings
    engine: Engine
    keys: Keys

    def rehearsing(self) -> "Site":
        """The same installation, with every change rolled back at its end: for `--dry-run`."""
        return replace(self, engine=dry_run(self.engine))

    @property
    def media_dir(self) -> Path:
        """The media store: files under their SHA-256."""
        return self.settings.state_dir / "media"

    @property
    def ramdisk_dir(self) -> Path:
        """Where ``scripts/build-ramdisk`` leaves the deploy ramdisk."""
        return self.settings.state_dir / "ramdisk"


def open_site(settings: Settings, *, check_schema: bool = True) -> Site:
    """Open an initialised installation.

    Raises StateDirectory (no `init` yet), KeyUnusable, DatabaseUnavailable, or Conflict for another schema. Children
    that serve boots pass ``check_schema=False``: they must start although the database is down.
    """
    if not (settings.state_dir / "keys").is_dir():
        raise StateDirectory(f"{settings.state_dir} is not initialised", where="state_dir")
    site = Site(
        settings=settings,
        engine=open_engine(settings.database, lock_seconds=settings.lock_seconds),
        keys=Keys(settings.state_dir / "keys"),
    )
    if check_schema:
        try:
            schema.check(site.engine)
        except ProvisionerError:
            site.engine.dispose()
            raise
    return site
