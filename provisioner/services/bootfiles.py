"""What TFTP serves: the loaders, the generated boot files, and sealed kernels for loaders without HTTP."""

import os
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.addresses import looks_like_mac, normal_mac
from provisioner.core.bootplan import Admission, Network, admit
from provisioner.core.lifecycle import MachineState
from provisioner.core.localboot import DISKS
from provisioner.errors import ProvisionerError
from provisioner.render import bootscripts
from provisioner.services import loaders as localdisk
from provisioner.services import looks, media
from provisioner.services.boot import BootRequest, boot_script, local_script
from provisioner.services.discovery import Sighting
from provisioner.services.site import Site
from provisioner.store.engine import glance

# Debian's packages: ipxe, pxelinux, syslinux-common. Published by name alone; nothing else of these folders is.
_LOADERS = {
    "undionly.kpxe": "/usr/lib/ipxe/undionly.kpxe",
    "ipxe.efi": "/usr/lib/ipxe/ipxe.efi",
    "snponly.efi": "/usr/lib/ipxe/snponly.efi",
    "pxelinux.0": "/usr/lib/PXELINUX/pxelinux.0",
    "ldlinux.c32": "/usr/lib/syslinux/modules/bios/ldlinux.c32",
}
_GENERATED = ("autoexec.ipxe", "grub/grub.cfg")
_BY_MAC = ("grub/by-mac", "pxelinux.cfg")
_BY_HTTP = ("snponly.efi", "ipxe.efi")
# Signed GRUB asks with its prefix; the first answer leads each machine to its own file.
_GRUB_CFG = "set timeout=0\nconfigfile /grub/by-mac/$net_default_mac\n"


@dataclass(frozen=True)
class BootFile:
    """A file to serve: bytes, or an open descriptor that the caller closes."""

    content: bytes | None = None
    descriptor: int | None = None
    sighting: Sighting | None = None
    """A machine that nobody registered asked for it; worth recording."""


def loaders() -> dict[str, Path]:
    """The loaders that are installed on this host."""
    return {name: Path(path) for name, path in _LOADERS.items() if Path(path).is_file()}


def missing_loaders() -> list[str]:
    """The loaders that every site needs and this host does not have."""
    return [name for name in ("undionly.kpxe", "snponly.efi") if name not in loaders()]


def family(name: str) -> str:
    """What kind of file that is, from a list that no client can make longer: a loader's name, or a folder."""
    if name in _LOADERS or name in DISKS or name in _GENERATED:
        return name
    folder = name.rpartition("/")[0]
    if folder in _BY_MAC:
        return folder
    return "media" if folder.startswith("media/sha256/") else "other"


def by_http(site: Site, name: str) -> bytes | None:
    """A loader that the boot plane serves: those for the local disk, and iPXE for UEFI HTTP boot."""
    if name not in _BY_HTTP:
        return localdisk.find(site, name)
    path = loaders().get(name)
    return None if path is None else path.read_bytes()


def find(site: Site, name: str, client: str, local: str) -> BootFile | None:
    """The file of that name for this client, or None."""
    if name in _LOADERS:
        path = loaders().get(name)
        return None if path is None else BootFile(descriptor=os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    if name in DISKS:
        image = localdisk.find(site, name)
        return None if image is None else BootFile(image)
    if name == "autoexec.ipxe":
        return BootFile(bootscripts.first_ipxe(_boot_url(site, local)).encode())
    if name == "grub/grub.cfg":
        return BootFile(_GRUB_CFG.encode())
    folder, _, last = name.rpartition("/")
    if folder in _BY_MAC:
        return _by_mac(site, folder, last, client, local)
    if folder.startswith("media/sha256/"):
        return _sealed_media(site, folder.removeprefix("media/sha256/"))
    return None


def size(descriptor: int) -> int:
    """The size in bytes of an open file."""
    return os.fstat(descriptor).st_size


def _by_mac(site: Site, folder: str, last: str, client: str, local: str) -> BootFile | None:
    loader = "grub" if folder.startswith("grub") else "pxelinux"
    if not looks_like_mac(last):
        # pxelinux asks for its UUID, then parts of its address in hex, then `default`: never an installer (R02).
        return BootFile(bootscripts.local_pxelinux().encode()) if last == "default" else None
    request = BootRequest(mac=last, source=client, loader=loader, platform="pcbios", boot_url=_boot_url(site, local))
    if not _admitted(site, normal_mac(last), client):
        return BootFile(local_script(request).encode())
    answer = boot_script(site, request)
    return BootFile(answer.text.encode(), sighting=answer.sighting)


def _admitted(site: Site, mac: str, client: str) -> bool:
    """Whether this client may see the machine's own file at all (T27)."""
    try:
        with glance(site.engine) as connection:
            world = looks.world(connection, mac)
        networks = [Network(each.name, each.cidr, each.dhcp) for each in world.subnets]
        if world.machine is None or world.machine.state == MachineState.DISCOVERED:
            return True  # it is only told to wait
        return admit(client, world.assigned, networks) is not Admission.REFUSED
    except ProvisionerError:
        return False


def _sealed_media(site: Site, sha256: str) -> BootFile | None:
    if len(sha256) != 64 or not sha256.isalnum():
        return None
    descriptor = media.open_beneath(site.media_dir / "sha256", f"{sha256[:2]}/{sha256}")
    return None if descriptor is None else BootFile(descriptor=descriptor)


def _boot_url(site: Site, local: str) -> str:
    """Our URL as this client reaches us: the setting, or the address that it asked."""
    if site.settings.boot_url:
        return site.settings.boot_url
    port = site.settings.boot_bind.rpartition(":")[2]
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"
