"""Boot scripts for iPXE, GRUB and PXELINUX. No templates: what a machine boots must not depend on content.

Debian 12's iPXE is a 2019 build: it has no ``params`` (no POST), no ``vcreate`` and no ``poweroff``. The NIC that is
open is ``netX``; ``net0`` need not be it. URLs are absolute, since behind a proxy DHCP server ``${next-server}`` is
somebody else.
"""

import itertools
import re
from collections.abc import Sequence

from provisioner.core.localboot import AUTO, DISKS, REMOVABLE_LOADER, VENDOR_LOADERS, way
from provisioner.errors import InvalidInput

RETRY_SECONDS = 10
RETRIES = 30

_BAD = ("${", "'", '"', "\\", "`", "||", "&&")
_IPXE_URL = re.compile(r"[A-Za-z0-9@:_/.,=+~%?&;()\[\]-]+")
_REPORT = (
    "uuid=${uuid}&serial=${serial:uristring}&manufacturer=${manufacturer:uristring}&product=${product:uristring}"
    "&asset=${asset:uristring}&arch=${buildarch}&platform=${platform}&ip=${netX/ip}"
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


def install_esxi_ipxe(efi_url: str | None, bios_url: str | None, boot_cfg_url: str, title: str) -> str:
    """Starts VMware's mboot, which reads boot.cfg and loads all that it names. It takes ``-c URL`` from iPXE.

    ``efi_url`` is mboot.efi, ``bios_url`` mboot.c32: that one needs an iPXE with COMBOOT. None is said on the console.
    A failure ends in a reboot.
    """
    return _ipxe(
        "set tries:int32 0",
        f"echo Provisioner: installing {shown(title)}",
        ":load",
        "imgfree",
        "iseq ${platform} efi || goto bios",
        *_mboot(efi_url, "mboot.efi", boot_cfg_url),
        ":bios",
        *_mboot(bios_url, "mboot.c32", boot_cfg_url),
        ":wait",
        *_pause("Provisioner: could not load or start the installer", "load"),
        "echo Provisioner: giving up, starting over",
        "reboot",
    )


def _mboot(url: str | None, name: str, boot_cfg_url: str) -> list[str]:
    if url is None:
        return [f"echo Provisioner: this distro has no {name}, which this firmware needs to start ESXi", "goto wait"]
    return [f"kernel --name kernel {_url(url)} -c {_url(boot_cfg_url)} || goto wait", "boot || goto wait", "goto wait"]


def esxi_boot_cfg(shipped: str, prefix: str, options: Sequence[str]) -> str:
    """The boot.cfg of one machine, from the one on the medium: the same kernel and modules, fetched from ``prefix``.

    Names lose their leading slash, or mboot would not put the prefix before them. Raises InvalidInput for a text that
    is no boot.cfg.
    """
    said = dict(line.strip().split("=", 1) for line in shipped.splitlines() if "=" in line and line[:1] not in "#")
    missing = [key for key in ("kernel", "modules") if not said.get(key, "").strip()]
    if missing:
        raise InvalidInput(
            f"the distro's boot.cfg has no line {missing[0]}=",
            where="boot.cfg",
            hint="an ESXi distro's initrd is its medium's boot.cfg: `provisioner distro edit NAME --initrd FILE`",
        )
    modules = [name.strip().lstrip("/") for name in said["modules"].split(" --- ")]
    kernel = said["kernel"].strip().lstrip("/")
    for name in (kernel, *modules):
        if not re.fullmatch(r"[A-Za-z0-9._/-]{1,200}", name) or ".." in name.split("/"):
            raise InvalidInput(f"{name[:100]!r} is not a module of ESXi", where="boot.cfg")
    lines = ["bootstate=0", f"title={shown(said.get('title', 'Loading ESXi installer'))}", "timeout=0"]
    lines += [f"prefix={_url(prefix.rstrip('/'))}", f"kernel={kernel}"]
    lines += [f"kernelopt={' '.join(_argument(option) for option in options)}", f"modules={' --- '.join(modules)}"]
    build = said.get("build", "").strip()
    return "\n".join([*lines, f"build={shown(build)}", "updated=0", ""])


def local_ipxe(platform: str, local_way: str = AUTO, boot_url: str = "") -> str:
    """To the local disk; ``local_way`` is one of ``core.localboot.WAYS``, ``boot_url`` where its loader is served.

    On EFI ``exit`` alone does reach the disk, but OVMF tries PXEv6 and HTTP first, for minutes. ``exit 1`` because an
    EFI boot option that ends with success makes the firmware stop in its menu. It comes too when the loader is not
    there, is refused (Secure Boot), or finds no disk.
    """
    chosen = way(local_way)
    lines = ["echo Provisioner: booting the local disk"]
    if platform == "pcbios":
        lines += [f"sanboot --no-describe --drive {chosen.drive:#x} ||"] if chosen.drive is not None else []
    elif chosen.loader is not None and boot_url:
        lines.append(f"chain {loader_url(boot_url, chosen.loader)} ||")
    return _ipxe(*lines, "exit 1")


def loader_url(boot_url: str, name: str) -> str:
    """Where the boot plane serves a small loader of ours."""
    return _url(f"{boot_url.rstrip('/')}/boot/loader/{name}")


def halt_ipxe(lines: Sequence[str]) -> str:
    """Shows the lines and waits for ever; Ctrl-C does not get out of it, only a power cycle."""
    return _ipxe(*_echoes(lines), ":halt", "sleep 3600 || goto halt", "goto halt")


def discovery_ipxe(lines: Sequence[str], boot_url: str, seconds: int, waits_for: str) -> str:
    """Shows the lines, sleeps, and asks again with a fresh lease, for ever; Ctrl-C ends the sleep.

    The lease is asked for anew because the address may be another by now: the one that somebody gave the machine.
    ``seconds`` and ``waits_for``, a word, are sent back, so that the next wait can be longer.
    """
    again = f"{_url(boot_url).rstrip('/')}/boot/ipxe/${{netX/mac:hexhyp}}?{_REPORT}&wait={seconds}&for={waits_for}"
    return _ipxe(
        *_echoes(lines),
        "set nic ${netX/ifname}",  # a NIC that gets no lease is closed, and netX is nothing then
        ":again",
        f"echo Provisioner: asking again in {seconds} seconds (Ctrl-C asks at once)",
        f"sleep {seconds} ||",
        "dhcp ${nic} ||",
        f"chain --replace {again} || goto again",
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


def local_grub(local_way: str = AUTO) -> str:
    """To the local disk by a GRUB that came from the network (Secure Boot); else back to the firmware."""
    lines = ["echo 'Provisioner: booting the local disk'"]
    loader = way(local_way).loader
    if loader is not None:
        lines += _look_on_disks(DISKS[loader])
    return _grub(*lines, "exit")


def localdisk_grub(disks: Sequence[str]) -> str:
    """The configuration inside the small loader that iPXE chains; ``disks`` as in ``core.localboot.DISKS``."""
    return _grub(
        "echo 'Provisioner: looking for the local disk'",
        *_look_on_disks(disks),
        "echo 'Provisioner: no boot loader was found on any disk of this machine, leaving to the firmware'",
        "sleep 5",
        "exit",
    )


def _look_on_disks(groups: Sequence[str]) -> list[str]:
    """In each group of disks the first vendor's loader, disk by disk, then the first EFI/BOOT.

    ``hd`` are disks and USB sticks, not CDs (``cd``) nor what came from the network. A stick with an installer has
    EFI/BOOT alone, so the system on a disk comes before it. A loader that is refused, or gives up, is no end either.
    """
    lines = []
    for disks in groups:
        lines += ["set parts=", f"for part in {disks}; do"]
        lines += ['  if [ -d $part/EFI ]; then set parts="$parts $part"; fi', "done"]
        lines += [*_start_first(VENDOR_LOADERS), *_start_first([REMOVABLE_LOADER])]
    return lines


def _start_first(paths: Sequence[str]) -> list[str]:
    return [
        "for part in $parts; do",
        f"  for path in {' '.join(paths)}; do",
        "    if [ -f $part$path ]; then",
        '      echo "Provisioner: starting $part$path"',
        "      set root=$part",  # chainloader refuses to work while root is the network
        "      if chainloader $part$path; then boot; fi",
        "    fi",
        "  done",
        "done",
    ]


def halt_grub(lines: Sequence[str]) -> str:
    """Shows the lines and waits for ever."""
    return _grub(*(f"echo '{shown(line)}'" for line in lines), "while true; do", "  sleep 3600", "done")


def discovery_grub(lines: Sequence[str], again_path: str, waits: Sequence[int]) -> str:
    """Shows the lines, sleeps, and reads ``again_path`` (on the TFTP server) anew, for ever; ``waits`` in seconds.

    The first reading holds the loop; later ones only show their lines and lengthen the wait, or boot. Nested files
    would use up GRUB's stack in an hour.
    """
    longer = [
        f'{"if" if index == 0 else "elif"} [ "$provisioner_wait" = {before} ]; then set provisioner_wait={after}'
        for index, (before, after) in enumerate(itertools.pairwise([*waits, waits[-1]]))
    ]
    return _grub(
        *(f"echo '{shown(line)}'" for line in lines),
        *longer,
        f"else set provisioner_wait={waits[0]}",
        "fi",
        'echo "Provisioner: asking again in $provisioner_wait seconds"',
        'if [ -z "$provisioner_waits" ]; then',
        "  set provisioner_waits=1",
        "  while true; do",
        "    sleep $provisioner_wait",
        "    net_bootp",
        f"    source {_quoted(again_path)}",
        "  done",
        "fi",
    )


def local_pxelinux() -> str:
    """To the local disk, through the BIOS's own order: PXELINUX alone has no other way."""
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
