"""A small NetBox: complete answers of its API from ``fixtures/netbox``, over real HTTP, with its filters and pages.

What a test wants to go wrong it sets on :class:`NetBoxServer`: ``misbehave`` gets each request first.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

FIXTURES = Path(__file__).parent / "fixtures/netbox"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
_NAMED = "http://netbox.example.com"
_CHOICES = {"status": ("status", "value"), "role": ("role", "slug"), "site": ("site", "slug")}


class NetBoxServer:
    """The server's data and habits, to be changed by tests at will."""

    def __init__(self, url: str, fixture: str = "netbox-4.3") -> None:
        self.url = url
        data = json.loads((FIXTURES / f"{fixture}.json").read_text().replace(_NAMED, url))
        self.version: str = data.pop("version")
        self.lists: dict[str, list[dict[str, Any]]] = data
        self.most_per_page = 1000
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.misbehave: Callable[[Any, str, dict[str, list[str]]], bool] = lambda *_: False

    def device(self, number: int) -> dict[str, Any]:
        """A device, to be changed in place."""
        return next(each for each in self.lists["dcim/devices"] if each["id"] == number)

    def interface(self, number: int) -> dict[str, Any]:
        """An interface, to be changed in place."""
        return next(each for each in self.lists["dcim/interfaces"] if each["id"] == number)

    def remove_device(self, number: int) -> None:
        """A device with its interfaces and addresses is deleted."""
        self.lists["dcim/devices"] = [each for each in self.lists["dcim/devices"] if each["id"] != number]
        self.lists["dcim/interfaces"] = [e for e in self.lists["dcim/interfaces"] if e["device"]["id"] != number]
        self.lists["ipam/ip-addresses"] = [
            each for each in self.lists["ipam/ip-addresses"] if each["assigned_object"]["device"]["id"] != number
        ]

    def keep_devices(self, *numbers: int) -> None:
        """All others are deleted."""
        for number in [each["id"] for each in self.lists["dcim/devices"]]:
            if number not in numbers:
                self.remove_device(number)

    def many(self, count: int) -> None:
        """More servers like the first, by the numbers from 1001 on, without addresses."""
        device, card = json.dumps(self.device(1)), json.dumps(self.interface(11))
        for number in range(1001, 1001 + count):
            bare = {"id": number, "name": f"node{number}", "serial": f"N{number}", "interface_count": 1}
            no_address = dict.fromkeys(("primary_ip", "primary_ip4", "oob_ip"))
            self.lists["dcim/devices"].append(json.loads(device) | bare | no_address)
            mac = f"52:54:01:00:{number // 256:02X}:{number % 256:02X}"
            here = {"id": number * 10, "device": {"id": number, "name": f"node{number}"}, "mac_address": mac}
            here |= {"primary_mac_address": None, "mac_addresses": []}
            self.lists["dcim/interfaces"].append(json.loads(card) | here)

    def answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | None:
        """What NetBox answers; None for 404."""
        if path == "/api/":
            return {"dcim": f"{self.url}/api/dcim/", "ipam": f"{self.url}/api/ipam/"}
        name = path.removeprefix("/api/").strip("/")
        if name not in self.lists:
            return None
        rows = self._filtered(name, query)
        if "id" in query.get("ordering", []):
            rows.sort(key=lambda each: each["id"])
        limit = min(int(query.get("limit", ["50"])[0]) or self.most_per_page, self.most_per_page)
        offset = int(query.get("offset", ["0"])[0])
        page = rows[offset : offset + limit]
        if "config_context" in query.get("exclude", []):
            page = [{key: value for key, value in each.items() if key != "config_context"} for each in page]
        again = {key: values for key, values in query.items() if key not in {"limit", "offset"}}
        following = urlencode(again | {"limit": limit, "offset": offset + limit}, doseq=True)
        more = f"{self.url}{path}?{following}" if offset + limit < len(rows) else None
        return {"count": len(rows), "next": more, "previous": None, "results": page}

    def _filtered(self, name: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        rows = list(self.lists[name])
        for key, values in query.items():
            if key == "id":
                rows = [each for each in rows if str(each["id"]) in values]
            elif key in _CHOICES:
                field, part = _CHOICES[key]
                rows = [each for each in rows if each[field][part] in values]
            elif key == "tag":
                rows = [each for each in rows if set(values) <= {tag["slug"] for tag in each["tags"]}]
            elif key == "device_id":
                wanted = self._with_members(set(values))
                rows = [each for each in rows if (each.get("assigned_object") or each)["device"]["id"] in wanted]
        return rows

    def _with_members(self, wanted: set[str]) -> set[int]:
        """These devices; the master of a virtual chassis stands for its members' interfaces too."""
        chassis = {each["id"]: each["virtual_chassis"] for each in self.lists["dcim/devices"]}
        members = {number for number, of in chassis.items() if of and str(of["master"]["id"]) in wanted}
        return members | {int(each) for each in wanted}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    netbox: NetBoxServer

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        self.netbox.asked.append((path, query, {name.lower(): value for name, value in self.headers.items()}))
        if self.netbox.misbehave(self, path, query):
            return
        if self.headers.get("Authorization") != f"Token {TOKEN}":
            self.reply(403, {"detail": "Invalid token"})
            return
        answer = self.netbox.answer(path, query)
        self.reply(404, {"detail": "Not found."}) if answer is None else self.reply(200, answer)

    def reply(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
        """Answer with JSON, or with the bytes of another kind."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if self.netbox.version:
            self.send_header("API-Version", self.netbox.version)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Clients that go away, or do not like the certificate, are what tests do."""


@contextmanager
def netbox_server(fixture: str = "netbox-4.3", tls: ssl.SSLContext | None = None) -> Iterator[NetBoxServer]:
    """A NetBox on a port of loopback."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "http" if tls is None else "https"
        handler.netbox = NetBoxServer(f"{scheme}://127.0.0.1:{server.server_port}", fixture)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield handler.netbox
        finally:
            server.shutdown()
            thread.join()
