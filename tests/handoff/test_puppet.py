"""Puppet's handoff: settings, the script with real shells and a stand-in `puppet`, and a stand-in CA."""

import hashlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import HandoffRefused, InvalidInput
from provisioner.handoff.protocol import Finding, Host, Identity, Prepared, Subject
from provisioner.handoff.puppet import SECRET, Puppet
from provisioner.handoff.puppet_probe import PREFIX
from tests.handoff.onhost import SHELLS, OnHost

pytestmark = pytest.mark.slow

SUBJECT = Subject("web01", "Web01.example.com", "rocky9", 7)
PUPPET = Puppet()
MINIMAL = {"server": "puppet.example.com"}
CHALLENGE = "Vq3-challenge_of_this_round-0123456789abcdefgh"

# Writes down how it was called and what it found; plan.* say what it answers.
STAND_IN = r"""#!/bin/sh
here=$PROVISIONER_ROOT/plan
echo "$*" >>"$here.calls"
next() {
    [ -s "$here.$1" ] || { echo "$2"; return; }
    head -n 1 "$here.$1"
    tail -n +2 "$here.$1" >"$here.rest"
    mv "$here.rest" "$here.$1"
}
case $1 in
    config) printf 'confdir = /etc/puppet\nssldir = /var/lib/puppet/ssl\n' ;;
    ssl)
        cp "$PROVISIONER_ROOT/etc/puppet/csr_attributes.yaml" "$here.csr"
        ls -l "$PROVISIONER_ROOT/etc/puppet/csr_attributes.yaml" >"$here.mode"
        ls "$PROVISIONER_ROOT/var/lib/puppet/ssl" >"$here.ssl.before" 2>&1
        code=$(next bootstrap 0)
        [ "$code" -eq 0 ] || exit "$code"
        mkdir -p "$PROVISIONER_ROOT/var/lib/puppet/ssl"
        echo x >"$PROVISIONER_ROOT/var/lib/puppet/ssl/cert"
        ;;
    agent)
        [ ! -e "$PROVISIONER_ROOT/etc/puppet/csr_attributes.yaml" ] || echo left >"$here.left"
        while [ "$1" != --logdest ] || [ "$2" = console ]; do shift; done
        next says "" >"$2"
        exit "$(next runs 2)"
        ;;
    resource) exit "$(next services 0)" ;;
esac
"""


