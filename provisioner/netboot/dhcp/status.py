"""How the DHCP child fares, as a file that other processes read (``provisioner check``, metrics)."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from provisioner.netboot.dhcp.dnsmasq import Paths
from provisioner.netboot.dhcp.files import write_whole


@dataclass(frozen=True, slots=True)
class ProxyState:
    """The proxy at one moment: where it answers, how often it did, what it threw away, and what keeps it from more.

    ``pid`` is the process it runs in, None when it was stopped in order.
    """

    pid: int | None = None
    subnets: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    answers: int = 0
    dropped: int = 0
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The DHCP child at one moment.

    ``generation`` is the last one acknowledged; ``restarts`` counts the times dnsmasq ended by itself, ``unanswered``
    the requests for which it had no address (a range that runs dry, or machines nobody registered); ``error`` is what
    keeps the newest generation from being in force, with its remedy in ``hint``; ``proxy`` is the proxy beside it.
    """

    running: bool = False
    pid: int | None = None
    generation: int | None = None
    interfaces: tuple[str, ...] = ()
    reservations: int = 0
    left_out: tuple[str, ...] = ()
    restarts: int = 0
    unanswered: int = 0
    error: str = ""
    hint: str = ""
    proxy: ProxyState = ProxyState()


def read_status(state_dir: Path) -> Status | None:
    """What the child last wrote, or None where none has run."""
    try:
        content = json.loads(Paths(state_dir / "dhcp").status.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    values = _known(Status, content)
    proxy = values.pop("proxy", {})
    return Status(**values, proxy=ProxyState(**_known(ProxyState, proxy)))


def _known(kind: type[Status | ProxyState], content: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items() if key in names}


def write_status(paths: Paths, status: Status) -> None:
    """Replace the status file."""
    write_whole(paths.status, json.dumps(asdict(status), indent=1) + "\n")
