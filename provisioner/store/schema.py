"""The schema's version: bringing a database up to this program's, and refusing a newer one."""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect, text

from provisioner.errors import Conflict, StateDirectory
from provisioner.store.engine import read

# Every command checks the schema, but only an upgrade needs Alembic, which takes long to import.
_VERSIONS = Path(__file__).parent / "migrations" / "versions"


def current(engine: Engine) -> str | None:
    """The database's schema revision; None for an empty database."""
    with read(engine) as session:
        if not inspect(session.connection()).has_table("alembic_version"):
            return None
        return str(session.scalar(text("SELECT version_num FROM alembic_version")))


def known() -> list[str]:
    """The schema revisions that this program has migrations for, the newest last; files begin with their number."""
    return sorted(path.name[:4] for path in _VERSIONS.glob("[0-9][0-9][0-9][0-9]_*.py"))


def newest() -> str:
    """The schema revision that this program works with."""
    return known()[-1]


def check(engine: Engine) -> None:
    """Raise unless the database's schema is this program's.

    StateDirectory for an empty one, Conflict for another version, each with the way out; DatabaseUnavailable.
    """
    found = current(engine)
    if found == newest():
        return
    if found is None:
        raise StateDirectory("the database is empty", hint="run `provisioner init`")
    if found in known():
        raise Conflict(f"the database's schema {found} is older than this program", hint="run `provisioner init`")
    raise Conflict(
        f"the database's schema {found} is newer than this program",
        hint="install the newer Provisioner again, or restore the backup made before the upgrade",
    )


def upgrade(engine: Engine) -> None:
    """Bring the schema up to this program's, all or nothing.

    On SQLite a batch migration drops and re-makes tables: with foreign keys on, that would delete their children, so
    they are off before BEGIN and checked before COMMIT.
    """
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_VERSIONS.parent))
    with engine.connect().execution_options(provisioner_writes=True) as connection:
        driver: Any = connection.connection.driver_connection
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                if sqlite:
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    if broken:
                        raise Conflict(f"the migration would break {len(broken)} references; nothing was changed")
        finally:
            if sqlite:
                driver.execute("PRAGMA foreign_keys=ON")
