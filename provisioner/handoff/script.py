"""Handoff by a command of your own: ``{tool: script, command: "...", timeout: 3600}``."""

import shlex
from collections.abc import Mapping
from typing import Any

from provisioner.errors import InvalidInput
from provisioner.handoff.protocol import Prepared, Settings

name = "script"

DEFAULT_TIMEOUT = 3600
_LONGEST_TIMEOUT = 86_400
_LONGEST_COMMAND = 65_536


def check(settings: Settings) -> None:
    """``command``: what /bin/sh runs as root, up to 64 KiB. ``timeout``: seconds, up to a day. Raises InvalidInput."""
    unknown = sorted(set(settings) - {"command", "timeout"})
    if unknown:
        raise InvalidInput(f"handoff script has no setting {unknown[0]!r}", where="handoff", hint="command and timeout")
    command = settings.get("command")
    if not isinstance(command, str) or not command.strip():
        raise InvalidInput(
            "handoff script needs a command", where="handoff.command", hint='write `command: "..."`, run by /bin/sh'
        )
    if len(command) > _LONGEST_COMMAND or "\x00" in command:
        raise InvalidInput("the command is longer than 64 KiB or holds NUL", where="handoff.command")
    timeout = settings.get("timeout", DEFAULT_TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or not 1 <= timeout <= _LONGEST_TIMEOUT:
        raise InvalidInput(
            f"the timeout {timeout!r} is not a number of seconds from 1 to {_LONGEST_TIMEOUT}", where="handoff.timeout"
        )


def prepare(settings: Settings, machine: Mapping[str, Any]) -> Prepared:  # noqa: ARG001 - the protocol's
    """Nothing to prepare: the command travels as it is, so it must hold no secret."""
    return Prepared({"timeout": DEFAULT_TIMEOUT, **settings})


def body(settings: Settings) -> str:
    """Runs the command; exit status 124 when the time is up."""
    timeout = int(settings.get("timeout", DEFAULT_TIMEOUT))
    return f"limited {timeout} /bin/sh -c {shlex.quote(str(settings['command']))}\n"
