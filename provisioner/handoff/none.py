"""No configuration management: a machine whose own disk booted, and that says so, is finished."""

from collections.abc import Mapping
from typing import Any

from provisioner.errors import InvalidInput
from provisioner.handoff.protocol import Prepared, Settings

name = "none"


def check(settings: Settings) -> None:
    """There is nothing to set. Raises InvalidInput for anything."""
    if settings:
        unknown = sorted(settings)[0]
        raise InvalidInput(f"handoff none has no setting {unknown!r}", where="handoff", hint="name a tool, or drop it")


def prepare(settings: Settings, machine: Mapping[str, Any]) -> Prepared:  # noqa: ARG001 - the protocol's
    """Nothing to prepare."""
    return Prepared(settings)


def body(settings: Settings) -> str:  # noqa: ARG001 - the protocol's
    """A run that does nothing, well."""
    return ":\n"
