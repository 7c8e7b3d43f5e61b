"""The load client for HTTP: what it counts is what was served, and a wrong or missing answer is never a fast one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from benchkit.private import Load, Told, storm

pytestmark = pytest.mark.slow
BODY = b"a kickstart for node1\n" + b"x" * 400_000


@contextmanager
def serving(status: int = 200, promised: int = len(BODY)) -> Iterator[tuple[int, list[tuple[str, str, int]]]]:
    """A server of this body: its port, and who asked for what on which connection."""
    asked: list[tuple[str, str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append((self.client_address[0], self.path, self.client_address[1]))
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(BODY)
            self.close_connection = promised > len(BODY)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_it_asks_from_each_address_and_counts_what_came() -> None:
    with serving() as (port, asked):
        lines = [(f"127.0.9.{number}", f"/{number}", "node1") for number in (1, 2, 3)]
        told = storm(port, Load(clients=3, seconds=60, each=4, keep=2), lines)
    assert (told.answers, told.bytes) == (12, 12 * len(BODY))
    assert 0 < told.p50 <= told.p99 <= told.max <= told.wall
    assert {(source, path) for source, path, _ in asked} == {(line[0], line[1]) for line in lines}
    assert len({(source, number) for source, _, number in asked}) == 6, "two requests a connection"


def test_until_the_time_is_over() -> None:
    with serving() as (port, _):
        told = storm(port, Load(clients=2, seconds=0.5, keep=100), [("127.0.9.1", "/", "-")])
    assert told.answers >= 2


@pytest.mark.parametrize(
    ("given", "why"),
    [({"status": 503}, "answered with"), ({"promised": len(BODY) + 1}, "closed in the middle")],
)
def test_a_missing_answer_is_an_error(given: dict[str, int], why: str) -> None:
    with serving(**given) as (port, _), pytest.raises(RuntimeError, match=rf"2 requests failed.*{why}"):
        storm(port, Load(clients=2, seconds=60, each=1), [("127.0.9.1", "/", "-")])


def test_an_answer_for_somebody_else_is_an_error() -> None:
    with serving() as (port, _), pytest.raises(RuntimeError, match=r"1 were answered wrongly: .*node2"):
        storm(port, Load(clients=1, seconds=60, each=1), [("127.0.9.1", "/", "node2")])


def test_nobody_but_loopback_is_asked() -> None:
    with pytest.raises(RuntimeError, match="loopback addresses alone"):
        storm(80, Load(clients=1, seconds=1), [("10.0.0.1", "/", "-")])


def test_what_is_told_of_a_server() -> None:
    told = Told(
        answers=10, failed=0, wrong=0, bytes=5_000_000, wall=2.0, p50=0.1, p99=0.2, max=0.3, problem="", user=1.0
    )
    assert (told.rate, told.speed, told.cpu) == (5.0, 2.5, 1.0)
