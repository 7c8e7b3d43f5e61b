"""Handoff to Salt: a minion whose key was made for this machine and accepted before it asks, and a master it knows.

``{tool: salt, master: salt.example.com, master_finger: 6f7fce..., api: https://salt.example.com:8000}``.
"""

import json
import re
import shlex
import socket
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from cryptography.hazmat.primitives.serialization import PublicFormat

from provisioner.errors import InvalidInput, ProvisionerError
from provisioner.handoff import rsakeys
from provisioner.handoff.protocol import (
    DEFAULT_TIMEOUT,
    Credentials,
    Finding,
    Host,
    Identity,
    Prepared,
    Settings,
    Subject,
    Tool,
    credential,
    known,
    text,
)
from provisioner.handoff.salt_master import fingerprint, master

SECRET = "salt-minion-key"  # noqa: S105 - the name of it
_PORTS = {"master_port": 4506, "publish_port": 4505}
_DEFAULTS = {"id": "fqdn", **_PORTS}
_API_DEFAULTS = {"api_user": "provisioner", "api_eauth": "sharedsecret", "api_password": "salt-api-password"}
_API = ("api", "api_ca", *_API_DEFAULTS)
_SETTINGS = ("master", "master_finger", "id", "states", "saltenv", "pillarenv", *_PORTS, "pki", *_API)
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|[0-9A-Fa-f:.]{2,45}"
_FINGER = r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}"
# Not `salt-key -F`: in some versions that is another number than the one minions compare (saltstack/salt#69970).
_TO_GET_IT = "`sed '1d;$d' /etc/salt/pki/master/master.pub | sha256sum` on the master prints"
_URL = r"https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]{0,200})?"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_STATE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_PROBE_SECONDS = 5.0


class Salt(Tool):
    """Keys are ours and accepted beforehand; so no key is ever accepted for its name."""

    name = "salt"
    enrols = True
    issues = True

    def check(self, settings: Settings) -> None:
        """Raises InvalidInput unless it names a master, its fingerprint, and one way to give it the minion's key."""
        known(self.name, settings, *_SETTINGS)
        text(self.name, settings, "master", _HOST, "the master's name or address")
        text(self.name, settings, "master_finger", _FINGER, f"the 64 hex digits that {_TO_GET_IT}")
        text(self.name, settings, "id", "fqdn|name", "fqdn or name: what the minion's id is", default="fqdn")
        for name in ("saltenv", "pillarenv"):
            text(self.name, settings, name, _WORD, "the name of an environment", default="")
        for name, default in _PORTS.items():
            _check_port(name, settings.get(name, default))
        _check_states(settings.get("states", []))
        _check_door(settings)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """The minion's id is the machine's FQDN, in lower case, or with ``id: name`` the machine's name."""
        complete = {**_DEFAULTS, **(_API_DEFAULTS if "api" in settings else {}), "timeout": DEFAULT_TIMEOUT, **settings}
        complete["master_finger"] = bytes.fromhex(complete["master_finger"].replace(":", "")).hex(":")
        minion = subject.name if complete["id"] == "name" else subject.fqdn
        return Prepared(complete, minion.lower(), (SECRET,))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - the protocol's
        """The minion's key pair."""
        made = rsakeys.pair(PublicFormat.SubjectPublicKeyInfo)
        public = {SECRET: made.public, "fingerprint": fingerprint(made.public)}
        return Credentials({SECRET: made.both}, {}, public)

    def body(self, prepared: Prepared) -> str:
        """Writes the minion's config and keys, waits for the master, and applies the states; their result counts."""
        settings = prepared.settings
        states = settings.get("states") or []
        what = f"the states {', '.join(states)}" if states else "the highstate"
        values = {
            "config": " ".join(shlex.quote(line) for line in _config(settings, prepared.identity)),
            "master": shlex.quote(settings["master"]),
            "what": shlex.quote(what),
            "states": shlex.quote(",".join(states)) if states else "",
            "timeout": str(int(settings["timeout"])),
        }
        return re.sub(r"@([a-z]+)@", lambda found: values[found[1]], _template())

    def enrol(self, identity: Identity, host: Host) -> bool:
        """Put our public key among the accepted ones, in the place of any key of this name in any state."""
        master(identity.settings, host).accept(identity.name, identity.public[SECRET])
        return True

    def revoke(self, identity: Identity, host: Host) -> None:
        """Delete this build's key, whatever its state; a key of the same name that is not ours stays."""
        master(identity.settings, host).remove(identity.name, identity.public[SECRET])

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """Whether the master is there, is the one of the fingerprint, and lets us put keys in."""
        complete = self.prepare(settings, _NOBODY).settings
        try:
            told = master(complete, host).fingerprint()
        except ProvisionerError as error:
            yield Finding("error", "handoffs to Salt fail", str(error), error.hint)
        else:
            if told != complete["master_finger"]:
                yield Finding(
                    "error",
                    f"the Salt master {complete['master']} has the fingerprint {told}, not {complete['master_finger']}",
                    "minions refuse this master, and no handoff succeeds",
                    f"if its key was replaced, set master_finger to what {_TO_GET_IT}",
                )
        yield from _unreachable(complete)


