"""Git over https, as a forge serves it: `git http-backend` behind a certificate and a password."""

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from receiver import certificate


@contextmanager
def git_over_https(folder: Path, address: str, login: str) -> Iterator[tuple[str, Path]]:
    """Serves every bare repository in ``folder`` to whoever knows ``login`` (USER:PASSWORD): its URL and its CA."""
    files = certificate(folder, address)
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            told = {"GIT_PROJECT_ROOT": str(folder), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path}
            told |= {"REQUEST_METHOD": self.command, "QUERY_STRING": query, "REMOTE_USER": "git"}
            told |= {"CONTENT_TYPE": self.headers.get("Content-Type", ""), "PATH": os.environ["PATH"]}
            told |= {"HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", "")}
            told |= {"GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
            done = subprocess.run(
                ["git", "http-backend"], input=self._body(), env=told, capture_output=True, check=True
            )
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200 OK").split()[0]))
            for name, value in lines.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            return whole

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that trusts us not goes away."""

    server = Server((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"https://{address}:{server.server_port}", files[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
