"""A build is followed by the server's stream of events: asked again when something happened, and not all the while."""

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from provisioner.cli.client import listening, remote
from provisioner.cli.client.remote import RemoteClient
from provisioner.cli.client.server import Server
from provisioner.cli.client.transport import Api
from provisioner.errors import NotProvisioner, Unreachable


class Story:
    """A server that tells of one build; ``say`` puts what its stream sends, None ends the stream."""

    def __init__(self) -> None:
        self.view: dict[str, Any] = {"id": 7, "machine": "web01", "number": 1, "state": "armed", "events": []}
        self.said: queue.Queue[bytes | None] = queue.Queue()
        self.asked: list[str] = []
        self.refusals: list[tuple[int, str, bytes]] = []
        story = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                story.asked.append(self.path.removeprefix("/api/v1"))
                if "/events" in self.path:
                    self._stream()
                elif self.path.endswith("builds?limit=1"):
                    self._answer(200, "application/json", json.dumps({"items": [story.view], "next": None}).encode())
                else:
                    self._answer(200, "application/json", json.dumps(story.view).encode())

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                assert self.headers["Accept"] == "text/event-stream"
                assert self.headers["Authorization"] == "Bearer pvt_x_y"
                if story.refusals:
                    self._answer(*story.refusals.pop(0))
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                while (said := story.said.get()) is not None:
                    self.wfile.write(said)
                self.close_connection = True

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
                del format, arguments

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        port = self.server.server_address[1]
        api = Api.at(Server(tls=False, host="127.0.0.1", port=port, prefix="/api/v1", token="pvt_x_y"))
        self.client = RemoteClient(api)

    def happens(self, kind: str, state: str) -> None:
        """An event, and the state after it."""
        event = {"id": 10 + len(self.view["events"]), "kind": kind}
        self.view = self.view | {"state": state, "events": [*self.view["events"], event]}
        self.said.put(f"id: {event['id']}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode())


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    monkeypatch.setattr(remote, "_AGAIN_SECONDS", 0.01)
    told = Story()
    yield told
    told.client.close()
    told.said.put(None)
    told.server.shutdown()
    told.server.server_close()


def test_it_asks_again_when_something_happened(story: Story) -> None:
    views = story.client.builds.follow("web01")
    assert next(views)["state"] == "armed"
    story.said.put(b"retry: 3000\n\n")
    story.happens("boot", "booting")
    assert next(views)["state"] == "booting"
    story.said.put(b": still here\n\n")
    assert next(views)["state"] == "booting"
    story.happens("configured", "configured")
    assert [each["state"] for each in views] == ["configured"]
    shows = [path for path in story.asked if path == "/builds/7"]
    assert len(shows) == 4
    assert [path for path in story.asked if "/events" in path] == ["/builds/7/events?after=0"]


def test_a_build_that_ended_opens_no_stream(story: Story) -> None:
    story.happens("failed", "failed")
    assert [each["state"] for each in story.client.builds.follow("web01", None)] == ["failed"]
    assert not any("/events" in path for path in story.asked)


def test_a_stream_that_breaks_off_or_is_refused_for_now_is_opened_again_behind_what_was_heard(story: Story) -> None:
    busy = {"code": "too-many", "detail": "24 streams are open already", "hint": "", "where": ""}
    story.refusals.append((429, "application/problem+json", json.dumps(busy).encode()))
    views = story.client.builds.follow("web01")
    next(views)
    assert next(views)["state"] == "armed"
    story.happens("boot", "booting")
    assert next(views)["state"] == "booting"
    story.said.put(None)
    assert next(views)["state"] == "booting"
    story.happens("configured", "configured")
    assert [each["state"] for each in views][-1] == "configured"
    assert [path for path in story.asked if "/events" in path] == [
        "/builds/7/events?after=0",
        "/builds/7/events?after=0",
        "/builds/7/events?after=10",
    ]


def test_what_is_no_stream_is_an_error_that_says_so(story: Story) -> None:
    story.refusals.append((200, "text/html", b"<html>a portal</html>"))
    views = story.client.builds.follow("web01")
    next(views)
    with pytest.raises(NotProvisioner):
        next(views)


def test_a_server_that_is_gone_is_an_error(story: Story) -> None:
    client = story.client
    story.server.shutdown()
    story.server.server_close()
    with pytest.raises(Unreachable):
        next(listening.names(client.api.wire.server, client.api.headers, "/builds/7/events"))
