"""Two hundred slow connections on each listener, and honest requests are answered all the while (S73)."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from played import processes
from slowly import BODY, CHUNKS, HEAD, UPLOAD, Crowd, connected, crowd, honest

pytestmark = pytest.mark.slow
EACH = 50


@pytest.fixture(scope="module")
def service(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with a big file to fetch, whose admin plane speaks TLS as shipped."""
    base = tmp_path_factory.mktemp("slow")
    shutil.copytree(_template, base / "state")
    served = Served(served_environment(base / "state"), base / "state", log=base / "log")
    digest = "ab" * 32
    file = base / "state/media/sha256/ab" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as big:
        big.truncate(64 << 20)
    served.start()
    yield served
    served.stop()
    for pid in processes(served.state):
        os.kill(pid, signal.SIGKILL)


def address(url: str) -> tuple[str, int]:
    """Where a plane listens."""
    host, _, port = url.rpartition("/")[2].partition(":")
    return host, int(port)


def memory(served: Served, name: str) -> int:
    """Bytes that the processes of this plane have in memory of their own."""
    total = 0
    for pid, child in processes(served.state).items():
        if child == name:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            total += int(fields["RssAnon"].split()[0]) << 10
    return total


def fill(slow: Crowd, where: tuple[str, int], post: bytes, fetch: bytes) -> None:
    """Fifty of each kind that needs no credential."""
    for _ in range(EACH):
        slow.join(where, "silent")
        slow.join(where, "head", drips=HEAD)
        slow.join(where, "body", at_once=(BODY % post)[:-999], drips=BODY[-999:])
        slow.join(where, "chunks", at_once=(CHUNKS % post)[:-6000], drips=CHUNKS[-6000:])
        slow.join(where, "reader", at_once=b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % fetch, reads=False)


MEDIA_FILE = b"/media/sha256/" + b"ab" * 32 + b"/initrd.img"
PLANES: dict[str, tuple[Callable[[Served], str], bytes, bytes, str]] = {
    "boot": (lambda served: served.boot, b"/discovery", b"/boot/loader/localdisk.efi", "/boot/ipxe"),
    "media": (lambda served: served.media, b"/media/x", MEDIA_FILE, "/media/sha256/" + "ab" * 32 + "/vmlinuz"),
    "admin": (lambda served: served.admin, b"/api/v1/machines", b"/api/v1/openapi.json", "/api/v1/openapi.json"),
}


def test_s73_slow_connections_of_every_kind_hold_up_nobody(service: Served) -> None:
    """On all three listeners at once: what they wait for are the same limits of time."""
    workers = {pid: name for pid, name in processes(service.state).items() if name in PLANES}

    def ask(plane: str) -> bool:
        url, _, _, asked = PLANES[plane]
        whole = service.http(f"{url(service)}{asked}", headers={"Range": "bytes=0-99"})
        return service.http(f"{url(service)}/healthz").status == 200 and whole.status in {200, 206}

    def ask_all() -> None:
        for plane in PLANES:
            honest(lambda: ask(plane))  # noqa: B023 - called before the next

    ask_all()
    before = {plane: memory(service, plane) for plane in PLANES}
    with crowd() as slow:
        for url, post, fetch, _ in PLANES.values():
            fill(slow, address(url(service)), post, fetch)
        for url, *_ in PLANES.values():
            connected(address(url(service))[1], 5 * EACH)
        ask_all()
        dripping = [each for each in slow.clients if each.kind != "reader"]
        assert sum(not each.ended for each in dripping) == 4 * EACH * len(PLANES)  # they were there all the while
        for plane in PLANES:
            assert memory(service, plane) - before[plane] < 24 << 20
        # each kind is told, or just ended, in its time
        wait_for(lambda: all(each.ended for each in dripping), 150, "the end of every slow connection")
        for each in dripping:
            assert each.heard.startswith(b"HTTP/1.1 408 ") or each.kind == "silent"
        ask_all()
    assert workers.items() <= processes(service.state).items()
    assert "Traceback" not in service.log.read_text()


def test_s73_large_uploads_without_a_credential_are_refused_unread(service: Served) -> None:
    with crowd() as slow:
        for _ in range(4 * EACH):
            slow.join(address(service.admin), "upload", at_once=(UPLOAD % b"/api/v1/machines:plan")[:-999])
        wait_for(lambda: all(b" 401 " in each.heard for each in slow.clients), 60, "every refusal")
        honest(lambda: service.http(f"{service.admin}/healthz").status == 200)


def test_s73_large_uploads_of_one_who_may_leave_threads_for_others(service: Served) -> None:
    token = json.loads(
        service.cli("token", "add", "slow", "--user", "admin", "--role", "admin", "--output", "json").stdout
    )["token"]
    head = (UPLOAD % b"/api/v1/machines:plan").replace(
        b"\r\n\r\n", b"\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    with crowd() as slow:
        for _ in range(4 * EACH):
            slow.join(address(service.admin), "upload", at_once=head[:-999], drips=b" " * 999)
        connected(address(service.admin)[1], 4 * EACH)
        honest(lambda: service.http(f"{service.admin}/readyz").status == 200)
        assert slow.there() == 4 * EACH


def test_s73_slow_hands_hold_up_no_tls(_template: Path, tmp_path: Path) -> None:
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state")
    del environment["PROVISIONER_TLS"]
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    url = f"https://{environment['PROVISIONER_HTTP_BIND']}"
    served._up = lambda: served_over_tls(served, url)  # type: ignore[method-assign]
    served.start()
    try:
        with crowd() as slow:
            where = address(url)
            for _ in range(EACH):
                slow.join(where, "silent")
                slow.join(where, "half a hello", at_once=b"\x16\x03\x01\x02\x00\x01")
                slow.join(where, "silent behind TLS", tls=True)
                slow.join(where, "head behind TLS", tls=True, drips=HEAD)
            connected(where[1], 4 * EACH)
            honest(lambda: served_over_tls(served, url))
            assert slow.there() == 4 * EACH
        plain = served.http(f"http://{environment['PROVISIONER_HTTP_BIND']}/healthz")
        assert (plain.status, plain.json()["hint"]) == (400, "write https:// before the address")
    finally:
        served.stop()


def served_over_tls(served: Served, url: str) -> bool:
    """Whether the admin plane answers by TLS."""
    certificate = str(served.state / "tls/cert.pem")
    asked = ["curl", "-fsS", "--max-time", "60", "--cacert", certificate, f"{url}/readyz"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0
