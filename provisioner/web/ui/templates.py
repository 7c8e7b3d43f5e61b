"""Templates and snippets: the editor with the validator's words, and what a change would do."""

from provisioner.web.ui.pages import Pages

pages = Pages()
