"""The documentation, as it came with this version."""

from provisioner.web.ui.pages import Pages

pages = Pages()
