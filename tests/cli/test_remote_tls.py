"""Over TLS: the server proves who it is before it is sent the credential; and the variables are all that is needed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from doors import TOKEN, Door, remote
from played import curl

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def secure(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Door, str]]:
    """A served admin plane with the certificate that `init` made, a door to it, and the fingerprint that it printed."""
    base = tmp_path_factory.mktemp("secure")
    shutil.copytree(_template, base / "state")
    served = Served(served_environment(base / "state"), base / "state", log=base / "log")
    served.environment["PROVISIONER_TLS"] = "on"
    printed = next(line for line in served.cli("init").stdout.splitlines() if line.startswith("certificate"))
    url = served.admin.replace("http:", "https:")
    with served.log.open("wb") as log:
        served.process = subprocess.Popen(
            [sys.executable, "-m", "provisioner", "serve"], env=os.environ | served.environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: curl("-f", "-k", f"{url}/readyz").returncode == 0, 60, "readiness")
        yield served, remote(served, url=url), printed.removeprefix("certificate").strip()
    finally:
        served.stop()


def test_the_fingerprint_that_init_printed_is_enough(secure: tuple[Served, Door, str]) -> None:
    _, door, fingerprint = secure
    assert "admin" in door.run("user", "list", PROVISIONER_FINGERPRINT=fingerprint).out


def test_s62_another_certificate_is_refused_before_anything_is_sent(secure: tuple[Served, Door, str]) -> None:
    _, door, fingerprint = secure
    wrong = fingerprint[:-2] + ("00" if fingerprint[-2:] != "00" else "11")
    refused = door.run("user", "list", code=1, PROVISIONER_FINGERPRINT=wrong)
    assert "certificate-untrusted" in refused.err
    assert fingerprint.removeprefix("SHA-256 ") in refused.err
    assert "nothing was sent" in refused.err


def test_an_unknown_authority_is_refused_and_the_way_on_is_told(secure: tuple[Served, Door, str]) -> None:
    served, door, _ = secure
    refused = door.run("user", "list", code=1)
    assert "certificate-untrusted" in refused.err
    assert "PROVISIONER_FINGERPRINT" in refused.err
    assert "admin" in door.run("user", "list", PROVISIONER_CA=str(served.state / "tls/cert.pem")).out
    no_certificate = door.run("user", "list", code=2, PROVISIONER_CA=str(served.state / "tls/key.pem"))
    assert "holds no certificates" in no_certificate.err


def test_http_to_a_server_with_tls_says_so(secure: tuple[Served, Door, str]) -> None:
    served, door, _ = secure
    refused = door.run("user", "list", code=1, PROVISIONER_URL=served.admin)
    assert "https://" in refused.err


def test_a_whole_process_with_a_token_file(secure: tuple[Served, Door, str], tmp_path: Path) -> None:
    """As somebody types it elsewhere: no configuration, no state directory, nothing on the command line."""
    _, door, fingerprint = secure
    (tmp_path / "token").write_text(door.environment[TOKEN])
    (tmp_path / "token").chmod(0o600)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PROVISIONER_URL": door.environment["PROVISIONER_URL"],
        "PROVISIONER_TOKEN_FILE": str(tmp_path / "token"),
        "PROVISIONER_FINGERPRINT": fingerprint,
    }
    command = [sys.executable, "-m", "provisioner", "profile", "list", "-o", "csv"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "rocky9" in done.stdout
    assert done.stderr == ""
    assert not (tmp_path / ".local").exists()
