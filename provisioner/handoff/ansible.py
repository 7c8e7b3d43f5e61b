"""What the three ways of Ansible share: variables, playbooks, and programs that run within limits."""

import codecs
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from provisioner.core import ansible
from provisioner.errors import HandoffRefused, InvalidInput
from provisioner.handoff.protocol import Finding, Host, Settings

PLAYBOOK = r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\.ya?ml"
TIMED_OUT = 124
_VARIABLE = re.compile(r"[a-z_][a-zA-Z0-9_]{0,63}")
_LONGEST_VARIABLES = 16_384
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\].*?(\x07|\x1b\\)|[@-Z\\-_])")
_POLITE_SECONDS = 10.0


def check_variables(tool: str, settings: Settings) -> None:
    """Raise InvalidInput unless ``variables`` are plain data that Ansible evaluates nowhere.

    A variable such as ``ansible_connection``, or a template in a value, would let a profile run programs on this host.
    """
    given = settings.get("variables", {})
    where = "handoff.variables"
    if not isinstance(given, Mapping):
        raise InvalidInput(f"the variables of handoff {tool} are no mapping", where=where, hint="write `{name: value}`")
    for name, value in given.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name) or ansible.variable(name) != name:
            hint = "letters, digits and _; not `provisioner`, `ansible_...`, or a word that Ansible uses itself"
            raise InvalidInput(f"{str(name)[:80]!r} cannot be a variable for Ansible", where=where, hint=hint)
        try:
            encoded = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"the variable {name} is not plain data", where=where, hint="use JSON's types"
            ) from error
        if len(encoded) > _LONGEST_VARIABLES or ansible.inert(value) != value:
            hint = "templates belong into the playbook, and secrets into `variables_file`; 16 KiB at most"
            raise InvalidInput(
                f"the variable {name} holds a template, or is too long", where=f"{where}.{name}", hint=hint
            )


def variables(settings: Settings, **own: Any) -> dict[str, Any]:
    """What the playbook sees: the variables of the profile, and `provisioner`, which says what machine this is."""
    return dict(settings.get("variables", {})) | {ansible.OWN: own | dict(settings.get("about", {}))}


@cache
def shell(name: str) -> str:
    """A tool's part of the first-boot script."""
    return files("provisioner.handoff").joinpath(name).read_text(encoding="utf-8")


def playbook(host: Host, name: str) -> Path:
    """The playbook of this name under the host's directory. Raises HandoffRefused: missing, or it leads outside."""
    top = host.playbooks.resolve()
    path = (top / name).resolve()
    if not re.fullmatch(PLAYBOOK, name) or not path.is_relative_to(top):
        raise HandoffRefused(f"the playbook {name[:80]!r} leads out of {top}", hint="copy it into that directory")
    if not path.is_file():
        raise HandoffRefused(
            f"there is no playbook {name}", where=str(top), hint="put it there: setting `playbooks_dir`"
        )
    return path


def program(name: str) -> str | None:
    """Where a program is: on the PATH, or beside the Python that runs us; None where it is not."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """A directory that only we can read, in memory where possible, so that no key ever lies on a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a name of its own there
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="provisioner-ansible-", dir=where) as name:
        yield Path(name)


def write_private(path: Path, content: str) -> Path:
    """Write a file that nobody else can read, not even for a moment (0600)."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    return path


def environment(directory: Path) -> dict[str, str]:
    """What our Ansible and git run with: nothing of ours but the PATH, no configuration of anybody's."""
    config = directory / "ansible.cfg"
    if not config.exists():
        write_private(config, _CONFIG)
    path = os.environ.get("PATH", os.defpath)
    return {
        "PATH": f"{path}{os.pathsep}{Path(sys.executable).parent}",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(directory / "ansible"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
    }


_CONFIG = """[defaults]
host_key_checking = True
interpreter_python = auto_silent
retry_files_enabled = False
nocolor = True
local_tmp = ${HOME}/tmp
timeout = 30

[ssh_connection]
# A shared connection outlives the run by a minute, in a process that nobody ends.
ssh_args = -o ControlMaster=no -o ControlPath=none
pipelining = True
retries = 3
"""


def run_within(
    seconds: float,
    command: Sequence[str],
    env: Mapping[str, str],
    say: Callable[[str], None],
    *,
    directory: Path | None = None,
) -> int:
    """Run a program and tell what it prints, line by line, without colours; its exit status.

    When the time is up it is ended with every process of its group, and the status is 124. It ends when we do.
    """
    guard = shutil.which("setpriv")
    process = subprocess.Popen(
        [*([guard, "--pdeathsig", "TERM", "--"] if guard else []), *command],
        env=dict(env),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        _end_group(process)

    alarm = threading.Timer(seconds, end)
    alarm.daemon = True
    alarm.start()
    try:
        _tell(process, say)
        code = process.wait()
    finally:
        alarm.cancel()
        if process.poll() is None:
            _end_group(process)
    if late.is_set():
        say(f"ended: the time limit of {seconds:.0f} s is up\n")
        return TIMED_OUT
    return code


def _tell(process: "subprocess.Popen[bytes]", say: Callable[[str], None]) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
    with process.stdout as stream:
        while chunk := os.read(stream.fileno(), 65_536):
            whole, newline, rest = (rest + decoder.decode(chunk)).rpartition("\n")
            if newline:
                say(plain(whole + newline))
    if rest:
        say(plain(rest))


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    for number, patience in ((signal.SIGTERM, _POLITE_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def plain(text: str) -> str:
    """Text without what moves a terminal's cursor or colours it."""
    return _ESCAPES.sub("", text).replace("\r", "")


@dataclass(frozen=True)
class Ran:
    """How a short program went."""

    code: int
    output: str

    @property
    def last(self) -> str:
        """The end of what it said, on one line."""
        return " ".join(self.output.split())[-300:]


def ran(seconds: float, command: Sequence[str], env: Mapping[str, str], directory: Path | None = None) -> Ran:
    """Run a short program within a time limit."""
    said: list[str] = []
    code = run_within(seconds, command, env, said.append, directory=directory)
    return Ran(code, "".join(said))


def missing_credentials(host: Host, settings: Settings, *names: str) -> Iterator[Finding]:
    """A finding for each of these settings whose file is not in the credentials directory."""
    for name in names:
        file = settings.get(name)
        if file and not (host.credentials / str(file)).is_file():
            yield Finding(
                "error",
                f"the file {file} of {name} is missing",
                f"it is not in {host.credentials}, so nothing that needs it can be armed",
                "put it there, readable by the service alone (0600)",
            )
