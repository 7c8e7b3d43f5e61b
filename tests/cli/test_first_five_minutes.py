"""The first five minutes of the design, word for word, with files and ports of the test's own."""

import functools
import http.server
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from played import curl

pytestmark = pytest.mark.slow

SCRIPT = """
provisioner subnet add lab --cidr 10.0.2.0/24 --gateway 10.0.2.1 --dns 10.0.2.1 --dhcp off
provisioner distro add rocky-9.6 --os rocky --version 9.6 --arch x86_64 \\
    --kernel {kernel} --initrd {initrd} --tree {tree}
provisioner machine add web01 --mac 52:54:00:12:34:56 --ip 10.0.2.11 --profile rocky9
provisioner build start web01
provisioner build show web01
""".strip()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A mirror that keeps its log to itself."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        del format, arguments


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A web server with an initrd on it."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/initrd.img").write_bytes(b"initrd" * 5000)
    handler = functools.partial(Quiet, directory=str(tmp_path / "mirror"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_first_five_minutes_word_for_word(tmp_path: Path, mirror: str) -> None:
    environment = served_environment(tmp_path / "state")
    # As for a newcomer: TLS is on and the URLs are left to be guessed.
    for name in ("PROVISIONER_TLS", "PROVISIONER_BOOT_URL", "PROVISIONER_MEDIA_URL"):
        del environment[name]
    served = Served(environment, tmp_path / "state")
    made = served.cli("init").stdout
    for word in (str(tmp_path / "state"), "certificate", "SHA-256", "admin password", "next: provisioner serve"):
        assert word in made
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "provisioner", "serve"], env=os.environ | environment, stdout=log, stderr=log
    )
    try:
        port = environment["PROVISIONER_BOOT_BIND"].rpartition(":")[2]
        boot = f"http://127.0.0.1:{port}"
        wait_for(lambda: curl("-f", f"{boot}/readyz").returncode == 0, 60, "readiness")
        (tmp_path / "vmlinuz").write_bytes(b"kernel" * 5000)
        text = SCRIPT.format(kernel=tmp_path / "vmlinuz", initrd=f"{mirror}/initrd.img", tree=f"{mirror}/tree")
        shown = [served.cli(*shlex.split(line)[1:]).stdout for line in text.replace("\\\n", " ").splitlines()]
        said = (tmp_path / "log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        log.close()
    assert "provisioner dhcp show --subnet lab" in shown[0]
    assert "provisioner build start web01" in shown[2]
    assert "armed" in shown[3]
    assert "provisioner build show web01 --watch" in shown[3]
    assert "armed" in shown[4]
    assert "power it on" in shown[4]
    for name in ("boot plane", "media", "admin plane  https://", "TFTP"):
        assert name in said
    assert "error" not in said
    view = served.cli_json("build", "show", "web01")
    assert (view["state"], view["attempts"], view["profile"]) == ("armed", 0, "rocky9")


def test_init_twice_keeps_keys_certificate_and_password(tmp_path: Path) -> None:
    served = Served(served_environment(tmp_path / "state"), tmp_path / "state")
    first = served.cli("init").stdout
    kept = {path: path.read_bytes() for folder in ("keys", "tls") for path in (served.state / folder).iterdir()}
    assert len(kept) == 4
    second = served.cli("init").stdout
    assert {path: path.read_bytes() for path in kept} == kept
    assert "admin password" in first
    assert "password" not in second
    lines = [[line for line in text.splitlines() if line.startswith("certificate")] for text in (first, second)]
    assert lines[0] == lines[1] != []


def test_s82_nothing_that_init_makes_is_open_to_others(tmp_path: Path) -> None:
    served = Served(served_environment(tmp_path / "state"), tmp_path / "state")
    served.cli("init")
    for path in served.state.rglob("*"):
        if path.relative_to(served.state).parts[0] not in {"media", "dhcp"}:
            assert path.stat().st_mode & 0o077 == 0, path
    assert served.state.stat().st_mode & 0o066 == 0


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    """S52: no default password, no default key."""
    made = []
    for name in ("one", "two"):
        served = Served(served_environment(tmp_path / name), tmp_path / name)
        output = served.cli("init").stdout
        password = next(line for line in output.splitlines() if line.startswith("admin password"))
        made.append({password, *((served.state / "keys" / key).read_bytes() for key in ("master.key", "token.key"))})
    assert not made[0] & made[1]
