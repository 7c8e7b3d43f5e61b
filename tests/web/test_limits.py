"""Each limit of what clients send, exceeded over and over: its 4xx, no memory kept, the same processes (S73)."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Served
from played import processes

pytestmark = pytest.mark.slow
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PARTS = (
    b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % n for n in range(1200)) + b"--x--\r\n"
)
DEEP = b"[" * 30_000 + b"]" * 30_000
MAC = b"mac=52:54:00:99:00:01"
API = "/api/v1/machines"
Case = tuple[str, str, str, bytes | None, dict[str, str], int]
CASES: dict[str, Case] = {
    "a long line": ("boot", "GET", "/boot/ipxe?" + "a" * 9000, None, {}, 414),
    "a long header": ("boot", "GET", "/boot/ipxe", None, {"X-Long": "a" * 9000}, 431),
    "many headers": ("boot", "GET", "/boot/ipxe", None, {f"X-{n}": "a" for n in range(200)}, 431),
    "a long head": ("boot", "GET", "/boot/ipxe", None, {f"X-{n}": "a" * 8000 for n in range(20)}, 431),
    "a body of 300 KiB": ("boot", "POST", "/discovery", b"x" * 300_000, {"Content-Type": FORM}, 413),
    "many parts": ("boot", "POST", "/discovery", PARTS, {"Content-Type": "multipart/form-data; boundary=x"}, 413),
    "many form fields": ("boot", "POST", "/discovery", MAC + b"&a=1" * 20_000, {"Content-Type": FORM}, 413),
    "a deep report": ("boot", "POST", "/discovery", b'{"a": ' + DEEP + b"}", {"Content-Type": JSON}, 400),
    "a long field": ("boot", "POST", "/discovery", MAC + b"9" * 60_000, {"Content-Type": FORM}, 400),
    "a body to media": ("media", "POST", "/media/x", b"x" * 5000, {}, 404),
    "a long line to media": ("media", "GET", "/media/" + "a" * 9000, None, {}, 414),
    "many headers to media": ("media", "GET", "/media/x/y", None, {f"X-{n}": "a" for n in range(200)}, 431),
    "a body of 2 MiB": ("admin", "POST", API, b" " * (2 << 20), {"Content-Type": JSON}, 413),
    "a batch of 49 MiB": ("admin", "POST", f"{API}:plan", b" " * (49 << 20), {"Content-Type": JSON}, 413),
    "a deep object": (
        "admin",
        "POST",
        API,
        b'{"name": "a", "parameters": {"x": ' + DEEP + b"}}",
        {"Content-Type": JSON},
        400,
    ),
    "a long name": ("admin", "POST", API, b'{"name": "' + b"a" * 500_000 + b'"}', {"Content-Type": JSON}, 400),
    "parts to the API": ("admin", "POST", API, PARTS, {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    "a large page": ("admin", "GET", f"{API}?limit=100000", None, {}, 400),
    "a long reason": ("admin", "POST", API, b'{"name": "a"}', {"Content-Type": JSON, "X-Reason": "r" * 5000}, 400),
    "many headers to the API": ("admin", "GET", API, None, {f"X-{n}": "a" for n in range(200)}, 431),
}


@pytest.fixture(scope="module")
def bearer(served: Any) -> str:
    """An administrator's token."""
    return str(json.loads(served.cli("token", "add", "limits", "--output", "json").stdout)["token"])


def ask(served: Served, case: Case, bearer: str) -> tuple[int, bytes]:
    """The status and the body of the answer, by a client that sends all before it listens."""
    plane, method, path, body, headers, _ = case
    url = {"boot": served.boot, "media": served.media, "admin": served.admin}[plane]
    client = http.client.HTTPConnection(url.partition("//")[2], timeout=60)
    more = {"Authorization": f"Bearer {bearer}"} if plane == "admin" else {}
    client.request(method, path, body, headers | more)
    answer = client.getresponse()
    found = answer.status, answer.read()
    client.close()
    return found


def memory(served: Served) -> dict[str, int]:
    """Bytes in memory of their own, by process."""
    found = {}
    for pid, name in processes(served.state).items():
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found[f"{name} {pid}"] = int(fields["RssAnon"].split()[0]) << 10
    return found


@pytest.mark.parametrize("name", CASES)
def test_s73_beyond_a_limit_is_4xx_in_words(served: Any, bearer: str, name: str) -> None:
    status, body = ask(served, CASES[name], bearer)
    assert status == CASES[name][5], body[:300]
    assert json.loads(body)["detail"]


def test_s73_again_and_again_takes_no_memory_and_kills_nobody(served: Any, bearer: str) -> None:
    for case in CASES.values():
        ask(served, case, bearer)
    before = memory(served)
    for _ in range(15):
        for case in CASES.values():
            assert ask(served, case, bearer)[0] == case[5]
    after = memory(served)
    assert set(after) == set(before)
    assert all(after[name] - before[name] < 16 << 20 for name in before), (before, after)
    assert "Traceback" not in served.log.read_text()
