"""A small application under our HTTP server, with few connections.

`python smallserver.py PORT CONNECTIONS FILE [PER_ADDRESS [PROXY]]`
"""

import sys
import threading
import time
from typing import Any

from gunicorn.app.base import BaseApplication
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from provisioner.web.server import LoopWorker

TEXT = "0123456789abcdef" * 64
_go_on = threading.Event()


class Small(BaseApplication):  # type: ignore[misc]
    """One worker, four threads."""

    longest_body = 4096
    most_downloads = 0

    def __init__(self, port: int, connections: int, file: str, per_address: int, proxies: tuple[str, ...]) -> None:
        self.most_per_address, self.trusted_proxies = per_address, proxies
        self._options = {
            "bind": f"127.0.0.1:{port}",
            "worker_class": LoopWorker,
            "workers": 1,
            "threads": 4,
            "worker_connections": connections,
            "keepalive": 30,
            "graceful_timeout": 20,
            "accesslog": None,
            "loglevel": "warning",
        }
        self._file = file
        super().__init__()

    def load_config(self) -> None:
        for key, value in self._options.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        return self._answer

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        response = getattr(self, request.path.strip("/") or "echo")(request)
        return response(environ, start_response)

    def echo(self, request: Request) -> Response:
        """What was sent."""
        return Response(request.get_data() or request.query_string or b"nothing")

    def ignore(self, request: Request) -> Response:
        """An answer without a look at the body."""
        return Response("refused", 403)

    def file(self, request: Request) -> Response:
        """A file, by sendfile."""
        handle = open(self._file, "rb")  # noqa: PTH123, SIM115 - the response closes it
        response = Response(wrap_file(request.environ, handle), direct_passthrough=True)
        response.content_length = handle.seek(0, 2)
        handle.seek(0)
        return response

    def large(self, request: Request) -> Response:
        """So many KiB."""
        return Response(TEXT * int(request.query_string))

    def stream(self, request: Request) -> Response:
        """A line, and the next one when `/next` was asked."""

        def lines() -> Any:
            yield b"first\n"
            while not _go_on.wait(1):
                yield b"beat\n"
            yield b"second\n"

        return Response(lines())

    def next(self, request: Request) -> Response:
        """Let the stream go on."""
        _go_on.set()
        return Response("yes")

    def sleep(self, request: Request) -> Response:
        """An answer that takes a second."""
        time.sleep(1)
        return Response("awake")

    def header(self, request: Request) -> Response:
        """A header that is none."""

        def start(environ: dict[str, Any], start_response: Any) -> Any:
            start_response("200 OK", [("X-Bad", "a\r\nb: c")])
            return [b"never"]

        return start  # type: ignore[return-value]


if __name__ == "__main__":
    most = int(sys.argv[4]) if len(sys.argv) > 4 else int(sys.argv[2])
    Small(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], most, tuple(sys.argv[5:])).run()
