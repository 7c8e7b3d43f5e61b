"""The admin plane: the UI, the API, metrics, and health."""

from flask import Flask, Response

from provisioner.services.site import Site
from provisioner.web import api, scraped, ui
from provisioner.web.common import new_app
from provisioner.web.ui.shell import HEADERS


def create(site: Site) -> Flask:
    """The admin plane's application."""
    app = new_app("provisioner.admin", site, longest_body=api.LONGEST_BODY)
    api.register(app, site)
    scraped.register(app, site)
    ui.register(app, site)
    app.after_request(_strict)
    return app


def _strict(response: Response) -> Response:
    """Whatever answers, a page that has no policy of its own lets nothing in."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
