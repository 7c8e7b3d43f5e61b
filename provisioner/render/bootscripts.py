"""Boot scripts for iPXE, GRUB and PXELINUX. No templates: what a machine boots must not depend on content.

Debian 12's iPXE is a 2019 build: it has no ``params`` (no POST), no ``vcreate`` and no ``poweroff``. The NIC that is
open is ``netX``; ``net0`` need not be it. URLs are absolute, since behind a proxy DHCP server ``${next-server}`` is
somebody else.
"""

import re
from collections.abc import Sequence

from provisioner.errors import InvalidInput

RETRY_SECONDS = 10
RETRIES = 30

_BAD = ("${", "'", '"', "\\", "`", "||", "&&")
_IPXE_URL = re.compile(r"[A-Za-z0-9@:_/.,=+~%?&;()\[\]-]+")
_REPORT = (
    "uuid=${uuid}&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring}"
    "&asset=${asset:uristring}&arch=${buildarch}&platform=${platform}&ip=${netX/ip}"
)
# A vendor's own loader before EFI/BOOT: Red Hat's fallback loader there rewrites the boot order and reboots.
_VENDORS = ("rocky", "redhat", "almalinux", "centos", "fedora", "debian", "ubuntu")
_EFI_LOADERS = (
    *(f"/EFI/{vendor}/shimx64.efi" for vendor in _VENDORS),
    "/EFI/debian/grubx64.efi",
    "/EFI/opensuse/shim.efi",
    "/EFI/sles/shim.efi",
    "/EFI/BOOT/BOOTX64.EFI",
)


