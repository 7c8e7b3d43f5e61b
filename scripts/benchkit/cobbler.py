"""Cobbler as a peer: from PyPI, in a mount namespace of its own, so that nothing of it stays on the host.

Its daemon wants /etc/cobbler, /var/lib/cobbler, /srv/tftpboot and its log directory: they are an overlay in a temporary
directory. Its web service is its own WSGI script under gunicorn, a process with threads for each core. mod_wsgi and
python-ldap are left out; both want headers of Apache and OpenLDAP, and neither is in the way of an answer.
"""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchkit import peers
from benchkit.private import SILENCE, await_true, free_port

VERSION = "3.3.10"
NAMED = f"Cobbler {VERSION}"
_NEEDS = ("Cheetah3", "distro", "dnspython", "file-magic", "netaddr", "pymongo", "pyyaml", "requests", "schema")
_KINDS = ("distros", "files", "images", "menus", "mgmtclasses", "packages", "profiles", "repos", "systems")
_OVERLAID = ("etc", "var", "srv")
_MAKE_OVERLAYS = """
set -e
mount --make-rprivate /
for each in etc var srv; do
    mount -t overlay overlay -o "lowerdir=/$each,upperdir=$1/$each/upper,workdir=$1/$each/work" "/$each"
done
shift
exec "$@"
"""


class NotToBeHad(Exception):
    """Why there is no Cobbler on this host, in a sentence."""


