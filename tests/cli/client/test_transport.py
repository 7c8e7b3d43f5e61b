"""What a server, or something else in its place, may answer: each is one error that says what happened."""

import datetime as dt
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from provisioner.cli.client import transport
from provisioner.cli.client.server import Server
from provisioner.cli.client.transport import Api
from provisioner.errors import (
    Conflict,
    IdentityConflict,
    InvalidInput,
    MalformedContent,
    NotFound,
    NotLoggedIn,
    NotProvisioner,
    ProvisionerError,
    Stale,
    Unreachable,
)

TOKEN = "pvt_secret_token"


class Wire:
    """A server that answers each request with the next of these bytes, and keeps what it was sent."""

    def __init__(self, answers: list[bytes], *, close_after: int = 1_000) -> None:
        self.answers, self.close_after = answers, close_after
        self.heads: list[str] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while self.answers:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                served = 0
                while self.answers and served < self.close_after and self._one(connection):
                    served += 1

    def _one(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            if not piece:
                return False
            head += piece
        self.heads.append(head.decode("latin-1"))
        connection.sendall(self.answers.pop(0))
        return True

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()
        self.thread.join(10)


@contextmanager
def answering(*answers: bytes, close_after: int = 1_000) -> Iterator[tuple[Api, Wire]]:
    """An API whose server says this."""
    wire = Wire(list(answers), close_after=close_after)
    api = Api.at(Server(tls=False, host="127.0.0.1", port=wire.port, prefix="/api/v1", token=TOKEN))
    try:
        yield api, wire
    finally:
        api.wire.close()
        wire.close()


def said(status: int, body: Any, kind: str = "application/json", *more: str) -> bytes:
    """An answer's bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Words", f"Content-Type: {kind}", f"Content-Length: {len(content)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def problem(status: int, code: str, **more: Any) -> bytes:
    """A problem+json."""
    body = {"type": "about:blank", "title": "x", "status": status, "code": code, "detail": "what", "hint": "then"}
    return said(status, body | {"where": "", "pointer": ""} | more, "application/problem+json")


@pytest.mark.parametrize(
    ("answer", "kind", "exit_code"),
    [
        (problem(404, "not-found"), NotFound, 3),
        (problem(412, "stale"), Stale, 4),
        (problem(409, "a-code-of-tomorrow"), Conflict, 4),
        (problem(422, "a-code-of-tomorrow"), InvalidInput, 1),
        (problem(500, "a-code-of-tomorrow"), ProvisionerError, 1),
    ],
)
def test_a_problem_is_the_same_error_as_here(answer: bytes, kind: type[ProvisionerError], exit_code: int) -> None:
    with answering(answer) as (api, _), pytest.raises(kind) as raised:
        api.get("/machines/x")
    assert type(raised.value) is kind
    assert (raised.value.message, raised.value.hint, raised.value.exit_code) == ("what", "then", exit_code)


def test_details_and_the_place_come_along() -> None:
    answer = problem(409, "identity-conflict", where="/uuid", detail="/uuid: two machines", sides=["a", "b"])
    with answering(answer) as (api, _), pytest.raises(IdentityConflict) as raised:
        api.get("/x")
    assert (str(raised.value), raised.value.details) == ("/uuid: two machines", {"sides": ["a", "b"]})


@pytest.mark.parametrize(
    "answer",
    [
        said(200, b"<html>hello</html>", "text/html"),
        said(200, b"{not json"),
        said(200, b"[" * 100_000),
        said(502, b"Bad Gateway", "text/plain"),
        said(500, {"message": "an error of some other program"}),
        said(404, {"code": "not-found", "detail": "The requested URL was not found on the server."}),
    ],
)
def test_what_is_not_our_api_is_told(answer: bytes) -> None:
    with answering(answer) as (api, _), pytest.raises(NotProvisioner) as raised:
        api.get("/machines")
    assert raised.value.hint
    assert raised.value.where == "PROVISIONER_URL"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_s62_the_credential_does_not_follow_a_redirect(status: int) -> None:
    with answering() as (_, other):
        place = f"Location: http://127.0.0.1:{other.port}/api/v1/machines"
        with (
            answering(said(status, b"", "text/html", place)) as (api, wire),
            pytest.raises(NotProvisioner, match="redirects to"),
        ):
            api.get("/machines")
        assert TOKEN in wire.heads[0]
        assert other.heads == []


def test_a_refused_token_says_which_variable() -> None:
    with answering(problem(401, "not-logged-in")) as (api, _), pytest.raises(NotLoggedIn) as raised:
        api.get("/machines")
    assert "PROVISIONER_TOKEN" in f"{raised.value}{raised.value.hint}"
    assert TOKEN not in f"{raised.value}{raised.value.hint}"


def test_a_connection_is_kept_and_opened_again_when_the_server_closed_it() -> None:
    with answering(*[said(200, {"n": number}) for number in range(4)], close_after=2) as (api, wire):
        assert [api.get("/x")["n"] for _ in range(4)] == [0, 1, 2, 3]
        assert wire.connections == 2


def test_a_change_is_sent_once_and_told_to_be_in_doubt() -> None:
    with answering(b"", close_after=1) as (api, wire), pytest.raises(Unreachable) as raised:
        api.change("POST", "/machines", {"name": "x"})
    assert len(wire.heads) == 1
    assert "may have been made" in raised.value.hint


def test_nobody_there() -> None:
    with answering() as (api, _):
        pass
    with pytest.raises(Unreachable, match="cannot be reached") as raised:
        api.get("/machines")
    assert "8443" in raised.value.hint


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (said(200, b"x" * 2000), {"_LARGEST": 1000}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", {}),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {}),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", {}),
    ],
)
def test_an_answer_that_is_too_large_cut_off_or_none_is_an_error(
    answer: bytes, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(transport, name, value)
    with answering(answer, close_after=1) as (api, _), pytest.raises(Unreachable, match="gave no answer"):
        api.get("/machines")


def test_an_answer_that_never_ends_is_given_up() -> None:
    waits = threading.Event()

    def silent(connection: socket.socket) -> bool:
        connection.recv(65536)
        waits.wait(30)
        return False

    with answering(b"never sent") as (api, wire):
        wire._one = silent  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="time limit"):
            api.ask("GET", "/machines", seconds=0.2)
        waits.set()


def test_what_json_cannot_say_is_refused_before_it_is_sent() -> None:
    with answering() as (api, wire):
        for value in (dt.date(2020, 1, 1), float("nan"), {1: 2}, "\udc80"):
            with pytest.raises(MalformedContent):
                api.change("POST", "/machines", {"parameters": {"x": value}})
        assert wire.heads == []


def test_headers_of_a_rehearsed_change() -> None:
    with answering(said(200, {}), said(200, {})) as (api, wire):
        reasoned = Api(api.wire, {**api.headers, "X-Reason": b"why"}).rehearsing()
        reasoned.change("PATCH", "/machines/x", {"a": 1}, expect="1.2")
        api.change("PATCH", "/machines/x", {"a": 1}, expect=None)
    first, second = (
        dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line) for head in wire.heads
    )
    assert (first["If-Match"], first["X-Dry-Run"], first["X-Reason"]) == ('"1.2"', "true", "why")
    assert second["If-Match"] == "*"
    assert "X-Dry-Run" not in second


def test_a_list_is_read_page_by_page() -> None:
    pages = [said(200, {"items": [{"n": 1}], "next": "a b"}), said(200, {"items": [{"n": 2}], "next": None})]
    with answering(*pages) as (api, wire):
        assert list(api.pages("/machines", q="x", state=None)) == [[{"n": 1}], [{"n": 2}]]
    assert "cursor=a+b" in wire.heads[1]
    assert "state" not in wire.heads[0]
