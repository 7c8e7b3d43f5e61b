"""scripts/build-ramdisk, scripts/build-image and scripts/lab as an administrator calls them."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
needs_busybox = pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox-static")


def call(script: str, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("script", ["build-ramdisk", "build-image", "lab"])
def test_help_says_what_it_does_and_gives_an_example(script: str) -> None:
    result = call(script, "--help")
    assert result.returncode == 0
    assert "xample" in result.stdout
    assert f"scripts/{script}" in result.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["build-ramdisk", "--flavour", "tiny"], "choose server or cloud"),
        (["build-ramdisk", "--deb", "/nonexistent.deb"], "no such package file"),
        (["build-image", "--kernel", "tiny"], "choose cloud or server"),
        (["build-image", "--out", "image.qcow2"], "let its name end in .raw.gz"),
        (["build-image", "--out", "/nonexistent/image.raw.gz"], "no such directory"),
    ],
)
def test_errors_say_what_to_do(command: list[str], words: str, tmp_path: Path) -> None:
    result = call(*command, cwd=tmp_path, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", [["build-ramdisk", "--nonsense"], ["build-image", "x"], ["lab", "fly"]])
def test_wrong_usage_ends_with_2(command: list[str]) -> None:
    assert call(*command).returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up root, so needs it")
def test_the_lab_says_that_it_needs_root(tmp_path: Path) -> None:
    script = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, script)
    for path in (*tmp_path.parents, tmp_path):
        if path.stat().st_uid == os.geteuid() and "pytest" in str(path):
            path.chmod(0o755)
    command = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", str(script / "lab"), "clean"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "need root" in result.stderr


@needs_busybox
def test_the_ramdisk_s_init_is_a_shell_script() -> None:
    init = call("build-ramdisk", "--show-init").stdout
    assert init.startswith("#!/bin/sh\n")
    result = subprocess.run(["busybox", "sh", "-n"], input=init, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@needs_busybox
@pytest.mark.slow
def test_the_same_kernel_gives_the_same_ramdisk(tmp_path: Path) -> None:
    for name in ("one", "two"):
        result = call("build-ramdisk", "--flavour", "cloud", tmp_path / name)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "SHA256SUMS",
            "initrd.img",
            "ramdisk.yaml",
            "vmlinuz",
        ]
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "SHA256SUMS").read_text() == (two / "SHA256SUMS").read_text()
    facts = yaml.safe_load((one / "ramdisk.yaml").read_text())
    assert facts["flavour"] == "cloud"
    for key, file in (("vmlinuz", "vmlinuz"), ("initrd", "initrd.img")):
        assert facts[key]["sha256"] == hashlib.sha256((one / file).read_bytes()).hexdigest()
    unpacked = subprocess.run(["zstd", "-dc", one / "initrd.img"], capture_output=True, check=True).stdout
    names = subprocess.run(["cpio", "-t", "--quiet"], input=unpacked, capture_output=True, check=True).stdout.decode()
    for wanted in ("init", "sbin", "bin/udhcpc", f"lib/modules/{facts['kernel']}/kernel/drivers/net/virtio_net.ko"):
        assert wanted in names.splitlines()
