"""The ways from a network boot to the local disk, and the boot loaders to look for there."""

from dataclasses import dataclass

from provisioner.errors import InvalidInput

AUTO = "auto"

# A vendor's own loader before EFI/BOOT: Red Hat's fallback loader there rewrites the boot order and reboots.
_VENDORS = ("rocky", "redhat", "almalinux", "centos", "fedora", "debian", "ubuntu")
_SUSE = ("opensuse", "sles")
VENDOR_LOADERS = (
    *(f"/EFI/{vendor}/shimx64.efi" for vendor in _VENDORS),
    *(f"/EFI/{vendor}/shim.efi" for vendor in _SUSE),
    *(f"/EFI/{vendor}/grubx64.efi" for vendor in (*_VENDORS, *_SUSE)),
    "/EFI/Microsoft/Boot/bootmgfw.efi",
)
"""Where installers put their loader on the EFI system partition; shim first, since it runs under Secure Boot too."""
REMOVABLE_LOADER = "/EFI/BOOT/BOOTX64.EFI"
"""Where every firmware looks on a medium that it does not know (UEFI 2.10, 3.5.1.1); images have it, USB sticks too."""


@dataclass(frozen=True)
class Way:
    """One way to the local disk. ``bios`` and ``uefi`` say what iPXE does there."""

    name: str
    bios: str
    uefi: str
    drive: int | None = None
    """BIOS: the drive to boot, as INT 13h numbers it (RBIL, 0x80 is the first); None leaves it to the firmware."""
    loader: str | None = None
    """UEFI: the name of the small loader to chain; None leaves it to the firmware."""


_EXIT = "leaves to the firmware's next boot device"
WAYS = {
    way.name: way
    for way in (
        Way(
            AUTO,
            "boots the first disk (sanboot of drive 0x80)",
            "starts a loader that looks for the installed system's own on every disk, the first disk first",
            0x80,
            "localdisk.efi",
        ),
        Way("exit", _EXIT, _EXIT),
        Way("sanboot", "boots the first disk (sanboot of drive 0x80)", _EXIT, 0x80),
        Way(
            "second-disk",
            "boots the second disk (sanboot of drive 0x81)",
            "starts a loader that looks for the installed system's own on the second disk, then on every disk",
            0x81,
            "seconddisk.efi",
        ),
    )
}
"""Each leaves to the firmware's next boot device when it fails."""
DISKS = {"localdisk.efi": ("(hd*)",), "seconddisk.efi": ("(hd1) (hd1,*)", "(hd*)")}
"""The small loaders, each with the disks that it looks at, as GRUB names them: one group after the other."""


def check_way(name: str, where: str) -> str:
    """The name of a way, as it is. Raises InvalidInput that lists the ways."""
    if name not in WAYS:
        raise InvalidInput(
            f"{name!r} is not a way to the local disk", where=where, hint=f"choose one of {', '.join(WAYS)}"
        )
    return name


def way(name: str) -> Way:
    """The way of that name. One that is not known (an older program's) is `auto`: a machine must boot."""
    return WAYS.get(name, WAYS[AUTO])
