"""Handing the finished machine to configuration management: one module a tool behind one small protocol."""

from provisioner.handoff.firstboot import handoff_script
from provisioner.handoff.protocol import Prepared, Tool
from provisioner.handoff.tools import tool

__all__ = ["Prepared", "Tool", "handoff_script", "tool"]
