"""Handoff to CFEngine: an agent that knows the hub's key before first contact, and whose own key the hub knows.

``{tool: cfengine, hub: hub.example.com, hub_key: "-----BEGIN RSA PUBLIC KEY-----...", ppkeys: cfengine-ppkeys}``.
"""

import hashlib
import re
import shlex
import socket
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from provisioner.errors import HandoffRefused, InvalidInput, ProvisionerError
from provisioner.handoff import keydirs, rsakeys
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

SECRET = "cfengine-key"  # noqa: S105 - the name of it
PORT = 5308
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})|[0-9A-Fa-f:.]{2,45}"
_LONGEST_KEY = 8192
_MOST_RUNS = 10
_PROBE_SECONDS = 5.0
_HASHES = {"MD5": hashlib.md5, "SHA": hashlib.sha256}


class CFEngine(Tool):
    """The hub's key travels with the script; nothing is trusted because it answered first."""

    name = "cfengine"
    enrols = True
    issues = True

    def check(self, settings: Settings) -> None:
        """Raises InvalidInput unless it names a hub and its public key."""
        known(self.name, settings, "hub", "hub_key", "ppkeys", "runs")
        text(self.name, settings, "hub", _HOST, "the hub's name or address")
        _public_key(settings.get("hub_key"))
        credential(self.name, settings, "ppkeys", "a symbolic link to the hub's directory of keys", default="")
        runs = settings.get("runs", 1)
        if isinstance(runs, bool) or not isinstance(runs, int) or not 1 <= runs <= _MOST_RUNS:
            hint = f"a number from 1 to {_MOST_RUNS}: how often the agent may run until a run reports no error"
            raise InvalidInput(f"{str(runs)[:80]!r} is not good as runs", where="handoff.runs", hint=hint)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """Agents have no names but their keys; ours is for people, and the machine's FQDN."""
        complete = {"runs": 3, "timeout": DEFAULT_TIMEOUT, **settings}
        complete["hub_key"] = _pem(_public_key(complete["hub_key"]))
        return Prepared(complete, subject.fqdn.lower(), (SECRET,))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - the protocol's
        """The agent's key pair."""
        made = rsakeys.pair(PublicFormat.PKCS1)
        key = _public_key(made.public)
        return Credentials({SECRET: made.both}, {}, {SECRET: made.public, "fingerprint": f"SHA={digest(key, 'SHA')}"})

    def body(self, prepared: Prepared) -> str:
        """Puts the keys in their places, bootstraps without trusting anybody else, and runs the agent.

        ``cf-agent`` ends with 0 whatever becomes of its promises, so a run is good if the policy can be read and the
        agent reports no error.
        """
        settings = prepared.settings
        values = {
            "hub": shlex.quote(settings["hub"]),
            "hub_key": shlex.quote(settings["hub_key"].strip()),
            "timeout": str(int(settings["timeout"])),
            "runs": str(int(settings["runs"])),
        }
        return re.sub(r"@([a-z_]+)@", lambda found: values[found[1]], _template())

    def enrol(self, identity: Identity, host: Host) -> bool:
        """Let the hub trust our key, where its directory of keys is here; else the hub's own trustkeysfrom decides."""
        for path in _names(identity, host):
            keydirs.put(path, identity.public[SECRET])
        return True

    def revoke(self, identity: Identity, host: Host) -> None:
        """Take our key out of the hub's directory. Who still holds it is trusted no longer."""
        for path in _names(identity, host):
            keydirs.take(path)

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """Whether the hub is there, whether its directory is, and whether that is the directory of this hub."""
        complete = self.prepare(settings, _NOBODY).settings
        if complete.get("ppkeys"):
            try:
                yield from _strange(complete, _directory(complete, host))
            except ProvisionerError as error:
                yield Finding("error", "handoffs to CFEngine fail", str(error), error.hint)
        else:
            yield Finding(
                "warning",
                f"the handoff to the CFEngine hub {complete['hub']} names no ppkeys",
                "the hub's own trustkeysfrom decides whose key it trusts, and a rebuild does not take the old key away",
                "on the hub's own host, set ppkeys; see docs/handoff.md",
            )
        try:
            socket.create_connection((complete["hub"], PORT), _PROBE_SECONDS).close()
        except OSError as error:
            yield Finding(
                "warning",
                f"the CFEngine hub {complete['hub']}:{PORT} cannot be reached from here: {error}",
                "machines may well be able to, from their own network",
                f"if they are not either: start cf-serverd there, and open {PORT}/tcp to the machines",
            )


