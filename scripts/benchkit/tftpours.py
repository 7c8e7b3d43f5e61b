"""Our own side of the TFTP rows: `provisioner serve` as it is, with a thousand machines that are being built.

The clients' addresses are those machines', so each transfer goes the whole way: the rule about source addresses, the
file out of the media store, the machine looked up by its address, an event in its build.
"""

import ipaddress
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from sqlalchemy import insert, select

from benchkit.api import ACTOR, body
from benchkit.groups import Group, started
from provisioner.services import arming, installables, media, plans, subnets
from provisioner.services.installables import DistroInput
from provisioner.services.setup import init
from provisioner.services.site import Site
from provisioner.settings import Settings
from provisioner.store.base import Base
from provisioner.store.engine import write

FIRST = ipaddress.IPv4Address("127.16.0.1")
"""The address of the first machine, as the load client has it by default."""

MACHINES = 1000
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Prepared:
    """A state directory to copy from, and under which name TFTP serves each content, by its size."""

    state: Path
    names: dict[int, str]


def prepare(base: Path, contents: list[Path]) -> Prepared:
    """An installation with these files in its media store, and machines that are being built."""
    state = base / "state"
    site = init(Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=30), ACTOR).site
    names = {}
    for content in contents:
        stored = media.ingest(site, str(content), "bench")
        names[stored.size] = f"media/sha256/{stored.sha256}/initrd"
    subnets.add(site, ACTOR, "storm", "127.16.0.0/16", {})
    kernel = base / "kernel"
    kernel.write_bytes(b"kernel")
    given = DistroInput("rocky", "9.6", str(kernel), str(kernel), "http://mirror.example.com/rocky/9.6")
    installables.add_distro(site, ACTOR, "rocky-9.6", given)
    wanted = body(MACHINES)
    for number, each in enumerate(wanted):
        each["interfaces"] = [{"mac": each["interfaces"][0]["mac"], "ip": str(FIRST + number), "name": "eth0"}]
    plans.apply(site, ACTOR, plan_id=plans.plan(site, ACTOR, wanted)["id"])
    arming.start(site, ACTOR, wanted[0]["name"])
    _arm_the_others(site)
    site.engine.dispose()
    return Prepared(state, names)


def _arm_the_others(site: Site) -> None:
    """Builds like the first machine's: to render and check a thousand takes minutes, and TFTP looks at no answer."""
    machine, build = (Base.metadata.tables[name] for name in ("machine", "build"))
    with write(site.engine) as session:
        (one,) = session.execute(select(build)).mappings().all()
        state = session.scalar(select(machine.c.state).where(machine.c.id == one["machine_id"]))
        others = session.execute(select(machine.c.id, machine.c.name).where(machine.c.id != one["machine_id"])).all()
        alike = {key: value for key, value in one.items() if key != "id"}
        rows = [alike | {"machine_id": row.id, "machine_name": row.name} for row in others]
        session.execute(insert(build), rows)
        session.execute(machine.update().values(state=state))


@contextmanager
def serving(prepared: Prepared, scratch: Path) -> Iterator[tuple[Group, tuple[str, int]]]:
    """A fresh `provisioner serve` on a copy of that state, and where its TFTP listens."""
    state = scratch / "state"
    shutil.copytree(prepared.state, state, copy_function=_linked_or_copied)
    ports = {name: free_port() for name in ("boot", "media", "http")}
    tftp = free_port(socket.SOCK_DGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROVISIONER_")}
    environment |= {f"PROVISIONER_{name.upper()}_BIND": f"127.0.0.1:{port}" for name, port in ports.items()}
    environment |= {
        "PROVISIONER_STATE_DIR": str(state),
        "PROVISIONER_TFTP_BIND": f"127.0.0.1:{tftp}",
        "PROVISIONER_BOOT_URL": f"http://127.0.0.1:{ports['boot']}",
        "PROVISIONER_TLS": "off",
    }
    log = scratch / "serve.log"
    command = [sys.executable, "-m", "provisioner", "serve"]
    with started(command, log=log, environment=environment) as group:
        for port in ports.values():
            _await(group, port)
        yield group, ("127.0.0.1", tftp)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _linked_or_copied(source: str, target: str) -> None:
    """Content of the media store never changes; all else is copied."""
    if "/sha256/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _await(group: Group, port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and group.alive():
        if _answers(port):
            return
        time.sleep(0.1)
    raise RuntimeError(f"provisioner serve did not start: {group.last_words()}")


def _answers(port: int) -> bool:
    with suppress(OSError, HTTPException), closing(HTTPConnection("127.0.0.1", port, timeout=5)) as asking:
        asking.request("GET", "/readyz")
        return asking.getresponse().status == 200
    return False
