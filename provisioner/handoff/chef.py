"""Handoff to Chef Infra or Cinc: a client of this node's own, made through the server's API; no shared validator.

``{tool: chef, server: https://chef.example.com/organizations/acme, policy_name: web, policy_group: production}``.
The server's API: https://docs.chef.io/api_chef_server; exit codes: Chef RFC 62.
"""

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import PublicFormat
from cryptography.x509 import load_pem_x509_certificates

from provisioner.errors import HandoffRefused, HandoffUnreachable, InvalidInput, ProvisionerError
from provisioner.handoff import rsakeys
from provisioner.handoff.chef_signing import Requester, requester, signed_headers
from provisioner.handoff.https import Reply, Trust, ask
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

SECRET = "chef-client-key"  # noqa: S105 - the name of it
_PROBE_SECONDS = 10.0
_LONGEST_PEM = 65_536
_SERVER = (
    r"https://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/organizations/[a-z0-9][a-z0-9_-]{0,254}/?"
)
_POLICY = r"[A-Za-z0-9._:-]{1,255}"
_ENVIRONMENT = r"[A-Za-z0-9._-]{1,255}"
_USER = r"[A-Za-z0-9._-]{1,255}"
_RUN_LIST_ITEM = re.compile(r"(?:recipe|role)\[[A-Za-z0-9._:@-]{1,255}\]|[A-Za-z0-9._:@-]{1,255}")
_CHOICES = {
    "node_name": (("fqdn", "name"), "fqdn"),
    "program": (("chef-client", "cinc-client"), ""),
    "license": (("accept", "accept-silent", "accept-no-persist"), ""),
}
_SETTINGS = (
    "server",
    "policy_name",
    "policy_group",
    "run_list",
    "environment",
    "node_name",
    "program",
    "license",
    "ca_certificate",
    "user",
    "key",
)


