"""What an installer gets out of its kernel's command line and of its answer file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

TOKEN = r"[A-Za-z0-9_-]{40,80}"  # noqa: S105 - a pattern
SEED_FILES = ("user-data", "meta-data", "vendor-data", "network-config")
_URL = rf"(http://[^\s'\"/]+/build/{TOKEN}/%s)"


@dataclass(frozen=True)
class Orders:
    """The URLs that an answer file has the installer use."""

    event: str
    handoff: str = ""
    secrets: tuple[str, ...] = ()


def answer_urls(arguments: Sequence[str]) -> list[str]:
    """Where the installer finds its answer file, or its seed; empty if the command line does not say."""
    for argument in arguments:
        for name in ("inst.ks=", "provisioner.answer=", "autoyast=", "url="):
            if argument.startswith(name) and "/build/" in argument:
                return [argument.removeprefix(name)]
        found = re.match(r"ds=nocloud(?:-net)?;s=(.+)", argument)
        if found:
            return [f"{found[1].rstrip('/')}/{file}" for file in SEED_FILES]
    return []


def orders(text: str) -> Orders:
    """The answer file's orders. Raises ValueError for one that no installer could follow."""
    if "@@provisioner:" in text:
        raise ValueError("the answer file has markers in it")
    event = re.search(_URL % "event", text)
    if event is None:
        raise ValueError("the answer file reports nowhere")
    handoff = re.search(_URL % "handoff", text)
    base = re.search(_URL % "secret", text)
    # Shell: provisioner_secret NAME, or the URL with the name in full.
    named = re.findall(rf"/build/{TOKEN}/secret/([a-z0-9_]+)", text)
    named += re.findall(r"provisioner_secret ([a-z][a-z0-9_]*)", text)
    secrets = tuple(f"{base[1]}/{name}" for name in dict.fromkeys(named)) if base is not None else ()
    return Orders(event[1], handoff[1] if handoff else "", secrets)


def configured_url(handoff: str) -> str:
    """Where the handoff script reports. Raises ValueError."""
    found = re.search(_URL % "configured", handoff)
    if found is None:
        raise ValueError("the handoff script reports nowhere")
    return found[1]


def digest(text: str) -> str:
    """A short name for the token in this text, by which attempts are told apart; empty if there is none."""
    found = re.search(rf"/build/({TOKEN})/", text)
    return sha256(found[1].encode()).hexdigest()[:12] if found else ""
