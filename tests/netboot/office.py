"""An office's network: somebody else's DHCP server, ours, and machines, each in a network namespace of its own."""

import ctypes
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netboot.netns import ip, poll

US, FOREIGN, MACHINE = "10.0.3.1", "10.0.3.2", "10.0.3.77"
INTERFACE = "office0"
_BRIDGE = "br0"
_CLIENT = Path(__file__).with_name("proxy_client.py")
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Office:
    """The namespaces: ours, the foreign server's, and the machines'; a bridge in the last one joins them."""

    server: str
    foreign: str
    machines: str

    def enter_server(self) -> None:
        """Move the calling thread, and all that it starts from now on, to our server's place."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self.server}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def ask(self, *questions: dict[str, Any], servers: tuple[str, ...] = (US, FOREIGN)) -> list[list[dict[str, Any]]]:
        """The replies to each question, of every server (see proxy_client.py)."""
        given = {
            "questions": questions,
            "servers": servers,
            "proxies": [US],
            "pxe_from": {"source": MACHINE, "ciaddr": MACHINE},
        }
        command = ["ip", "netns", "exec", self.machines, sys.executable, str(_CLIENT), _BRIDGE]
        done = subprocess.run(
            command, input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        answers: list[list[dict[str, Any]]] = json.loads(done.stdout)
        return answers

    def ours(self, *questions: dict[str, Any], **more: Any) -> list[list[dict[str, Any]]]:
        """The same, of our replies alone."""
        return [[one for one in replies if one["server"] == US] for replies in self.ask(*questions, **more)]


@contextmanager
def office(directory: Path) -> Iterator[Office]:
    """The network, with a plain dnsmasq as the foreign server."""
    name = f"po{os.getpid()}{secrets.token_hex(3)}"
    this = Office(f"{name}s", f"{name}f", f"{name}m")
    with ExitStack() as stack:
        for namespace in (this.server, this.foreign, this.machines):
            ip("netns", "add", namespace)
            stack.callback(subprocess.run, ["ip", "netns", "delete", namespace], check=False, capture_output=True)
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", this.machines, "link", "add", _BRIDGE, "type", "bridge", "forward_delay", "0")
        ip("-n", this.machines, "link", "set", _BRIDGE, "up")
        ip("-n", this.machines, "address", "add", f"{MACHINE}/24", "dev", _BRIDGE)
        plug(this.machines, this.server, INTERFACE, f"{US}/24", bridge=_BRIDGE)
        plug(this.machines, this.foreign, "eth0", f"{FOREIGN}/24", bridge=_BRIDGE)
        stack.enter_context(_plain_dnsmasq(this.foreign, directory))
        yield this


def plug(near: str, far: str, interface: str, cidr: str, *, bridge: str | None = None) -> str:
    """A cable from namespace ``near`` (to its bridge) to a new interface in ``far``; the name of the near end."""
    end = f"to-{secrets.token_hex(3)}"
    ip("-n", near, "link", "add", end, "type", "veth", "peer", "name", interface, "netns", far)
    ip("-n", near, "link", "set", end, *(("master", bridge) if bridge else ()), "up")
    ip("-n", far, "address", "add", cidr, "dev", interface)
    ip("-n", far, "link", "set", interface, "up")
    return end


@contextmanager
def _plain_dnsmasq(namespace: str, directory: Path) -> Iterator[None]:
    log = directory / "foreign.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"),
                *("--port=0", "--no-hosts", "--user=root", "--interface=eth0", "--bind-dynamic", "--log-facility=-"),
                *("--no-ping", "--dhcp-range=10.0.3.100,10.0.3.250,1h", f"--dhcp-leasefile={directory / 'foreign'}"),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        poll(lambda: "DHCP, IP range" in log.read_text())
        yield
    finally:
        process.terminate()
        process.wait(10)
