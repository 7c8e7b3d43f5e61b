"""The TFTP daemons that ours is measured beside: found, or unpacked from Debian's packages, and started.

What is on the path is used. What is not is downloaded and unpacked into a cache: nothing is installed, so no service is
left enabled and packages that exclude each other do no harm. Python's tftpy is a dependency of ours.
"""

import grp
import importlib.metadata
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchkit.groups import Group, started
from benchkit.tftpours import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provisioner-bench"
_DNSMASQ_ADDRESS = "127.69.69.69"
"""dnsmasq serves TFTP on port 69 and no other; an address of its own keeps it apart from everybody."""

_GO_SERVER = """package main

import (
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/pin/tftp"
)

func read(name string, to io.ReaderFrom) error {
	file, err := os.Open(filepath.Join(os.Args[2], filepath.Clean("/"+name)))
	if err != nil {
		return err
	}
	defer file.Close()
	if state, err := file.Stat(); err == nil {
		to.(tftp.OutgoingTransfer).SetSize(state.Size())
	}
	_, err = to.ReadFrom(file)
	return err
}

func main() {
	server := tftp.NewServer(read, nil)
	server.SetTimeout(time.Second)
	if err := server.ListenAndServe(os.Args[1]); err != nil {
		panic(err)
	}
}
"""
_TFTPY_SERVER = "import sys, tftpy; tftpy.TftpServer(sys.argv[2]).listen('127.0.0.1', int(sys.argv[1]))"


class Missing(Exception):
    """This peer cannot be had on this host; the message says why, and what would help."""


