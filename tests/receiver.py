"""Receivers of webhooks: real HTTP and HTTPS servers on loopback, well and badly behaved."""

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from provisioner.core.webhooks import signature

SECRET = "a secret of sixteen and more"
Answer = Callable[[BaseHTTPRequestHandler, int], None]


@dataclass(frozen=True)
class Got:
    """One request."""

    headers: dict[str, str]
    body: bytes
    path: str

    @property
    def uid(self) -> str:
        """The delivery's id."""
        return self.headers["x-provisioner-delivery"]

    @property
    def event(self) -> str:
        """The event."""
        return self.headers["x-provisioner-event"]

    @property
    def payload(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def signed(self, secret: str = SECRET) -> bool:
        """Whether the signature is right."""
        stamp = self.headers["x-provisioner-timestamp"]
        return self.headers["x-provisioner-signature"] == signature(secret, stamp, self.body)


@dataclass
class Receiver:
    """What came in, and where it listens."""

    port: int
    scheme: str = "http"
    got: list[Got] = field(default_factory=list)
    status: int = 204
    answer: Answer | None = None

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        """Its URL."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def events(self) -> list[str]:
        """What came in, in order."""
        return [each.event for each in self.got]


@contextmanager
def receiver(answer: Answer | None = None, certificate: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    """A receiver that answers 204, or as ``answer(handler, number)`` says, the first number being 1."""
    state = Receiver(0, answer=answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.got.append(Got({key.lower(): value for key, value in self.headers.items()}, body, self.path))
            if state.answer is not None:
                state.answer(self, len(state.got))
            else:
                plain(self, state.status)

        def do_GET(self) -> None:
            state.got.append(Got({"method": "GET"}, b"", self.path))
            plain(self, 204)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that goes away is no error of the test."""

    server = Server(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    if certificate is not None:
        state.scheme = "https"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def plain(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """An answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def raw(talk: Callable[[socket.socket], None]) -> Iterator[Receiver]:
    """A server that says whatever ``talk`` does to each connection; it ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    state = Receiver(listener.getsockname()[1])
    taken: list[socket.socket] = []

    def serve(peer: socket.socket) -> None:
        try:
            talk(peer)
        except OSError:
            pass
        finally:
            peer.close()

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            taken.append(peer)
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for peer in taken:
            peer.close()
        thread.join(10)


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for these names and addresses, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    begins = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "receiver.pem", folder / "receiver.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
