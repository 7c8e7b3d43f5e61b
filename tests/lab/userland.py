"""The userland of Debian's installer in a chroot: its own shell, wget, debconf and preseed code, without a machine."""

import os
import shlex
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_NODES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9), "console": (1, 3)}
DISK = "/dev/installdisk"

# Pauses are noted; the long one means that a script gave up and parks the installer, the watcher's is shortened.
_SLEEP = """#!/bin/sh
echo "$1" >>/tmp/sleeps
case $1 in
    3600) exec /bin/busybox sleep 3600 ;;
    5) exec /bin/busybox sleep 1 ;;
esac
"""
# Programs of the new system write down how they were called.
_TARGET_PROGRAM = """#!/bin/busybox sh
out=/called-$(/bin/busybox basename "$0")
{
    echo "$*"
    /bin/busybox env
    if { true >&3; } 2>"$out.error"; then echo "descriptor 3 is open"; fi
} >"$out"
/bin/busybox cat >"$out.input"
"""
_START = """
set -e
mount -t proc proc $ROOT/proc
cp $ROOT/tmp/cmdline $ROOT/tmp/cmdline.shown
mount --bind $ROOT/tmp/cmdline.shown $ROOT/proc/cmdline
exec chroot $ROOT /bin/sh /tmp/begin.sh
"""
_BEGIN = """
PATH=/usr/bin:/usr/sbin:/bin:/sbin
syslogd -O /var/log/syslog
export DEBIAN_FRONTEND=$FRONTEND
debconf-loadtemplate d-i /var/lib/dpkg/info/*.templates
exec debconf -o d-i /bin/sh /tmp/drive.sh >/tmp/drive.log 2>&1
"""


@dataclass
class Userland:
    """An installer's root directory in which a script is running, or has run."""

    root: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, steps: str, url: str, terminal: int | None = None) -> None:
        """Run ``steps`` as the installer runs its own: with debconf beside it. ``url`` is that of the preseed.

        debconf answers its questions by itself, unless it has a terminal to ask them on.
        """
        frontend = "noninteractive" if terminal is None else "text"
        (self.root / "tmp/cmdline").write_text(f"auto=true priority=critical url={url}\n")
        (self.root / "tmp/begin.sh").write_text(_BEGIN)
        drive = f". /usr/share/debconf/confmodule\ndb_set preseed/url {shlex.quote(url)}\n{steps}\necho the end\n"
        (self.root / "tmp/drive.sh").write_text(drive)
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _START],
            env={"PATH": os.environ["PATH"], "ROOT": str(self.root), "FRONTEND": frontend, "TERM": "linux"},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def read(self, path: str) -> str:
        """A file of the installer, empty if it is not there."""
        file = self.root / path.lstrip("/")
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether all steps were done."""
        return "the end" in self.read("/tmp/drive.log")

    @property
    def parked(self) -> bool:
        """Whether a script gave up and holds the installer."""
        return "3600" in self.pauses()

    def pauses(self) -> list[str]:
        """What was slept, in seconds."""
        return self.read("/tmp/sleeps").split()

    def holding(self, text: str, where: str = "/") -> set[str]:
        """The files below ``where`` in which the text stands."""
        found = set()
        for folder, _, names in os.walk(self.root / where.lstrip("/")):
            for name in names:
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes():
                    found.add(f"/{path.relative_to(self.root)}")
        return found

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into the installer's root."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(mode)


@contextmanager
def userland(pristine: Path, place: Path, busybox: str) -> Iterator[Userland]:
    """A copy of an unpacked installer, with a disk that nobody opens and a /target that notes what is called in it."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(place / "root")], check=True)
    here = Userland(place / "root")
    for name, (major, minor) in _NODES.items():
        (here.root / "dev" / name).unlink(missing_ok=True)
        os.mknod(here.root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.mknod(here.root / DISK.lstrip("/"), 0o600 | stat.S_IFBLK, os.makedev(7, 250))
    disk = f"/sys/block/{DISK.rsplit('/', 1)[-1]}"
    here.write(f"{disk}/size", f"{16 << 21}\n")
    here.write("/sys/class/net/ens4/address", "52:54:00:12:34:56\n")
    (here.root / "sys/class/net/ens4/device").mkdir()
    here.write("/bin/blockdev-keygen", "#!/bin/sh\nexit 1\n", 0o755)
    here.write("/bin/sleep", _SLEEP, 0o755)
    for folder in ("bin", "etc/network", "root", "usr/sbin", "var/log", "tmp"):
        (here.root / "target" / folder).mkdir(parents=True)
    subprocess.run(["cp", busybox, str(here.root / "target/bin/busybox")], check=True)
    for program in ("bin/sh", "usr/sbin/chpasswd"):
        here.write(f"/target/{program}", _TARGET_PROGRAM, 0o755)
    try:
        yield here
    finally:
        here.process.kill()
        here.process.wait()


def environment(text: str) -> Mapping[str, str]:
    """The variables that a program of the new system saw."""
    return dict(line.split("=", 1) for line in text.splitlines()[1:] if "=" in line)
