"""What an installation medium is, by its own words: os, version, arch, and where kernel and initrd are in it.

Pure: the caller gives the names of all files and the texts of those in ``WANTED``.
"""

import configparser
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from provisioner.core import treepaths
from provisioner.core.choices import ARCHES
from provisioner.core.firmware import family_of
from provisioner.errors import InvalidInput, MediaMissing

WANTED = (
    ".treeinfo",
    "treeinfo",
    ".discinfo",
    ".disk/info",
    "media.1/media",
    "media.1/products",
    "boot.cfg",
    "version.info",
    "version.txt",
)
"""The files whose texts tell what a medium is."""
LONGEST_TEXT = 64 * 1024

_LOOKED_FOR = (
    ".treeinfo or .discinfo (Rocky, RHEL, Alma, CentOS Stream, Fedora, Oracle), .disk/info or a netboot directory"
    " (Debian), casper/ (Ubuntu), media.1/ (SLES, openSUSE), boot.cfg (ESXi), Fedora CoreOS's and Flatcar's file names"
)
_ARCHES = {"amd64": "x86_64", "x86-64": "x86_64", "x64": "x86_64"}
_RED_HATS = (
    ("red hat enterprise linux", "rhel"),
    ("rhel", "rhel"),
    ("rocky", "rocky"),
    ("almalinux", "alma"),
    ("centos", "centos"),
    ("oracle", "oracle"),
    ("fedora", "fedora"),
)
# Their installers fetch nothing from a tree; Debian's nothing from one that nobody signed.
_TREELESS = frozenset({"ubuntu", "fcos", "flatcar", "debian"})
_COMMON = (
    ("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"),
    ("casper/vmlinuz", "casper/initrd"),
    ("boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"),
    ("debian-installer/amd64/linux", "debian-installer/amd64/initrd.gz"),
    ("install.amd/vmlinuz", "install.amd/initrd.gz"),
)


@dataclass(frozen=True)
class Answers:
    """What somebody said of a medium; empty where they left it to us.

    ``kernel`` and ``initrd`` are paths in it; or absolute paths and URLs, which are elsewhere.
    """

    os: str = ""
    version: str = ""
    arch: str = ""
    kernel: str = ""
    initrd: str = ""


@dataclass(frozen=True)
class Medium:
    """What a medium is. All paths are relative to its root."""

    os: str
    version: str
    arch: str
    kernel: str
    initrd: str
    found_by: str
    """The file, or the answers, that told."""
    tree: bool = True
    """Whether installers read further files of it, so that the whole of it must be served."""
    iso: bool = False
    """Whether the installer fetches the ISO itself."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files to keep, by role."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex by path, as far as the medium states them."""
    notes: tuple[str, ...] = ()
    """What whoever imports it should know."""

    @property
    def name(self) -> str:
        """What the distro is called when nobody says otherwise."""
        return f"{self.os}-{self.version}".lower()

    @property
    def needed(self) -> tuple[str, ...]:
        """The paths in it without which it is of no use."""
        paths = dict.fromkeys((self.kernel, self.initrd, *self.files.values()))
        return tuple(path for path in paths if not is_elsewhere(path))

    def answered(self, answers: Answers) -> "Medium":
        """It, with what somebody said before what it says itself. Raises InvalidInput for what we do not install."""
        said = {key: value for key, value in vars(answers).items() if value}
        notes = tuple(note for note in self.notes if not (answers.initrd and "--initrd" in note))
        medium = replace(self, notes=notes)
        if answers.os and answers.os != self.os:
            # What this one's installer fetches says nothing of the other's.
            medium = replace(self, notes=(), tree=answers.os not in _TREELESS, iso=answers.os == "ubuntu")
        return _checked(replace(medium, **said))


def is_elsewhere(path: str) -> bool:
    """Whether a kernel or initrd is none of the medium's: an absolute path, or a URL."""
    return path.startswith("/") or "://" in path


