"""What a sealed file cannot know yet: our URL and the attempt's tokens, filled in by plain replacement."""

import re
from collections.abc import Mapping

from provisioner.errors import MalformedContent

_PREFIX = "@@provisioner:"
_MARKER = re.compile(r"@@provisioner:([a-z0-9_]+)@@")
_OF_SECRET = "secret_"  # noqa: S105 - how markers of secrets begin
"""``@@provisioner:secret_NAME@@`` in an answer is filled in with its first fetch, and only then: for installers that
run no code before they read it (Ignition, ESXi). The others unwrap by POST."""
_PLAIN = re.compile(r"[A-Za-z0-9./$=,_-]{1,512}")
NAMES = ("boot_url", "media_url", "answer_token", "event_token", "handoff_token")


def marker(name: str) -> str:
    """The text that stands in a sealed file for the named value."""
    return f"{_PREFIX}{name}@@"


BUILD_URLS: Mapping[str, str] = {
    "boot": marker("boot_url"),
    "media": marker("media_url"),
    "answer": f"{marker('boot_url')}/build/{marker('answer_token')}/answer",
    "seed": f"{marker('boot_url')}/build/{marker('answer_token')}/seed/",
    "secret": f"{marker('boot_url')}/build/{marker('answer_token')}/secret",
    "handoff": f"{marker('boot_url')}/build/{marker('answer_token')}/handoff",
    "event": f"{marker('boot_url')}/build/{marker('event_token')}/event",
    "configured": f"{marker('boot_url')}/build/{marker('handoff_token')}/configured",
}
"""The URLs that templates see; each holds markers."""


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every marker replaced, in one pass, so that no value is looked at again.

    An unknown marker stays as it is: no value may ever make the boot plane fail.
    """
    return _MARKER.sub(lambda found: values.get(found.group(1), found.group(0)), text)


def secrets_in(text: str) -> tuple[str, ...]:
    """The names of the secrets whose markers stand in the text, in order, each once."""
    found = (name.removeprefix(_OF_SECRET) for name in _MARKER.findall(text) if name.startswith(_OF_SECRET))
    return tuple(dict.fromkeys(found))


def fill_secrets(text: str, secrets: Mapping[str, str]) -> str:
    """The text with the markers of these secrets replaced.

    Raises MalformedContent for a value that is not of crypt(5)'s alphabet: it could end the JSON text or the line in
    which the marker stands.
    """
    for name, value in secrets.items():
        check_secret(name, value)
    return fill(text, {f"{_OF_SECRET}{name}": value for name, value in secrets.items()})


def check_secret(name: str, value: str) -> None:
    """Raise MalformedContent unless the secret may be filled into an answer: 1 to 512 of A-Z a-z 0-9 . / $ = , _ -"""
    if not _PLAIN.fullmatch(value):
        raise MalformedContent(
            "this secret has characters that cannot be filled into an answer file (the value is not shown)",
            where=f"secret {name}",
            hint="a crypt hash, or letters, digits and ./$=,_- only",
        )


def refuse_markers(value: object, where: str) -> None:
    """Raise MalformedContent if any text inside the value could be taken for a marker."""
    if isinstance(value, str):
        if _PREFIX in value:
            raise MalformedContent(f"the text {_PREFIX!r} is reserved", where=where, hint="write it differently")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            refuse_markers(key, where)
            refuse_markers(item, where)
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_markers(item, where)
