"""Somebody else's DHCP server on the wire: a plain dnsmasq that gives addresses and knows nothing of network boots."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.network import BRIDGE, PREFIX, Network, remove_namespace
from labkit.processes import run, spawn, stop, wait_for
from labkit.workspace import run_name, workspace

_HOST = 2
_POOL = (100, 150)
_PLUG = "foreign"


@dataclass(frozen=True)
class Foreign:
    """The server's own address, and its log."""

    address: str
    log: Path


@contextlib.contextmanager
def foreign_dhcp(wire: Network) -> Iterator[Foreign]:
    """The server for the length of a ``with`` block, in a network namespace of its own."""
    with workspace() as directory:
        namespace = PREFIX + run_name(directory)
        server = Foreign(wire.host(_HOST), directory / "foreign-dhcp.log")
        run(["ip", "netns", "add", namespace])
        try:
            _plug(wire, namespace, server.address)
            process = spawn(["ip", "netns", "exec", namespace, *_dnsmasq(wire, directory)], server.log)
            try:
                wait_for(lambda: "DHCP, IP range" in server.log.read_text(), 20, "the foreign dnsmasq to start")
                yield server
            finally:
                stop(process)
        finally:
            remove_namespace(namespace)


def _plug(wire: Network, namespace: str, address: str) -> None:
    peer = ("type", "veth", "peer", "name", "eth0", "netns", namespace)
    run(["ip", "-n", wire.namespace, "link", "add", _PLUG, *peer])
    run(["ip", "-n", wire.namespace, "link", "set", _PLUG, "master", BRIDGE, "up"])
    run(["ip", "-n", namespace, "addr", "add", f"{address}/{wire.address.network.prefixlen}", "dev", "eth0"])
    run(["ip", "-n", namespace, "link", "set", "eth0", "up"])


def _dnsmasq(wire: Network, directory: Path) -> list[str]:
    first, last = (wire.host(number) for number in _POOL)
    return [
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--user=root"),
        *("--interface=eth0", "--bind-dynamic", "--log-facility=-", "--log-dhcp", "--dhcp-authoritative"),
        *(f"--dhcp-range={first},{last},1h", f"--dhcp-leasefile={directory / 'leases'}"),
        *(f"--dhcp-option=option:router,{wire.server_ip}", f"--dhcp-option=option:dns-server,{wire.server_ip}"),
    ]
