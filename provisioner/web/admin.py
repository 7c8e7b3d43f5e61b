"""The admin plane: the API, health, and a placeholder until the UI moves in."""

from flask import Flask

from provisioner import __version__
from provisioner.services.site import Site
from provisioner.web import api
from provisioner.web.common import new_app

_PLACEHOLDER = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Provisioner</title></head>
<body><h1>Provisioner {__version__}</h1>
<p>It is running. Use the command line (<code>provisioner --help</code>) or the <a href="api/v1/docs">API</a>.</p>
</body></html>
"""


def create(site: Site) -> Flask:
    """The admin plane's application."""
    app = new_app("provisioner.admin", site, longest_body=api.LONGEST_BODY)
    api.register(app, site)

    @app.get("/")
    def placeholder() -> tuple[str, dict[str, str]]:
        return _PLACEHOLDER, {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        }

    return app
