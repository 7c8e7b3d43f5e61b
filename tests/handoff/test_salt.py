"""Salt: settings, keys, and the two ways to a master's accepted keys; real masters are in test_salt_machines."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from provisioner.errors import CredentialMissing, HandoffRefused, HandoffUnreachable, InvalidInput
from provisioner.handoff.protocol import Credentials, Host, Identity, Prepared, Subject
from provisioner.handoff.salt import SECRET, Salt
from provisioner.handoff.salt_master import fingerprint
from tests.handoff.onhost import SHELLS, OnHost
from tests.handoff.standin import body_of, calls, stand_in
from tests.handoff.tlsserver import answering

pytestmark = pytest.mark.slow

SUBJECT = Subject("web01", "Web01.example.com", "web", 7)
FINGER = "ab" * 32
API = {"master": "salt.example.com", "master_finger": FINGER, "api": "https://salt.example.com:8000"}
PKI = {"master": "salt.example.com", "master_finger": FINGER, "pki": "salt-pki"}
SALT = Salt()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    keys = tmp_path / "master"
    for state in ("minions", "minions_pre", "minions_denied", "minions_rejected"):
        (keys / state).mkdir(parents=True)
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "salt-pki").symlink_to(keys)
    (directory / "salt-api-password").write_text("the canary password\n")
    return Host(directory, tmp_path / "playbooks")


def made(settings: dict[str, Any]) -> tuple[Prepared, Credentials, Identity]:
    """What arming makes."""
    SALT.check(settings)
    prepared = SALT.prepare(settings, SUBJECT)
    credentials = SALT.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    return prepared, credentials, Identity(prepared.identity, "web01", 7, prepared.settings, credentials.public)


@pytest.mark.parametrize(
    "settings",
    [
        API,
        PKI,
        {**API, "master": "2001:db8::1", "api": "https://[2001:db8::1]/salt"},
        {**API, "master_finger": ":".join(["AB"] * 32)},
        {**API, "states": ["base", "web.nginx"], "saltenv": "prod", "pillarenv": "prod", "id": "name", "timeout": 60},
        {**API, "api_user": "jane", "api_eauth": "pam", "api_password": "jane", "api_ca": "ca.pem"},
        {**PKI, "master_port": 14506, "publish_port": 14505},
    ],
)
def test_good_settings_pass(settings: dict[str, Any]) -> None:
    SALT.check(settings)
    assert SALT.prepare(settings, SUBJECT) == SALT.prepare(settings, SUBJECT)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "master"),
        ({**API, "master": "salt\nroot: x"}, "master"),
        ({**API, "master": ["a", "b"]}, "master"),
        ({"master": "salt", "api": API["api"]}, "master_finger"),
        ({**API, "master_finger": "ab:cd"}, "master_finger"),
        ({**API, "master_finger": "zz" * 32}, "master_finger"),
        ({"master": "salt", "master_finger": FINGER}, "api"),
        ({**API, "pki": "salt-pki"}, "api"),
        ({**API, "api": "http://salt.example.com:8000"}, "api"),
        ({**API, "api": "https://salt.example.com@evil.example.com"}, "api"),
        ({**API, "api_password": "../../etc/shadow"}, "api_password"),
        ({**API, "api_ca": "/etc/ssl/ca.pem"}, "api_ca"),
        ({**API, "api_eauth": ""}, "api_eauth"),
        ({**PKI, "pki": "/etc/salt/pki/master"}, "pki"),
        ({**PKI, "pki": ".."}, "pki"),
        ({**PKI, "api_user": "jane"}, "api_user"),
        ({**API, "id": "web01"}, "id"),
        ({**API, "states": "base"}, "states"),
        ({**API, "states": ["--out-file=/etc/passwd"]}, "states"),
        ({**API, "states": ["a b"]}, "states"),
        ({**API, "saltenv": "../x"}, "saltenv"),
        ({**API, "master_port": "4506"}, "master_port"),
        ({**API, "publish_port": 0}, "publish_port"),
        ({**API, "publish_port": True}, "publish_port"),
        ({**API, "accept": "auto"}, "accept"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        SALT.check(settings)
    assert caught.value.where == f"handoff.{where}"
    assert caught.value.hint


def test_each_round_has_a_key_of_its_own_that_stands_nowhere_but_in_the_secret() -> None:
    prepared, first, _ = made(API)
    second = SALT.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    assert set(first.secrets) == set(second.secrets) == set(prepared.secrets) == {SECRET}
    assert first.secrets != second.secrets and first.public != second.public
    private, _, public = first.secrets[SECRET].partition("-----BEGIN PUBLIC KEY-----")
    key = load_pem_private_key(private.encode(), None)
    told = load_pem_public_key(first.public[SECRET].encode())
    assert key.public_key() == told == load_pem_public_key(f"-----BEGIN PUBLIC KEY-----{public}".encode())
    assert told.key_size >= 2048  # type: ignore[union-attr]
    readable = json.dumps([dict(prepared.settings), dict(first.public), dict(first.kept)]) + SALT.body(prepared)
    assert "BEGIN RSA PRIVATE KEY-----\n" not in readable


def test_the_minions_config_is_what_the_profile_says() -> None:
    settings = {**API, "states": ["base", "web.nginx"], "saltenv": "prod", "master_port": 14506}
    prepared = SALT.prepare(settings, SUBJECT)
    assert prepared.identity == "web01.example.com"
    assert SALT.prepare({**API, "id": "name"}, SUBJECT).identity == "web01"
    body = SALT.body(prepared)
    line = next(line for line in body.splitlines() if line.endswith('minion.d/provisioner.conf" || return'))
    written = subprocess.run(["sh", "-c", line.partition(" >")[0]], capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(written) == {
        "master": "salt.example.com",
        "master_finger": ":".join(["ab"] * 32),
        "hash_type": "sha256",
        "id": "web01.example.com",
        "master_port": 14506,
        "publish_port": 4505,
        "saltenv": "prod",
    }
    assert "state.apply base,web.nginx" in body


def test_the_fingerprint_is_the_one_that_minions_compare() -> None:
    """SHA-256 of the lines between the first and the last, as `sed '1d;$d' | sha256sum` sees them."""
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\nBBBB\n-----END PUBLIC KEY-----"
    expected = hashlib.sha256(b"AAAA\nBBBB\n").digest().hex(":")
    assert fingerprint(pem) == fingerprint(f"{pem}\n") == fingerprint(pem.replace("\n", "\r\n")) == expected


def test_the_directory_gets_this_key_alone_and_loses_it_again(host: Host) -> None:
    keys = host.credentials.resolve().parent / "master"
    for state in ("minions", "minions_pre", "minions_denied", "minions_rejected"):
        (keys / state / "web01.example.com").write_text("somebody else's\n")
        (keys / state / "db01.example.com").write_text("not ours\n")
    _, _, identity = made(PKI)
    assert SALT.enrol(identity, host) is True
    accepted = keys / "minions" / "web01.example.com"
    assert accepted.read_text().strip() == identity.public[SECRET]
    assert accepted.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in keys.rglob("*") if path.is_file()) == ["db01.example.com"] * 4 + [accepted.name]
    SALT.enrol(identity, host)  # after a crash
    SALT.revoke(identity, host)
    SALT.revoke(identity, host)
    assert not accepted.exists()
    assert (keys / "minions" / "db01.example.com").exists()


def test_revoking_leaves_the_key_of_whoever_has_the_name_by_then(host: Host) -> None:
    keys = host.credentials.resolve().parent / "master"
    _, _, old = made(PKI)
    _, _, new = made(PKI)
    SALT.enrol(old, host)
    SALT.enrol(new, host)
    SALT.revoke(old, host)
    assert (keys / "minions" / "web01.example.com").read_text().strip() == new.public[SECRET]


def test_a_directory_that_is_not_there_or_not_ours_is_told(host: Host) -> None:
    _, _, identity = made({**PKI, "pki": "no-such"})
    with pytest.raises(CredentialMissing, match="no-such"):
        SALT.enrol(identity, host)
    (host.credentials / "empty").mkdir()
    _, _, identity = made({**PKI, "pki": "empty"})
    with pytest.raises(HandoffRefused, match="cannot be written"):
        SALT.enrol(identity, host)
    assert any("cannot be read" in finding.why for finding in SALT.probe({**PKI, "pki": "empty"}, host))


def _wheel(told: Any) -> bytes:
    return json.dumps({"return": [{"tag": "salt/wheel/1", "data": told}]}).encode()


@pytest.fixture
def api(host: Host, tmp_path: Path) -> Iterator[Any]:
    with answering(tmp_path) as running:
        (host.credentials / "salt-api.pem").write_bytes(running.ca.read_bytes())
        yield running


def for_api(api: Any) -> dict[str, Any]:
    return {**API, "api": api.url, "api_ca": "salt-api.pem"}


def test_the_api_is_asked_for_our_wheel_module_with_the_login_in_the_body(api: Any, host: Host) -> None:
    _, _, identity = made(for_api(api))
    api.answer = (200, _wheel({"success": True, "return": True}))
    assert SALT.enrol(identity, host) is True
    SALT.revoke(identity, host)
    login = {"client": "wheel", "eauth": "sharedsecret", "username": "provisioner", "password": "the canary password"}
    about = {"minion": "web01.example.com", "key": identity.public[SECRET]}
    assert api.asked == [
        ("POST", "/run", [{**login, "fun": "provisioner.accept", **about}]),
        ("POST", "/run", [{**login, "fun": "provisioner.remove", **about}]),
    ]


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        ((401, b"<html>no</html>"), HandoffRefused, "refuses provisioner"),
        ((503, b"busy"), HandoffUnreachable, "answers 503"),
        ((200, b"<html>hello</html>"), HandoffRefused, "not like salt-api"),
        ((200, b'{"return": []}'), HandoffRefused, "not like salt-api"),
        ((404, b'{"return": [{"data": {"success": true}}]}'), HandoffRefused, "answers 404"),
        ((200, _wheel({"success": False, "return": "Trace\nno such module"})), HandoffRefused, "no such module"),
        ((200, _wheel({"success": False, "return": ""})), HandoffRefused, "fails at accept"),
        ((200, _wheel({})), HandoffRefused, "fails at accept"),
    ],
)
def test_what_the_api_says_otherwise_is_an_error_without_the_password(
    api: Any, host: Host, answer: tuple[int, bytes], error: type[Exception], told: str
) -> None:
    _, _, identity = made(for_api(api))
    api.answer = answer
    with pytest.raises(error, match=told) as caught:
        SALT.enrol(identity, host)
    assert "canary" not in f"{caught.value} {caught.value.hint}"  # type: ignore[attr-defined]


def test_an_api_with_another_certificate_is_told_nothing(api: Any, host: Host, tmp_path: Path) -> None:
    with answering(tmp_path / "other") as other:
        (host.credentials / "salt-api.pem").write_bytes(other.ca.read_bytes())
    _, _, identity = made(for_api(api))
    with pytest.raises(HandoffUnreachable, match="is not trusted"):
        SALT.enrol(identity, host)
    assert api.asked == []


def finished(tmp_path: Path, shell: str = "dash", **more: Any) -> tuple[OnHost, str]:
    """An installed machine with a stand-in salt-call, and its secret."""
    prepared, credentials, _ = made({**API, "timeout": 30, **more})
    machine = OnHost(tmp_path / "machine", shell=shell)
    machine.install_tool("salt", prepared, dict(credentials.secrets))
    stand_in(machine, "salt-call", "")
    return machine, credentials.secrets[SECRET]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_puts_the_key_in_its_place_waits_for_the_master_and_applies_once(tmp_path: Path, shell: str) -> None:
    machine, secret = finished(tmp_path, shell)
    old = machine.root / "etc/salt/pki/minion/minion_master.pub"
    old.parent.mkdir(parents=True)
    old.write_text("of an image\n")
    (machine.root / "etc/salt/minion_id").write_text("of-an-image\n")
    stand_in(
        machine, "salt-call", 'case "$*" in *test.ping*) [ -e "$0.second" ] || { : >"$0.second"; exit 2; } ;; esac'
    )
    stand_in(machine, "systemctl", "")
    code, log = body_of(machine)
    assert code == 0, log
    etc = machine.root / "etc/salt"
    ping = f"salt-call --config-dir={etc} --log-level=error --no-color --out=txt test.ping"
    apply = f"salt-call --config-dir={etc} --log-level=warning --no-color --retcode-passthrough"
    assert calls(machine) == [
        "systemctl cat salt-minion.service",
        "systemctl stop salt-minion.service",
        ping,
        ping,
        f"{apply} --state-output=changes state.apply",
        "systemctl enable --now salt-minion.service",
    ]
    assert not old.exists() and not (etc / "minion_id").exists()
    private, public = etc / "pki/minion/minion.pem", etc / "pki/minion/minion.pub"
    assert private.read_text() + public.read_text() == f"{secret}\n"
    assert (private.stat().st_mode & 0o777, (etc / "pki/minion").stat().st_mode & 0o777) == (0o400, 0o700)
    assert 'id: "web01.example.com"' in (etc / "minion.d/provisioner.conf").read_text()
    assert not machine.secrets.exists()
    assert "KEY" not in log


@pytest.mark.parametrize(
    ("program", "code", "times", "told"),
    [
        ('case "$*" in *state.apply*) exit 2 ;; esac', 2, 2, "applying the highstate"),
        ("exit 42", 42, 1, "this is not the master"),
    ],
)
def test_the_exit_status_of_salt_counts_and_another_master_is_asked_once(
    tmp_path: Path, program: str, code: int, times: int, told: str
) -> None:
    machine, _ = finished(tmp_path)
    stand_in(machine, "salt-call", f"echo theirs >'{machine.root}/etc/salt/pki/minion/minion_master.pub'; {program}")
    found, log = body_of(machine)
    assert (found, len(calls(machine))) == (code, times)
    assert told in log
    assert (machine.root / "etc/salt/pki/minion/minion_master.pub").exists() is (code != 42)


def test_without_salt_and_without_a_package_it_says_so(tmp_path: Path) -> None:
    machine, _ = finished(tmp_path)
    (machine.bin / "salt-call").unlink()
    code, log = body_of(machine)
    assert code == 127
    assert "there is no apt-get, dnf, yum or zypper to install salt-minion with" in log
    assert not machine.secrets.exists()