_NOBODY = Subject("", "", "", 0)


def digest(key: RSAPublicKey, kind: str) -> str:
    """As CFEngine writes it (HashPubKey): over modulus and exponent, big-endian. MD5 is what its community edition
    calls files by; it decides nothing, for the whole key is compared."""
    numbers = key.public_numbers()
    content = b"".join(each.to_bytes((each.bit_length() + 7) // 8, "big") for each in (numbers.n, numbers.e))
    return _HASHES[kind](content, usedforsecurity=False).hexdigest()


def _public_key(given: Any) -> RSAPublicKey:
    hint = "write `hub_key: |` and below it the hub's ppkeys/localhost.pub, from -----BEGIN RSA PUBLIC KEY----- on"
    if given is None:
        raise InvalidInput("handoff cfengine needs hub_key", where="handoff.hub_key", hint=hint)
    if isinstance(given, str) and len(given) <= _LONGEST_KEY and "PRIVATE KEY" not in given:
        try:
            key = load_pem_public_key(given.encode())
        except ValueError:
            key = None
        if isinstance(key, RSAPublicKey):
            return key
    raise InvalidInput("the hub's key is no RSA public key", where="handoff.hub_key", hint=hint)


def _pem(key: RSAPublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()


def _directory(settings: Settings, host: Host) -> Path:
    return keydirs.directory(host, settings["ppkeys"], "the hub's /var/lib/cfengine3/ppkeys or /var/cfengine/ppkeys")


def _names(identity: Identity, host: Host) -> list[Path]:
    """Where the key lies on the hub: under the kind of digest that the hub itself uses. Raises HandoffRefused."""
    if not identity.settings.get("ppkeys"):
        return []
    directory = _directory(identity.settings, host)
    kinds = _kinds(directory)
    if not kinds:
        raise HandoffRefused(
            f"{directory} has no key that anybody trusts, not even the hub's own",
            where=str(directory),
            hint="bootstrap the hub to itself first: cf-agent --bootstrap ADDRESS",
        )
    key = _public_key(identity.public[SECRET])
    return [directory / f"root-{kind}={digest(key, kind)}.pub" for kind in sorted(kinds)]


def _kinds(directory: Path) -> set[str]:
    try:
        names = [each.name for each in directory.glob("root-*=*.pub")]
    except OSError as error:
        raise HandoffRefused(f"{directory} cannot be read: {error.strerror}", where=str(directory)) from error
    return {kind for kind in _HASHES if any(name.startswith(f"root-{kind}=") for name in names)}


def _strange(settings: Settings, directory: Path) -> Iterator[Finding]:
    hub = _public_key(settings["hub_key"])
    own = {directory / f"root-{kind}={digest(hub, kind)}.pub" for kind in _kinds(directory)}
    if not any(path.is_file() for path in own):
        yield Finding(
            "error",
            f"{directory} is not the directory of a hub with the key in hub_key",
            "machines refuse the hub, or the hub the machines",
            "copy the hub's ppkeys/localhost.pub into hub_key; if that is it, bootstrap the hub to itself",
        )


@cache
def _template() -> str:
    return files("provisioner.handoff").joinpath("cfengine.sh").read_text(encoding="utf-8")
