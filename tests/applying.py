"""A process that applies a plan and may be killed while it does; `tests/faults/test_apply_kills.py` starts it."""

import time
from multiprocessing.connection import Connection
from pathlib import Path

from world import ACTOR

from provisioner.services import plans
from provisioner.services.site import open_site
from provisioner.settings import Settings
from provisioner.store import bulk


def apply(state: Path, plan_id: str, told: Connection) -> None:
    """Apply the plan; tells when it begins, when it switches, and when it is done, by the clock of all processes."""
    bulk.CHUNK = 200  # so that few machines are staged in several transactions
    site = open_site(Settings(state_dir=state, boot_url="http://127.0.0.1:8080"))

    def tell(what: str, _done: int, _total: int) -> None:
        if what == "switching":
            told.send((what, time.monotonic()))

    told.send(("begins", time.monotonic()))
    plans.apply(site, ACTOR, plan_id=plan_id, progress=tell)
    told.send(("done", time.monotonic()))