def identify(
    names: Collection[str] | None, texts: Mapping[str, str], label: str = "", answers: Answers | None = None
) -> Medium:
    """What this medium is; ``label`` is the ISO's volume name, ``names`` None where they cannot be listed.

    Answers come before what the medium says. Raises InvalidInput that says what was looked for and what to answer;
    MediaMissing when the medium names a kernel or initrd that it has not.
    """
    answers = answers or Answers()
    present = frozenset(names or ())
    found = next(filter(None, (each(present, texts, label) for each in _MEDIA)), None)
    medium = (found or _guessed(present, answers)).answered(answers)
    for path in medium.needed:
        treepaths.path(path)
        if names is not None and path not in present:
            raise MediaMissing(
                f"{medium.found_by} names {path}, which is not in it",
                hint="is the medium complete? else say where they are: --kernel PATH --initrd PATH",
            )
    return medium


def _guessed(names: frozenset[str], answers: Answers) -> Medium:
    if not answers.os or not answers.version:
        raise InvalidInput(
            f"nothing in it says what it is; looked for {_LOOKED_FOR}",
            hint="say it: --os rocky --version 9.6, and --kernel and --initrd, their paths in it",
        )
    kernel, initrd = next((pair for pair in _COMMON if names.issuperset(pair)), ("", ""))
    kernel, initrd = answers.kernel or kernel, answers.initrd or initrd
    if not kernel or not initrd:
        raise InvalidInput(
            f"no kernel and initrd where installers have them: looked for {' '.join(pair[0] for pair in _COMMON)}",
            hint="say where they are in it: --kernel PATH --initrd PATH",
        )
    tree = answers.os not in _TREELESS or (answers.os == "debian" and _is_signed(names))
    iso = answers.os == "ubuntu"
    return Medium(answers.os, answers.version, ARCHES[0], kernel, initrd, "what was answered", tree=tree, iso=iso)


def _checked(medium: Medium) -> Medium:
    family_of(medium.os)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}", medium.version):
        raise InvalidInput(
            f"{medium.found_by} gives {medium.version[:40]!r} as the version", hint="say it: --version 9.6"
        )
    arch = _ARCHES.get(medium.arch, medium.arch)
    if arch not in ARCHES:
        raise InvalidInput(
            f"it is for {medium.arch[:20] or 'an architecture that it does not say'}",
            hint=f"only {', '.join(ARCHES)} is installed; if it is that after all: --arch {ARCHES[0]}",
        )
    return replace(medium, arch=arch)


def _sections(text: str) -> Mapping[str, Mapping[str, str]]:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # paths are keys there
    try:
        parser.read_string(text)
    except configparser.Error as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(f"its .treeinfo cannot be read: {first[:120]}", hint="is the medium whole?") from error
    return {name: {key: value or "" for key, value in parser[name].items()} for name in parser.sections()}


