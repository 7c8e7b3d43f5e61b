"""One machine, its builds, and all that may be done to it."""

from provisioner.web.ui.pages import Pages

pages = Pages()
