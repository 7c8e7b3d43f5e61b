"""Settings come from a file, the environment and flags, in rising order; what is not known is an error."""

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import InvalidSettings
from provisioner.settings import Settings, bind_address, load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with two settings."""
    path = tmp_path / "provisioner.yaml"
    path.write_text("boot_bind: 10.0.0.1:1\nmedia_bind: 10.0.0.1:1\nhttp_bind: 10.0.0.1:1\ntls: off\n")
    return path


def test_the_file_then_the_environment_then_the_flags(config: Path) -> None:
    environ = {"PROVISIONER_MEDIA_BIND": "10.0.0.1:2", "PROVISIONER_HTTP_BIND": "10.0.0.1:2", "HOME": "/root"}
    settings = load(config, environ, {"http_bind": "10.0.0.1:3"})
    assert (settings.boot_bind, settings.media_bind, settings.http_bind) == ("10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3")
    assert settings.tls == "off", "YAML's bare off is a word here"
    assert settings.tftp_bind == "0.0.0.0:69"


def test_the_environment_may_name_the_file(config: Path) -> None:
    assert load(environ={"PROVISIONER_CONFIG": str(config)}).tls == "off"


@pytest.mark.parametrize(
    ("text", "environ", "flags", "where", "word"),
    [
        ("colour: red\n", {}, {}, "provisioner.yaml", "colour"),
        ("", {"PROVISIONER_COLOUR": "red"}, {}, "environment", "colour"),
        ("", {}, {"colour": "red"}, "command line", "colour"),
        ("boot_bind: nonsense\n", {}, {}, "provisioner.yaml", "boot_bind"),
        ("", {"PROVISIONER_BOOT_BIND": "0.0.0.0:99999"}, {}, "environment", "boot_bind"),
        ("", {"PROVISIONER_BOOT_URL": "ftp://x"}, {}, "environment", "boot_url"),
        ("boot_workers: 0\n", {}, {}, "provisioner.yaml", "boot_workers"),
        ("boot_workers: yes\n", {}, {}, "provisioner.yaml", "boot_workers"),
        ("tls: maybe\n", {}, {}, "provisioner.yaml", "tls"),
        ("answer_hours: -1\n", {}, {}, "provisioner.yaml", "answer_hours"),
        ("80: x\n", {}, {}, "provisioner.yaml", "80"),
        ("[a, b]\n", {}, {}, "provisioner.yaml", "mapping"),
        ("a: [\n", {}, {}, "provisioner.yaml", "YAML"),
        ("a: 2001-99-99\n", {}, {}, "provisioner.yaml", "YAML"),
        ("boot_bind: 0.0.0.0:1\n", {"PROVISIONER_BOOT_BIND": "x"}, {}, "environment", "boot_bind"),
    ],
)
def test_what_is_wrong_names_its_place(
    tmp_path: Path, text: str, environ: dict[str, str], flags: dict[str, str], where: str, word: str
) -> None:
    path = tmp_path / "provisioner.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSettings) as caught:
        load(path, environ, flags)
    assert where in caught.value.where
    assert word in caught.value.message
    assert caught.value.hint


def test_a_named_file_must_exist_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="does not exist"):
        load(tmp_path / "none.yaml", {})
    with pytest.raises(InvalidSettings, match="cannot be read: it is a directory"):
        load(tmp_path, {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InvalidSettings, match=r"cannot be read: it is not UTF-8 text"):
        load(tmp_path / "binary", {})


def test_lists_in_the_environment_and_derived_values(tmp_path: Path) -> None:
    environ = {
        "PROVISIONER_TRUSTED_PROXIES": "10.0.0.0/8,fd00::/8",
        "PROVISIONER_STATE_DIR": str(tmp_path),
        "PROVISIONER_BOOT_BIND": "[fd00::1]:8080",
        "PROVISIONER_MEDIA_URL": "http://media/",
    }
    settings = load(environ=environ)
    assert settings.trusted_proxies == ("10.0.0.0/8", "fd00::/8")
    assert settings.database == f"sqlite:///{tmp_path}/provisioner.db"
    assert settings.boot == "http://[fd00::1]:8080"
    assert settings.media == "http://media"
    assert load(environ={"PROVISIONER_TRUSTED_PROXIES": ""}).trusted_proxies == ()


@pytest.mark.parametrize(
    ("bind", "tls", "url"),
    [
        ("10.0.2.1:8443", "on", "https://10.0.2.1:8443"),
        ("10.0.2.1:80", "off", "http://10.0.2.1:80"),
        ("[fd00::1]:8443", "on", "https://[fd00::1]:8443"),
    ],
)
def test_the_admin_plane_is_told_as_a_url(bind: str, tls: str, url: str) -> None:
    assert load(environ={}, flags={"http_bind": bind, "tls": tls}).admin == url


@pytest.mark.parametrize("bind", ["0.0.0.0:8443", "[::]:8443"])
def test_who_listens_everywhere_tells_an_address_that_opens(bind: str) -> None:
    settings = load(environ={}, flags={"http_bind": bind, "boot_bind": bind})
    host = urlsplit(settings.admin).hostname
    assert host
    assert not ip_address(host).is_unspecified
    assert settings.admin == settings.boot.replace("http://", "https://")


@given(st.text(max_size=20))
def test_no_bind_crashes(text: str) -> None:
    try:
        settings = load(environ={}, flags={"boot_bind": text})
    except InvalidSettings:
        return
    host, port = bind_address(settings.boot_bind)
    assert host
    assert 0 <= port <= 65535


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().tls = "off"  # type: ignore[misc]
