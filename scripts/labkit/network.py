"""A wire of our own: a network namespace with a bridge, an address for the server, and a tap for each machine."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from labkit.processes import LabError, run

PREFIX = "pvlab-"
BRIDGE = "br0"


@dataclass(frozen=True)
class Network:
    """A namespace whose bridge carries ``address``; machine number N is plugged into ``tapN``."""

    namespace: str
    address: IPv4Interface

    def inside(self, *command: str | Path) -> list[str]:
        """The command line that runs a command inside the namespace."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    @property
    def server_ip(self) -> str:
        """The address of whatever serves on this wire."""
        return str(self.address.ip)

    def host(self, number: int) -> str:
        """The ``number``-th address of the network."""
        return str(self.address.network[number])


@contextlib.contextmanager
def network(name: str, *, machines: int = 1, address: str = "10.77.0.1/24") -> Iterator[Network]:
    """A network for the length of a ``with`` block; whatever still runs inside at the end is killed."""
    wire = Network(PREFIX + name, IPv4Interface(address))
    run(["ip", "netns", "add", wire.namespace])
    try:
        _plug(wire, machines)
        yield wire
    finally:
        remove_namespace(wire.namespace)


def _plug(wire: Network, machines: int) -> None:
    ip = ["ip", "-n", wire.namespace]
    run([*ip, "link", "set", "lo", "up"])
    run([*ip, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"])
    run([*ip, "addr", "add", str(wire.address), "dev", BRIDGE])
    run([*ip, "link", "set", BRIDGE, "up"])
    for number in range(machines):
        run([*ip, "tuntap", "add", f"tap{number}", "mode", "tap"])
        run([*ip, "link", "set", f"tap{number}", "master", BRIDGE, "up"])


def namespaces() -> list[str]:
    """The lab's namespaces on this host, living and left over."""
    return [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line.startswith(PREFIX)]


def remove_namespace(namespace: str) -> None:
    """Kill what runs inside a namespace, then remove it. One that is gone is no error."""
    if not namespace.startswith(PREFIX):
        raise LabError(f"{namespace} is not a namespace of the lab")
    for _ in range(50):
        pids = run(["ip", "netns", "pids", namespace], check=False).split()
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.1)
    run(["ip", "netns", "del", namespace], check=False)
