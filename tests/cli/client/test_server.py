"""Which server commands talk to: every variable is checked before anything is sent."""

from pathlib import Path

import pytest

from provisioner.cli.client.server import from_environment, is_remote
from provisioner.errors import InvalidSettings
from provisioner.settings import load

URL = "https://deploy.example.com:8443"
PRINT = ":".join(["AB"] * 32)
GOOD = {"PROVISIONER_URL": URL, "PROVISIONER_TOKEN": "pvt_a_b"}


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix"),
    [
        (URL, "deploy.example.com", 8443, True, "/api/v1"),
        (URL + "/", "deploy.example.com", 8443, True, "/api/v1"),
        (URL + "/api/v1/", "deploy.example.com", 8443, True, "/api/v1"),
        ("https://deploy/behind/a/proxy", "deploy", 443, True, "/behind/a/proxy/api/v1"),
        ("http://127.0.0.1:8443", "127.0.0.1", 8443, False, "/api/v1"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, True, "/api/v1"),
    ],
)
def test_a_url_as_people_write_it(url: str, host: str, port: int, tls: bool, prefix: str) -> None:
    server = from_environment(GOOD | {"PROVISIONER_URL": url})
    assert (server.host, server.port, server.tls, server.prefix) == (host, port, tls, prefix)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"PROVISIONER_URL": "deploy:8443"}, "PROVISIONER_URL"),
        ({"PROVISIONER_URL": "ftp://deploy"}, "PROVISIONER_URL"),
        ({"PROVISIONER_URL": "https://"}, "PROVISIONER_URL"),
        ({"PROVISIONER_URL": "https://deploy:99999"}, "PROVISIONER_URL"),
        ({"PROVISIONER_URL": "https://deploy:8443/\nX: y"}, "PROVISIONER_URL"),
        ({"PROVISIONER_URL": f"{URL}/?a=b"}, "PROVISIONER_URL"),
        ({"PROVISIONER_TOKEN": ""}, "PROVISIONER_URL"),
        ({"PROVISIONER_TOKEN": "two words"}, "PROVISIONER_TOKEN"),
        ({"PROVISIONER_TOKEN": "pvt\r\nX: y"}, "PROVISIONER_TOKEN"),
        ({"PROVISIONER_TOKEN": "päß"}, "PROVISIONER_TOKEN"),
        ({"PROVISIONER_TOKEN_FILE": "/dev/null"}, "PROVISIONER_TOKEN"),
        ({"PROVISIONER_TOKEN": "", "PROVISIONER_TOKEN_FILE": "/nonexistent"}, "PROVISIONER_TOKEN_FILE"),
        ({"PROVISIONER_CA": "/nonexistent"}, "PROVISIONER_CA"),
        ({"PROVISIONER_CA": "/etc/hostname", "PROVISIONER_FINGERPRINT": PRINT}, "PROVISIONER_CA"),
        ({"PROVISIONER_FINGERPRINT": "AB:CD"}, "PROVISIONER_FINGERPRINT"),
        ({"PROVISIONER_URL": "http://deploy", "PROVISIONER_FINGERPRINT": PRINT}, "PROVISIONER_URL"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, str], where: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        from_environment(GOOD | changed)
    assert refused.value.where == where
    assert refused.value.hint
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("url", "in_clear"),
    [
        ("http://deploy:8443", True),
        ("http://10.0.2.1:8443", True),
        ("https://deploy:8443", False),
        ("http://127.0.0.1:8443", False),
        ("http://[::1]:8443", False),
        ("http://localhost:8443", False),
    ],
)
def test_a_token_in_clear_is_seen(url: str, in_clear: bool) -> None:
    assert from_environment(GOOD | {"PROVISIONER_URL": url}).in_clear is in_clear


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSettings) as refused:
        from_environment(GOOD | {"PROVISIONER_URL": "https://admin:geheim@deploy:8443"})
    assert "geheim" not in f"{refused.value}{refused.value.hint}"


@pytest.mark.parametrize("text", [PRINT, PRINT.lower(), PRINT.replace(":", ""), f"SHA-256 {PRINT}", f"sha256={PRINT}"])
def test_a_fingerprint_in_any_spelling(text: str) -> None:
    assert from_environment(GOOD | {"PROVISIONER_FINGERPRINT": text}).fingerprint == b"\xab" * 32


def test_s62_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("pvt_a_b\n")
    file.chmod(0o600)
    environment = {"PROVISIONER_URL": URL, "PROVISIONER_TOKEN_FILE": str(file)}
    assert from_environment(environment).token == "pvt_a_b"
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        with pytest.raises(InvalidSettings, match="can be read by others"):
            from_environment(environment)


def test_an_empty_url_is_no_server_and_none_of_it_is_a_setting_of_the_service() -> None:
    assert not is_remote({"PROVISIONER_URL": ""})
    assert is_remote(GOOD)
    names = ("URL", "TOKEN", "TOKEN_FILE", "CA", "FINGERPRINT")
    load(environ={f"PROVISIONER_{name}": "x" for name in names})