@dataclass(frozen=True)
class Peer:
    """A daemon, ready to be started. ``command`` is given the port and the directory to serve."""

    name: str
    version: str
    command: Callable[[int, Path], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@contextmanager
def serving(peer: Peer, root: Path, log: Path) -> Iterator[tuple[Group, tuple[str, int]]]:
    """A fresh one that serves this directory, and where it listens."""
    port = peer.port or _free_udp()
    with started(peer.command(port, root), log=log, environment={**os.environ, **peer.environment}) as group:
        yield group, (peer.address, port)


def find(name: str) -> Peer:
    """The peer of that name: dnsmasq, tftpd-hpa, atftpd, tftpy or pin/tftp. Raises Missing."""
    return _PEERS[name]()


def _dnsmasq() -> Peer:
    _root_only("port 69 needs root, and it serves TFTP on no other")
    program, environment = provide("dnsmasq", "dnsmasq-base", "usr/sbin/dnsmasq")

    def command(port: int, root: Path) -> list[str]:
        assert port == 69
        where = [f"--listen-address={_DNSMASQ_ADDRESS}", "--bind-interfaces", "--port=0", "--conf-file=/dev/null"]
        what = ["--enable-tftp", f"--tftp-root={root}", "--tftp-max=5000", "--user=root", "--pid-file="]
        return [program, "--keep-in-foreground", *where, *what, "--log-facility=-", "--quiet-tftp"]

    version = _said([program, "--version"], r"version (\S+)", environment)
    return Peer("dnsmasq", version, command, environment, _DNSMASQ_ADDRESS, 69)


def _tftpd_hpa() -> Peer:
    _root_only("it gives its root directory to chroot(2)")
    program, environment = provide("in.tftpd", "tftpd-hpa", "usr/sbin/in.tftpd", "libwrap0")

    def command(port: int, root: Path) -> list[str]:
        return [program, "--foreground", "--address", f"127.0.0.1:{port}", "--user", "root", "--secure", str(root)]

    return Peer("tftpd-hpa", _said([program, "-V"], r"tftp-hpa (\S+?),", environment), command, environment)


def _atftpd() -> Peer:
    program, environment = provide("atftpd", "atftpd", "usr/sbin/atftpd", "libwrap0")
    user = f"{pwd.getpwuid(os.getuid()).pw_name}.{grp.getgrgid(os.getgid()).gr_name}"

    def command(port: int, root: Path) -> list[str]:
        how = ["--daemon", "--no-fork", "--maxthread", "2000", "--user", user, "--logfile", "-", "--verbose=3"]
        return [program, *how, "--bind-address", "127.0.0.1", "--port", str(port), str(root)]

    return Peer("atftpd", _said([program, "--version"], r"atftp-(\S+)", environment), command, environment)


def _tftpy() -> Peer:
    def command(port: int, root: Path) -> list[str]:
        return [sys.executable, "-c", _TFTPY_SERVER, str(port), str(root)]

    return Peer("tftpy", importlib.metadata.version("tftpy"), command)


def _pin() -> Peer:
    package = "golang-github-pin-tftp-dev"
    version = _candidate(package)
    program = CACHE / f"pin-tftp-{version}"
    if not program.exists():
        _build(package, program)

    def command(port: int, root: Path) -> list[str]:
        return [str(program), f"127.0.0.1:{port}", str(root)]

    return Peer("pin/tftp", version.partition("-")[0], command)


_PEERS = {"dnsmasq": _dnsmasq, "tftpd-hpa": _tftpd_hpa, "atftpd": _atftpd, "tftpy": _tftpy, "pin/tftp": _pin}


def _build(package: str, program: Path) -> None:
    """Compile a server around that library, with a Go that is unpacked for it alone: half a gigabyte for a minute."""
    depends = subprocess.run(["apt-cache", "depends", "golang-go"], capture_output=True, text=True, check=False).stdout
    compiler = re.search(r"golang-([\d.]+)-go", depends)
    if compiler is None:
        raise Missing("no Go in Debian's package lists: apt-get update")
    release = compiler[1]
    libraries = [package, "golang-golang-x-net-dev", "golang-golang-x-sys-dev", "golang-golang-x-text-dev"]
    with tempfile.TemporaryDirectory(prefix="bench-go-") as directory:
        unpacked = Path(directory)
        _unpack([f"golang-{release}-go", f"golang-{release}-src", *libraries], unpacked)
        (unpacked / "main.go").write_text(_GO_SERVER)
        go = unpacked / f"usr/lib/go-{release}/bin/go"
        environment = os.environ | {
            "GOROOT": str(go.parents[1]),
            "GOPATH": str(unpacked / "usr/share/gocode"),
            "GOCACHE": str(unpacked / "cache"),
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
        }
        built = unpacked / "server"
        command: list[str | Path] = [go, "build", "-o", built, unpacked / "main.go"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"it does not compile: {done.stderr.strip()[-500:]}")
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(built, program)


def provide(name: str, package: str, inside: str, *libraries: str) -> tuple[str, dict[str, str]]:
    """The path of an installed program, else of the one in Debian's package, and the environment that it needs."""
    installed = shutil.which(name)
    if installed is not None:
        return installed, {}
    folder = CACHE / f"{package}-{_candidate(package)}"
    if not (folder / inside).exists():
        _unpack([package, *libraries], folder)
    found = {str(each.parent) for each in folder.rglob("lib*.so.*")}
    return str(folder / inside), {"LD_LIBRARY_PATH": ":".join(sorted(found))} if found else {}


def _candidate(package: str) -> str:
    """The version that Debian offers; as root its lists are read again when they do not know the package."""
    if shutil.which("apt-get") is None:
        raise Missing("not on the path, and this is no Debian")
    for command in (["true"], ["apt-get", "update", "-qq"]):
        if command[0] == "true" or os.getuid() == 0:
            subprocess.run(command, capture_output=True, check=False)
        policy = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=False).stdout
        version = re.search(r"Candidate: (\S+)", policy)
        if version is not None and version[1] != "(none)":
            return version[1]
    raise Missing(f"not on the path, and Debian's package lists have no {package}: apt-get update")


def _unpack(packages: Sequence[str], folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-deb-") as directory:
        done = subprocess.run(
            ["apt-get", "download", "-qq", *packages], cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Missing(f"apt-get download {' '.join(packages)}: {done.stderr.strip()[-300:]}")
        folder.mkdir(parents=True, exist_ok=True)
        for archive in sorted(Path(directory).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)


def _root_only(why: str) -> None:
    if os.getuid() != 0:
        raise Missing(f"{why}: run this as root")


def _said(command: list[str], pattern: str, environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "of unknown version"


def _free_udp() -> int:
    return free_port(socket.SOCK_DGRAM)
