"""The boot plane: what firmware, boot loaders, installers and first boots fetch and post."""

from provisioner.web.boot.app import LONGEST_BODY, create

__all__ = ["LONGEST_BODY", "create"]
