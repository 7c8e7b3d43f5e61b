"""Ways to take the database away from a running installation."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from provisioner.services.site import Site
from provisioner.store.engine import open_engine


@contextmanager
def down(site: Site) -> Iterator[Site]:
    """The same installation while its database is gone."""
    url = f"sqlite:///{site.settings.state_dir}/gone/none.db"
    if site.engine.dialect.name == "postgresql":
        url = f"postgresql://provisioner@/x?host={site.settings.state_dir}"
    broken = dataclasses.replace(site, engine=open_engine(url, lock_seconds=1))
    yield broken
    broken.engine.dispose()
