"""One running dnsmasq: start, reload, stop, and listening to what it says."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from provisioner.errors import ProgramFailed
from provisioner.netboot.dhcp.checker import environment, missing
from provisioner.netboot.dhcp.dnsmasq import Paths
from provisioner.netboot.dhcp.logs import is_packet, message_of

_log = structlog.get_logger(__name__)

READ_SECONDS = 60.0
"""How long dnsmasq may take to read its hosts file: 100,000 lines take it 18 s on a small machine."""
_STOP_SECONDS = 5.0


class Dnsmasq:
    """A dnsmasq process and the thread that reads its log.

    ``on_packet`` is called in that thread with each message about a packet, and must not block: dnsmasq writes its
    log synchronously, and answers nobody while the pipe is full.
    """

    def __init__(self, paths: Paths, on_packet: Callable[[str], None]) -> None:
        self._read_line = f"read {paths.hosts}"
        hosts = re.escape(str(paths.hosts))
        self._complaint = re.compile(rf".* at line \d+ of {hosts}$")
        self._unreadable = re.compile(rf"(cannot|failed to) .*{hosts}")
        self._on_packet = on_packet
        self._said: deque[str] = deque(maxlen=20)
        self._complaints: list[str] = []
        self._reads = 0
        self._ended = False
        self._changed = threading.Condition()
        try:
            self._process = subprocess.Popen(
                ["dnsmasq", "--keep-in-foreground", f"--conf-file={paths.config}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
                text=True,
                errors="backslashreplace",
            )
        except FileNotFoundError:
            raise missing() from None
        self._reader = threading.Thread(target=self._listen, name="dnsmasq-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of what it said about itself."""
        with self._changed:
            return "; ".join(list(self._said)[-2:]) or "it said nothing"

    def wait_started(self, timeout: float = READ_SECONDS) -> None:
        """Until it has opened its sockets and read the hosts file; raises ``ProgramFailed``."""
        self._wait_reads(1, timeout)

    def reload(self, timeout: float = READ_SECONDS) -> None:
        """Have it read the hosts file again, and wait until it has; raises ``ProgramFailed``."""
        with self._changed:
            wanted = self._reads + 1
            self._complaints.clear()
        # A process that has ended meanwhile is found by the wait.
        self._process.send_signal(signal.SIGHUP)
        self._wait_reads(wanted, timeout)

    def stop(self) -> None:
        """End it, if need be by force; its leases are on disk already."""
        if self.alive():
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _wait_reads(self, wanted: int, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._reads >= wanted or self._ended, timeout)
            reads, complaints = self._reads, list(self._complaints)
        if reads < wanted:
            state = "still runs" if self.alive() else "ended"
            raise ProgramFailed(f"dnsmasq did not read its configuration and {state}: {self.last_words()}")
        if complaints:
            raise ProgramFailed(f"dnsmasq does not accept the reservations: {complaints[0]}")

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # noqa: S101 -- stderr=PIPE above
        with stream:
            for line in stream:
                message = message_of(line)
                if is_packet(message):
                    self._on_packet(message)
                else:
                    self._note(message)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _note(self, message: str) -> None:
        _log.debug("dnsmasq", said=message)
        with self._changed:
            self._said.append(message)
            if message == self._read_line:
                self._reads += 1
            elif self._complaint.match(message):
                self._complaints.append(message)
            elif self._unreadable.match(message):
                self._complaints.append(message)
                self._reads += 1
            self._changed.notify_all()


def end_orphans(config: Path) -> None:
    """End a dnsmasq that an earlier, killed child of ours left behind: it would hold port 67 and old content."""
    argument = f"--conf-file={config}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if Path(os.fsdecode(arguments[0])).name == "dnsmasq" and argument in arguments:
            _log.warning("ending a dnsmasq left behind by an earlier run", pid=int(entry.name))
            _end(int(entry.name))


def _end(pid: int) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                return
            if state.rpartition(")")[2].split()[0] == "Z":
                return
            time.sleep(0.02)
