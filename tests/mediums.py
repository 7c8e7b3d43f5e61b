"""Installation media for tests: the real ones' metadata, with small files where the large ones are; as directories and
as ISO images, honest ones and others.
"""

import hashlib
import io
import os
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pycdlib

from provisioner.services import media, published
from provisioner.services.site import Site

FIXTURES = Path(__file__).parent / "fixtures/media"
PXEBOOT = {"images/pxeboot/vmlinuz": b"kernel " * 500, "images/pxeboot/initrd.img": b"initrd " * 900}
RED_HAT = {**PXEBOOT, "images/install.img": b"stage2 " * 4000, "AppStream/repodata/repomd.xml": b"<repomd/>"}
CASPER = {
    "casper/vmlinuz": b"kernel " * 500,
    "casper/initrd": b"initrd " * 900,
    "casper/filesystem.squashfs": b"f" * 9000,
}
NETBOOT = {"debian-installer/amd64/linux": b"kernel " * 500, "debian-installer/amd64/initrd.gz": b"initrd " * 900}
SUSE = {"boot/x86_64/loader/linux": b"kernel " * 500, "boot/x86_64/loader/initrd": b"initrd " * 900}
SECTOR = 2048


def medium(root: Path, fixture: str, files: Mapping[str, bytes]) -> Path:
    """A directory with the metadata of a fixture and these files."""
    shutil.copytree(FIXTURES / fixture, root)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def with_texts(fixture: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of a medium: the fixture's metadata and these."""
    root = FIXTURES / fixture
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return found | files


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def served(site: Site, distro: str, path: str) -> bytes | None:
    """What media sends for a path of the distro's tree."""
    root = published.tree(site, distro)
    handle = None if root is None else media.open_beneath(root, path)
    if handle is None:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read()


def iso(
    image: Path,
    files: Mapping[str, bytes],
    *,
    links: Mapping[str, str] | None = None,
    names: str = "rr",
    change: Callable[[Any], None] | None = None,
    label: str = "TEST",
) -> Path:
    """An ISO image with these files; ``names`` is rr, joliet, udf or iso9660: how they are written.

    ``change`` may do to the library's object what no honest program does, before it is written.
    """
    made = pycdlib.PyCdlib()
    kinds = {"rr": {"rock_ridge": "1.09"}, "joliet": {"joliet": 3}, "udf": {"udf": "2.60"}, "iso9660": {}}
    made.new(interchange_level=4 if names == "iso9660" else 3, vol_ident=label, **kinds[names])
    short = _Short()
    for directory in sorted({str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}):
        made.add_directory(**short.keys(directory, names, "directory"))
    for path, content in files.items():
        made.add_fp(io.BytesIO(content), len(content), **short.keys(path, names, "file"))
    for path, target in (links or {}).items():
        keys = short.keys(path, names, "file")
        made.add_symlink(symlink_path=keys["iso_path"], rr_symlink_name=keys["rr_name"], rr_path=target)
    if change is not None:
        change(made)
    made.write(str(image))
    made.close()
    return image


class _Short:
    """ISO 9660's names for paths: numbers, since only Rock Ridge and the like keep the real ones."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {"": ""}

    def keys(self, path: str, names: str, kind: str) -> dict[str, str]:
        """What the library wants to be told."""
        above, _, name = path.rpartition("/")
        if names == "iso9660":
            mine = f"{self.known[above]}/{name.upper()}"
        else:
            mine = f"{self.known[above]}/N{len(self.known):07d}"
        self.known[path] = mine
        keys = {"iso_path": mine + (";1" if kind == "file" else "")}
        if names == "rr":
            keys["rr_name"] = name
        if names in {"joliet", "udf"}:
            keys[f"{names}_path"] = f"/{path}"
        return keys


def put(image: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of an image."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def both_endian(number: int) -> bytes:
    """A number as ISO 9660 writes it: little-endian, then big-endian."""
    return struct.pack("<I", number) + struct.pack(">I", number)


def record_of(image: Path, needle: bytes) -> int:
    """Where the directory record is that has this in it (a Rock Ridge name, say)."""
    data = image.read_bytes()
    found = data.index(needle)
    for start in range(found, max(0, found - 255), -1):
        length = data[start]
        number = data[start + 2 : start + 10]
        if start + length > found and length > 33 and number[:4] == number[4:][::-1] and data[start + 32] > 0:
            return start
    raise AssertionError(f"no directory record around {needle!r}")