class Chef(Tool):
    """Chef Infra Client and Cinc Client alike: the one that the machine has, or the one that ``program`` names."""

    name = "chef"
    enrols = True
    issues = True

    def check(self, settings: Settings) -> None:
        """Raises InvalidInput unless it names a server and either a policy with its group or a run list."""
        known(self.name, settings, *_SETTINGS)
        text(self.name, settings, "server", _SERVER, "the URL with the organization: https://HOST/organizations/ORG")
        _check_policy(settings)
        for name, (choices, default) in _CHOICES.items():
            text(self.name, settings, name, "|".join(choices), f"one of {', '.join(choices)}", default=default)
        text(self.name, settings, "user", _USER, "a user who may make clients and nodes", default="provisioner")
        credential(self.name, settings, "key", "the private key of that user", default="chef-admin.pem")
        _check_certificate(settings)

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:
        """The node is named like the machine's FQDN, in lower case, or with ``node_name: name`` like the machine."""
        defaults = {name: default for name, (_, default) in _CHOICES.items() if default}
        complete = {"user": "provisioner", "key": "chef-admin.pem", "timeout": DEFAULT_TIMEOUT, **defaults, **settings}
        complete["server"] = str(complete["server"]).rstrip("/")
        node = subject.name if complete["node_name"] == "name" else subject.fqdn
        return Prepared(complete, node.lower(), (SECRET,))

    def credentials(self, prepared: Prepared, subject: Subject, host: Host) -> Credentials:  # noqa: ARG002 - the protocol's
        """A key pair for this node alone. We keep the private key for `enrol`, which makes the node as that client."""
        made = rsakeys.pair(PublicFormat.SubjectPublicKeyInfo)
        return Credentials({SECRET: made.private}, {SECRET: made.private}, {SECRET: made.public})

    def body(self, prepared: Prepared) -> str:
        """Writes client.rb, first-boot.json and the key, waits for the server, and runs the client once."""
        settings = prepared.settings
        programs = (settings["program"],) if settings.get("program") else ("cinc-client", "chef-client")
        certificate = settings.get("ca_certificate")
        host = urlsplit(settings["server"]).netloc
        values = {
            "programs": " ".join(programs),
            "either": " or ".join(programs),
            "certificate": f"printf '%s\\n' {shlex.quote(certificate.strip())} >\"$chef_ca\"" if certificate else ":",
            "client_rb": shlex.quote(_client_rb(settings, prepared.identity)),
            "first_boot": shlex.quote(json.dumps(_first_boot(settings))),
            "host": shlex.quote(host),
            "status_url": shlex.quote(f"https://{host}/_status"),
            "timeout": str(int(settings["timeout"])),
            "patience": str(int(settings["timeout"]) // 2),
        }
        return re.sub(r"@([a-z_]+)@", lambda found: values[found[1]], _template())

    def enrol(self, identity: Identity, host: Host) -> bool:
        """Make the client with our public key, as the user; then the node, as that client.

        So the node is the client's own: what a client makes it may change, and no access list need be edited.
        """
        with _server(identity.settings, host) as server:
            made = server.ask("POST", "clients", {"name": identity.name, "public_key": identity.public[SECRET]})
            server.expect(made, f"to make the client {identity.name}", 201)
            client = requester(identity.name, identity.kept[SECRET], "the secret that was made for it")
            node = server.ask("POST", "nodes", _node(identity), by=client)
            server.expect(node, f"to make the node {identity.name} as the client of that name", 201)
        return True

    def revoke(self, identity: Identity, host: Host) -> None:
        """Delete the client, so that its key is worth nothing, and the node."""
        with _server(identity.settings, host) as server:
            for kind in ("clients", "nodes"):
                answer = server.ask("DELETE", f"{kind}/{identity.name}")
                server.expect(answer, f"to delete {kind}/{identity.name}", 200, 404)

    def probe(self, settings: Settings, host: Host) -> Iterator[Finding]:
        """Whether the server answers, takes the user's key, and knows the policy in its group."""
        try:
            with _server({**self.prepare(settings, _NOBODY).settings}, host, _PROBE_SECONDS) as server:
                yield from _probed(server, settings)
        except ProvisionerError as error:
            yield Finding("error", "handoffs to Chef fail", str(error), error.hint)


_NOBODY = Subject("", "", "", 0)


class _Server:
    """The API of one organization, asked as the user unless told otherwise."""

    def __init__(self, url: str, who: Requester, trust: Trust, seconds: float) -> None:
        self.url, self.who, self._trust, self._seconds = url, who, trust, seconds

    def ask(self, method: str, path: str, sent: Any = None, by: Requester | None = None) -> Reply:
        """One signed request. Raises HandoffUnreachable."""
        url = f"{self.url}/{path}"
        body = b"" if sent is None else json.dumps(sent).encode()
        headers = signed_headers(by or self.who, method, urlsplit(url).path, body)
        return ask(method, url, self._trust, body=body or None, headers=headers, seconds=self._seconds)

    def expect(self, answer: Reply, what: str, *good: int) -> None:
        """Raise HandoffRefused, or HandoffUnreachable where asking again may help, for any other status."""
        if answer.status in good:
            return
        where = f"{self.url} answers {answer.status}"
        if answer.status >= 500:
            raise HandoffUnreachable(f"{where} when asked {what}: {answer.said()}")
        told = {
            401: f"the key does not belong to {self.who.name}, or the clocks are more than 15 minutes apart",
            403: f"{self.who.name} needs the rights: `chef-server-ctl org-user-add ORG {self.who.name} --admin`",
            404: "there is no such organization: see `chef-server-ctl org-list`",
            409: "somebody else made it meanwhile; `provisioner build retry-handoff` deletes it and makes it anew",
        }
        hint = told.get(answer.status, "see `provisioner check`, which tries every handoff")
        raise HandoffRefused(f"{where} when asked {what}: {answer.said()}", hint=hint)


@contextmanager
def _server(settings: Settings, host: Host, seconds: float = 30.0) -> Iterator[_Server]:
    """Raises CredentialMissing without the user's key."""
    key = str(settings["key"])
    who = requester(str(settings["user"]), host.text(key), str(host.credentials / key))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(str(settings.get("ca_certificate") or ""))
        file.flush()
        trust = Trust(ca=Path(file.name)) if settings.get("ca_certificate") else Trust()
        yield _Server(str(settings["server"]), who, trust, seconds)


def _probed(server: _Server, settings: Settings) -> Iterator[Finding]:
    group, policy = settings.get("policy_group"), settings.get("policy_name")
    answer = server.ask("GET", f"policy_groups/{group}" if group else "nodes")
    if answer.status == 404 and group and server.ask("GET", "nodes").status == 200:
        remedy = f"push the policy to it: `chef push {group} {policy}.rb`"
        yield Finding("error", "handoffs to Chef fail", f"{server.url} has no policy group {group}", remedy)
        return
    server.expect(answer, f"for the policy group {group}" if group else "for its nodes", 200)
    told = answer.json()
    if group and policy not in ((told.get("policies") if isinstance(told, dict) else None) or ()):
        remedy = f"`chef push {group} {policy}.rb`"
        yield Finding("error", "handoffs to Chef fail", f"the policy group {group} has no policy {policy}", remedy)


def _check_policy(settings: Settings) -> None:
    policy, run_list = {"policy_name", "policy_group"} & set(settings), "run_list" in settings
    if bool(policy) == run_list or ("environment" in settings and not run_list):
        raise InvalidInput(
            "handoff chef needs policy_name and policy_group, or a run_list, and not both",
            where="handoff.policy_name" if not run_list else "handoff.run_list",
            hint="write policy_name: web and policy_group: production; an environment goes with a run_list only",
        )
    if not run_list:
        for name in ("policy_name", "policy_group"):
            text("chef", settings, name, _POLICY, "letters, digits and ._:-")
        return
    text("chef", settings, "environment", _ENVIRONMENT, "letters, digits and ._-", default="_default")
    items = settings["run_list"]
    if not isinstance(items, list) or not all(
        isinstance(each, str) and _RUN_LIST_ITEM.fullmatch(each) for each in items
    ):
        hint = 'write run_list: ["role[web]", "recipe[ntp::default]"]'
        raise InvalidInput(f"{str(items)[:80]!r} is not a run list", where="handoff.run_list", hint=hint)


def _check_certificate(settings: Settings) -> None:
    given = settings.get("ca_certificate")
    if given is not None and not _are_certificates(given):
        raise InvalidInput(
            "the CA certificate cannot be read",
            where="handoff.ca_certificate",
            hint="write `ca_certificate: |` and below it the PEM text, from -----BEGIN CERTIFICATE----- on",
        )


def _are_certificates(given: Any) -> bool:
    """Certificates alone, so that nobody puts a private key into a profile."""
    if not isinstance(given, str) or len(given) > _LONGEST_PEM or "PRIVATE KEY" in given:
        return False
    try:
        return bool(load_pem_x509_certificates(given.encode()))
    except ValueError:
        return False


def _client_rb(settings: Settings, node: str) -> str:
    """No policy stands there: what the server says of the node later must count."""
    lines = [f"chef_server_url '{settings['server']}'", f"node_name '{node}'", "log_location STDOUT"]
    if settings.get("license"):
        lines.append(f"chef_license '{settings['license']}'")
    return "\n".join(("# Written by Provisioner; local settings go into client.d/*.rb.", *lines))


def _first_boot(settings: Settings) -> dict[str, Any]:
    if "run_list" in settings:
        return {"run_list": list(settings["run_list"])}
    return {"policy_name": settings["policy_name"], "policy_group": settings["policy_group"]}


def _node(identity: Identity) -> dict[str, Any]:
    settings = identity.settings
    empty: dict[str, Any] = {level: {} for level in ("automatic", "normal", "default", "override")}
    return {
        "name": identity.name,
        "chef_type": "node",
        "json_class": "Chef::Node",
        "chef_environment": settings.get("environment", "_default"),
        "run_list": [],
        **empty,
        **_first_boot(settings),
    }


@cache
def _template() -> str:
    return files("provisioner.handoff").joinpath("chef.sh").read_text(encoding="utf-8")