@pytest.mark.parametrize(
    "settings",
    [
        MINIMAL,
        MINIMAL | {"port": 8141, "environment": "test_1", "certname": "a.b", "role": "role::web", "agent": False},
        MINIMAL | {"ca_server": "ca.example.com", "ca_fingerprint": "aB" * 32, "ca": "x.pem", "timeout": 60},
    ],
)
def test_good_settings_pass(settings: dict[str, Any]) -> None:
    PUPPET.check(settings)
    prepared = PUPPET.prepare(settings, SUBJECT)
    assert prepared == PUPPET.prepare(settings, SUBJECT)
    assert prepared.identity == settings.get("certname", "web01.example.com")
    assert prepared.secrets == (SECRET,)
    host = Host(Path("/none"), Path("/none"))
    made = [PUPPET.credentials(prepared, SUBJECT, host).secrets[SECRET] for _ in range(2)]
    assert made[0] != made[1]
    assert len(made[0]) >= 43, "256 bits"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "handoff.server"),
        ({"server": "http://x"}, "handoff.server"),
        ({"server": "-x"}, "handoff.server"),
        (MINIMAL | {"port": 0}, "handoff.port"),
        (MINIMAL | {"port": True}, "handoff.port"),
        (MINIMAL | {"environment": "a-b"}, "handoff.environment"),
        (MINIMAL | {"certname": "Web01"}, "handoff.certname"),
        (MINIMAL | {"certname": "a/b"}, "handoff.certname"),
        (MINIMAL | {"role": 'x"\n  pp_auth_role: "y'}, "handoff.role"),
        (MINIMAL | {"role": "x" * 128}, "handoff.role"),
        (MINIMAL | {"ca_fingerprint": "x"}, "handoff.ca_fingerprint"),
        (MINIMAL | {"key": "../key"}, "handoff.key"),
        (MINIMAL | {"agent": "yes"}, "handoff.agent"),
        (MINIMAL | {"timeout": 0}, "handoff.timeout"),
        (MINIMAL | {"challenge": "x"}, "handoff.challenge"),
    ],
)
def test_bad_settings_are_refused_with_their_place(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as error:
        PUPPET.check(settings)
    assert error.value.where == where


def test_the_servers_own_name_is_no_machines() -> None:
    for settings in (MINIMAL, {"server": "other", "ca_server": "Puppet.example.com"}):
        with pytest.raises(InvalidInput, match="own name"):
            PUPPET.prepare(settings, Subject("puppet", "puppet.example.com", "p", 1))


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> OnHost:
    """A machine with a stand-in `puppet`, in which nobody really waits."""
    made = OnHost(tmp_path / "root", shell=request.param)
    made.program("puppet", STAND_IN)
    for name in ("sha256sum", "tail", "cp"):
        made.program(name, f'#!/bin/sh\nexec /usr/bin/{name} "$@"\n')
    made.program("sleep", "#!/bin/sh\n")
    made.program("curl", "#!/bin/sh\nexit 0\n")
    return made


def run(machine: OnHost, settings: dict[str, Any] | None = None, **plan: str) -> str:
    """Run the handoff; the result that it reports."""
    prepared = PUPPET.prepare(MINIMAL | (settings or {}), SUBJECT)
    machine.install_tool("puppet", prepared, {SECRET: CHALLENGE})
    for name, lines in plan.items():
        (machine.root / f"plan.{name}").write_text("".join(f"{line}\n" for line in lines.split()))
    _, said = machine.boot()
    assert CHALLENGE not in machine.log() + said
    return said.partition("exit status ")[2].partition(")")[0]


def plan(machine: OnHost, name: str) -> str:
    return (machine.root / f"plan.{name}").read_text()


def calls(machine: OnHost) -> list[str]:
    return [line.split()[0] for line in plan(machine, "calls").splitlines()]


def test_the_first_run_with_challenge_and_trusted_facts(machine: OnHost) -> None:
    assert run(machine, {"role": "role::web"}) == "2"
    assert plan(machine, "csr") == (
        f'custom_attributes:\n  1.2.840.113549.1.9.7: "{CHALLENGE}"\n'
        'extension_requests:\n  pp_role: "role::web"\n  pp_image_name: "rocky9"\n'
    )
    assert plan(machine, "mode").startswith("-rw------- ")
    assert not (machine.root / "plan.left").exists(), "it is removed before the first run"
    assert not (machine.root / "etc/puppet/csr_attributes.yaml").exists()
    assert calls(machine) == ["config", "ssl", "agent", "resource"]
    assert CHALLENGE not in plan(machine, "calls")
    conf = (machine.root / "etc/puppet/puppet.conf").read_text()
    assert conf == (
        "[main]\nserver = puppet.example.com\nserverport = 8140\nca_server = puppet.example.com\nca_port = 8140\n"
        "environment = production\ncertname = web01.example.com\n"
    )


def test_other_settings_of_puppet_stay(machine: OnHost) -> None:
    file = machine.root / "etc/puppet/puppet.conf"
    file.parent.mkdir(parents=True)
    file.write_text(
        "# ours\nserver = old\n[main]\n  certname=old\nstrict = error\n# server = comment\n"
        "[agent]\nserver = old\nruninterval = 1h\nenvironment  = old\n[server]\nenvironment = stays\n"
    )
    assert run(machine, {"ca_fingerprint": "AB" * 32, "agent": False}) == "2"
    lines = file.read_text().splitlines()
    assert lines[:2] == ["# ours", "[main]"]
    assert lines[8] == f"ca_fingerprint = {'ab' * 32}"
    assert lines[9:] == [
        *("strict = error", "# server = comment", "[agent]", "runinterval = 1h", "[server]", "environment = stays")
    ]
    assert calls(machine) == ["config", "ssl", "agent"]


def test_it_is_patient_until_the_certificate_is_there(machine: OnHost) -> None:
    """Unreachable, or not signed yet: both may pass."""
    assert run(machine, bootstrap="1 1 1 0", runs="0") == "0"
    assert calls(machine) == ["config", "ssl", "ssl", "ssl", "ssl", "agent", "resource"]


def test_without_a_certificate_it_says_so_in_the_end(machine: OnHost) -> None:
    assert run(machine, {"timeout": 1}, bootstrap="1 " * 200) == "69"
    assert "no certificate" in machine.log()
    assert "agent" not in calls(machine)
    assert not (machine.root / "etc/puppet/csr_attributes.yaml").exists()


@pytest.mark.parametrize(
    ("runs", "says", "result", "times"),
    [
        ("2", "", "2", 1),
        ("0", "", "0", 1),
        ("4", "", "4", 1),
        ("6", "", "6", 1),
        ("1 1 2", "", "2", 3),
        ("1", "Error_500_on_SERVER", "1", 1),
        ("1 2", "Error_503_on_SERVER", "2", 2),
        ("124", "", "124", 1),
    ],
)
def test_a_failed_catalog_is_final_and_a_silent_server_is_not(
    machine: OnHost, runs: str, says: str, result: str, times: int
) -> None:
    text = STAND_IN.replace('next says "" >"$2"', 'next says "" | sed "s/_/ /g" >"$2"')
    machine.program("puppet", text)
    assert run(machine, runs=runs, says=says) == result
    assert calls(machine).count("agent") == times
    assert ("resource" in calls(machine)) == (result in {"0", "2"})


def test_the_old_identity_goes_once_a_round(machine: OnHost) -> None:
    """After a reboot in the middle the certificate is there: it was signed once, and may not be thrown away."""
    old = machine.root / "var/lib/puppet/ssl/earlier"
    old.parent.mkdir(parents=True)
    old.write_text("x")
    assert run(machine, runs="4") == "4"
    assert "earlier" not in plan(machine, "ssl.before")
    for name in ("handoff.result", "handoff.reported"):
        (machine.etc / name).unlink(missing_ok=True)
    assert run(machine) == "2"
    assert "cert" in plan(machine, "ssl.before"), "the same round"
    assert not (machine.etc / "handoff.puppet").exists(), "nothing is left of it"


def test_an_agent_that_cannot_be_made_a_service_is_a_failure(machine: OnHost) -> None:
    assert run(machine, services="1") == "71"


def test_without_puppet_and_packages_it_says_what_is_missing(machine: OnHost) -> None:
    (machine.bin / "puppet").unlink()
    assert run(machine) == "127"
    assert "puppet-agent" in machine.log()


@dataclass
class StandInCa:
    """What a Puppet CA answers; ``policy`` is asked about each request."""

    states: dict[str, str] = field(default_factory=dict)
    policy: Any = None
    forbidden: bool = False
    asked: list[str] = field(default_factory=list)
    bundle: bytes = b""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        _, _, _, kind, name = path.split("/")
        self.asked.append(f"{method} {kind} {name}")
        if kind == "certificate":
            return 200, self.bundle
        if kind == "certificate_request":
            self.states[name] = "signed" if self.policy(name, body) else "requested"
            return 200, b""
        if self.forbidden:
            return 403, b"Forbidden request"
        if name not in self.states:
            return 404, b"Resource not found."
        if method == "PUT":
            assert json.loads(body) == {"desired_state": "revoked"}
            if self.states[name] != "signed":
                return 409, b"Cannot revoke"
            self.states[name] = "revoked"
            return 204, b""
        if method == "DELETE":
            del self.states[name]
            return 204, b""
        return 200, json.dumps({"name": name, "state": self.states[name]}).encode()


@dataclass
class Marks:
    """What `provisioner` would remember."""

    came_back: list[str] = field(default_factory=list)

    def mark(self) -> str:
        return "0" * 31 + "1"

    def heard(self, mark: str) -> bool:
        return mark in self.came_back


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[tuple[StandInCa, dict[str, Any], Host, Marks]]:
    """A CA over TLS with client certificates, the settings that name it, and where our credentials lie."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    pair = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    for name, subject in (("puppet-ca", "localhost"), ("puppet-client", "provisioner")):
        key, certificate = directory / f"{name}.key", directory / f"{name}.pem"
        more = ["-addext", "subjectAltName=DNS:localhost", "-subj", f"/CN={subject}"]
        command = ["openssl", "req", *pair, "-keyout", str(key), "-out", str(certificate), *more]
        subprocess.run(command, check=True, capture_output=True)
    state, marks = StandInCa(bundle=(directory / "puppet-ca.pem").read_bytes()), Marks()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = state.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "puppet-ca.pem", directory / "puppet-ca.key")
    context.load_verify_locations(directory / "puppet-client.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state, {"server": "localhost", "port": server.server_port}, Host(directory, tmp_path, marks), marks
    server.shutdown()
    server.server_close()


Ca = tuple[StandInCa, dict[str, Any], Host, Marks]


def identity(settings: dict[str, Any], name: str = "web01") -> Identity:
    prepared: Prepared = PUPPET.prepare(settings, Subject(name, name, "p", 1))
    return Identity(prepared.identity, name, 1, prepared.settings)


@pytest.mark.parametrize("state", ["signed", "requested", "revoked", ""])
def test_whatever_the_ca_has_under_the_name_goes(ca: Ca, state: str) -> None:
    server, settings, host, _ = ca
    server.states |= {"web01": state} if state else {}
    PUPPET.revoke(identity(settings), host)
    assert server.states == {}
    assert ("PUT certificate_status web01" in server.asked) == (state == "signed")
    PUPPET.revoke(identity(settings), host)
    assert not PUPPET.enrol(identity(settings), host), "the CA's policy issues"


def test_our_own_certificate_is_never_revoked(ca: Ca) -> None:
    server, settings, host, _ = ca
    with pytest.raises(HandoffRefused, match="our own certificate"):
        PUPPET.revoke(identity(settings, "provisioner"), host)
    assert server.asked == []


def test_a_ca_that_forbids_it_is_told_with_the_remedy(ca: Ca) -> None:
    server, settings, host, _ = ca
    server.forbidden = True
    with pytest.raises(HandoffRefused) as error:
        PUPPET.revoke(identity(settings), host)
    assert "auth.conf" in error.value.hint


def probed(ca: Ca, **more: Any) -> list[Finding]:
    """What `check` finds about the CA, which keeps nothing of it."""
    server, settings, host, _ = ca
    found = list(PUPPET.probe(settings | more, host))
    assert server.states == {}
    return found


def pinned(ca: Ca) -> dict[str, str]:
    return {"ca_fingerprint": hashlib.sha256(ca[0].bundle).hexdigest()}


def test_a_policy_that_asks_us_and_refuses_is_good(ca: Ca) -> None:
    server, _, _, marks = ca
    server.policy = lambda name, _: marks.came_back.append(name.removeprefix(PREFIX))
    assert probed(ca, **pinned(ca)) == []
    (warning,) = probed(ca)
    assert (warning.level, pinned(ca)["ca_fingerprint"] in warning.remedy) == ("warning", True)
    (wrong,) = probed(ca, ca_fingerprint="00" * 32)
    assert wrong.level == "error"


def test_a_ca_that_signs_for_anybody_is_an_error(ca: Ca) -> None:
    ca[0].policy = lambda *_: True
    (found,) = probed(ca, **pinned(ca))
    assert (found.level, "signs requests" in found.what) == ("error", True)


def test_a_ca_that_does_not_ask_is_an_error(ca: Ca) -> None:
    ca[0].policy = lambda *_: False
    (found,) = probed(ca, **pinned(ca))
    assert (found.level, "does not ask" in found.what) == ("error", True)


def test_a_ca_that_refuses_our_certificate_gets_no_request(ca: Ca) -> None:
    ca[0].forbidden = True
    found = probed(ca, **pinned(ca))
    assert [each.level for each in found] == ["error"]
    assert "auth.conf" in found[0].remedy
    assert not [each for each in ca[0].asked if "certificate_request" in each]


def test_an_unreachable_ca_and_missing_credentials_are_errors(ca: Ca) -> None:
    server, settings, host, _ = ca
    (unreachable,) = PUPPET.probe(settings | {"port": 1}, host)
    assert "gives no answer" in unreachable.what
    (untrusted,) = PUPPET.probe(settings | {"ca": "puppet-client.pem"}, host)
    assert "not trusted" in untrusted.what
    (missing,) = PUPPET.probe(settings | {"key": "other.key"}, host)
    assert "other.key" in missing.what
    assert server.asked == []
