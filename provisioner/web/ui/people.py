"""Users, tokens and webhooks."""

from provisioner.web.ui.pages import Pages

pages = Pages()
