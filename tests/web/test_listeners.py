"""Three listeners that know nothing of each other, and headers that only a trusted proxy may set."""

import hashlib
import json
import re
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment
from played import curl
from world import ACTOR, MAC, World

from provisioner.services import arming

pytestmark = pytest.mark.slow

BOOT_ROUTES = ["/boot/ipxe", f"/boot/ipxe/{MAC}", f"/boot/grub/{MAC}", f"/build/{'x' * 54}/answer"]


@pytest.mark.parametrize("path", BOOT_ROUTES)
def test_machines_do_not_reach_one_plane_through_another(served: Any, path: str) -> None:
    for base in (served.admin, served.media):
        reply = served.http(base + path)
        assert (reply.status, reply.json()["code"]) == (404, "not-found")


def test_the_admin_pages_and_media_are_not_on_the_boot_plane(served: Any) -> None:
    assert served.http(served.admin + "/login").status == 200
    assert served.http(served.admin + "/").headers["location"] == "/login"
    media = f"/media/sha256/{'0' * 64}/vmlinuz"
    for path in ("/", "/api/v1/machines", "/metrics", media):
        assert served.http(path).status == 404
    assert served.http(served.admin + media).status == 404


@pytest.mark.parametrize("plane", ["boot", "media", "admin"])
def test_health_on_every_listener(served: Any, plane: str) -> None:
    base = getattr(served, plane)
    assert served.http(f"{base}/healthz").json() == {"status": "ok"}
    ready = served.http(f"{base}/readyz")
    assert (ready.status, ready.json()["status"]) == (200, "ready")
    assert ready.headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def proxied(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Served with TLS on the admin plane and 127.0.3.1 as a trusted proxy."""
    base = tmp_path_factory.mktemp("proxied")
    shutil.copytree(_template, base / "state")
    environment = served_environment(base / "state") | {"PROVISIONER_TRUSTED_PROXIES": "127.0.3.1/32"}
    service = Served(environment, base / "state", log=base / "log")
    service.start()
    opened = service.site
    world = World(opened, base)
    world.ready()
    arming.start(opened, ACTOR, "web01")
    opened.engine.dispose()
    yield service
    service.stop()


FORGED = {
    "X-Forwarded-For": "127.0.2.11",
    "Forwarded": "for=127.0.2.11;host=evil.example",
    "X-Real-IP": "127.0.2.11",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
}


def test_s18_forwarded_headers_from_anybody_have_no_effect(proxied: Served) -> None:
    before = proxied.cli_json("build", "show", "web01")["attempts"]
    for source in ("127.0.0.1", "127.0.2.99", "127.0.9.9"):
        first = proxied.http("/boot/ipxe", source=source, headers=FORGED).text
        assert "evil.example" not in first
        assert "https://" not in first
    proxied.http(f"/boot/ipxe/{MAC}", source="127.0.9.9", headers=FORGED)
    shown = proxied.cli_json("build", "show", "web01")
    assert shown["attempts"] == before
    assert "127.0.9.9" in shown["flag"]


def test_s18_a_trusted_proxy_speaks_for_the_machine(proxied: Served) -> None:
    script = proxied.http(f"/boot/ipxe/{MAC}", source="127.0.3.1", headers={"X-Forwarded-For": "127.0.2.11"}).text
    assert "kernel --name kernel" in script
    event = proxied.cli_json("build", "show", "web01")["events"][-1]
    assert (event["kind"], event["source"]) == ("script", "127.0.2.11")


@pytest.mark.parametrize("value", ["nonsense", "", "127.0.2.11, evil", "'; DROP TABLE build; --"])
def test_s18_a_trusted_proxys_nonsense_is_not_an_address(proxied: Served, value: str) -> None:
    reply = proxied.http("/boot/ipxe/52:54:00:00:00:99", source="127.0.3.1", headers={"X-Forwarded-For": value})
    assert reply.status in {200, 400}
    assert "Traceback" not in reply.text


def test_a_hostile_host_header_reaches_no_script(proxied: Served) -> None:
    for host in ('evil";shell', "a b", "x" * 300, "${netX/mac}"):
        text = proxied.http("/boot/ipxe", headers={"Host": host}).text
        assert "evil" not in text
        assert "xxx" not in text


def test_s52_the_admin_plane_has_the_certificate_that_init_printed(_template: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    shutil.copytree(_template, state)
    environment = served_environment(state)
    del environment["PROVISIONER_TLS"]
    service = Served(environment, state, log=tmp_path / "log")
    printed = re.search(r"SHA-256 ([0-9A-F:]{95})", service.cli("init").stdout)
    assert printed is not None
    host, _, port = environment["PROVISIONER_HTTP_BIND"].partition(":")
    # `start` waits for http on every plane; this one speaks https, so it is asked by hand.
    ready = ["-f", "--cacert", str(state / "tls/cert.pem"), f"https://{host}:{port}/readyz"]
    service._up = lambda: curl(*ready).returncode == 0  # type: ignore[method-assign]
    service.start()
    try:
        pem = ssl.get_server_certificate((host, int(port)))
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
        assert printed.group(1).replace(":", "").lower() == digest
        trusted = curl("--cacert", str(state / "tls/cert.pem"), f"https://{host}:{port}/healthz")
        assert json.loads(trusted.stdout) == {"status": "ok"}
        assert curl(f"https://{host}:{port}/healthz").returncode == 60
        plain = curl(f"http://{host}:{port}/healthz")
        assert json.loads(plain.stdout)["hint"] == "write https:// before the address"
    finally:
        service.stop()
