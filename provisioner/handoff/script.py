"""Handoff by a command of your own: ``{tool: script, command: "...", timeout: 3600}``."""

import shlex

from provisioner.errors import InvalidInput
from provisioner.handoff.protocol import DEFAULT_TIMEOUT, Prepared, Settings, Subject, Tool, known

_LONGEST_COMMAND = 65_536


class Script(Tool):
    """Runs what the profile says."""

    name = "script"

    def check(self, settings: Settings) -> None:
        """``command``: what /bin/sh runs as root, up to 64 KiB. Raises InvalidInput."""
        known(self.name, settings, "command")
        command = settings.get("command")
        if not isinstance(command, str) or not command.strip():
            raise InvalidInput(
                "handoff script needs a command", where="handoff.command", hint='write `command: "..."`, run by /bin/sh'
            )
        if len(command) > _LONGEST_COMMAND or "\x00" in command:
            raise InvalidInput("the command is longer than 64 KiB or holds NUL", where="handoff.command")

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:  # noqa: ARG002 - the protocol's
        """The command travels as it is, so it must hold no secret."""
        return Prepared({"timeout": DEFAULT_TIMEOUT, **settings})

    def body(self, prepared: Prepared) -> str:
        """Runs the command; exit status 124 when the time is up."""
        command = shlex.quote(str(prepared.settings["command"]))
        return f"limited {int(prepared.settings['timeout'])} /bin/sh -c {command}\n"
