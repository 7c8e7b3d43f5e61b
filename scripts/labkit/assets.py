"""What a machine boots: the deploy ramdisk and the stem-cell image, made once and kept in a cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit.processes import LabError

SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Image:
    """An image file and the options of ``provisioner image add`` that describe it."""

    file: Path
    facts: dict[str, Any]

    def options(self) -> list[str]:
        """What ``provisioner image add NAME`` wants to know."""
        options = ["--file", str(self.file)]
        for name in ("os", "version", "arch", "kind", "format", "root"):
            options += [f"--{name}", str(self.facts[name])]
        return options


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/provisioner``, or ``~/.cache/provisioner``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provisioner"


def ramdisk(flavour: str = "cloud") -> Path:
    """A directory with the deploy ramdisk, built if the cache has none made by this script."""
    script = SCRIPTS / "build-ramdisk"
    made_by = hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    directory = cache_dir() / f"ramdisk-{flavour}-{made_by}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "ramdisk.yaml").exists():
            _build(script, "--flavour", flavour, str(directory))
    return directory


def install_ramdisk(state_dir: Path, flavour: str = "cloud") -> None:
    """Put the deploy ramdisk where a server with this state directory looks for it."""
    source, target = ramdisk(flavour), state_dir / "ramdisk"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("vmlinuz", "initrd.img", "SHA256SUMS", "ramdisk.yaml"):
        shutil.copyfile(source / name, target / name)


def stem_cell(directory: Path) -> Image:
    """The stem-cell image, written to ``directory``; ``scripts/build-image`` has a cache of its own."""
    file = directory / "stem-debian12.raw.gz"
    _build(SCRIPTS / "build-image", "--out", str(file), "--cache", str(cache_dir()))
    return read_image(file)


def read_image(file: Path) -> Image:
    """An image made by ``scripts/build-image``, with its description beside it."""
    description = Path(str(file).removesuffix(".raw.gz") + ".yaml")
    if not file.exists() or not description.exists():
        raise LabError(f"{file} and {description} do not both exist: make them with scripts/build-image")
    return Image(file, yaml.safe_load(description.read_text()))


def _build(*command: str | Path) -> None:
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if result.returncode:
        raise LabError(f"{Path(command[0]).name} failed:\n{result.stderr.strip()}")
