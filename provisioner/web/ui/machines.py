"""The list of machines, and adding some."""

from provisioner.web.ui.pages import Pages

pages = Pages()
