"""What went over the lab's wire: the tests' witness for what a machine was told and what it said."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from labkit.network import BRIDGE, Network
from labkit.processes import spawn, stop, wait_for

_TOKEN = rb"/build/([A-Za-z0-9_-]{54})/"
_HASH = rb"\$6\$(?:rounds=[0-9]+\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}"
_TELLS = {"answer": _TOKEN + rb"answer", "event": _TOKEN + rb"event", "handoff": _TOKEN + rb"configured"}


class Capture:
    """The boot plane's traffic, and the requests to media, as tcpdump wrote it: in the order of the wire."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def data(self) -> bytes:
        """All of it, headers and bodies."""
        return self.file.read_bytes()

    def tokens(self, purpose: str) -> set[str]:
        """The tokens that were used as ``answer``, ``event`` or ``handoff`` token."""
        return {found.decode() for found in re.findall(_TELLS[purpose], self.data())}

    def crypt_hashes(self) -> set[str]:
        """The SHA-512 crypt hashes that went over the wire; of fixed length, since other bytes follow at once."""
        return {found.decode() for found in re.findall(_HASH, self.data())}

    def requests(self, line: str) -> int:
        """How many request lines match: ``POST /build/[^/]+/secret/``."""
        return len(re.findall(line.encode() + rb"\S* HTTP/1\.[01]\r\n", self.data()))


@contextlib.contextmanager
def capture(wire: Network, file: Path) -> Iterator[Capture]:
    """Record for the length of a ``with`` block what goes over the wire; of media only the machine's side."""
    log = file.with_suffix(".tcpdump.log")
    what = "tcp port 8080 or tcp dst port 8081"
    recorder = spawn(wire.inside("tcpdump", "-i", BRIDGE, "-s", "0", "-U", "-Z", "root", "-w", file, what), log)
    try:
        wait_for(lambda: log.exists() and "listening on" in log.read_text(), 20, "tcpdump to listen")
        yield Capture(file)
    finally:
        stop(recorder)
