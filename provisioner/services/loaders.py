"""The small EFI loaders that iPXE chains to get to the local disk: GRUB with a configuration of ours inside.

They are made on this host by ``grub-mkimage``: `init` does, and `serve` when one is missing or was made from another
configuration. Each says in itself what it was made from.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import structlog

from provisioner.core.localboot import DISKS
from provisioner.errors import ProgramFailed, ProgramMissing, ProvisionerError
from provisioner.render import bootscripts
from provisioner.services.files import replacing, translated
from provisioner.services.site import Site

log = structlog.get_logger()
MODULE_DIRS = (Path("/usr/lib/grub/x86_64-efi"), Path("/usr/share/grub/x86_64-efi"))
_PROGRAMS = ("grub-mkimage", "grub2-mkimage")
# Nothing that is not needed, since every machine fetches it at every boot: the EFI system partition is always FAT.
_DISKS = ("part_gpt", "part_msdos", "fat")
_SCRIPT = ("memdisk", "tar", "normal", "test", "regexp", "echo", "sleep", "minicmd")
_MODULES = (*_DISKS, *_SCRIPT, "chain", "boot")
_TIMEOUT_SECONDS = 20


def find(site: Site, name: str) -> bytes | None:
    """The loader of that name, or None; reads one file and asks nobody."""
    if name not in DISKS:
        return None
    try:
        return _path(site, name).read_bytes()
    except OSError:
        return None


def make(site: Site, *, anew: bool = False) -> list[str]:
    """Make the loaders that are missing or made from another configuration, or all; the names of those.

    Raises ProgramMissing, ProgramFailed, StorageFull or Unavailable; what was there before stays then.
    """
    wanted = list(DISKS) if anew else missing(site)
    for name in wanted:
        made = image(_configuration(name))
        with translated(_path(site, name).parent):
            _path(site, name).parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(_path(site, name)) as file:
            file.write(made)
    return wanted


def try_to_make(site: Site) -> None:
    """Like ``make``, for those whom a missing loader must not stop: `provisioner check` says what is wrong."""
    try:
        made = make(site)
    except ProvisionerError as error:
        log.warning("no loader for the local disk", error=str(error), hint=error.hint)
        return
    if made:
        log.info("loaders made", names=made)


def missing(site: Site) -> list[str]:
    """The loaders that are missing or made from another configuration."""
    return [name for name in DISKS if not _is_current(site, name)]


def obstacle() -> ProgramMissing | None:
    """What of this host's programs is missing to make them."""
    packages = [] if _program() else ["grub-common"]
    packages += [] if _modules() else ["grub-efi-amd64-bin"]
    if not packages:
        return None
    return ProgramMissing(
        f"grub-mkimage or its modules for x86-64 EFI are not installed (Debian: {', '.join(packages)})",
        hint=f"apt install {' '.join(packages)}",
    )


def _path(site: Site, name: str) -> Path:
    return site.settings.state_dir / "loaders" / name


def _is_current(site: Site, name: str) -> bool:
    there = find(site, name)
    return there is not None and _configuration(name) in there


def _configuration(name: str) -> bytes:
    """What GRUB reads; its first line tells these modules and this text from any other."""
    text = bootscripts.localdisk_grub(DISKS[name])
    recipe = hashlib.sha256(f"{_MODULES}\n{text}".encode()).hexdigest()
    return f"# {name} {recipe}\n{text}".encode()


def image(configuration: bytes) -> bytes:
    """A GRUB for x86-64 EFI with this configuration inside. Raises ProgramMissing or ProgramFailed.

    The configuration is in a memdisk: what grub-mkimage's ``-c`` takes is read before GRUB knows ``if`` and ``for``.
    """
    program, modules = _program(), _modules()
    if program is None or modules is None:
        raise obstacle() or ProgramMissing("grub-mkimage is not installed", hint="apt install grub-common")
    with tempfile.TemporaryDirectory(prefix="provisioner-loader-") as directory:
        memdisk, out = Path(directory, "memdisk.tar"), Path(directory, "loader.efi")
        with translated(memdisk):
            memdisk.write_bytes(_tar({"boot/grub/grub.cfg": configuration}))
        # With a memdisk the prefix is always (memdisk)/boot/grub, whatever -p says.
        command = [program, "-O", "x86_64-efi", "-d", str(modules), "-p", "/boot/grub"]
        command += ["-m", str(memdisk), "-o", str(out), *_MODULES]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProgramFailed(f"{program}: {error}", hint="run `provisioner check`") from error
        if done.returncode != 0 or not out.is_file():
            hint = "apt install --reinstall grub-common grub-efi-amd64-bin"
            raise ProgramFailed(f"{program} ended with {done.returncode}: {done.stderr.strip()[:300]}", hint=hint)
        return out.read_bytes()


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _program() -> str | None:
    return next((found for name in _PROGRAMS if (found := shutil.which(name))), None)


def _modules() -> Path | None:
    return next((each for each in MODULE_DIRS if (each / "chain.mod").is_file()), None)
