"""Machines without a virtual machine: a root directory and namespaces of its own for each, on a wire of their own.

    with wire() as lan, lan.root("web01", base("openssh-server", "python3")) as machine:
        machine.run(["sh", "-c", "ip -4 address; sshd -t"], env={"LC_ALL": "C"})

`base` makes a Debian of these packages once and keeps it in the lab's cache, under the hash of how it was made. A
machine writes to a layer above it that goes away with it. Each has its own network, mount, process, host name and IPC
namespaces; this host is reachable from inside as ``lan.host``, machines reach each other by their addresses, and there
is no way further out and no DNS: the names of all machines and of ``provisioner`` (this host) are in /etc/hosts.
Nothing can be left behind: there are no named namespaces, and every process dies with its namespace's first one, which
dies with the thread that made it. Needs root, mmdebstrap and overlayfs.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import Served, wait_for
from labkit.assets import cache_dir
from labkit.processes import LabError, run
from labkit.workspace import workspace

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ALWAYS = ("ca-certificates", "curl", "iproute2", "procps")
_RECIPE = "1"  # another number makes every base anew
_STARTED_BY = ("setpriv", "--pdeathsig", "KILL", "--")

# What the first process of a machine does before there is a machine; the arguments are base, layer and name.
_BEGIN = r"""
set -eu
mkdir -p "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; done
mkdir dev/pts dev/shm
chmod 1777 dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
hostname "$3"
echo "$3" >etc/hostname
ip link set lo up
trap '' CHLD # nobody waits for orphans: they are to vanish
echo ready
exec chroot . sleep infinity >/dev/null
"""


def base(*packages: str, hooks: Sequence[str] = ()) -> Path:
    """A directory with a minimal Debian of this host's release and these packages. Nothing may write to it.

    ``hooks`` are shell commands that mmdebstrap runs on the host, with network, when all is installed; ``$1`` is the
    directory: ``'chroot "$1" pip install ...'``. LabError with the end of what mmdebstrap said.
    """
    codename = _codename()
    wanted = sorted({*_ALWAYS, *packages})
    made_of = "\n".join((_RECIPE, codename, *wanted, *hooks))
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"rootdir-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    with (cache / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            _bootstrap(directory, codename, wanted, hooks)
    return directory


def _codename() -> str:
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M))
    return facts.get("VERSION_CODENAME", "bookworm") if facts.get("ID") == "debian" else "bookworm"


def _bootstrap(directory: Path, codename: str, packages: Sequence[str], hooks: Sequence[str]) -> None:
    """Packages come from this host's own apt sources for the release; without any, mmdebstrap has a default."""
    new = directory.with_name(f".{directory.name}")
    shutil.rmtree(new, ignore_errors=True)
    lists = [*Path("/etc/apt").glob("sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.*"))]
    sources = [
        str(path)
        for path in lists
        if path.suffix in {".list", ".sources"}
        and re.search(rf"(?m)^[^#]*\s{codename}(\s|$)", path.read_text(errors="replace"))
    ]
    proxy = run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"]).strip().partition("=")[2].strip("'")
    options = [f'--aptopt=Acquire::http::Proxy "{proxy}"'] if proxy else []
    # Without it Java's postinst fails: it links manual pages that are left out.
    options += ['--essential-hook=mkdir -p "$1/usr/share/man/man1"']
    options += [f"--customize-hook={hook}" for hook in hooks]
    options += [f"--include={','.join(packages)}", '--aptopt=APT::Install-Recommends "false"']
    options += [f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in ("man", "locale")]
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *options, codename, str(new), *sources],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise LabError(f"mmdebstrap of {', '.join(packages)} failed:\n{done.stderr[-4000:]}")
    new.rename(directory)


