"""The settings: one typed model, from a file, the environment and flags, in rising order.

Every setting is described here once; the documentation is generated from these descriptions.
"""

import json
import os
import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from provisioner.errors import InvalidSettings, cause

ENV_PREFIX = "PROVISIONER_"
DEFAULT_FILE = Path("/etc/provisioner/provisioner.yaml")
ROOTS_STATE_DIR = Path("/var/lib/provisioner")
# Read by the command line itself, not settings of the service.
_ENV_OF_THE_CLI = {
    "PROVISIONER_CONFIG",
    "PROVISIONER_URL",
    "PROVISIONER_TOKEN",
    "PROVISIONER_TOKEN_FILE",
    "PROVISIONER_CA",
    "PROVISIONER_FINGERPRINT",
}


def default_state_dir() -> Path:
    """Where state lives: ``/var/lib/provisioner`` as root, ``~/.local/state/provisioner`` otherwise."""
    if os.geteuid() == 0:
        return ROOTS_STATE_DIR
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "provisioner"


_FILTER_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")
# Ours to send: they decide how the answer looks and is cut into pages, not which devices are in it.
_NOT_A_FILTER = {"brief", "cursor", "exclude", "fields", "format", "id", "limit", "offset", "omit", "ordering", "start"}


class NetBoxProfile(BaseModel):
    """Which devices get which profile: all that is given must fit. Values are NetBox's slugs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str = Field("", description="the device's role")
    tag: str = Field("", description="one of its tags")
    platform: str = Field("", description="its platform")
    site: str = Field("", description="its site")
    profile: str = Field(description="the profile that such a device gets")

    @model_validator(mode="after")
    def _selects(self) -> "NetBoxProfile":
        if not (self.role or self.tag or self.platform or self.site):
            raise ValueError("say which devices: a role, tag, platform or site")
        return self


class NetBox(BaseModel):
    """Where NetBox is, which of its devices are machines here, and what they become."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="NetBox's address, without `/api`: https://netbox.example.com")
    token_file: Path = Field(description="a file that holds an API token of NetBox; one that may only read will do")
    ca_file: Path | None = Field(None, description="certificates that NetBox's is checked against; empty: well-known")
    verify: Literal["on", "off"] = Field("on", description="`off`: take any certificate, and so anybody for NetBox")
    timeout_seconds: float = Field(30, gt=0, le=600, description="how long one answer of NetBox may take")
    filter: dict[str, tuple[str, ...]] = Field(
        {"status": ("active", "staged", "planned")},
        description="which devices are machines: parameters of NetBox's device list, such as role, site, tag",
    )
    profiles: tuple[NetBoxProfile, ...] = Field(
        (), description="role, tag, platform or site to profile; the first that fits; none: the profile stays as it is"
    )
    name: str = Field("{name}", description="a machine's name, made of {name}, {site}, {rack}, {asset_tag} and {id}")
    addresses: Literal["primary", "all"] = Field(
        "primary", description="`primary`: only the device's primary address; `all`: one for each interface"
    )
    webhook_secret_file: Path | None = Field(
        None, description="a file that holds the secret of NetBox's webhook; empty: webhooks are refused"
    )

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ValueError("write it as https://netbox.example.com")
        return value.rstrip("/").removesuffix("/api")

    @field_validator("verify", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value

    @field_validator("filter", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        for key in value:
            if not _FILTER_KEY.fullmatch(str(key)) or key in _NOT_A_FILTER:
                raise ValueError(f"{str(key)[:80]!r} chooses no device; write for example role, site, tag, status")
        return {key: each if isinstance(each, list | tuple) else (each,) for key, each in value.items()}

    @field_validator("name")
    @classmethod
    def _pattern(cls, value: str) -> str:
        unknown = re.sub(r"\{(name|site|rack|asset_tag|id)\}", "", value)
        if unknown == value or set(unknown) & set("{}"):
            raise ValueError("make it of {name}, {site}, {rack}, {asset_tag} and {id}, for example {name}.{site}")
        return value


class Settings(BaseModel):
    """All settings of the service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=default_state_dir, description="database, keys, media and logs live here")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the state directory")
    boot_bind: str = Field("0.0.0.0:8080", description="where machines fetch scripts, answer files and post events")
    media_bind: str = Field("0.0.0.0:8081", description="where machines fetch kernels, trees and images")
    http_bind: str = Field("0.0.0.0:8443", description="the admin plane: UI and API")
    tftp_bind: str = Field("0.0.0.0:69", description="the TFTP server, which serves the small loaders")
    tftp_single_port: Literal["on", "off"] = Field(
        "off", description="`on`: TFTP answers from `tftp_bind` alone, for machines behind address translation"
    )
    tftp_workers: int = Field(
        0,
        ge=0,
        le=16,
        description="processes of the TFTP server; 0: one for every two processors, at least one and at most four",
    )
    boot_url: str = Field("", description="the boot plane's URL as machines reach it; a subnet may have its own")
    media_url: str = Field("", description="the media URL as machines reach it; a subnet may have its own")
    tls: Literal["on", "off"] = Field("on", description="`off`: a plain admin plane, behind a proxy or in tests")
    trusted_proxies: tuple[str, ...] = Field((), description="networks whose X-Forwarded-For counts")
    boot_workers: int = Field(2, ge=1, le=64, description="processes of the boot plane")
    connections_per_address: int = Field(
        1000,
        ge=10,
        le=100_000,
        description="how many connections to one process of a listener one address (IPv6: one /64) may have, at most "
        "half of all; then the one that is silent longest makes room, or the next is not taken. Trusted proxies are "
        "not counted",
    )
    media_downloads: int = Field(
        128,
        ge=0,
        le=100_000,
        description="how many large downloads go at full speed at a time, a quarter of them from one address; the "
        "others get a little until it is their turn, so that the first are done early. 0: all at once",
    )
    builds_per_minute: int = Field(
        100, ge=1, le=10_000, description="how many builds one person may arm in a minute through the API"
    )
    answer_hours: float = Field(6, gt=0, description="how long an attempt may fetch its answer file")
    handoff_hours: float = Field(72, gt=0, description="how long after `built` the handoff may still report")
    credentials_dir: Path | None = Field(
        None,
        description="keys and certificates for the servers of configuration management, which handoffs name; empty: "
        "`credentials` in the state directory",
    )
    playbooks_dir: Path | None = Field(
        None, description="where Ansible playbooks lie that this host runs; empty: `playbooks` in the state directory"
    )
    discovery: Literal["record", "register", "off"] = Field(
        "record",
        description="machines that nobody registered: `record` them in quarantine, `register` them as machines that "
        "wait, or `off`: they boot their disk",
    )
    discovery_per_minute: int = Field(100, ge=1, le=10_000, description="how many unknown machines are taken a minute")
    session_idle_hours: float = Field(12, gt=0, description="a login that is not used for so long is over")
    session_days: float = Field(7, gt=0, le=365, description="a login is over after so long, used or not")
    webhook_networks: tuple[str, ...] = Field(
        (),
        description="networks that webhooks may reach besides public and private ones: loopback, link-local, this "
        "host's own addresses",
    )
    webhook_ca_file: Path | None = Field(
        None, description="certificates that receivers of webhooks are checked against besides the well-known"
    )
    event_days: int = Field(365, ge=1, description="how long events are kept")
    lock_seconds: float = Field(5, gt=0, description="how long to wait for the database before it counts as down")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="`auto`: console on a terminal")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    netbox: NetBox | None = Field(None, description="where the inventory is, see below; in the environment as JSON")

    @field_validator("boot_bind", "media_bind", "http_bind", "tftp_bind")
    @classmethod
    def _bind(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("write it as ADDRESS:PORT, for example 0.0.0.0:8080")
        return value

    @field_validator("trusted_proxies", "webhook_networks")
    @classmethod
    def _networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(value.strip())) for value in values)

    @field_validator("boot_url", "media_url")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("write it as http://ADDRESS:PORT")
        return value.rstrip("/")

    @property
    def tftp_processes(self) -> int:
        """How many processes serve TFTP."""
        return self.tftp_workers or max(1, min(4, len(os.sched_getaffinity(0)) // 2))

    @property
    def credentials(self) -> Path:
        """The directory of the credentials that handoffs name."""
        return self.credentials_dir or self.state_dir / "credentials"

    @property
    def playbooks(self) -> Path:
        """The directory of the playbooks that handoffs name."""
        return self.playbooks_dir or self.state_dir / "playbooks"

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.state_dir / 'provisioner.db'}"

    @property
    def boot(self) -> str:
        """The boot plane's URL that machines are told unless their subnet has its own."""
        return self.boot_url or _guess_url(self.boot_bind)

    @property
    def media(self) -> str:
        """The media URL that machines are told unless their subnet has its own."""
        return self.media_url or _guess_url(self.media_bind)

    @property
    def admin(self) -> str:
        """The admin plane's URL that a browser on this network can open."""
        return _guess_url(self.http_bind, scheme="http" if self.tls == "off" else "https")

    def boot_in(self, cidr: str) -> str:
        """The boot plane's URL for a network: the setting, or this host's address there, or its primary one."""
        return self.boot_url or _guess_url(self.boot_bind, cidr)

    def media_in(self, cidr: str) -> str:
        """Likewise the media URL."""
        return self.media_url or _guess_url(self.media_bind, cidr)


def bind_address(bind: str) -> tuple[str, int]:
    """Host and port of a ``*_bind`` setting; an IPv6 host loses its brackets."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def _guess_url(bind: str, cidr: str = "", scheme: str = "http") -> str:
    host, port = bind_address(bind)
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        # A card of its own for the provisioning network has no default route; machines there know no way to the other.
        host = (address_in(cidr) if cidr else "") or _source_towards("192.0.2.1") or "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def address_in(cidr: str) -> str:
    """This host's address in the network; empty if it has none there. No packet is sent."""
    network = ip_network(cidr)
    ours = _source_towards(str(network[min(1, network.num_addresses - 1)]))
    return ours if ours and ip_address(ours) in network else ""


def _source_towards(target: str) -> str:
    """The address that this host would send from; empty where it knows no way."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def load(
    config: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """The settings from ``config`` (or the default file, if it exists), the environment and flags, in rising order.

    Raises InvalidSettings that names the file, variable or flag at fault; unknown keys are errors everywhere.
    """
    environment = os.environ if environ is None else environ
    chosen = config or (Path(environment["PROVISIONER_CONFIG"]) if environment.get("PROVISIONER_CONFIG") else None)
    layers = [
        (str(chosen or DEFAULT_FILE), _from_file(chosen)),
        ("the environment", _from_environment(environment)),
        ("the command line", dict(flags or {})),
    ]
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, values in layers:
        for key, value in values.items():
            merged[key], origin[key] = value, where
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        inner = ".".join(map(str, first["loc"]))
        known = ", ".join(sorted((NetBox if key == "netbox" and "." in inner else Settings).model_fields))
        unknown = first["type"] == "extra_forbidden"
        said = "there is none of this name" if unknown else first["msg"].removeprefix("Value error, ")
        raise InvalidSettings(
            f"setting {inner}: {said}",
            where=origin.get(key, ""),
            hint=f"known settings: {known}" if unknown else "mend the value and start again",
        ) from error


def _from_file(config: Path | None) -> dict[str, Any]:
    path = config or DEFAULT_FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        if config is None:
            return {}
        raise InvalidSettings("the file does not exist", where=str(path), hint="check --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(
            f"the file cannot be read: {cause(error)}", where=str(path), hint="check --config and the file's mode"
        ) from error
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidSettings(f"not YAML: {error}", where=str(path), hint="mend the file") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InvalidSettings("not a mapping of settings", where=str(path), hint="write lines like `tls: off`")
    # YAML 1.1 reads a bare off as false.
    return {str(key): ("on" if value else "off") if isinstance(value, bool) else value for key, value in values.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENV_PREFIX) or variable in _ENV_OF_THE_CLI:
            continue
        key = variable.removeprefix(ENV_PREFIX).lower()
        values[key] = _from_text(key, variable, text)
    return values


def _from_text(key: str, variable: str, text: str) -> Any:
    if key in {"trusted_proxies", "webhook_networks"}:
        return tuple(filter(None, text.split(",")))
    if key != "netbox":
        return text
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError) as error:
        hint = """write it as '{"url": "https://netbox.example.com", "token_file": "/etc/provisioner/netbox.token"}'"""
        raise InvalidSettings(f"{variable} is not JSON: {error}", where="the environment", hint=hint) from error