def shown(text: str) -> str:
    """The text as any console can show it: at most 160 printable ASCII characters, nothing that a loader expands."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in text)
    return re.sub(r"[$'\"\\`|&;<>]", " ", plain)[:160].rstrip()


def first_ipxe(boot_url: str) -> str:
    """The script of ``GET /boot/ipxe``: asks for the script of this machine and says who it is.

    When nobody answers for five minutes it leaves to the firmware's next boot device, so that a machine that is not
    being built comes up although Provisioner is down.
    """
    base = _url(boot_url).rstrip("/")
    return _ipxe(
        "set tries:int32 0",
        "isset ${netX/ip} || dhcp || goto wait",
        ":ask",
        f"echo Provisioner: asking {base} what ${{netX/mac}} is to boot",
        f"chain --replace {base}/boot/ipxe/${{netX/mac:hexhyp}}?{_REPORT} || goto wait",
        "exit 1",
        ":wait",
        *_pause("Provisioner: no answer", "ask"),
        "echo Provisioner: giving up, leaving to the next boot device",
        "exit 1",
    )


def install_ipxe(kernel_url: str, initrd_urls: Sequence[str], args: Sequence[str], title: str) -> str:
    """Loads kernel and initrds and boots them. A failure is retried, and ends in a reboot, never in another installer.

    ``initrd=`` is on the command line because EFI kernels need it and this iPXE has no LoadFile2; BOOTIF names the
    NIC that is open.
    """
    names = ["initrd" if index == 0 else f"initrd{index}" for index in range(len(initrd_urls))]
    line = [*(f"initrd={name}" for name in names), "BOOTIF=01-${netX/mac:hexhyp}", *(_argument(arg) for arg in args)]
    return _ipxe(
        "set tries:int32 0",
        f"echo Provisioner: installing {shown(title)}",
        ":load",
        "imgfree",
        " ".join(["kernel --name kernel", _url(kernel_url), *line, "|| goto wait"]),
        *(f"initrd --name {name} {_url(url)} || goto wait" for name, url in zip(names, initrd_urls, strict=True)),
        "boot || goto wait",
        ":wait",
        *_pause("Provisioner: could not load or start the installer", "load"),
        "echo Provisioner: giving up, starting over",
        "reboot",
    )


def local_ipxe(platform: str, chain_url: str | None = None) -> str:
    """To the local disk. ``chain_url``: a small EFI loader that looks for the disk's own.

    On EFI ``exit`` alone does reach the disk, but OVMF tries PXEv6 and HTTP first, for minutes. ``exit 1`` because an
    EFI boot option that ends with success makes the firmware stop in its menu.
    """
    lines = ["echo Provisioner: booting the local disk"]
    if platform == "pcbios":
        lines.append("sanboot --no-describe --drive 0x80 ||")
    elif chain_url is not None:
        lines.append(f"chain {_url(chain_url)} ||")
    return _ipxe(*lines, "exit 1")


def halt_ipxe(lines: Sequence[str]) -> str:
    """Shows the lines and waits for ever; Ctrl-C does not get out of it, only a power cycle."""
    return _ipxe(*_echoes(lines), ":halt", "sleep 3600 || goto halt", "goto halt")


def discovery_ipxe(machine_text: str, again_url: str, seconds: int) -> str:
    """Shows what the machine waits for, sleeps, and asks again."""
    return _ipxe(
        *_echoes([machine_text]),
        ":again",
        f"echo Provisioner: asking again in {seconds} seconds",
        f"sleep {seconds} ||",
        f"chain --replace {_url(again_url)} || goto again",
        "goto again",
    )


def install_grub(kernel: str, initrds: Sequence[str], args: Sequence[str], title: str, mac: str | None = None) -> str:
    """Like ``install_ipxe``; ``kernel`` and ``initrds`` are paths on the TFTP server, since signed GRUB has no HTTP.

    ``mac`` with colons or hyphens becomes BOOTIF: ``$net_default_mac`` has colons, which installers take differently.
    """
    bootif = [f"BOOTIF=01-{mac.replace(':', '-').lower()}"] if mac else []
    line = " ".join(_quoted(word) for word in [_path(kernel), *bootif, *(_argument(arg) for arg in args)])
    return _grub(
        f"echo 'Provisioner: installing {shown(title)}'",
        f"if linux {line}; then",
        f"  if initrd {' '.join(_quoted(_path(path)) for path in initrds)}; then boot; fi" if initrds else "  boot",
        "fi",
        "echo 'Provisioner: could not load or start the installer, starting over'",
        "sleep 60",
        "reboot",
    )


def local_grub() -> str:
    """To the local disk: the first loader found on any disk; else back to the firmware."""
    return _grub(
        "echo 'Provisioner: booting the local disk'",
        f"for loader in {' '.join(_EFI_LOADERS)}; do",
        "  if search --no-floppy --set=root --file $loader; then",
        "    if chainloader ($root)$loader; then boot; fi",
        "  fi",
        "done",
        "exit",
    )


def halt_grub(lines: Sequence[str]) -> str:
    """Shows the lines and waits for ever."""
    return _grub(*(f"echo '{shown(line)}'" for line in lines), "while true; do", "  sleep 3600", "done")


def discovery_grub(machine_text: str, again_path: str, seconds: int) -> str:
    """Shows what the machine waits for, sleeps, and reads ``again_path`` (on the TFTP server) anew."""
    return _grub(
        f"echo '{shown(machine_text)}'",
        f"echo 'Provisioner: asking again in {seconds} seconds'",
        f"sleep {seconds}",
        f"configfile {_quoted(again_path)}",
    )


def local_pxelinux() -> str:
    """To the local disk, through the BIOS."""
    return "DEFAULT local\nPROMPT 0\nNOESCAPE 1\nSAY Provisioner: booting the local disk\nLABEL local\n  LOCALBOOT 0\n"


def halt_pxelinux(lines: Sequence[str]) -> str:
    """Shows the lines and stays at a prompt that can start nothing."""
    says = "".join(f"SAY {shown(line)}\n" for line in lines)
    return f"{says}DEFAULT halted\nPROMPT 1\nTIMEOUT 0\nIMPLICIT 0\nNOESCAPE 1\nLABEL halted\n  KERNEL none\n"


def _ipxe(*lines: str) -> str:
    return "\n".join(["#!ipxe", *lines, ""])


def _grub(*lines: str) -> str:
    return "\n".join([*lines, ""])


def _echoes(lines: Sequence[str]) -> list[str]:
    return ["echo", *(f"echo {shown(line)}" for line in lines)]


def _pause(message: str, again: str) -> list[str]:
    """Say so, wait, and go again, ``RETRIES`` times; then fall through."""
    return [
        "inc tries",
        f"iseq ${{tries}} {RETRIES} && goto enough ||",
        f"echo {message}, trying again in {RETRY_SECONDS} seconds",
        f"sleep {RETRY_SECONDS} ||",
        f"goto {again}",
        ":enough",
    ]


def _url(url: str) -> str:
    if not _IPXE_URL.fullmatch(url):
        raise InvalidInput(f"{url[:100]!r} cannot stand in a boot script", hint="write it without spaces, quotes and $")
    return url


def _argument(argument: str) -> str:
    # A word that begins with # is a comment for iPXE, and a lone ; ends its command.
    if not re.fullmatch(r"[!-~]+", argument) or argument[0] in "#;" or any(bad in argument for bad in _BAD):
        raise InvalidInput(f"the kernel option {argument[:100]!r} cannot stand in a boot script")
    return argument


def _path(path: str) -> str:
    return path if path.startswith(("/", "(")) else f"/{path}"


def _quoted(word: str) -> str:
    """One word of GRUB's language; inside single quotes nothing is special."""
    if "'" in word or not re.fullmatch(r"[!-~]+", word):
        raise InvalidInput(f"{word[:100]!r} cannot stand in a boot script")
    return f"'{word}'"
