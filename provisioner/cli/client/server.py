"""Which server commands talk to, from the environment; the credential never stands on a command line."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from provisioner.errors import InvalidSettings, cause

URL = "PROVISIONER_URL"
TOKEN = "PROVISIONER_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE = "PROVISIONER_TOKEN_FILE"  # noqa: S105 - a variable's name
CA = "PROVISIONER_CA"
FINGERPRINT = "PROVISIONER_FINGERPRINT"
_API = "/api/v1"
_LONGEST_TOKEN = 4096
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Server:
    """Where the API is, what proves that it is the right one, and what proves who we are."""

    tls: bool
    host: str
    port: int
    prefix: str
    token: str
    ca: Path | None = None
    fingerprint: bytes = b""
    """SHA-256 of its certificate; empty: the certificate is checked against authorities and the host's name."""

    @property
    def url(self) -> str:
        """As people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.prefix.removesuffix(_API)}"

    @property
    def in_clear(self) -> bool:
        """Whether the credential can be read on its way."""
        return not self.tls and self.host not in {"localhost", "::1"} and not self.host.startswith("127.")


def is_remote(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether commands are to talk to a server."""
    return bool(environ.get(URL))


def from_environment(environ: Mapping[str, str] = os.environ) -> Server:
    """The server that the environment names. Raises InvalidSettings that names the variable at fault."""
    parts = _url(environ[URL])
    tls = parts.scheme == "https"
    for name in (CA, FINGERPRINT):
        if environ.get(name) and not tls:
            raise InvalidSettings(
                f"{name} says how to check a certificate, and http:// has none", where=URL, hint=_SHAPE
            )
    if environ.get(CA) and environ.get(FINGERPRINT):
        raise InvalidSettings(f"{CA} and {FINGERPRINT} exclude each other", where=CA, hint="leave one of them out")
    return Server(
        tls=tls,
        host=parts.hostname or "",
        port=parts.port or (443 if tls else 80),
        prefix=parts.path.rstrip("/").removesuffix(_API) + _API,
        token=_token(environ),
        ca=_ca(environ.get(CA, "")),
        fingerprint=_fingerprint(environ.get(FINGERPRINT, "")),
    )


_SHAPE = "write it as https://HOST:8443, the server's admin plane"


def _url(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidSettings(f"{text[:200]!r} is not a server's URL", where=URL, hint=_SHAPE)
    if parts.username is not None or parts.password is not None:
        # Not repeated: it may hold a password.
        raise InvalidSettings(
            "a URL with a user in it is not taken", where=URL, hint=f"{_SHAPE}; the credential is {TOKEN}"
        )
    if parts.query or parts.fragment:
        raise InvalidSettings(f"{text[:200]!r} has a query", where=URL, hint=_SHAPE)
    return parts


def _token(environ: Mapping[str, str]) -> str:
    text, file = environ.get(TOKEN, ""), environ.get(TOKEN_FILE, "")
    if text and file:
        raise InvalidSettings(f"{TOKEN} and {TOKEN_FILE} exclude each other", where=TOKEN, hint="leave one of them out")
    if not text and not file:
        raise InvalidSettings(
            f"{environ[URL]} wants a credential",
            where=URL,
            hint=f"set {TOKEN_FILE} (or {TOKEN}); an administrator makes a token there: `provisioner token add NAME`",
        )
    where = TOKEN if text else TOKEN_FILE
    token = (text or _read(Path(file).expanduser())).strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidSettings("this is no token", where=where, hint="it looks like pvt_..., one word on one line")
    return token


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            # What is read through a pipe was never a file that others could open.
            if stat.S_ISREG(mode) and mode & _OTHERS_MAY:
                raise InvalidSettings(
                    f"{file} can be read by others (mode {stat.S_IMODE(mode):04o})",
                    where=TOKEN_FILE,
                    hint=f"chmod 600 {file}; if others may have seen it, revoke the token and make another",
                )
            return stream.read(_LONGEST_TOKEN).decode("ascii", "replace")
    except OSError as error:
        raise InvalidSettings(
            f"{file} cannot be read: {cause(error)}", where=TOKEN_FILE, hint="check the path"
        ) from error


def _ca(text: str) -> Path | None:
    if not text:
        return None
    if not Path(text).is_file():
        raise InvalidSettings(f"there is no file {text}", where=CA, hint="name a PEM file with certificates")
    return Path(text)


def _fingerprint(text: str) -> bytes:
    if not text:
        return b""
    digits = re.sub(r"^sha-?256[\s:=]*", "", text.strip(), flags=re.IGNORECASE).replace(":", "").replace(" ", "")
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise InvalidSettings(
            f"{text[:120]!r} is not a SHA-256 fingerprint",
            where=FINGERPRINT,
            hint="`provisioner init` on the server prints it: 64 hex digits, colons or not",
        )
    return bytes.fromhex(digits)
