"""Asking NetBox over real HTTP: pages, limits, where the token goes, and errors in words."""

import gzip
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from netbox_server import TOKEN, NetBoxServer, netbox_server

from provisioner.errors import InventoryFailed, TooLarge
from provisioner.services import netboxapi
from provisioner.services.netboxapi import Client
from provisioner.settings import NetBox


@pytest.fixture
def netbox() -> Iterator[NetBoxServer]:
    """A NetBox with 16 devices."""
    with netbox_server() as server:
        yield server


def client(url: str, token: str = TOKEN, **settings: Any) -> Client:
    """A client of it."""
    return Client(NetBox(url=url, token_file=Path("/nowhere"), **settings), token)


def refused(netbox: NetBoxServer, **settings: Any) -> InventoryFailed:
    """What asking for the devices raises."""
    with pytest.raises(InventoryFailed) as caught:
        asked = client(netbox.url, **settings)
        asked.version()
        asked.devices()
    assert TOKEN not in f"{caught.value.message} {caught.value.hint} {caught.value.details}"
    assert caught.value.hint or "larger" in caught.value.message
    return caught.value


@pytest.mark.parametrize("fixture", ["netbox-4.0", "netbox-4.3"])
def test_devices_and_what_belongs_to_them(fixture: str) -> None:
    with netbox_server(fixture) as netbox:
        asked = client(netbox.url, filter={"role": "db", "status": ["active", "planned"]})
        assert asked.version() == netbox.version
        (db01,) = asked.devices()
        assert db01["name"] == "db01"
        assert "config_context" not in db01, "NetBox need not compute it"
        interfaces, addresses = asked.belongings([2])
        assert [each["name"] for each in interfaces] == ["bond0", "eno1", "eno2", "bond0.20"]
        assert [each["address"] for each in addresses] == ["10.0.2.22/24"]
        assert asked.device_of_interface(24) == 2
        assert asked.device_of_interface(9999) is None


def test_the_default_filter_leaves_out_what_is_decommissioned(netbox: NetBoxServer) -> None:
    assert [each["id"] for each in client(netbox.url).devices()] == list(range(1, 16))
    assert [each["id"] for each in client(netbox.url).devices([3, 16])] == [3], "the filter holds for one device too"


def test_pages_are_followed(netbox: NetBoxServer) -> None:
    netbox.many(300)
    netbox.most_per_page = 40
    found = client(netbox.url).devices()
    assert [each["id"] for each in found] == [*range(1, 16), *range(1001, 1301)]
    assert len([path for path, _, _ in netbox.asked if path == "/api/dcim/devices/"]) == 8
    interfaces, _ = client(netbox.url).belongings([each["id"] for each in found])
    assert len({each["id"] for each in interfaces}) == len(netbox.lists["dcim/interfaces"]) - 1, "all but old01's"


def test_a_list_that_changes_between_two_pages_is_read_again(netbox: NetBoxServer) -> None:
    netbox.most_per_page = 6

    def remove_one(_handler: Any, path: str, query: dict[str, list[str]]) -> bool:
        if path == "/api/dcim/devices/" and query.get("offset") == ["6"] and len(netbox.lists["dcim/devices"]) == 16:
            netbox.remove_device(1)
        return False

    netbox.misbehave = remove_one
    assert [each["id"] for each in client(netbox.url).devices()] == list(range(2, 16)), "7 was skipped at first"


def test_a_list_that_never_rests_is_an_error(netbox: NetBoxServer) -> None:
    netbox.most_per_page = 5

    def remove_one(_handler: Any, path: str, query: dict[str, list[str]]) -> bool:
        if path == "/api/dcim/devices/" and query.get("offset") == ["5"]:
            netbox.remove_device(netbox.lists["dcim/devices"][0]["id"])
        return False

    netbox.misbehave = remove_one
    assert "changed while it was read" in refused(netbox).message


