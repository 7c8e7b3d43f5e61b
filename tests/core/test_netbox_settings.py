"""The setting `netbox`: nested, from the file or as JSON in the environment, each mistake with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import InvalidSettings
from provisioner.settings import NetBox, load

GIVEN = {"url": "https://netbox.example.com/api/", "token_file": "/etc/provisioner/netbox.token"}


def loaded(**more: Any) -> NetBox:
    """The setting from the environment."""
    found = load(environ={"PROVISIONER_NETBOX": json.dumps(GIVEN | more)}).netbox
    assert found is not None
    return found


def test_the_file_and_the_environment_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "provisioner.yaml"
    path.write_text(
        "netbox:\n  url: https://netbox.example.com\n  token_file: /etc/provisioner/netbox.token\n  verify: off\n"
        "  filter: {status: active, role: [web, db]}\n  profiles:\n    - {tag: db, profile: rocky9}\n"
    )
    from_file = load(path, environ={}).netbox
    profiles = [{"tag": "db", "profile": "rocky9"}]
    assert from_file == loaded(verify="off", filter={"status": ["active"], "role": ["web", "db"]}, profiles=profiles)


def test_defaults() -> None:
    found = loaded()
    assert (found.url, found.verify, found.webhook_secret_file) == ("https://netbox.example.com", "on", None)
    assert found.filter == {"status": ("active", "staged", "planned")}
    assert load(environ={}).netbox is None
    assert load(environ={"PROVISIONER_NETBOX": ""}).netbox is None


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"url": "netbox.example.com"}, "netbox.url"),
        ({"url": "ftp://netbox"}, "netbox.url"),
        ({"url": "https://user:pass@netbox"}, "netbox.url"),
        ({"token_file": None}, "netbox.token_file"),
        ({"colour": "red"}, "netbox.colour"),
        ({"timeout_seconds": 0}, "netbox.timeout_seconds"),
        ({"filter": {"limit": 1}}, "netbox.filter"),
        ({"filter": {"Status": "active"}}, "netbox.filter"),
        ({"filter": "active"}, "netbox.filter"),
        ({"name": "web"}, "netbox.name"),
        ({"name": "{name}{x}"}, "netbox.name"),
        ({"name": "{name.__class__}"}, "netbox.name"),
        ({"profiles": [{"profile": "rocky9"}]}, "netbox.profiles.0"),
        ({"profiles": [{"role": "web"}]}, "netbox.profiles.0.profile"),
        ({"addresses": "some"}, "netbox.addresses"),
    ],
)
def test_what_is_wrong_names_its_place(more: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        loaded(**more)
    assert f"setting {place}: " in caught.value.message
    assert caught.value.where == "the environment"
    assert caught.value.hint
    if place == "netbox.colour":
        assert "token_file" in caught.value.hint


def test_the_environment_holds_json() -> None:
    for text in ("{", "[" * 100_000, "x"):
        with pytest.raises(InvalidSettings, match=r"netbox|NETBOX"):
            load(environ={"PROVISIONER_NETBOX": text})
