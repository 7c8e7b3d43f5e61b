"""What a configuration management tool must offer to be handed machines."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from provisioner.errors import CredentialMissing, InvalidInput

Settings = Mapping[str, Any]

DEFAULT_TIMEOUT = 3600
_LONGEST_TIMEOUT = 86_400
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Subject:
    """The machine that is to be handed over."""

    name: str
    fqdn: str
    profile: str
    build: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """What arming seals; the same inputs give the same."""

    settings: Settings
    """Complete, with every default; readable in the build: never a secret."""
    identity: str = ""
    """The machine's name at the tool's server (certname, minion id, node name); no two machines have the same."""
    secrets: tuple[str, ...] = ()
    """The names of the secrets that the machine unwraps, which `Tool.credentials` makes."""


@dataclass(frozen=True)
class Credentials:
    """Made for one round of one build's handoff, and never again."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    """By the names of `Prepared.secrets`; encrypted, and unwrapped by the machine."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Secrets that stay with us, encrypted, for `enrol`, `push` and `revoke`."""
    public: Mapping[str, str] = field(default_factory=dict)
    """What may be read by anybody: public keys, fingerprints."""


@dataclass(frozen=True)
class Identity:
    """What one build's machine is at the tool's server."""

    name: str
    machine: str
    build: int
    settings: Settings
    public: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reached:
    """A machine that waits to be configured from here, as it reported itself."""

    address: str
    host_keys: tuple[str, ...]
    """Public SSH host keys, ``TYPE BASE64`` each."""


@dataclass(frozen=True)
class Finding:
    """What `check` found. ``error``: handoffs fail; ``warning``: they may."""

    level: Literal["error", "warning"]
    what: str
    why: str
    remedy: str


class Echo(Protocol):
    """How a probe sees whether a tool's server asks us: a mark that only we can make comes back to us, or not."""

    def mark(self) -> str:
        """A new mark: 32 hex digits."""

    def heard(self, mark: str) -> bool:
        """Whether it is the one that came back last."""


@dataclass(frozen=True)
class Host:
    """What tools may use of this host."""

    credentials: Path
    """The directory of the administrator's keys and certificates for the tools' servers, named in profiles."""
    playbooks: Path
    """The directory under which playbooks lie."""
    echo: Echo | None = None
    """None: probes do not try whether they are asked."""

    def path(self, name: str) -> Path:
        """The path of a credential. Raises CredentialMissing."""
        path = self.credentials / name
        if not _FILE_NAME.fullmatch(name) or not path.is_file():
            raise CredentialMissing(
                f"there is no credential {name[:80]!r}",
                where=str(self.credentials),
                hint="put the file there, readable by the service alone (0600)",
            )
        return path

    def text(self, name: str) -> str:
        """What stands in a credential's file, without white space around it. Raises CredentialMissing."""
        path = self.path(name)
        try:
            with path.open(encoding="utf-8") as file:
                return file.read(_LONGEST_FILE).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialMissing(f"the credential {name} cannot be read: {error}", where=str(path)) from error


class Tool:
    """One tool. Its own are ``check``, ``prepare`` and ``body``; what it does not need of the rest it leaves as it is.

    No method but ``enrol``, ``revoke``, ``push`` and ``probe`` may reach out to anything. Those run in the worker or in
    `check`, may take a minute, may be called again after a crash in the middle, and raise a ProvisionerError
    (`HandoffUnreachable` where asking again may help).
    """

    name: ClassVar[str]
    good_exits: ClassVar[frozenset[int]] = frozenset({0})
    """The exit statuses of ``body`` that mean a good first run."""
    enrols: ClassVar[bool] = False
    """The worker calls ``enrol`` when the machine begins to install."""
    issues: ClassVar[bool] = False
    """`configured` is only believed once this build's identity was issued."""
    pushes: ClassVar[bool] = False
    """``body`` reports the machine as ready, and the worker calls ``push``, whose result counts."""

    def check(self, settings: Settings) -> None:
        """Raise InvalidInput unless these settings (without ``tool``) are complete and known."""
        raise NotImplementedError

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """What is sealed with the build. The settings were checked."""
        raise NotImplementedError

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - a tool's own
        """New credentials, once for each round of a build's handoff. Raises CredentialMissing."""
        return Credentials()

    def body(self, prepared: Prepared) -> str:
        """POSIX shell that runs as root on the finished machine; its exit status is the result. See `firstboot`."""
        raise NotImplementedError

    def enrol(self, identity: Identity, host: Host) -> bool:  # noqa: ARG002 - a tool's own
        """Make the tool's server ready for the identity; whether it is issued by that.

        Whatever the server had under this name was revoked just before.
        """
        return False

    def revoke(self, identity: Identity, host: Host) -> None:
        """Take the identity away from whoever holds it; nothing to take away is no error."""

    def push(self, identity: Identity, reached: Reached, host: Host, say: Callable[[str], None]) -> int | None:
        """Configure the machine from here; the exit status. ``say`` takes the output as it comes, in any pieces.

        None: nothing is decided here, the tool's server reports through the API.
        """
        raise NotImplementedError

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:  # noqa: ARG002 - a tool's own
        """What stands between these settings and a good handoff: unreachable, key refused, policy not in place."""
        yield from ()


def known(tool: str, settings: Settings, *names: str) -> None:
    """Raise InvalidInput for a setting that is neither among the names nor ``timeout``, or a bad ``timeout``."""
    unknown = sorted(set(settings) - {*names, "timeout"})
    if unknown:
        hint = f"it has {', '.join((*names, 'timeout'))}"
        raise InvalidInput(f"handoff {tool} has no setting {unknown[0]!r}", where=f"handoff.{unknown[0]}", hint=hint)
    timeout = settings.get("timeout", DEFAULT_TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 1 <= timeout <= _LONGEST_TIMEOUT:
        raise InvalidInput(
            f"the timeout {timeout!r} is not a number of seconds from 1 to {_LONGEST_TIMEOUT}",
            where="handoff.timeout",
            hint="the time from `built` until the report; 3600 unless set",
        )


def text(tool: str, settings: Settings, name: str, pattern: str, hint: str, *, default: str | None = None) -> str:
    """A setting that is one text of this shape, whole. Raises InvalidInput; a default of None means that it must be."""
    value = settings.get(name, default)
    if value is None:
        raise InvalidInput(f"handoff {tool} needs {name}", where=f"handoff.{name}", hint=hint)
    if not isinstance(value, str) or not (value == default or re.fullmatch(pattern, value)):
        raise InvalidInput(f"{str(value)[:80]!r} is not good as {name}", where=f"handoff.{name}", hint=hint)
    return value


def credential(tool: str, settings: Settings, name: str, hint: str, *, default: str | None = None) -> str:
    """A setting that names a file of the credentials directory. Raises InvalidInput; the file may be missing still."""
    return text(
        tool, settings, name, _FILE_NAME.pattern, f"{hint}: the name of a file in credentials_dir", default=default
    )
