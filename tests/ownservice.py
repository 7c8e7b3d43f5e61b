"""A running service that one test has for itself, since it breaks it or wants other settings."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import Served, served_environment
from played import processes


@contextmanager
def own_service(template: Path, base: Path, **settings: str) -> Iterator[Served]:
    """Started from a copy of ``template`` in ``base``, with these settings (``tftp_workers="2"``) besides.

    In the end none of its processes is left, whatever was done to them.
    """
    shutil.copytree(template, base / "state")
    environment = served_environment(base / "state")
    environment |= {f"PROVISIONER_{name.upper()}": value for name, value in settings.items()}
    served = Served(environment, base / "state", log=base / "log")
    served.start()
    try:
        yield served
    finally:
        served.stop()
        for pid in processes(served.state):
            os.kill(pid, signal.SIGKILL)
