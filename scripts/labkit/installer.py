"""Debian's own installer in the lab: its kernel and initrd from Debian's package, and a tree for it to install from."""

import fcntl
import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.assets import Image, cache_dir, stem_cell
from labkit.machine import Hardware
from labkit.processes import LabError
from labkit.server import Server

PACKAGE = "debian-installer-12-netboot-amd64"
DISTRO = "debian-12"
PROFILE = "installer-image"
_CODENAMES = {"12": "bookworm", "13": "trixie"}
_INSIDE = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"
# What the installer would fetch as components before it looks for disks, in the order of their needs.
_MODULES = ("block/virtio_blk", "fs/ext4/ext4", "fs/jbd2/jbd2", "fs/mbcache", "lib/crc16", "crypto/crc32c_generic")


@dataclass(frozen=True)
class Netboot:
    """The installer as Debian ships it, and the drivers of disks and file systems that belong to its kernel."""

    kernel: Path
    initrd: Path
    modules: Path
    version: str

    def options(self, tree: Path) -> list[str]:
        """The arguments of ``provisioner distro add`` that register it."""
        where = ["--kernel", str(self.kernel), "--initrd", str(self.initrd), "--tree", str(tree)]
        return [DISTRO, "--os", "debian", "--version", "12", *where]


def netboot() -> Netboot:
    """The installer, fetched by ``apt-get download`` if the cache does not have the version that apt has now.

    Nothing is installed. Where apt has none, or cannot fetch it, an older one from the cache does; a host of another
    release than 12 fetches it by package lists of our own. LabError where there is none.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "installer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            directory = cache / f"installer-{_candidate(PACKAGE).replace('/', '_')}"
            if not (directory / "version").exists():
                _fetch(cache, directory)
        except LabError:
            kept = sorted(cache.glob("installer-*/version"), key=lambda path: path.stat().st_mtime)
            directory = kept[-1].parent if kept else cache / "installer-archive"
            if not kept:
                _fetch(cache, directory, _CODENAMES["12"])
    version = (directory / "version").read_text().strip()
    return Netboot(directory / "linux", directory / "initrd.gz", directory / "modules.tar.gz", version)


def make_tree(directory: Path, installer: Netboot, image: Image) -> Path:
    """What the distro serves: drivers, the image, and what is asked of a mirror before the disk is touched."""
    tree = directory / "tree"
    (tree / "dists/bookworm").mkdir(parents=True)
    (tree / "dists/bookworm/Release").write_text("Origin: Lab\nSuite: oldstable\nCodename: bookworm\n")
    shutil.copy(installer.modules, tree / "modules.tar.gz")
    image.file.rename(tree / image.file.name)
    return tree


def _candidate(package: str) -> str:
    policy = _run("apt-cache", "policy", package).stdout
    found = [line.split()[1] for line in policy.splitlines() if line.strip().startswith("Candidate:")]
    if not found or found[0] == "(none)":
        raise LabError(
            f"apt knows no package {package}: `apt-get update`, with Debian 12's main archive in its sources"
        )
    return found[0]


def _fetch(cache: Path, directory: Path, codename: str | None = None) -> None:
    """Fetch the installer by the lists of this suite, or without one by the host's own."""
    with tempfile.TemporaryDirectory(prefix=".installer-", dir=cache) as place:
        options = _lists_of(Path(place), codename) if codename else []
        new = Path(place, "new")
        new.mkdir()
        unpacked = _unpack(Path(place), PACKAGE, _is_netboot, options)
        for name in ("linux", "initrd.gz"):
            shutil.move(unpacked / _INSIDE / name, new / name)
        release = _kernel_release(new / "initrd.gz")
        kernel = _unpack(Path(place), f"linux-image-{release}", _is_wanted, options)
        _pack_modules(kernel, new / "modules.tar.gz")
        (new / "version").write_text(f"{release}\n")
        shutil.rmtree(directory, ignore_errors=True)
        new.rename(directory)


