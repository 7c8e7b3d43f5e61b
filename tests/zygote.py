"""Commands as processes of their own, forked from one that has the program loaded: a tenth of the time of a start.

As a program it is that process; imported it is how tests ask it.
"""

import atexit
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_lock = threading.Lock()
_running: list[tuple[subprocess.Popen[bytes], str]] = []


def run(
    arguments: Sequence[str], environment: Mapping[str, str], stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``provisioner ARGUMENTS`` and wait for it. Raises TimeoutExpired, with the command killed."""
    with tempfile.TemporaryDirectory(prefix="zygote-") as place:
        files = {name: Path(place, name) for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(stdin)
        order = {"arguments": list(arguments), "environment": dict(environment), "cwd": str(Path.cwd())}
        order |= {name: str(path) for name, path in files.items()}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(_address())
            connection.sendall(json.dumps(order).encode() + b"\n")
            connection.settimeout(timeout)
            try:
                status = connection.recv(16)
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(["provisioner", *arguments], timeout) from error
        texts = [files[name].read_text() for name in ("stdout", "stderr")]
    assert status, f"provisioner {' '.join(arguments)} was killed\n{texts[1]}"
    return subprocess.CompletedProcess(["provisioner", *arguments], int(status), *texts)


def _address() -> str:
    with _lock:
        if not _running or _running[0][0].poll() is not None:
            _running.clear()
            path = tempfile.mktemp(prefix="zygote-", suffix=".sock")
            process = subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE)
            assert process.stdout is not None
            assert process.stdout.read(1) == b"."
            process.stdout.close()
            _running.append((process, path))
            atexit.register(_end, process, path)
        return _running[0][1]


def _end(process: subprocess.Popen[bytes], path: str) -> None:
    process.terminate()
    process.wait()
    Path(path).unlink(missing_ok=True)


def _main(path: str) -> None:
    importlib.import_module("provisioner.cli.root")
    for module in ("cli.client.local", "cli.client.remote", "services.setup", "services.check", "services.content"):
        importlib.import_module(f"provisioner.{module}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    parent = os.getppid()
    sys.stdout.write(".")
    sys.stdout.close()
    os.close(1)
    os.open("/dev/null", os.O_WRONLY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the attendants end
    listener.settimeout(5)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            connection.setblocking(True)
            _attend(connection)
            os._exit(0)
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Fork once more, so that the exit status of a command that dies can be told."""
    order = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid == 0:
        connection.close()
        _command(order)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def _command(order: dict[str, str]) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(order[name], flags, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])  # type: ignore[arg-type]
    time.tzset()
    sys.argv = ["provisioner", *order["arguments"]]
    code = 1
    try:
        importlib.import_module("provisioner.cli").main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its top
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main(sys.argv[1])
