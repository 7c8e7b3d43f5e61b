"""The command line: one module a noun, each verb a call of a service."""

from provisioner.cli.root import main

__all__ = ["main"]
