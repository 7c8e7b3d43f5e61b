"""Handing the finished machine to configuration management: one module a tool behind one small protocol."""

from provisioner.handoff.firstboot import handoff_script
from provisioner.handoff.none import name as NONE  # noqa: N812 - a constant
from provisioner.handoff.protocol import (
    DEFAULT_TIMEOUT,
    Credentials,
    Finding,
    Host,
    Identity,
    Prepared,
    Reached,
    Subject,
    Tool,
)
from provisioner.handoff.tools import tool

__all__ = [
    "DEFAULT_TIMEOUT",
    "NONE",
    "Credentials",
    "Finding",
    "Host",
    "Identity",
    "Prepared",
    "Reached",
    "Subject",
    "Tool",
    "handoff_script",
    "tool",
]
