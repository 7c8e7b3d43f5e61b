"""`scripts/run --demo`, as a newcomer runs it."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import served_environment, wait_for
from played import processes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def installed_environment(place: Path) -> Path:
    """A virtual environment that scripts/run takes for complete: this test's own interpreter."""
    place.mkdir()
    (place / "bin").symlink_to(Path(sys.executable).parent)
    sums = ""
    for file in (ROOT / "scripts/requirements.lock", ROOT / "pyproject.toml"):
        sums += f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}\n"
    stamp = hashlib.sha256(sums.encode()).hexdigest()
    (place / ".installed-requirements.lock").write_text(stamp + "\n")
    return place


def quiet_ports() -> dict[str, str]:
    """Ports that no client gets by chance: seconds pass until the service binds them."""
    first = 20_000 + os.getpid() % 2_000 * 5
    binds = {f"PROVISIONER_{name}_BIND": f"127.0.0.1:{first + at}" for at, name in enumerate(("HTTP", "TFTP"))}
    for at, name in enumerate(("BOOT", "MEDIA"), 2):
        binds |= {f"PROVISIONER_{name}_BIND": f"0.0.0.0:{first + at}"}
        binds |= {f"PROVISIONER_{name}_URL": f"http://127.0.0.1:{first + at}"}
    return binds


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, dict[str, str]]]:
    settings = served_environment(tmp_path / "state") | quiet_ports()
    environment = os.environ | settings | {"PROVISIONER_VENV": str(installed_environment(tmp_path / "venv"))}
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [ROOT / "scripts/run", "--demo"], env=environment, stdout=out, stderr=out, start_new_session=True
        )
    yield process, tmp_path / "out", environment
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    wait_for(lambda: not processes(tmp_path / "state"), 120, "the end of every process")


def test_the_demo_plays_and_says_where_to_look(
    demo: tuple[subprocess.Popen[bytes], Path, dict[str, str]], tmp_path: Path
) -> None:
    process, out, environment = demo

    def ready() -> bool:
        assert process.poll() is None, out.read_text()
        return "Provisioner goes on serving" in out.read_text()

    wait_for(ready, 400, "the end of the play")
    text = out.read_text()
    assert "20 configured, 3 halted, 1 handoff-failed" in text
    assert "all ended as they should" in text
    assert "admin password" in text
    named = [line.partition("bin/provisioner ")[2] for line in text.splitlines() if "bin/provisioner machine" in line]
    assert named[-1] == "machine find sim-"
    environment.pop("PROVISIONER_VENV")
    command = [sys.executable, "-m", "provisioner", *named[-1].split(), "--output", "csv"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.count("sim-00") == 24


def test_a_service_that_cannot_start_ends_the_demo(
    demo: tuple[subprocess.Popen[bytes], Path, dict[str, str]], tmp_path: Path
) -> None:
    """Somebody else has the port: the script says so and leaves nothing behind."""
    process, out, environment = demo
    host, _, port = environment["PROVISIONER_MEDIA_BIND"].rpartition(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        assert process.wait(120) == 1, out.read_text()
    assert "port-in-use" in out.read_text()
    assert "the service ended" in out.read_text()


def test_help_and_an_unknown_word() -> None:
    shown = subprocess.run([ROOT / "scripts/run", "--help"], capture_output=True, text=True, check=True)
    assert "--demo" in shown.stdout
    refused = subprocess.run([ROOT / "scripts/run", "--demon"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "unknown argument --demon" in refused.stderr
