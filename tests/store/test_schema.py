"""The schema of a database is the one of the models, and no other program's."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from conftest import both_engines
from sqlalchemy import text

from provisioner.errors import Conflict, StateDirectory
from provisioner.services.site import Site, open_site
from provisioner.store import schema
from provisioner.store.engine import open_engine, read, write
from provisioner.store.models import Base


def not_for_search(_thing: object, name: str | None, *_: object) -> bool:
    """Whether the models know of it: what finds machines by parts of words is each engine's own."""
    return not (name or "").startswith(("machine_fts", "ix_machine_words_trigrams"))


@both_engines
def test_the_migrations_make_what_the_models_say(site: Site) -> None:
    with site.engine.connect() as connection:
        opts = {"compare_type": True, "compare_server_default": True, "include_object": not_for_search}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Base.metadata) == []


@both_engines
def test_an_upgrade_may_be_repeated(site: Site) -> None:
    before = schema.current(site.engine)
    schema.upgrade(site.engine)
    assert schema.current(site.engine) == before == schema.newest()
    schema.check(site.engine)
    if site.engine.dialect.name == "sqlite":
        with read(site.engine) as session:
            assert session.scalar(text("PRAGMA foreign_keys")) == 1, "switched on again after the migration"


def test_the_newest_revision_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [schema.newest()]
    assert sorted(each.revision for each in script.walk_revisions()) == schema.known()


@both_engines
def test_a_newer_and_an_older_schema_are_refused(site: Site) -> None:
    for found, words in (("9999", "newer than this program"), ("0000", "newer than this program")):
        with write(site.engine) as session:
            session.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
        with pytest.raises(Conflict, match=words) as caught:
            open_site(site.settings)
        assert caught.value.hint


def test_an_older_schema_names_the_way_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "known", lambda: [schema.current(site.engine), "9999"])
    with pytest.raises(Conflict, match="older than this program") as caught:
        schema.check(site.engine)
    assert "provisioner init" in caught.value.hint


def test_an_empty_database_is_not_taken_for_an_installation(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    assert schema.current(engine) is None
    with pytest.raises(StateDirectory, match="empty"):
        schema.check(engine)
    engine.dispose()