def _treeinfo(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    by = next((name for name in (".treeinfo", "treeinfo") if name in texts), None)
    if by is None:
        return None
    sections = _sections(texts[by])
    general, release = sections.get("general", {}), sections.get("release", {})
    arch = sections.get("tree", {}).get("arch") or general.get("arch", "")
    images = sections.get(f"images-{arch}", {})
    medium = Medium(
        _red_hat(f"{release.get('name', '')} {release.get('short', '')} {general.get('family', '')}", by),
        release.get("version") or general.get("version", ""),
        arch,
        images.get("kernel", "images/pxeboot/vmlinuz"),
        images.get("initrd", "images/pxeboot/initrd.img"),
        by,
        checksums={
            path: value.removeprefix("sha256:").lower()
            for path, value in sections.get("checksums", {}).items()
            if re.fullmatch(r"sha256:[0-9A-Fa-f]{64}", value)
        },
    )
    packages = any(name.endswith("repodata/repomd.xml") for name in names)
    if names and not packages:
        note = "it has no packages: give the profile the parameter `repos`, or the distro a --tree URL with all of them"
        return replace(medium, notes=(note,))
    return medium


def _red_hat(said: str, where: str) -> str:
    for words, os in _RED_HATS:
        if words in said.lower():
            return os
    raise InvalidInput(
        f"its {where} says {' '.join(said.split())[:80]!r}, which is none that this version installs",
        hint="if it is a rebuild of one: leave that file out, and say --os rhel --version 9.6",
    )


def _discinfo(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    # Line 1 is a time, 2 the release ("Rocky Linux 9.6", on some media only "9.6"), 3 the architecture.
    lines = texts.get(".discinfo", "").splitlines()
    version = re.search(r"(\d+(?:\.\d+)*)\s*$", lines[1]) if len(lines) > 2 else None
    if version is None or "images/pxeboot/vmlinuz" not in names or not re.search("[A-Za-z]", lines[1]):
        return None
    kernel, initrd = _COMMON[0]
    return Medium(_red_hat(lines[1], ".discinfo"), version[1], lines[2].strip(), kernel, initrd, ".discinfo")


def _ubuntu(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    info = texts.get(".disk/info", "")
    said = re.match(r"Ubuntu(?:-Server)?\s+(\d+\.\d+(?:\.\d+)?)", info)
    if said is None:
        return None
    if "casper/vmlinuz" not in names:
        raise InvalidInput(
            f"{info.splitlines()[0][:80]!r} has no casper/vmlinuz",
            hint="only the live server ISO (ubuntu-...-live-server-amd64.iso) can be installed by autoinstall",
        )
    initrd = next((name for name in ("casper/initrd", "casper/initrd.gz", "casper/initrd.lz") if name in names), "")
    arch = re.search(r"\b(amd64|arm64|ppc64el|s390x|riscv64)\b", info)
    return Medium(
        "ubuntu", said[1], arch[1] if arch else "", "casper/vmlinuz", initrd, ".disk/info", tree=False, iso=True
    )


def _debian(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    info, version_info = texts.get(".disk/info", ""), texts.get("version.info", "")
    said = re.match(r"Debian GNU/Linux (?:testing )?(\d+(?:\.\d+)*)", info)
    if said is None:
        said = re.match(r"Debian version:\s+(\d+(?:\.\d+)*)", version_info)
    if said is None:
        return None
    signed = _is_signed(names)
    notes: tuple[str, ...] = (
        () if signed else ("it is no package mirror: give the profile or machine the parameter `mirror`",)
    )
    netboot = re.compile(r"(?:.*/)?debian-installer/([a-z0-9]+)/linux")
    for match in sorted(filter(None, map(netboot.fullmatch, names)), key=lambda match: (match[0].count("/"), match[0])):
        initrd = match[0].removesuffix("linux") + "initrd.gz"
        if "gtk" not in match[0] and initrd in names:
            by = ".disk/info" if info else "version.info"
            return Medium("debian", said[1], match[1], match[0], initrd, by, tree=signed, notes=notes)
    arch = re.search(r"\b(amd64|i386|arm64|ppc64el|s390x|multi-arch)\b", info)
    notes += ("its initrd looks for a CD: network boots need that of Debian's netboot directory, --initrd FILE|URL",)
    return Medium(
        "debian",
        said[1],
        arch[1] if arch else "",
        "install.amd/vmlinuz",
        "install.amd/initrd.gz",
        ".disk/info",
        tree=signed,
        notes=notes,
    )


def _is_signed(names: frozenset[str]) -> bool:
    """Whether it is a package mirror of Debian's: debootstrap takes none whose Release nobody signed, as on CDs."""
    return any(re.fullmatch(r"dists/[^/]+/(InRelease|Release\.gpg)", name) for name in names)


def _suse(_names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    by = next((name for name in ("media.1/media", "media.1/products") if name in texts), None)
    if by is None:
        return None
    text = texts.get("media.1/media", "") + "\n" + texts.get("media.1/products", "")
    arch = "x86_64" if "x86_64" in text or by == "media.1/products" else ""
    leap = re.search(r"Leap[-\s]+(\d+\.\d+)", text)
    sles = re.search(r"\bSLES?[-\s]*(\d+)(?:[.-]SP(\d+)|\.(\d+))?", text)
    kernel, initrd = _COMMON[2]
    if leap is not None:
        return Medium("opensuse", leap[1], arch, kernel, initrd, by)
    if sles is not None:
        pack = sles[2] or sles[3]
        return Medium("sles", f"{sles[1]}.{pack}" if pack else sles[1], arch, kernel, initrd, by)
    return None


def _esxi(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    build = re.search(r"(?m)^build=(\d+\.\d+(?:\.\d+)?)", texts.get("boot.cfg", ""))
    if build is None or not re.search(r"(?mi)^title=.*ESXi", texts["boot.cfg"]):
        return None
    loader = next((name for name in ("efi/boot/bootx64.efi", "mboot.efi", "mboot.c32") if name in names), "mboot.c32")
    # Which of the two a machine starts depends on its firmware; efi/boot/bootx64.efi is mboot.efi by another name.
    roles = {"mboot.c32": "mboot.c32"} | ({"mboot.efi": loader} if loader.endswith(".efi") else {})
    files = {role: name for role, name in roles.items() if name in names}
    return Medium("esxi", build[1], "x86_64", loader, "boot.cfg", "boot.cfg", files=files)


def _coreos(names: frozenset[str], _texts: Mapping[str, str], label: str) -> Medium | None:
    live = next(
        filter(None, (re.fullmatch(r"fedora-coreos-([\d.]+)-live-kernel[.-](\w+)", name) for name in names)), None
    )
    if live is not None:
        stem = f"fedora-coreos-{live[1]}-live-"
        parts = {
            role: next(
                (name for name in sorted(names) if re.fullmatch(re.escape(f"{stem}{role}.{live[2]}.img"), name)), ""
            )
            for role in ("initramfs", "rootfs")
        }
        files = {"rootfs": parts["rootfs"]} if parts["rootfs"] else {}
        return Medium(
            "fcos", live[1], live[2], live[0], parts["initramfs"] or "initramfs", live[0], tree=False, files=files
        )
    if "images/pxeboot/rootfs.img" not in names:
        return None
    said = re.match(r"fedora-coreos-([\d.]+)", label)
    return Medium(
        "fcos",
        said[1] if said else "",
        "x86_64",
        "images/pxeboot/vmlinuz",
        "images/pxeboot/initrd.img",
        "the ISO's label" if said else "images/pxeboot/rootfs.img",
        tree=False,
        files={"rootfs": "images/pxeboot/rootfs.img"},
    )


def _flatcar(names: frozenset[str], texts: Mapping[str, str], _label: str) -> Medium | None:
    pairs = (
        ("flatcar_production_pxe.vmlinuz", "flatcar_production_pxe_image.cpio.gz"),
        ("flatcar/vmlinuz", "flatcar/cpio.gz"),
    )
    pair = next((pair for pair in pairs if names.issuperset(pair)), None)
    if pair is None:
        return None
    said = re.search(r"(?m)^FLATCAR_VERSION=([\d.]+)", texts.get("version.txt", ""))
    return Medium("flatcar", said[1] if said else "", "x86_64", *pair, "version.txt" if said else pair[0], tree=False)


_MEDIA: tuple[Callable[[frozenset[str], Mapping[str, str], str], Medium | None], ...] = (
    _coreos,
    _flatcar,
    _suse,  # before .treeinfo, which SLES has too
    _treeinfo,
    _discinfo,
    _ubuntu,
    _debian,
    _esxi,
)
