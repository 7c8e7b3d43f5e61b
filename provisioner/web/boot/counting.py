"""Requests to the boot plane, counted by kind, by what was decided, and by how long their answers took to make."""

import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from provisioner import metrics

_DECISION = "provisioner.decision"
_KINDS: Mapping[str, Mapping[str, str]] = {
    "boot": {"ipxe": "script", "grub": "script", "loader": "loader"},
    "build": {
        "answer": "answer",
        "seed": "answer",
        "handoff": "handoff",
        "secret": "secret",
        "event": "event",
        "again": "handoff",
        "configured": "configured",
    },
}


def kind(path: str) -> str:
    """What a path asks for, in one of a dozen words: paths hold tokens, and clients ask for what they like."""
    parts = path.split("/", 4)[1:]
    if path == "/boot/ipxe":
        return "first-script"
    if path == "/discovery":
        return "discovery"
    if len(parts) < 3 or parts[0] not in _KINDS:
        return "health" if path in {"/healthz", "/readyz"} else metrics.OTHER
    return _KINDS[parts[0]].get(parts[1] if parts[0] == "boot" else parts[2], metrics.OTHER)


def decided(environ: MutableMapping[str, Any], decision: str) -> None:
    """Note what was decided about the machine that sent this request."""
    environ[_DECISION] = decision


class Counted:
    """A WSGI application whose requests are counted."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """As WSGI has it."""
        begun = time.perf_counter()
        status = "500"

        def started(line: str, *more: Any) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, *more)

        try:
            return self._app(environ, started)
        finally:
            what = kind(environ.get("PATH_INFO", ""))
            metrics.boot_request(what, environ.get(_DECISION, ""), int(status), time.perf_counter() - begun)
