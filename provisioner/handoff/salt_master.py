"""Two ways to a Salt master's accepted keys: its salt-api, or its directory of keys on this host."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from provisioner.errors import HandoffRefused, HandoffUnreachable
from provisioner.handoff import keydirs
from provisioner.handoff.https import Reply, Trust, ask
from provisioner.handoff.protocol import Host, Settings

# Salt's own names for the states of a key (salt/key.py).
_STATES = ("minions", "minions_pre", "minions_denied", "minions_rejected")


class Master(Protocol):
    """What a handoff needs of a master. Every method raises HandoffUnreachable or HandoffRefused."""

    def accept(self, minion: str, key: str) -> None:
        """Let this be the minion's accepted key, and the only one of its name."""

    def remove(self, minion: str, key: str) -> None:
        """Delete this key of the minion's; no error if it is not there."""

    def fingerprint(self) -> str:
        """Of the master's own public key."""


def master(settings: Settings, host: Host) -> Master:
    """The way that these complete settings name. Raises CredentialMissing."""
    if "pki" in settings:
        return _Directory(keydirs.directory(host, settings["pki"], "/etc/salt/pki/master"))
    ca = settings.get("api_ca")
    login = {
        "client": "wheel",
        "eauth": settings["api_eauth"],
        "username": settings["api_user"],
        "password": host.text(settings["api_password"]),
    }
    return _Api(settings["api"].rstrip("/"), login, Trust(ca=host.path(ca) if ca else None))


def fingerprint(pem: str) -> str:
    """As Salt prints it: SHA-256 of the lines between the PEM markers, in pairs with colons."""
    lines = [line for line in pem.splitlines() if line.strip()]
    return hashlib.sha256("".join(f"{line}\n" for line in lines[1:-1]).encode()).digest().hex(":")


@dataclass(frozen=True)
class _Directory:
    """The master's pki_dir. A minion that runs with a deleted key hears the master until the next publish_session."""

    path: Path

    def accept(self, minion: str, key: str) -> None:
        for state in _STATES[1:]:
            keydirs.take(self.path / state / minion)
        keydirs.put(self.path / _STATES[0] / minion, key)

    def remove(self, minion: str, key: str) -> None:
        for state in _STATES:
            keydirs.take(self.path / state / minion, lambda held: keydirs.same(held, key))

    def fingerprint(self) -> str:
        try:
            return fingerprint((self.path / "master.pub").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise HandoffRefused(f"{self.path / 'master.pub'} cannot be read: {error}") from error


@dataclass(frozen=True)
class _Api:
    """The wheel module ``provisioner`` on the master, through rest_cherrypy: Salt's own can accept a key that a minion
    sent, and make one, but take none."""

    url: str
    login: Mapping[str, str]
    trust: Trust

    def accept(self, minion: str, key: str) -> None:
        self._run("accept", minion=minion, key=key)

    def remove(self, minion: str, key: str) -> None:
        self._run("remove", minion=minion, key=key)

    def fingerprint(self) -> str:
        return str(self._run("fingerprint"))

    def _run(self, function: str, **arguments: str) -> Any:
        body = json.dumps([{**self.login, "fun": f"provisioner.{function}", **arguments}]).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        reply = ask("POST", f"{self.url}/run", self.trust, body=body, headers=headers)
        if reply.status == 401:
            raise HandoffRefused(
                f"salt-api at {self.url} refuses {self.login['username']}",
                hint="see external_auth in the master's config: this user needs '@provisioner', and api_password the "
                "password",
            )
        if reply.status >= 500:
            raise HandoffUnreachable(f"salt-api at {self.url} answers {reply.status}: {reply.said()}")
        told = _result(reply)
        if told is None:
            raise HandoffRefused(
                f"{self.url} answers {reply.status}, and not like salt-api: {reply.said()}",
                hint="the master needs `netapi_enable_clients: [wheel]`, and salt-api a restart after it",
            )
        if not told.get("success"):
            said = str(told.get("return") or "it does not say why").strip().splitlines()[-1][:300]
            raise HandoffRefused(
                f"salt-api at {self.url} fails at {function}: {said}",
                hint="does the master have the wheel module provisioner.py, and know of it by `salt-run "
                "saltutil.sync_wheel`? See docs/handoff.md",
            )
        return told.get("return")


def _result(reply: Reply) -> dict[str, Any] | None:
    answer = reply.json()
    try:
        data = answer["return"][0]["data"]
    except (TypeError, KeyError, IndexError):
        return None
    return data if reply.status == 200 and isinstance(data, dict) else None
