"""The script that runs on the finished machine at its first boot and reports how that went."""

import shlex
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from provisioner.handoff import none
from provisioner.handoff.protocol import Prepared
from provisioner.handoff.tools import tool


def handoff_script(name: str, prepared: Prepared, urls: Mapping[str, str]) -> str:
    """The complete script for a tool: POSIX sh that needs sed, awk, tail and one of curl, wget or python3.

    It takes the secrets that the installer did not leave, runs the tool's body once, removes the secrets, remembers
    the result across reboots until it is reported to ``urls["configured"]`` (``status``, ``exit_code``, ``message``,
    ``log``: at most 60 KiB of the end), and after a reported success removes itself. Its log goes there while it runs
    (``status=running``). After a reported failure it asks for the script of another round.

    Raises UnknownReference for an unknown tool.
    """
    chosen = tool(name)
    return (
        _template()
        .replace("@purpose@", _purpose(chosen.name), 1)
        .replace("@done@", "the first boot" if chosen.name == none.name else f"the handoff to {chosen.name}")
        .replace("@said@", _said(chosen.name))
        .replace("@good@", " | ".join(str(code) for code in sorted(chosen.good_exits)), 1)
        .replace("@secrets@", " ".join(prepared.secrets), 1)
        .replace("@url@", shlex.quote(urls["configured"]), 1)
        .replace("@body@", chosen.body(prepared).rstrip("\n"), 1)
    )


@cache
def _template() -> str:
    return files("provisioner.handoff").joinpath("firstboot.sh").read_text(encoding="utf-8")


def _purpose(name: str) -> str:
    if name == none.name:
        return "Tells Provisioner that this machine runs from its own disk."
    return f"Hands this machine to {name} and tells Provisioner how that went."


def _said(name: str) -> str:
    if name == none.name:
        return "the machine booted from its own disk; no configuration management is asked for (%s)"
    return f"the handoff to {name} ended with exit status %s"
