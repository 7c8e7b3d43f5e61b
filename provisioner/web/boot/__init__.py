"""The boot plane: what firmware, boot loaders, installers and first boots fetch and post."""

from provisioner.web.boot.app import create

__all__ = ["create"]
