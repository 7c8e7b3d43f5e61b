"""No configuration management: a machine whose own disk booted, and that says so, is finished."""

from provisioner.errors import InvalidInput
from provisioner.handoff.protocol import Prepared, Settings, Subject, Tool

name = "none"


class NoTool(Tool):
    """Has no settings, no time limit and nothing to do."""

    name = name

    def check(self, settings: Settings) -> None:
        """There is nothing to set. Raises InvalidInput for anything."""
        if settings:
            unknown = sorted(settings)[0]
            raise InvalidInput(
                f"handoff none has no setting {unknown!r}", where="handoff", hint="name a tool, or drop it"
            )

    def prepare(self, settings: Settings, subject: Subject) -> Prepared:  # noqa: ARG002 - the protocol's
        """Nothing to prepare."""
        return Prepared(settings)

    def body(self, prepared: Prepared) -> str:  # noqa: ARG002 - the protocol's
        """A run that does nothing, well."""
        return ":\n"