def environment() -> Path:
    """The directory of a virtual environment with Cobbler in it; made once, kept in the user's cache.

    Raises NotToBeHad.
    """
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
        raise NotToBeHad("it needs root (a mount namespace of its own), unshare and nsenter")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provisioner"
    home, done = cache / f"bench-cobbler-{VERSION}", cache / f"bench-cobbler-{VERSION}" / ".complete"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"bench-cobbler-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(home))
            pip = (str(home / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check")
            _run(*pip, "--no-deps", f"cobbler=={VERSION}")
            _run(*pip, *_NEEDS, "gunicorn")
            done.touch()
    return home


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotToBeHad(f"{' '.join(command[1:4])} failed: {done.stderr.strip()[-300:]}")


@contextlib.contextmanager
def _expected() -> Iterator[None]:
    """What goes wrong on Cobbler's side is said in the row, and costs none of our own figures."""
    try:
        yield
    except (RuntimeError, OSError, StopIteration, xmlrpc.client.Error) as problem:
        raise NotToBeHad(" ".join(str(problem).split())[-300:]) from problem


@dataclass
class Cobbler:
    """A private Cobbler. `systems` of them are made as files, after one that its own interface made."""

    home: Path
    directory: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    daemon: subprocess.Popen[bytes] | None = None
    web: subprocess.Popen[bytes] | None = None

    def begin(self) -> float:
        """Start the daemon; the seconds until its interface knows every system."""
        began = time.monotonic()
        command = ["unshare", "-m", "sh", "-c", _MAKE_OVERLAYS, "sh", str(self.directory)]
        command += [str(self.home / "bin/python"), str(self.home / "bin/cobblerd"), "-F"]
        with (self.directory / "cobblerd.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        with _expected():
            await_true(self._answers, self._problem)
        return time.monotonic() - began

    def _answers(self) -> bool:
        if self.daemon is None or self.daemon.poll() is not None:
            raise NotToBeHad(f"cobblerd ended at once: {self._problem()}")
        with contextlib.suppress(OSError):
            return bool(self.remote().ping())
        return False

    def _problem(self) -> str:
        return (self.directory / "cobblerd.log").read_text(errors="replace")[-600:]

    def remote(self) -> xmlrpc.client.ServerProxy:
        """The daemon's interface."""
        return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.port}", allow_none=True)

    def token(self) -> Any:
        """One that may do everything."""
        return self.remote().login("", (self.directory / "var/upper/lib/cobbler/web.ss").read_text())

    def systems(self) -> int:
        """How many systems it knows."""
        return len(self.remote().get_item_names("system"))

    def sync(self) -> float:
        """The seconds of `cobbler sync`."""
        began = time.monotonic()
        with _expected():
            done = self.remote().sync(self.token())
        if done is not True:
            raise NotToBeHad("`cobbler sync` failed")
        return time.monotonic() - began

    def serve_answers(self) -> None:
        """Start the web service beside the daemon."""
        assert self.daemon is not None
        script = self.directory / "web"
        script.mkdir(exist_ok=True)
        shutil.copy(_content(self.home) / "var/www/cobbler/svc/services.py", script / "services.py")
        # mod_wsgi gives this name to what WSGI calls RAW_URI
        (script / "entry.py").write_text(
            "import services\n"
            "def application(environ, start):\n"
            "    return services.application(environ | {'REQUEST_URI': environ['RAW_URI']}, start)\n"
        )
        command = ["nsenter", "-t", str(self.daemon.pid), "-m", str(self.home / "bin/gunicorn")]
        command += ["--chdir", str(script), "-b", f"127.0.0.1:{self.web_port}", "-k", "gthread", "--threads", "50"]
        command += ["--workers", str(os.cpu_count() or 1)]
        command += ["--keep-alive", "60", "--timeout", "600", "--no-control-socket", "entry:application"]
        with (self.directory / "web.log").open("ab") as log:
            self.web = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        with _expected():
            await_true(self._web_answers, lambda: (self.directory / "web.log").read_text()[-600:])

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=SILENCE)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/cblr/svc/op/list/what/distros")
            return connection.getresponse().read() == b"bench\n"
        return False

    def end(self) -> None:
        """Stop both."""
        for process in (self.web, self.daemon):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.web = self.daemon = None


def _with_rsync() -> dict[str, str]:
    """An environment in which rsync is found: `sync` copies the boot loaders with it."""
    try:
        program, more = peers.provide("rsync", "rsync", "usr/bin/rsync", "libpopt0", "libxxhash0")
    except peers.Missing as problem:
        raise NotToBeHad(f"rsync, which it calls: {problem}") from problem
    return os.environ | more | {"PATH": f"{Path(program).parent}:{os.environ['PATH']}"}


def _content(home: Path) -> Path:
    return next((home / "lib").glob("python3*")) / "site-packages"


@contextlib.contextmanager
def installed(systems: int) -> Iterator[Cobbler]:
    """A Cobbler with so many systems, its daemon not yet started. Raises NotToBeHad."""
    home = environment()
    more = _with_rsync()
    with tempfile.TemporaryDirectory(prefix="provisioner-bench-cobbler-") as name:
        directory = Path(name)
        for each in _OVERLAID:
            (directory / each / "work").mkdir(parents=True)
            (directory / each / "upper").mkdir()
        one = Cobbler(home, directory, more)
        try:
            with _expected():
                _lay_out(one)
                _first_system(one)
                _multiply(directory / "var/upper/lib/cobbler/collections/systems", systems)
            yield one
        finally:
            one.end()


def _lay_out(one: Cobbler) -> None:
    content, upper = _content(one.home), one.directory
    shutil.copytree(content / "etc/cobbler", upper / "etc/upper/cobbler")
    shutil.copytree(content / "var/lib/cobbler", upper / "var/upper/lib/cobbler")
    for each in ("www/cobbler/images", "www/cobbler/links", "www/cobbler/rendered", "www/cobbler/misc", "log/cobbler"):
        (upper / "var/upper" / each).mkdir(parents=True)
    for each in ("loaders", "triggers", *(f"collections/{kind}" for kind in _KINDS)):
        (upper / "var/upper/lib/cobbler" / each).mkdir(parents=True, exist_ok=True)
    (upper / "srv/upper/tftpboot").mkdir()
    settings = upper / "etc/upper/cobbler/settings.yaml"
    settings.write_text(re.sub(r"xmlrpc_port: \d+", f"xmlrpc_port: {one.port}", settings.read_text()))


def _first_system(one: Cobbler) -> None:
    """A distro, a profile and system node00000, by Cobbler's own interface."""
    for name in ("vmlinuz", "initrd.img"):
        (one.directory / name).write_bytes(b"made up for a benchmark")
    one.begin()
    remote, token = one.remote(), one.token()
    given = {"name": "bench", "arch": "x86_64", "breed": "redhat", "os_version": "rhel9"}
    given |= {"kernel": str(one.directory / "vmlinuz"), "initrd": str(one.directory / "initrd.img")}
    _make(remote, token, "distro", given)
    _make(remote, token, "profile", {"name": "bench", "distro": "bench", "autoinstall": "sample.ks"})
    interface = {"macaddress-eth0": mac(0), "ipaddress-eth0": ip(0), "netmask-eth0": "255.255.0.0"}
    given = {"name": "node00000", "profile": "bench", "hostname": "node00000.example.org", "netboot_enabled": True}
    _make(remote, token, "system", given | {"modify_interface": interface})
    one.end()


def _make(remote: Any, token: Any, kind: str, fields: dict[str, Any]) -> None:
    handle = getattr(remote, f"new_{kind}")(token)
    for key, value in fields.items():
        getattr(remote, f"modify_{kind}")(handle, key, value, token)
    getattr(remote, f"save_{kind}")(handle, token)


def _multiply(directory: Path, systems: int) -> None:
    first = (directory / "node00000.json").read_text()
    uid = json.loads(first)["uid"]
    for number in range(1, systems):
        text = first.replace("node00000", f"node{number:05d}").replace(mac(0), mac(number)).replace(ip(0), ip(number))
        (directory / f"node{number:05d}.json").write_text(text.replace(uid, uuid.uuid4().hex))


def mac(number: int) -> str:
    """The address of the system of this number."""
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def ip(number: int) -> str:
    """Likewise."""
    return f"10.1.{100 + number // 250}.{1 + number % 250}"
