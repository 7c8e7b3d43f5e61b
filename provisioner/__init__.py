"""Provisioner: rack a server, power it on, and it is installed and handed to configuration management."""

__version__ = "0.1.0"
