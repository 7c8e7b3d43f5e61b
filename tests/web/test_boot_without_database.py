"""The last row of the table: while the database cannot be asked, no machine is installed and none is held up (R23)."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment, tftp_answers, wait_for
from played import Played, kind_of, processes
from world import ACTOR, World

from provisioner.services import arming, machines

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(_template: Path, tmp_path: Path) -> Iterator[tuple[Served, Callable[[str], Played]]]:
    """A service that waits for its database only briefly, and what makes armed machines in it."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state") | {"PROVISIONER_LOCK_SECONDS": "0.3"}
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    opened = served.site
    world = World(opened, tmp_path)
    world.subnet()
    world.distro()

    def armed(name: str) -> Played:
        number = int(name[-2:])
        mac, ip = f"52:54:00:dd:00:{number:02}", f"127.0.2.{number}"
        world.machine(name, mac, ip)
        machines.set_secret(opened, ACTOR, name, "root_password", "correct horse")
        arming.start(opened, ACTOR, name)
        return Played(served, opened, name, mac, ip)

    served.start()
    yield served, armed
    served.stop()
    opened.engine.dispose()


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Somebody else holds the database's write lock."""
    connection = sqlite3.connect(state / "provisioner.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def gone(served: Served) -> Iterator[None]:
    """The database is not there at all; the boot plane's workers are new, so none holds an old connection."""
    database, away = served.state / "provisioner.db", served.state / "away"
    away.mkdir()
    files = [path for path in served.state.iterdir() if path.name.startswith(database.name)]
    for path in files:
        path.rename(away / path.name)
    database.mkdir()
    try:
        yield
    finally:
        database.rmdir()
        for path in files:
            (away / path.name).rename(path)
        away.rmdir()


def test_r23_while_the_database_is_locked(scene: Any) -> None:
    served, armed = scene
    begun, waiting = armed("db21"), armed("db22")
    tokens = begun.tokens()
    answer = served.http(f"/build/{tokens['answer']}/answer", source=begun.ip).text
    secret = f"/build/{tokens['answer']}/secret/root_password"
    with locked(served.state):
        assert kind_of(waiting.ipxe()) == "local"
        assert kind_of(waiting.grub()) == "local"
        assert kind_of((waiting.tftp(f"grub/by-mac/{waiting.mac}") or b"").decode()) == "local"
        assert served.http(f"/build/{tokens['answer']}/answer", source=begun.ip).text == answer
        refused = served.http(secret, source=begun.ip, method="POST", form={"nonce": "n"})
        assert (refused.status, refused.json()["code"]) == (503, "database-unavailable")
        assert begun.event(tokens["event"], "packages").json()["state"] == "spooled"
        changed = served.cli("machine", "edit", "db22", "--description", "x", code=1)
        assert "[database-unavailable]" in changed.stderr
        assert "next: " in changed.stderr
    assert served.cli_json("build", "show", "db22")["attempts"] == 0
    # Each process of the boot plane tries the database once a second after a failure.
    wait_for(lambda: kind_of(waiting.ipxe()) == "build", what="the build")
    assert "packages" in served.cli("build", "show", "db21").stdout, "whoever asks next finds the spool taken in"
    wait_for(
        lambda: served.http(secret, source=begun.ip, method="POST", form={"nonce": "n"}).text[:3] == "$6$",
        what="the secret",
    )


def test_r23_while_the_database_is_gone(scene: Any) -> None:
    """Also for children that start meanwhile."""
    served, armed = scene
    begun, waiting = armed("db21"), armed("db22")
    tokens = begun.tokens()
    path = f"/build/{tokens['answer']}/answer"
    answer = served.http(path, source=begun.ip).text
    served.stop()
    served.start()
    with gone(served):
        for pid, name in processes(served.state).items():
            if name == "boot":
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not_ready(served), what="503 from readyz")
        assert served.http("/healthz").status == 200
        assert kind_of(waiting.ipxe()) == "local"
        assert kind_of(waiting.grub()) == "local"
        assert served.http(path, source=begun.ip).text == answer
        assert served.http(path, source=waiting.ip).status == 404
        secret = f"/build/{tokens['answer']}/secret/root_password"
        refused = served.http(secret, source=begun.ip, method="POST", form={"nonce": "n"})
        assert (refused.status, refused.json()["code"]) == (503, "database-unavailable")
        assert begun.event(tokens["event"], "built").json()["state"] == "spooled"
        assert served.http(path, source=begun.ip).status == 404, "what was built fetches its answer no more"
        failed = served.cli("machine", "list", code=1)
        assert "[database-unavailable]" in failed.stderr
        assert "Traceback" not in failed.stderr
    wait_for(lambda: kind_of(waiting.ipxe()) == "build", what="the build, once the database is back")
    assert kind_of(begun.ipxe()) == "local"
    shown = served.cli_json("build", "show", "db21")
    assert shown["state"] == "built"
    assert [event["kind"] for event in shown["events"]].count("built") == 1


def test_r28_everything_starts_without_the_database(scene: Any) -> None:
    """After a power cut the racks come up first: loaders, local disks, and reports are taken; then all is made good."""
    served, armed = scene
    begun, waiting = armed("db21"), armed("db22")
    tokens = begun.tokens()
    served.cli("subnet", "edit", "lab", "--boot-url", served.boot)
    wait_for(lambda: served.boot in (served.state / "standby.json").read_text(), what="the subnet in the cache")
    served.stop()
    with gone(served):
        with served.log.open("ab") as log:
            served.process = subprocess.Popen(
                [sys.executable, "-m", "provisioner", "serve"],
                env=os.environ | served.environment,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: "NO DATABASE" in served.log.read_text(), what="what it says of its database")
        wait_for(lambda: not_ready(served), what="503 from readyz")
        assert f"{served.boot}/boot/ipxe/" in served.http("/boot/ipxe", source=waiting.ip).text
        assert kind_of(waiting.ipxe()) == "local"
        wait_for(lambda: tftp_answers(served.tftp), what="TFTP")
        assert waiting.tftp("undionly.kpxe")
        assert begun.event(tokens["event"], "built").json()["state"] == "spooled"
    wait_for(lambda: served.cli_json("build", "show", "db21")["state"] == "built", what="the spooled report")
    wait_for(lambda: served.http("/readyz").status == 200, what="readiness")


def not_ready(served: Served) -> bool:
    """Whether the boot plane says that it cannot take new work."""
    try:
        reply = served.http("/readyz")
    except Exception:  # noqa: BLE001 - the port may be between two children
        return False
    return reply.status == 503 and reply.json()["status"] == "not ready"
