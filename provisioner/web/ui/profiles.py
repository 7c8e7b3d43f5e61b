"""Profiles: the tree, the form, and what a change would do."""

from provisioner.web.ui.pages import Pages

pages = Pages()
