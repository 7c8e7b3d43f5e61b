"""`pip install` of the wheel in an empty environment: no checkout, yet `init` and `render` work."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    """Build the wheel, install it, initialise, and render a kickstart from the content that is inside."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(each.relative_to(ROOT)) for each in (ROOT / "provisioner").rglob("*") if each.is_file()}
    assert {each for each in ours if "__pycache__" not in each} <= inside, "nothing of the program is left out"
    assert {f"provisioner/_content/{name}" for name in ("README.md", "docs/ui.md", "profiles/rocky9.yaml")} <= inside
    quiet = ["-q", "--disable-pip-version-check"]
    lock = ROOT / "scripts/requirements.lock"
    subprocess.run([python, "-m", "pip", "install", *quiet, "--require-hashes", "-r", lock], check=True)
    subprocess.run([python, "-m", "pip", "install", *quiet, "--no-deps", wheel], check=True)
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    environment = {
        "PATH": f"{tmp_path}/venv/bin:{os.environ['PATH']}",
        "PROVISIONER_STATE_DIR": str(tmp_path / "state"),
    }

    def provisioner(*arguments: str) -> str:
        return subprocess.run(
            ["provisioner", *arguments],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "admin password" in provisioner("init")
    provisioner("subnet", "add", "lab", "--cidr", "10.0.2.0/24", "--gateway", "10.0.2.1")
    files = ["--kernel", "vmlinuz", "--initrd", "vmlinuz", "--tree", "http://mirror.example.com/rocky"]
    provisioner("distro", "add", "rocky-9.6", "--os", "rocky", "--version", "9.6", *files)
    provisioner("machine", "add", "web01", "--mac", "525400123456", "--ip", "10.0.2.11", "--profile", "rocky9")
    kickstart = provisioner("render", "web01", "--file", "answer")
    assert "http://mirror.example.com/rocky" in kickstart
    assert "%packages" in kickstart
