"""Rack mode: for somebody who stands before the machines with a phone."""

from provisioner.web.ui.pages import Pages

pages = Pages()
