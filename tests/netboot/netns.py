"""Network namespaces for tests: a server's and a client's, joined by a cable; gone when the block ends."""

import ctypes
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER_INTERFACE = "server0"
CLIENT_INTERFACE = "client0"
_CLIENT = Path(__file__).with_name("dhcp_client.py")
_CLONE_NEWNET = 0x40000000


def available() -> bool:
    """Whether namespaces can be made here: root, and iproute2."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*arguments: str) -> str:
    """Run `ip`; its output."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Cable:
    """Two namespaces, and an interface in each."""

    server: str
    client: str

    def address(self, cidr: str) -> None:
        """Give the server's interface an address."""
        ip("-n", self.server, "address", "add", cidr, "dev", SERVER_INTERFACE)

    def enter_server(self) -> None:
        """Move the calling thread, and all programs it starts from now on, into the server's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self.server}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def ask(self, *questions: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask for addresses as the given firmware would; one answer a question (see dhcp_client.py)."""
        command = ["ip", "netns", "exec", self.client, sys.executable, str(_CLIENT), CLIENT_INTERFACE]
        done = subprocess.run(
            command, input=json.dumps(questions), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers


@contextmanager
def cable(*addresses: str) -> Iterator[Cable]:
    """Two joined namespaces; the server's interface has these addresses (``10.0.2.1/24``)."""
    name = f"pt{os.getpid()}{secrets.token_hex(3)}"
    pair = Cable(f"{name}s", f"{name}c")
    try:
        for namespace in (pair.server, pair.client):
            ip("netns", "add", namespace)
        peer = ("type", "veth", "peer", "name", CLIENT_INTERFACE, "netns", pair.client)
        ip("-n", pair.server, "link", "add", SERVER_INTERFACE, *peer)
        for namespace, interface in ((pair.server, SERVER_INTERFACE), (pair.client, CLIENT_INTERFACE)):
            ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", namespace, "link", "set", interface, "up")
        for address in addresses:
            pair.address(address)
        yield pair
    finally:
        for namespace in (pair.server, pair.client):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


def poll(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until ``condition`` gives something true, and return that; an assertion error after the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")
