"""The list of builds."""

from provisioner.web.ui.pages import Pages

pages = Pages()
