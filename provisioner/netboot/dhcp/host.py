"""What the DHCP child must know about the host it runs on: interfaces, and whom dnsmasq may become."""

import json
import os
import pwd
import stat
import subprocess
from pathlib import Path

from provisioner.errors import ProgramFailed, ProgramMissing


def interface_addresses() -> dict[str, tuple[str, ...]]:
    """The host's interfaces and their IPv4 addresses; raises ``ProgramMissing`` or ``ProgramFailed``."""
    try:
        result = subprocess.run(
            ["ip", "-json", "-4", "address", "show", "up"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        raise ProgramMissing("the program `ip` is not installed", hint="install iproute2") from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed("`ip address show` did not end within 10 s") from None
    if result.returncode:
        raise ProgramFailed(f"`ip address show` failed: {result.stderr.strip()}")
    return {
        # In a namespace of its own `ip` writes `eth0@if5`, and in JSON it keeps them apart.
        link["ifname"]: tuple(info["local"] for info in link.get("addr_info", ()) if info.get("family") == "inet")
        for link in json.loads(result.stdout or "[]")
        if link.get("ifname")
    }


def daemon_user(directory: Path) -> str:
    """Whom dnsmasq becomes when root starts it.

    On SIGHUP it opens the hosts file as that user, so it can only be one who may reach it: dnsmasq's own user where
    others may enter every directory on the way, else whoever we are.
    """
    ourselves = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() != 0:
        return ourselves
    resolved = directory.resolve()
    if all(path.stat().st_mode & stat.S_IXOTH for path in (resolved, *resolved.parents)):
        for name in ("dnsmasq", "nobody"):
            try:
                return pwd.getpwnam(name).pw_name
            except KeyError:
                continue
    return ourselves