_NOBODY = Subject("", "", "", 0)


def _unreachable(settings: Settings) -> Iterator[Finding]:
    for name in _PORTS:
        where = f"{settings['master']}:{settings[name]}"
        try:
            socket.create_connection((settings["master"], settings[name]), _PROBE_SECONDS).close()
        except OSError as error:
            yield Finding(
                "warning",
                f"the Salt master's {name} {where} cannot be reached from here: {error}",
                "machines may well be able to, from their own network",
                f"if they are not either: let salt-master listen there, and open {settings[name]}/tcp to the machines",
            )


def _config(settings: Settings, minion: str) -> Iterator[str]:
    """Lines of YAML; what JSON writes is YAML too."""
    yield "# Written by Provisioner; settings of your own go into other files beside this one."
    values: dict[str, Any] = {name: settings[name] for name in ("master", *_PORTS, "master_finger")}
    values |= {"id": minion, "hash_type": "sha256"}
    values |= {name: settings[name] for name in ("saltenv", "pillarenv") if settings.get(name)}
    for name, value in values.items():
        yield f"{name}: {json.dumps(value)}"


def _check_port(name: str, port: Any) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise InvalidInput(f"{str(port)[:80]!r} is not a port", where=f"handoff.{name}", hint="a number, 1 to 65535")


def _check_states(states: Any) -> None:
    if not isinstance(states, list) or not all(isinstance(each, str) and _STATE.fullmatch(each) for each in states):
        hint = "write `states: [base, web.nginx]`, or leave it out for the highstate"
        raise InvalidInput(f"{str(states)[:80]!r} is not a list of states", where="handoff.states", hint=hint)


def _check_door(settings: Settings) -> None:
    if ("api" in settings) == ("pki" in settings):
        raise InvalidInput(
            "handoff salt needs api or pki, and not both",
            where="handoff.api",
            hint="api: the URL of salt-api; or, on the master's own host, pki: the name of a symbolic link in "
            "credentials_dir to /etc/salt/pki/master",
        )
    if "pki" in settings:
        credential("salt", settings, "pki", "a symbolic link to the master's pki_dir")
        stray = sorted({*_API} & set(settings))
        if stray:
            raise InvalidInput(f"{stray[0]} goes with api alone", where=f"handoff.{stray[0]}", hint="drop it")
        return
    text("salt", settings, "api", _URL, "the URL of salt-api: https://salt.example.com:8000")
    for name in ("api_user", "api_eauth"):
        text(
            "salt", settings, name, _WORD, "a name of external_auth in the master's config", default=_API_DEFAULTS[name]
        )
    credential("salt", settings, "api_password", "that user's password", default=_API_DEFAULTS["api_password"])
    credential("salt", settings, "api_ca", "the CA certificate of salt-api", default="")


@cache
def _template() -> str:
    return files("provisioner.handoff").joinpath("salt.sh").read_text(encoding="utf-8")
