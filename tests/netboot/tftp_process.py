"""A TFTP server in a process of its own, which can be looked at: its memory, descriptors, counters.

    python -m tests.netboot.tftp_process '{"bind": "127.0.0.1:0", "limits": {}, "single_port": false, "nofile": 0}'

It prints its address, then its state for each line on standard input, and ends with the input. It has files of any
size: `sized-5000` from memory, `file-5000` from a file that is opened for each request.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.netboot.tftp import Content, Limits, OpenFile, Request, TftpServer
from tests.netboot.tftp_client import ERROR, WRQ, Client, request

ROOT = Path(__file__).parents[2]
BIGGEST = 100_000
_BESIDE = "127.0.0.250"


def content_of(size: int) -> bytes:
    """What the server has under `sized-SIZE` and `file-SIZE`."""
    return random.Random(0).randbytes(BIGGEST)[:size]


@dataclass
class Child:
    """The server's process, from outside."""

    process: subprocess.Popen[str]
    address: tuple[str, int]

    def state(self) -> dict[str, Any]:
        """`pid`, `rss` in KiB, `descriptors`, `sessions`, `counters`, `outcomes`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        of_it = Path("/proc", str(told["pid"]))  # looked at from here: it may have no descriptor left to do so
        (rss,) = (line.split()[1] for line in (of_it / "status").read_text().splitlines() if line.startswith("VmRSS"))
        return told | {"rss": int(rss), "descriptors": len(list((of_it / "fd").iterdir()))}

    def barrier(self) -> None:
        """Come back when every datagram sent before has been dealt with: the listening port is served in order."""
        with Client(self.address, _BESIDE) as client:
            client.send(request(WRQ, "barrier"))
            assert client.receive().opcode == ERROR


@contextmanager
def child(
    *, bind: str = "127.0.0.1:0", namespace: str = "", single_port: bool = False, nofile: int = 0, **limits: float
) -> Iterator[Child]:
    """A server in a child, which must still be alive at the end, and ends in good order."""
    wanted = {"bind": bind, "single_port": single_port, "nofile": nofile, "limits": limits}
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    command = [*inside, sys.executable, "-m", "tests.netboot.tftp_process", json.dumps(wanted)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            host, port = json.loads(process.stdout.readline())
            yield Child(process, (host, port))
            assert process.poll() is None, "the server ended by itself"
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert process.returncode == 0


def main() -> None:
    wanted = json.loads(sys.argv[1])
    if wanted["nofile"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted["nofile"], wanted["nofile"]))
    outcomes: dict[str, int] = {}
    sys.stdout, answers = sys.stderr, sys.stdout  # the server logs to standard output

    with tempfile.NamedTemporaryFile() as file:
        file.write(content_of(BIGGEST))
        file.flush()

        def resolve(asked: Request) -> Content | None:
            kind, _, size = asked.name.rpartition("-")
            if not size.isdigit() or kind not in {"sized", "file"}:
                return None
            return content_of(int(size)) if kind == "sized" else OpenFile(os.open(file.name, os.O_RDONLY), int(size))

        def ended(transfer: Any) -> None:
            outcomes[transfer.outcome] = outcomes.get(transfer.outcome, 0) + 1

        server = TftpServer(
            wanted["bind"],
            resolve,
            on_end=ended,
            limits=Limits(**wanted["limits"]),
            single_port=wanted["single_port"],
        )
        thread = threading.Thread(target=server.serve, daemon=True)  # if this thread fails, the process ends
        thread.start()
        print(json.dumps(server.address), file=answers, flush=True)
        for _ in sys.stdin:
            state = {
                "pid": os.getpid(),
                "sessions": len(server),
                "counters": dict(server.counters),
                "outcomes": dict(outcomes),
            }
            print(json.dumps(state), file=answers, flush=True)
        server.stop()
        thread.join()


if __name__ == "__main__":
    main()
