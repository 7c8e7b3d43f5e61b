"""What firmware says it is, and which loader it can run."""

from dataclasses import dataclass

from provisioner.errors import InvalidInput


@dataclass(frozen=True)
class Firmware:
    """One way of booting: DHCP option 93 (RFC 4578 and IANA's registry), iPXE's ``${platform}``, its loader."""

    name: str
    arch_codes: tuple[int, ...]
    platform: str
    loader: str


# EDK2 sends 7 for x86-64 although the registry long said 9; both mean the same machine.
BIOS = Firmware("bios", (0,), "pcbios", "undionly.kpxe")
UEFI = Firmware("uefi", (7, 9), "efi", "snponly.efi")
KNOWN = (BIOS, UEFI)


def firmware(name: str) -> Firmware:
    """The firmware called ``bios`` or ``uefi``. Raises InvalidInput."""
    for known in KNOWN:
        if known.name == name:
            return known
    raise InvalidInput(f"{name!r} is not a firmware", hint=f"choose one of {', '.join(known.name for known in KNOWN)}")


def by_platform(platform: str) -> Firmware:
    """The firmware that iPXE reports as its platform; an unknown one is taken for BIOS."""
    return UEFI if platform == UEFI.platform else BIOS


FAMILIES = {
    "rhel": "kickstart",
    "rocky": "kickstart",
    "alma": "kickstart",
    "centos": "kickstart",
    "oracle": "kickstart",
    "fedora": "kickstart",
    "debian": "preseed",
    "ubuntu": "autoinstall",
    "sles": "autoyast",
    "opensuse": "autoyast",
    "esxi": "esxi",
    "fcos": "ignition",
    "flatcar": "ignition",
}
"""The family of answer file that each os's installer reads."""

VALIDATED, STRUCTURAL = "validated", "structure-checked"
TIERS = {
    "kickstart": VALIDATED,
    "preseed": VALIDATED,
    "autoinstall": VALIDATED,
    "autoyast": STRUCTURAL,
    "esxi": STRUCTURAL,
    "ignition": STRUCTURAL,
}
"""How far a family's answer files are proved: by the family's own tool, or by our own check of their structure."""


def family_of(os: str) -> str:
    """The family of an os. Raises InvalidInput that lists the known ones."""
    if os not in FAMILIES:
        raise InvalidInput(f"{os!r} is not an os this version installs", hint=f"known: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[os]
