"""The settings in force."""

from provisioner.web.ui.pages import Pages

pages = Pages()