def _unpack(place: Path, package: str, wanted: Callable[[str], bool], options: Sequence[str] = ()) -> Path:
    """Download a package and unpack the files that are wanted."""
    target = place / package
    target.mkdir()
    done = _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", *options, "download", package, cwd=place)
    archives = list(place.glob(f"{package}_*.deb"))
    if done.returncode or not archives:
        raise LabError(f"`apt-get download {package}` failed: {done.stderr.strip()}")
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archives[0])], stdout=subprocess.PIPE) as reader,
        tarfile.open(fileobj=reader.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if member.isfile() and wanted(member.name):
                archive.extract(member, target, filter="data")
    if reader.returncode:
        raise LabError(f"{archives[0].name} is not a whole Debian package: remove it and try again")
    archives[0].unlink()
    return target


def _is_netboot(name: str) -> bool:
    return name.endswith(("amd64/linux", "amd64/initrd.gz"))


def _is_wanted(name: str) -> bool:
    return "/lib/modules/" in name and any(name.endswith(f"{module}.ko") for module in _MODULES)


def _kernel_release(initrd: Path) -> str:
    """The kernel that the installer's modules belong to: others than its own would not load."""
    names = subprocess.run(
        ["cpio", "-t", "--quiet"], input=gzip.decompress(initrd.read_bytes()), capture_output=True, check=True
    ).stdout.decode()
    releases = {
        name.split("/")[2] for name in names.splitlines() if name.startswith("lib/modules/") and name.count("/") > 2
    }
    if len(releases) != 1:
        raise LabError(f"the installer's initrd has modules of {len(releases)} kernels, not one")
    return releases.pop()


def _pack_modules(kernel: Path, target: Path) -> None:
    """The modules as an archive to unpack at the installer's root."""
    with tarfile.open(target, "w:gz") as archive:
        for path in sorted(kernel.rglob("*.ko")):
            member = tarfile.TarInfo(str(path.relative_to(kernel)))
            member.size, member.mode = path.stat().st_size, 0o644
            archive.addfile(member, io.BytesIO(path.read_bytes()))


def _run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LC_ALL": "C.UTF-8"}  # what apt-cache says is read
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


def prepare(server: Server, hardware: Hardware, content: Path, secrets: Mapping[str, str]) -> None:
    """What an administrator does before the first boot: the installer as a distro, a profile, a machine, its secrets.

    ``content`` is a directory for ``provisioner apply`` whose profile ``installer-image`` writes the image that its
    parameter ``image`` names.
    """
    installer, image = netboot(), stem_cell(server.directory)
    tree = make_tree(server.directory, installer, image)
    wire = server.network
    server.cli("init")
    server.cli("distro", "add", *installer.options(tree))
    server.cli("apply", content)
    where = ["--cidr", str(wire.address.network), "--gateway", wire.server_ip, "--dns", wire.server_ip]
    server.cli("subnet", "add", "lab", *where, "--dhcp", "authoritative")
    address = ["--mac", hardware.mac, "--ip", wire.host(11)]
    server.cli("machine", "add", hardware.name, *address, "--profile", PROFILE)
    for name, value in secrets.items():
        file = server.directory / "secret"
        file.write_text(value)
        server.cli("machine", "edit", hardware.name, "--secret", f"{name}={file}")
        file.unlink()
    server.cli("machine", "edit", hardware.name, "--param", f"image={image.file.name}")


def initrd_of(release: str) -> Path:
    """The initrd of this release's installer (``12``, ``13``), fetched as `netboot` does; LabError where there is none.

    The releases after this host's own come from the same archive, by package lists of our own: this host's stay as they
    are.
    """
    if release == "12":
        return netboot().initrd
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"installer-{release}-initrd.gz"
    with (cache / "installer.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(prefix=".installer-", dir=cache) as place:
                package = PACKAGE.replace("-12-", f"-{release}-")
                options = _lists_of(Path(place), _CODENAMES[release])
                unpacked = _unpack(Path(place), package, lambda name: "/text/" in name, options)
                found = unpacked / _INSIDE.replace("/12/", f"/{release}/") / "initrd.gz"
                shutil.move(found, kept)
    return kept


def _lists_of(place: Path, codename: str) -> list[str]:
    """Options with which apt knows this suite of the archive that the host's own main component comes from."""
    wanted = ("Created-By: Packages", "Component: main")
    told = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).stdout
    archives = [line for line in sorted(set(told.split())) if line.rstrip("/").endswith("/debian")]
    if not archives:
        raise LabError("apt has no archive of Debian's main component in its sources")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (place / "sources").write_text(f"deb [signed-by={keys}] {archives[0]} {codename} main\n")
    for folder in ("parts", "lists/partial", "cache/archives/partial"):
        (place / folder).mkdir(parents=True)
    options = [f"Dir::Etc::sourcelist={place}/sources", f"Dir::Etc::sourceparts={place}/parts"]
    options += [f"Dir::State::lists={place}/lists", f"Dir::Cache={place}/cache", "APT::Sandbox::User=root"]
    arguments = [word for option in options for word in ("-o", option)]
    done = _run("apt-get", "-qq", *arguments, "update")
    if done.returncode:
        raise LabError(f"`apt-get update` for {codename} failed: {done.stderr.strip()}")
    return arguments


def unpack_root(initrd: Path, directory: Path) -> Path:
    """The installer's root file system as a directory; its programs run in a chroot as well as on a machine."""
    root = directory / "installer"
    root.mkdir()
    archive = gzip.decompress(initrd.read_bytes())
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=root, input=archive, capture_output=True, check=True)
    return root
