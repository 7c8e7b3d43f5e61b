"""CFEngine: settings, keys and the hub's directory of them; real hubs are in test_cfengine_machines."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from provisioner.errors import CredentialMissing, HandoffRefused, InvalidInput
from provisioner.handoff.cfengine import SECRET, CFEngine, digest
from provisioner.handoff.protocol import Credentials, Host, Identity, Prepared, Subject
from tests.handoff.onhost import SHELLS, OnHost
from tests.handoff.standin import body_of, calls, stand_in

pytestmark = pytest.mark.slow

SUBJECT = Subject("web01", "Web01.example.com", "web", 7)
# From a hub of Debian's cfengine3; `cf-key --print-digest` says MD5=448eb357eb6dd474640099c52d2331a7.
HUB_KEY = """-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEA0Z3GVSdgIigtsYWnUKk4MvvTZnp+greF6WL3NZNRxjtUMl8+PmTV
wLZY/zkHSGKZylGOHaDjFqfY8lHAidGlEYr7HUB/VpHoiWVR05WTRb9k3XCMfWkI
TiNb6pw3/dY0IRqeGTGb+O/TfCSqORuoKk9/2vq8/66KPQrwqzbvbtuCr64QI8Fk
8NXJO+So0bcB/6sU4mfahFKv4Dnb5Fu+GZshooQrOyMgLZ3tc1wGJyWHvvYS4LoF
ompWynw4+yo/nSruPwKMwMypJbHoV7dA6Bp5WZu2i/0VgjQTDO4h9ReuZk5t0sQs
XgYwB/1mFrV3CcqqVsLSjRBeOYD9b7BePwIDAQAB
-----END RSA PUBLIC KEY-----
"""
HUB_DIGEST = "448eb357eb6dd474640099c52d2331a7"
HUB = {"hub": "hub.example.com", "hub_key": HUB_KEY}
BOTH = {**HUB, "ppkeys": "cfengine-ppkeys"}
CFENGINE = CFEngine()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The directory of a hub that was bootstrapped to itself."""
    directory = tmp_path / "ppkeys"
    directory.mkdir()
    (directory / f"root-MD5={HUB_DIGEST}.pub").write_text(HUB_KEY)
    return directory


@pytest.fixture
def host(tmp_path: Path, keys: Path) -> Host:
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "cfengine-ppkeys").symlink_to(keys)
    return Host(directory, tmp_path / "playbooks")


def made(settings: dict[str, Any]) -> tuple[Prepared, Credentials, Identity]:
    """What arming makes."""
    CFENGINE.check(settings)
    prepared = CFENGINE.prepare(settings, SUBJECT)
    credentials = CFENGINE.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    return prepared, credentials, Identity(prepared.identity, "web01", 7, prepared.settings, credentials.public)