def test_more_devices_than_one_plan_takes(netbox: NetBoxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netboxapi, "MOST_DEVICES", 14)
    with pytest.raises(TooLarge, match="15 devices"):
        client(netbox.url).devices()


def test_nobody_listens(netbox: NetBoxServer) -> None:
    netbox.url = "http://127.0.0.1:1"
    assert "cannot be reached: Connection refused" in refused(netbox).message


def test_a_name_that_nobody_knows(netbox: NetBoxServer) -> None:
    netbox.url = "http://netbox.invalid"
    assert "cannot be reached" in refused(netbox).message


def test_the_token_is_refused(netbox: NetBoxServer) -> None:
    with pytest.raises(InventoryFailed, match=r"refuses the token \(403\)") as caught:
        client(netbox.url, "wrong").devices()
    assert caught.value.where == "netbox.token_file"


def _html(handler: Any, _path: str, _query: Any) -> bool:
    handler.reply(200, b"<html>please log in</html>", "text/html")
    return True


def test_a_page_for_people_is_not_netbox(netbox: NetBoxServer) -> None:
    netbox.misbehave = _html
    netbox.version = ""
    assert "does not answer as NetBox does" in refused(netbox).message


def test_a_page_for_people_later_on(netbox: NetBoxServer) -> None:
    netbox.misbehave = lambda handler, path, query: path != "/api/" and _html(handler, path, query)
    assert "answers, but not as NetBox does" in refused(netbox).message


@pytest.mark.parametrize(
    "body", [b"[]", b"[1, 2]", b"null", b'"x"', b"{}", b'{"results": [1], "count": 1}', b"[" * 99999]
)
def test_json_that_is_no_list_of_devices(netbox: NetBoxServer, body: bytes) -> None:
    def odd(handler: Any, path: str, _query: Any) -> bool:
        if path != "/api/dcim/devices/":
            return False
        handler.reply(200, body)
        return True

    netbox.misbehave = odd
    if body == b"[]":
        assert client(netbox.url).devices() == []
    else:
        assert refused(netbox).where == "netbox.url"


def test_an_old_version(netbox: NetBoxServer) -> None:
    netbox.version = "3.7"
    assert "NetBox 3.7; its API is understood from 4.0 on" in refused(netbox).message


def test_a_filter_that_netbox_does_not_know(netbox: NetBoxServer) -> None:
    def strict(handler: Any, path: str, _query: Any) -> bool:
        if path != "/api/dcim/devices/":
            return False
        handler.reply(400, {"role": ["Select a valid choice. sever is not one of the available choices."]})
        return True

    netbox.misbehave = strict
    error = refused(netbox, filter={"role": "sever"})
    assert "sever is not one of the available choices" in error.message
    assert error.where == "netbox.filter"


@pytest.mark.parametrize(("status", "word"), [(404, "does not exist"), (500, "status 500"), (502, "status 502")])
def test_other_statuses(netbox: NetBoxServer, status: int, word: str) -> None:
    def failing(handler: Any, path: str, _query: Any) -> bool:
        if path != "/api/dcim/devices/":
            return False
        handler.reply(status, b"<h1>no</h1>", "text/html")
        return True

    netbox.misbehave = failing
    assert word in refused(netbox).message


class _Thief(BaseHTTPRequestHandler):
    """Another host; it remembers what it was sent."""

    def do_GET(self) -> None:
        self.server.stolen.append(dict(self.headers))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def thief() -> Iterator[HTTPServer]:
    """Another host."""
    with HTTPServer(("127.0.0.1", 0), _Thief) as server:
        server.stolen = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_s62_no_redirect_is_followed(netbox: NetBoxServer, thief: HTTPServer) -> None:
    def redirect(handler: Any, path: str, _query: Any) -> bool:
        handler.reply(302, b"", Location=f"http://127.0.0.1:{thief.server_port}{path}")
        return True

    netbox.misbehave = redirect
    error = refused(netbox)
    assert "leads on to" in error.message
    assert thief.stolen == []


