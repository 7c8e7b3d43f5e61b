"""Subnets and their addresses."""

from provisioner.web.ui.pages import Pages

pages = Pages()
