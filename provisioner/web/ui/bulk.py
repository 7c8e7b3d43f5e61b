"""What is done to several machines at once."""

from provisioner.web.ui.pages import Pages

pages = Pages()
