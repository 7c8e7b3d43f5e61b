"""Distros and images: what there is to install."""

from provisioner.web.ui.pages import Pages

pages = Pages()
