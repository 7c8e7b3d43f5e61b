"""Handoff to open source Puppet 7 and 8: a certificate that the CA's policy signs for this build alone.

``{tool: puppet, server: puppet.example.com, environment: production, role: web}``. The challenge that the agent puts
into its request is made for one round of one build; `provisioner puppet-autosign`, the CA's policy executable, asks us
whether to sign. The CA's HTTP API: https://www.puppet.com/docs/puppet/8/server/http_certificate_status.html
"""

import re
import secrets
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from provisioner.errors import CredentialMissing, HandoffRefused, HandoffUnreachable, InvalidInput
from provisioner.handoff import puppet_probe
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
from provisioner.handoff.puppet_ca import Authority
from provisioner.handoff.puppet_csr import PP_IMAGE_NAME, PP_ROLE

SECRET = "puppet-challenge"  # noqa: S105 - the name of it
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"
# Puppet takes other characters too; these are the ones of host names, which we and every CA agree on.
_CERTNAME = r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?"
_ROLE = r"[A-Za-z0-9_](?:[A-Za-z0-9_.:-]{0,125}[A-Za-z0-9_])?"
_DEFAULTS: dict[str, Any] = {
    "port": 8140,
    "environment": "production",
    "certname": "",
    "role": "",
    "ca_server": "",
    "ca_fingerprint": "",
    "ca": "puppet-ca.pem",
    "certificate": "puppet-client.pem",
    "key": "puppet-client.key",
    "agent": True,
    "timeout": DEFAULT_TIMEOUT,
}
_SET_UP = (
    "check server, ca_server and port of the profile's handoff; docs/handoff.md has the set-up of the Puppet server"
)
_OID_OF = {"pp_role": PP_ROLE, "pp_image_name": PP_IMAGE_NAME}


class Puppet(Tool):
    """The agent's first run; exit status 2 means that it changed something, which a first run does."""

    name = "puppet"
    good_exits = frozenset({0, 2})
    enrols = True
    issues = True

    def check(self, settings: Settings) -> None:
        """Raises InvalidInput unless it names a server, and all else has its shape."""
        known(self.name, settings, "server", *(each for each in _DEFAULTS if each != "timeout"))
        text(self.name, settings, "server", _HOST, "the name of the Puppet server, as in its certificate")
        for name, pattern, hint in (
            ("environment", r"[A-Za-z0-9_]{1,64}", "letters, digits and underscores"),
            ("certname", _CERTNAME, "lower-case letters, digits, dots, hyphens; left out, the machine's full name"),
            ("role", _ROLE, "at most 127 letters, digits and _.:- as in role::web; left out, the profile's name"),
            ("ca_server", _HOST, "the name of the CA's host; left out, the server"),
            ("ca_fingerprint", r"[0-9A-Fa-f]{64}", "SHA-256 of the CA's bundle in hex: `sha256sum ca_crt.pem` there"),
        ):
            text(self.name, settings, name, pattern, hint, default=_DEFAULTS[name])
        for name, hint in (
            ("ca", "the CA's certificates"),
            ("certificate", "a certificate that may use the CA's certificate_status"),
            ("key", "its private key"),
        ):
            credential(self.name, settings, name, hint, default=_DEFAULTS[name])
        port = settings.get("port", 8140)
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            raise InvalidInput(f"{port!r} is not a port", where="handoff.port", hint="8140 unless you changed it")
        if not isinstance(settings.get("agent", True), bool):
            raise InvalidInput(
                "agent is not true or false",
                where="handoff.agent",
                hint="whether the agent's service runs from then on",
            )

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """The certname is the machine's full name unless set. Raises InvalidInput for the server's own name."""
        complete = _DEFAULTS | dict(settings)
        complete["ca_server"] = complete["ca_server"] or complete["server"]
        complete["ca_fingerprint"] = complete["ca_fingerprint"].lower()
        complete["certname"] = complete["certname"] or subject.fqdn.lower()
        complete["extensions"] = {"pp_role": complete["role"] or subject.profile, "pp_image_name": subject.profile}
        if complete["certname"] in {complete["server"].lower(), complete["ca_server"].lower()}:
            raise InvalidInput(
                f"{complete['certname']} is the Puppet server's own name: its certificate would be revoked",
                where="handoff.certname",
                hint="leave certname out, and name the machine something else",
            )
        return Prepared(complete, complete["certname"], (SECRET,))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - the protocol's
        """A challenge of 256 bits; we keep it beside this round, to compare."""
        challenge = secrets.token_urlsafe(32)
        return Credentials({SECRET: challenge}, {SECRET: challenge})

    def body(self, prepared: Prepared) -> str:
        """Sets the agent up, gets the certificate, runs the agent once; 69 means that there was no certificate."""
        settings = prepared.settings
        values = {
            "conf": shlex.quote("|".join(f"{name}={value}" for name, value in _configuration(settings).items())),
            "extensions": " ".join(
                shlex.quote(f'  {name}: "{value}"') for name, value in settings["extensions"].items()
            ),
            "ca": shlex.quote(f"{settings['ca_server']}:{settings['port']}"),
            "certname": shlex.quote(settings["certname"]),
            "timeout": str(int(settings["timeout"])),
            "service": "puppet_service || return 71" if settings["agent"] else ":",
        }
        return re.sub(r"@([a-z]+)@", lambda found: values[found[1]], _template())

    def revoke(self, identity: Identity, host: Host) -> None:
        """Revoke the certificate of that name and delete it, with any request that waits under it."""
        authority = Authority.of(identity.settings, host)
        if identity.name in _names_in(host, identity.settings):
            raise HandoffRefused(
                f"{identity.name} is the name in our own certificate for the CA: it is not revoked",
                where="handoff.certname",
                hint="give the machine another certname, or make us a certificate with another name",
            )
        authority.revoke(identity.name)
        authority.delete(identity.name)

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """Reach the CA with our certificate, and let it ask its policy about a request that nobody must sign."""
        complete = _DEFAULTS | dict(settings)
        complete["ca_server"] = complete["ca_server"] or complete["server"]
        try:
            yield from puppet_probe.findings(complete, host)
        except (CredentialMissing, HandoffUnreachable, HandoffRefused) as error:
            yield Finding(
                "error",
                f"the Puppet CA {complete['ca_server']}:{complete['port']}: {error.message}",
                "no machine gets its certificate, and none is revoked, until this works",
                _SET_UP if error.hint in {"", type(error).default_hint} else error.hint,
            )


def sealed_extensions(settings: Settings) -> dict[str, str]:
    """The extensions that a build's request must ask for, by OID, from its sealed settings."""
    return {_OID_OF[name]: str(value) for name, value in settings["extensions"].items()}


def _configuration(settings: Settings) -> dict[str, str]:
    ours = {
        "server": settings["server"],
        "serverport": str(settings["port"]),
        "ca_server": settings["ca_server"],
        "ca_port": str(settings["port"]),
        "environment": settings["environment"],
        "certname": settings["certname"],
    }
    return ours | ({"ca_fingerprint": settings["ca_fingerprint"]} if settings["ca_fingerprint"] else {})


def _names_in(host: Host, settings: Settings) -> set[str]:
    try:
        found = x509.load_pem_x509_certificates(host.text(settings["certificate"]).encode())
    except ValueError as error:
        raise CredentialMissing(
            f"{settings['certificate']} holds no certificate: {error}", where=str(host.credentials)
        ) from error
    return {str(each.value).lower() for each in found[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)}


@cache
def _template() -> str:
    return files("provisioner.handoff").joinpath("puppet.sh").read_text(encoding="utf-8")