@pytest.mark.parametrize(
    "settings",
    [HUB, BOTH, {**HUB, "hub": "2001:db8::1", "runs": 10, "timeout": 60}, {**HUB, "hub_key": f"\n{HUB_KEY}"}],
)
def test_good_settings_pass(settings: dict[str, Any]) -> None:
    CFENGINE.check(settings)
    assert CFENGINE.prepare(settings, SUBJECT) == CFENGINE.prepare(settings, SUBJECT)


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({}, "hub"),
        ({"hub": "hub.example.com"}, "hub_key"),
        ({**HUB, "hub": "hub; reboot"}, "hub"),
        ({**HUB, "hub": "--define=x"}, "hub"),
        ({**HUB, "hub_key": "nonsense"}, "hub_key"),
        ({**HUB, "hub_key": 5}, "hub_key"),
        ({**HUB, "hub_key": HUB_KEY * 40}, "hub_key"),
        ({**HUB, "ppkeys": "/var/lib/cfengine3/ppkeys"}, "ppkeys"),
        ({**HUB, "ppkeys": ".."}, "ppkeys"),
        ({**HUB, "runs": 0}, "runs"),
        ({**HUB, "runs": True}, "runs"),
        ({**HUB, "runs": "3"}, "runs"),
        ({**HUB, "key": "x"}, "key"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        CFENGINE.check(settings)
    assert caught.value.where == f"handoff.{where}"
    assert caught.value.hint


def test_s80_a_private_key_in_the_place_of_the_hubs_is_refused() -> None:
    """A profile is readable: nobody may put localhost.priv into one by mistake."""
    _, credentials, _ = made(HUB)
    with pytest.raises(InvalidInput) as caught:
        CFENGINE.check({**HUB, "hub_key": credentials.secrets[SECRET]})
    assert "PRIVATE KEY" not in str(caught.value)


def test_each_round_has_a_key_of_its_own_that_stands_nowhere_but_in_the_secret() -> None:
    prepared, first, _ = made(BOTH)
    second = CFENGINE.credentials(prepared, SUBJECT, Host(Path("/none"), Path("/none")))
    assert set(first.secrets) == set(second.secrets) == set(prepared.secrets) == {SECRET}
    assert first.secrets != second.secrets and first.public != second.public
    private, _, _ = first.secrets[SECRET].partition("-----BEGIN RSA PUBLIC KEY-----")
    assert load_pem_private_key(private.encode(), None).public_key() == load_pem_public_key(
        first.public[SECRET].encode()
    )
    readable = json.dumps([dict(prepared.settings), dict(first.public), dict(first.kept)]) + CFENGINE.body(prepared)
    assert "BEGIN RSA PRIVATE KEY-----\n" not in readable


def test_the_digest_is_the_one_that_cfengine_calls_files_by() -> None:
    key = load_pem_public_key(HUB_KEY.encode())
    assert digest(key, "MD5") == HUB_DIGEST  # type: ignore[arg-type]
    assert len(digest(key, "SHA")) == 64  # type: ignore[arg-type]


@pytest.mark.parametrize("kinds", [("MD5",), ("SHA",), ("MD5", "SHA")])
def test_the_hub_trusts_this_key_under_the_name_that_it_looks_for_and_then_no_longer(
    host: Host, keys: Path, kinds: tuple[str, ...]
) -> None:
    next(keys.iterdir()).unlink()
    for kind in kinds:
        (keys / f"root-{kind}=00.pub").write_text(HUB_KEY)
    before = set(keys.iterdir())
    _, _, identity = made(BOTH)
    CFENGINE.revoke(identity, host)
    assert CFENGINE.enrol(identity, host) is True
    CFENGINE.enrol(identity, host)  # after a crash
    key = load_pem_public_key(identity.public[SECRET].encode())
    names = {f"root-{kind}={digest(key, kind)}.pub" for kind in kinds}  # type: ignore[arg-type]
    assert {path.name for path in set(keys.iterdir()) - before} == names
    assert {(keys / name).read_text().strip() for name in names} == {identity.public[SECRET]}
    CFENGINE.revoke(identity, host)
    CFENGINE.revoke(identity, host)
    assert set(keys.iterdir()) == before


def test_without_the_directory_the_hub_decides_and_check_warns(host: Host, keys: Path) -> None:
    _, _, identity = made(HUB)
    assert CFENGINE.enrol(identity, host) is True
    CFENGINE.revoke(identity, host)
    assert len(list(keys.iterdir())) == 1
    found = list(CFENGINE.probe({**HUB, "hub": "127.0.0.1"}, host))
    assert {each.level for each in found} == {"warning"}
    assert any("names no ppkeys" in each.what for each in found)


def test_a_directory_that_is_not_there_or_not_the_hubs_is_told(host: Host, keys: Path) -> None:
    _, _, identity = made({**HUB, "ppkeys": "no-such"})
    with pytest.raises(CredentialMissing, match="no-such"):
        CFENGINE.enrol(identity, host)
    _, _, identity = made(BOTH)
    hubs = next(keys.iterdir())
    hubs.rename(keys / "root-MD5=11111111111111111111111111111111.pub")
    assert any("is not the directory of a hub" in each.what for each in CFENGINE.probe(BOTH, host))
    (keys / "root-MD5=11111111111111111111111111111111.pub").unlink()
    with pytest.raises(HandoffRefused, match="not even the hub's own"):
        CFENGINE.enrol(identity, host)


def finished(tmp_path: Path, shell: str = "dash", where: str = "var/lib/cfengine3", agent: str = "") -> OnHost:
    """An installed machine with stand-ins for CFEngine's programs, and with what an image left."""
    prepared, credentials, _ = made({**BOTH, "timeout": 30, "runs": 2})
    machine = OnHost(tmp_path / "machine", shell=shell)
    machine.install_tool("cfengine", prepared, dict(credentials.secrets))
    work = machine.root / where
    for name in ("ppkeys", "inputs"):
        (work / name).mkdir(parents=True)
        (work / name / "of-an-image").write_text("x")
    stand_in(machine, "cf-key", f"echo MD5={HUB_DIGEST}")
    stand_in(machine, "cf-promises", "")
    stand_in(machine, "cf-agent", f"case $* in *--bootstrap*) : >'{work}/inputs/promises.cf' ;; esac; {agent}")
    return machine


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("where", ["var/lib/cfengine3", "var/cfengine"])
def test_the_script_puts_the_keys_in_their_places_before_first_contact(tmp_path: Path, shell: str, where: str) -> None:
    machine = finished(tmp_path, shell, where)
    secret = (machine.secrets / SECRET).read_text()
    stand_in(machine, "systemctl", "")
    code, log = body_of(machine)
    assert code == 0, log
    work = machine.root / where
    assert calls(machine) == [
        "systemctl cat cfengine3.service",
        "systemctl stop cfengine3.service cf-execd.service cf-serverd.service cf-monitord.service",
        f"cf-key --print-digest {work}/ppkeys/hub.pub",
        "cf-agent --color=never --trust-server=no --skip-bootstrap-policy-run --bootstrap hub.example.com",
        f"cf-agent --color=never -K -I -f {work}/inputs/update.cf",
        f"cf-promises -c -f {work}/inputs/promises.cf",
        f"cf-agent --color=never -K -I -f {work}/inputs/promises.cf",
        *(f"systemctl is-active --quiet {name}.service" for name in ("cf-execd", "cf-serverd", "cf-monitord")),
        "systemctl enable cfengine3.service",
        "systemctl restart cfengine3.service",
    ]
    keys = work / "ppkeys"
    hub = f"root-MD5={HUB_DIGEST}.pub"
    assert sorted(path.name for path in keys.iterdir()) == ["localhost.priv", "localhost.pub", hub]
    assert (keys / "localhost.priv").read_text() + (keys / "localhost.pub").read_text() == secret
    assert (keys / hub).read_text() == HUB_KEY
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    assert not (work / "inputs/of-an-image").exists()
    assert not machine.secrets.exists()
    assert "KEY" not in log


@pytest.mark.parametrize(
    ("agent", "code", "runs", "told"),
    [
        (
            "echo '   error: TRUST FAILED, server presented untrusted key: MD5=1'; exit 1",
            42,
            0,
            "another key than hub_key",
        ),
        ("case $* in *promises.cf) echo '   error: returned 1' ;; esac", 1, 2, "still reports errors in run 2"),
        ("case $* in *promises.cf) echo 'critical: no memory' ;; esac", 1, 2, "still reports errors in run 2"),
        ("case $* in *promises.cf) exit 1 ;; esac", 1, 2, "still reports errors in run 2"),
        ("case $* in *promises.cf) echo 'R: no error: fine' ;; esac", 0, 1, "R: no error: fine"),
        ("case $* in *update.cf) echo '   error: later' ;; esac", 0, 1, "error: later"),
        ("[ -e $0.second ] || { : >$0.second; exit 1; }", 0, 1, "trying again in 5 s"),
    ],
)
def test_the_agents_output_counts_since_its_exit_status_does_not(
    tmp_path: Path, agent: str, code: int, runs: int, told: str
) -> None:
    machine = finished(tmp_path, agent=agent)
    found, log = body_of(machine)
    assert (found, sum(each.endswith("/promises.cf") and "-K" in each for each in calls(machine))) == (code, runs)
    assert told in log
    assert not list(machine.root.rglob("handoff.out"))


def test_a_policy_that_cannot_be_read_is_never_run(tmp_path: Path) -> None:
    """The agent would run failsafe.cf in its place, and end with 0."""
    machine = finished(tmp_path)
    stand_in(machine, "cf-promises", "echo 'syntax error'; exit 1")
    assert body_of(machine)[0] == 1
    assert not any(each.endswith("promises.cf") and "cf-agent" in each for each in calls(machine))


def test_without_cfengine_and_without_a_package_it_says_so(tmp_path: Path) -> None:
    machine = finished(tmp_path)
    (machine.bin / "cf-agent").unlink()
    code, log = body_of(machine)
    assert code == 127
    assert "there is no apt-get, dnf, yum or zypper to install cfengine3 with" in log
