"""What a configuration management tool must offer to be handed machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """What arming a build made for the handoff."""

    settings: Settings
    """Sealed with the build, readable in its log: never a secret."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """By name; encrypted with the build, unwrapped by the machine."""


class Tool(Protocol):
    """One tool; a module may be one."""

    name: str

    def check(self, settings: Settings) -> None:
        """Raise InvalidInput unless these settings (without ``tool``) are complete and known."""

    def prepare(self, settings: Settings, machine: Mapping[str, Any]) -> Prepared:
        """Make ready what the machine will need; called once a build, before it is armed."""

    def body(self, settings: Settings) -> str:
        """POSIX shell that runs as root on the finished machine; its exit status is the result."""
