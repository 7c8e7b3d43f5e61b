"""The first page: what goes on, what needs somebody, and what is new."""

from provisioner.web.ui.pages import Pages

pages = Pages()
