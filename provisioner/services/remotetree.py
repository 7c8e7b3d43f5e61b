"""`distro add --url`: a tree on a mirror, of which only kernel and initrd are fetched."""

import re
from dataclasses import replace

from provisioner.core.mediatree import LONGEST_TEXT, Answers, Medium, identify
from provisioner.errors import InvalidInput, MediaMissing
from provisioner.services import fetching

_LONGEST_RELEASE = 1 << 20  # Debian's Release lists the checksums of all its indices
_SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}
_NETBOOT = "main/installer-amd64/current/images/netboot/debian-installer/amd64"


def look(url: str, answers: Answers) -> tuple[str, Medium]:
    """What is at that URL: the tree's own URL, and the medium with kernel and initrd as whole URLs.

    Raises InvalidInput, MediaMissing.
    """
    base = url.rstrip("/")
    if not re.fullmatch(r"https?://[^\s?#\\]+", base):
        hint = "give the directory that has .treeinfo or dists/, by http or https"
        raise InvalidInput(f"{url[:200]!r} is not the URL of a tree", where="url", hint=hint)
    base, medium = _known(base, answers) or _debian(base, answers) or (base, _unknown(base, answers))
    sums = {_whole(base, path): value for path, value in medium.checksums.items()}
    kernel, initrd = _whole(base, medium.kernel), _whole(base, medium.initrd)
    return base, replace(medium, checksums=sums, kernel=kernel, initrd=initrd)


def _whole(base: str, path: str) -> str:
    return path if "://" in path or path.startswith("/") else f"{base}/{path}"


def _known(base: str, answers: Answers) -> tuple[str, Medium] | None:
    for names in ((".treeinfo",), ("treeinfo",), ("media.1/media", "media.1/products")):
        texts = {name: fetching.text(f"{base}/{name}", "url", LONGEST_TEXT) for name in names}
        there = {name: text for name, text in texts.items() if text is not None}
        if there:
            return base, identify(None, there, "", answers)
    return None


def _debian(base: str, answers: Answers) -> tuple[str, Medium] | None:
    named = re.fullmatch(r"(.+)/dists/([a-z0-9.-]+)", base)
    if named is not None:
        base, suite = str(named[1]), str(named[2])
    else:
        suite = _SUITES.get(answers.version.split(".")[0], "stable")
    release = fetching.text(f"{base}/dists/{suite}/Release", "url", _LONGEST_RELEASE)
    if release is None:
        return None
    fields: dict[str, str] = dict(re.findall(r"(?m)^(Origin|Version|Codename): *([^\r\n]{1,80})$", release))
    if fields.get("Origin") != "Debian":
        raise InvalidInput(
            f"{base} is {fields.get('Origin', 'of nobody that says so')[:40]!r}, not Debian",
            where="url",
            hint="Ubuntu is installed from its live server ISO: `provisioner distro import ISO`",
        )
    codename = fields.get("Codename", suite)
    if not re.fullmatch("[a-z0-9-]+", codename):
        raise InvalidInput(f"its codename is {codename[:40]!r}", where="url", hint="is this the right mirror?")
    where = f"dists/{codename}/{_NETBOOT}"
    medium = Medium(
        "debian",
        fields.get("Version", ""),
        "amd64",
        f"{where}/linux",
        f"{where}/initrd.gz",
        f"dists/{suite}/Release",
    )
    return base, medium.answered(answers)


def _unknown(base: str, answers: Answers) -> Medium:
    if answers.kernel and answers.initrd:
        return identify(None, {}, "", answers)
    raise MediaMissing(
        f"{base} has none of .treeinfo, treeinfo, media.1/media and dists/SUITE/Release",
        where="url",
        hint="is it the tree's own directory, such as .../BaseOS/x86_64/os? else add --os --version --kernel --initrd",
    )