def test_s62_no_page_of_another_host_is_fetched(netbox: NetBoxServer, thief: HTTPServer) -> None:
    netbox.most_per_page = 5

    def elsewhere(handler: Any, path: str, query: dict[str, list[str]]) -> bool:
        if path != "/api/dcim/devices/":
            return False
        answer = netbox.answer(path, query)
        assert answer is not None
        handler.reply(200, answer | {"next": f"http://127.0.0.1:{thief.server_port}{path}?offset=10"})
        return True

    netbox.misbehave = elsewhere
    assert f"names http://127.0.0.1:{thief.server_port} for the next page" in refused(netbox).message
    assert thief.stolen == []


def test_s62_neither_proxy_nor_netrc_of_the_environment(
    netbox: NetBoxServer, thief: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{thief.server_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{thief.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert len(client(netbox.url).devices()) == 15
    assert thief.stolen == []
    assert {headers["authorization"] for _, _, headers in netbox.asked} == {f"Token {TOKEN}"}


@pytest.mark.parametrize("way", ["chunked", "gzip", "cut off"])
def test_answers_as_web_servers_send_them(netbox: NetBoxServer, way: str) -> None:
    def sent(handler: Any, path: str, query: dict[str, list[str]]) -> bool:
        body = json.dumps(netbox.answer(path, query)).encode()
        handler.send_response(200)
        handler.send_header("API-Version", "4.3")
        handler.send_header("Content-Type", "application/json")
        if way == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:700], body[700:])) + b"0\r\n\r\n"
        elif way == "gzip":
            body = gzip.compress(body)
            handler.send_header("Content-Encoding", "gzip")
            handler.send_header("Content-Length", str(len(body)))
        else:
            handler.send_header("Content-Length", str(len(body) + 1))
            handler.close_connection = True
        handler.end_headers()
        handler.wfile.write(body)
        return True

    netbox.misbehave = lambda handler, path, query: path != "/api/" and sent(handler, path, query)
    if way == "cut off":
        assert "cannot be reached" in refused(netbox).message
    else:
        assert len(client(netbox.url).devices()) == 15


def test_an_answer_without_end_is_cut(netbox: NetBoxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netboxapi, "MOST_BYTES", 1 << 20)
    sent = 0

    def endless(handler: Any, path: str, _query: Any) -> bool:
        nonlocal sent
        if path != "/api/dcim/devices/":
            return False
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        try:
            while sent < 1 << 28:
                sent += handler.wfile.write(b" " * (1 << 16))
        except OSError:
            pass
        return True

    netbox.misbehave = endless
    assert "larger than 1 MiB" in refused(netbox).message
    assert sent < 1 << 28


def test_an_answer_that_drips_is_given_up(netbox: NetBoxServer) -> None:
    enough = threading.Event()

    def drip(handler: Any, path: str, _query: Any) -> bool:
        if path != "/api/dcim/devices/":
            return False
        handler.close_connection = True
        handler.send_response(200)
        handler.end_headers()
        try:
            while not enough.wait(0.05):
                handler.wfile.write(b" ")
        except OSError:
            pass
        return True

    netbox.misbehave = drip
    try:
        assert "did not answer within 0.5 s" in refused(netbox, timeout_seconds=0.5).message
    finally:
        enough.set()


def test_the_certificate_is_checked(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *files, *subject],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with netbox_server(tls=context) as netbox:
        assert "certificate" in refused(netbox).message
        assert netbox.asked == [], "the token was not sent"
        assert client(netbox.url, ca_file=certificate).version() == "4.3"
        assert "cannot be reached" in refused(netbox, ca_file=tmp_path / "none.pem").message
        with pytest.warns(Warning, match="Unverified HTTPS"):
            assert client(netbox.url, verify="off").version() == "4.3"
