"""A stand-in Chef server: HTTPS with a CA of its own; it verifies the signature of every request, as a real one does.

It keeps clients with their public keys and nodes with their owners, in one organization, ``acme``, and refuses what a
real one refuses: unknown names and keys, bodies of another shape, old timestamps, what somebody has no right to. The
verification is written after the published protocol, not after our signing, and held to the published vectors.
"""

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID

ORGANIZATION = "/organizations/acme"
_NAME = re.compile(r"[.A-Za-z0-9_-]+")
_CLOCKS_APART = timedelta(minutes=15)
_NODE_KEYS = {
    *("name", "chef_environment", "json_class", "chef_type", "normal", "default", "override", "automatic", "run_list"),
    *("policy_name", "policy_group"),
}


def verify(public: RSAPublicKey, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether these headers sign this request, by protocol 1.0, 1.1 or 1.3. Header names in lower case."""
    told = dict(re.findall(r"(\w+)=([\w.]+)", headers.get("x-ops-sign", "")))
    digest = hashlib.sha256 if told.get("version") == "1.3" else hashlib.sha1

    def hashed(content: bytes) -> str:
        return base64.b64encode(digest(content).digest()).decode()

    numbers = sorted(int(name[20:]) for name in headers if name.startswith("x-ops-authorization-"))
    signature = base64.b64decode("".join(headers[f"x-ops-authorization-{number}"] for number in numbers))
    if headers["x-ops-content-hash"] != hashed(body):
        return False
    path = re.sub(r"(?<=.)/$", "", re.sub("/+", "/", path))
    user, when = headers["x-ops-userid"], headers["x-ops-timestamp"]
    start = [f"Method:{method}", f"Path:{path}" if told["version"] == "1.3" else f"Hashed Path:{hashed(path.encode())}"]
    start.append(f"X-Ops-Content-Hash:{hashed(body)}")
    match told["version"]:
        case "1.3":
            version = headers["x-ops-server-api-version"]
            end = ["X-Ops-Sign:version=1.3", f"X-Ops-Timestamp:{when}", f"X-Ops-UserId:{user}"]
            end.append(f"X-Ops-Server-API-Version:{version}")
        case "1.1":
            end = [f"X-Ops-Timestamp:{when}", f"X-Ops-UserId:{hashed(user.encode())}"]
        case "1.0":
            end = [f"X-Ops-Timestamp:{when}", f"X-Ops-UserId:{user}"]
        case _:
            return False
    canonical = "\n".join(start + end).encode()
    try:
        if told["version"] == "1.3":
            public.verify(signature, canonical, PKCS1v15(), SHA256())
            return True
        return public.recover_data_from_signature(signature, PKCS1v15(), None) == canonical
    except InvalidSignature:
        return False


@dataclass(frozen=True)
class Asked:
    """One request, and how it was answered."""

    who: str
    method: str
    path: str
    status: int


@dataclass
class ChefServer:
    """``url`` with the organization, ``ca`` (PEM), and everything that it keeps."""

    url: str = ""
    ca: str = ""
    users: dict[str, RSAPublicKey] = field(default_factory=dict)
    clients: dict[str, RSAPublicKey] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    policy_groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    broken: int = 0
    """So many requests are answered with 503."""
    lock: Lock = field(default_factory=Lock)

    def add_user(self, name: str, path: Path) -> str:
        """An administrator whose private key is written to the path; the key."""
        key = generate_private_key(65537, 2048)
        self.users[name] = key.public_key()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pem_of(key))
        path.chmod(0o600)
        return pem_of(key)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """What a real server would say."""
        if path == "/_status":
            return 200, {"status": "pong"}
        if self.broken > 0:
            self.broken -= 1
            return 503, {"error": ["The server is down"]}
        who = headers.get("x-ops-userid", "")
        status, told = self._checked(who, method, path, headers, body) or self._routed(who, method, path, body)
        self.asked.append(Asked(who, method, path.removeprefix(ORGANIZATION), status))
        return status, told

    def _checked(
        self, who: str, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any] | None:
        public = self.users.get(who) or self.clients.get(who)
        failed = (
            401,
            {"error": [f"Failed to authenticate as '{who}'. Ensure that your node_name and client key are correct."]},
        )
        if public is None or not verify(public, method, path, body, headers):
            return failed
        at = datetime.strptime(headers["x-ops-timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - at) > _CLOCKS_APART:
            return 401, {"error": [f"Failed to authenticate as {who}. Synchronize the clock on your host."]}
        if headers.get("accept") != "application/json" or not re.match(r"\d+\.", headers.get("x-chef-version", "")):
            return 400, {"error": ["Accept and X-Chef-Version are needed"]}
        return None

    def _routed(self, who: str, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if not path.startswith(f"{ORGANIZATION}/"):
            return 404, {"error": ["organization not found"]}
        kind, _, name = path.removeprefix(f"{ORGANIZATION}/").partition("/")
        told = json.loads(body) if body else {}
        handlers = {"clients": self._clients, "nodes": self._nodes, "policy_groups": self._policy_groups}
        return handlers[kind](who, method, name, told) if kind in handlers else (404, {"error": ["Not found"]})

    def _clients(self, who: str, method: str, name: str, told: dict[str, Any]) -> tuple[int, Any]:
        if who not in self.users:
            return 403, {"error": [f"missing {method.lower()} permission"]}
        if method == "POST":
            if set(told) - {"name", "public_key", "validator", "admin"} or not _NAME.fullmatch(told.get("name", "")):
                return 400, {"error": ["Malformed client"]}
            if told["name"] in self.clients:
                return 409, {"error": ["Client already exists"]}
            public = load_pem_public_key(told["public_key"].encode())
            assert isinstance(public, RSAPublicKey)
            self.clients[told["name"]] = public
            return 201, {"uri": f"{self.url}/clients/{told['name']}"}
        if name not in self.clients:
            return 404, {"error": [f"Cannot load client {name}"]}
        if method == "DELETE":
            del self.clients[name]
        return 200, {"name": name}

    def _nodes(self, who: str, method: str, name: str, told: dict[str, Any]) -> tuple[int, Any]:
        if method == "POST":
            if set(told) - _NODE_KEYS or told.get("json_class") != "Chef::Node" or told.get("chef_type") != "node":
                return 400, {"error": ["Invalid key in request body"]}
            if told["name"] in self.nodes:
                return 409, {"error": ["Node already exists"]}
            self.nodes[told["name"]], self.owners[told["name"]] = told, who
            return 201, {"uri": f"{self.url}/nodes/{told['name']}"}
        if not name:
            return 200, {each: f"{self.url}/nodes/{each}" for each in self.nodes}
        if name not in self.nodes:
            return 404, {"error": [f"node '{name}' not found"]}
        if who not in self.users and self.owners[name] != who:
            return 403, {"error": [f"missing {method.lower()} permission"]}
        if method == "PUT":
            self.nodes[name] = told
        node = self.nodes[name]
        if method == "DELETE":
            del self.nodes[name], self.owners[name]
        return 200, node

    def _policy_groups(self, who: str, method: str, name: str, told: dict[str, Any]) -> tuple[int, Any]:
        if name not in self.policy_groups:
            return 404, {"error": ["policy_group not found"]}
        return 200, {"uri": f"{self.url}/policy_groups/{name}", "policies": self.policy_groups[name]}


def pem_of(key: RSAPrivateKey) -> str:
    """A private key as Chef writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def public_pem(key: RSAPublicKey) -> str:
    """A public key as the API takes it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _certificate(directory: Path) -> tuple[str, Path]:
    """A CA's certificate, and a file with a certificate of 127.0.0.1 and its key."""
    now = datetime.now(UTC) - timedelta(minutes=5)
    authority, server = generate_private_key(65537, 2048), generate_private_key(65537, 2048)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Stand-in CA {x509.random_serial_number()}")])

    def made(name: x509.Name, key: RSAPrivateKey, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(authority, SHA256())

    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    ca = made(issuer, authority, (x509.BasicConstraints(ca=True, path_length=0), True), (usage, True))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chef")])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = made(subject, server, (names, False), (identifier, False))
    file = directory / "chef-server.pem"
    file.write_text(leaf.public_bytes(Encoding.PEM).decode() + pem_of(server))
    return ca.public_bytes(Encoding.PEM).decode(), file


@contextmanager
def chef_server(directory: Path) -> Iterator[ChefServer]:
    """Serve on a free port of loopback."""
    chef = ChefServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with chef.lock:
                status, told = chef.answer(self.command, self.path, headers, body)
            sent = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    chef.ca, certificate = _certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that does not trust us ends the connection."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        chef.url = f"https://127.0.0.1:{server.server_address[1]}{ORGANIZATION}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield chef
        finally:
            server.shutdown()
            thread.join()
