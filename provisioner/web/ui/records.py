"""The history of everything."""

from provisioner.web.ui.pages import Pages

pages = Pages()