@dataclass(frozen=True)
class Root:
    """A machine that runs; see the module."""

    name: str
    address: str
    pid: int
    """Of its first process, as this host sees it."""
    host: str
    """This host's address on the machine's wire."""

    @property
    def path(self) -> Path:
        """Its root directory, seen from this host. Absolute symbolic links in it lead astray here."""
        return Path(f"/proc/{self.pid}/root")

    def inside(self, *command: str | Path, env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs a command of the machine's on the machine, with this environment alone."""
        environment = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"} | dict(env or {})
        words = [f"{name}={value}" for name, value in environment.items()]
        return ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd", "env", "-i", *words, *map(str, command)]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        code: int | None = 0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine; its exit status must be ``code``, unless that is None."""
        done = subprocess.run(
            self.inside(*command, env=env), input=stdin, capture_output=True, text=True, errors="replace", check=False
        )
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def spawn(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Any:
        """Start a daemon in the foreground on the machine: a Popen. It ends with the machine at the latest."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.inside(*command, env=env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def on_network(self, *command: str | Path) -> list[str]:
        """The command line that runs a command of this host's in the machine's network."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *map(str, command)]

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file of the machine's, with the directories above it."""
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def read(self, path: str) -> str:
        """Read a file of the machine's."""
        return (self.path / path.lstrip("/")).read_text(errors="replace")

    def seen(self, served: Served) -> Served:
        """The running service as this machine reaches it: ``http`` asks from inside, the URLs have ``lan.host``."""
        urls = {name: served.environment[name] for name in ("PROVISIONER_BOOT_URL", "PROVISIONER_MEDIA_URL")}
        there = {name: url.replace("127.0.0.1", self.host) for name, url in urls.items()}
        return dataclasses.replace(served, environment=served.environment | there, reach=tuple(self.on_network()))


@dataclass
class Wire:
    """A network of machines and of this host, a /24 of the range for such tests (RFC 2544)."""

    pid: int
    number: int
    roots: list[Root] = field(default_factory=list)

    @property
    def cidr(self) -> str:
        """The network."""
        return f"198.18.{self.number}.0/24"

    @property
    def host(self) -> str:
        """This host's address on it."""
        return f"198.18.{self.number}.1"

    @contextlib.contextmanager
    def root(self, name: str, lower: Path, *, hosts: Mapping[str, str] | None = None) -> Iterator[Root]:
        """Run a machine for the length of a ``with`` block; ``hosts`` are more names and their addresses."""
        with workspace() as layer, _begun(lower, layer, name) as pid:
            machine = Root(name, f"198.18.{self.number}.{10 + len(self.roots)}", pid, self.host)
            self.roots.append(machine)
            self._plug(machine)
            self._name_everybody(hosts or {})
            yield machine

    def _plug(self, machine: Root) -> None:
        port, there = f"port{len(self.roots)}", ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip"]
        run([*there, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)])
        run([*there, "link", "set", port, "master", "br0", "up"])
        for words in (
            ["address", "add", f"{machine.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "via", self.host],
        ):
            run(machine.on_network("ip", *words))

    def _name_everybody(self, more: Mapping[str, str]) -> None:
        lines = ["127.0.0.1 localhost", f"{self.host} provisioner"]
        lines += [f"{each.address} {each.name}" for each in self.roots]
        lines += [f"{address} {name}" for name, address in more.items()]
        for each in self.roots:
            if each.path.exists():
                each.write("/etc/hosts", "\n".join(lines) + "\n")
                each.write("/etc/resolv.conf", "")


@contextlib.contextmanager
def _begun(lower: Path, layer: Path, name: str) -> Iterator[int]:
    """The first process of a machine; with it ends every other."""
    spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
    process = subprocess.Popen(
        [*_STARTED_BY, "unshare", *spaces, "--", "sh", "-c", _BEGIN, "begin", str(lower), str(layer), name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pid = process.pid
    try:
        assert process.stdout is not None and process.stderr is not None
        if process.stdout.readline() != b"ready\n":
            raise LabError(f"{name} does not begin: {process.stderr.read().decode()}")
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", what=f"{name}'s first process")
        yield pid
    finally:
        # The kernel lets nobody wait for the first process of a namespace before all others in it are gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """A wire for the length of a ``with`` block."""
    process = subprocess.Popen([*_STARTED_BY, "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
    try:
        ours = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != ours, what="a network namespace")
        number = _first_free(process.pid)
        there = ["nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "link"]
        run([*there, "add", "br0", "type", "bridge", "forward_delay", "0"])
        run([*there, "set", "br0", "up"])
        run([*there, "set", "host", "master", "br0", "up"])
        run(["ip", "address", "add", f"198.18.{number}.1/24", "dev", f"pvwire{number}"])
        run(["ip", "link", "set", f"pvwire{number}", "up"])
        yield Wire(process.pid, number)
    finally:
        process.kill()
        process.wait()


def _first_free(pid: int) -> int:
    """Takes a number: whoever may add the link of that name has it, until the namespace of its other end is gone."""
    for number in range(os.getpid() % 200, 256):
        link = ["ip", "link", "add", f"pvwire{number}", "type", "veth", "peer", "name", "host", "netns", str(pid)]
        done = subprocess.run(link, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return number
        if "File exists" not in done.stderr:
            raise LabError(f"no wire: {done.stderr.strip()}")
    raise LabError("there are too many wires: `ip link` shows them as pvwireN")
