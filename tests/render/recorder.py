"""A small HTTP server that records what was asked of it and answers as told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The body as a form, each field once."""
        fields = parse_qs(self.body.decode(errors="replace"), keep_blank_values=True, strict_parsing=True)
        return {key: values[0] for key, values in fields.items()}


Answer = Callable[[Asked, int], tuple[int, bytes]]
LOST = 0
"""The status of a reply that gets lost: the request arrived, and the connection ends."""


@dataclass
class Recorder:
    """``url`` and everything asked so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def steps(self) -> list[str]:
        """The steps of the events that were posted, in order."""
        return [each.form["step"] for each in self.asked if each.path.endswith("/event")]


@contextmanager
def recorder(answer: Answer) -> Iterator[Recorder]:
    """Serve on a free port; ``answer`` gets the request and how often its path was asked before."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(self.command, self.path, self.rfile.read(length))
            status, body = answer(asked, sum(each.path == asked.path for each in recording.asked))
            recording.asked.append(asked)
            if status == LOST:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recording = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield recording
        finally:
            server.shutdown()
            thread.join()
