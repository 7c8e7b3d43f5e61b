"""What the three applications share: errors as problem+json, health, the peer's address."""

import json
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.middleware.proxy_fix import ProxyFix

from provisioner.core.addresses import contains, normal_ip
from provisioner.errors import MalformedAddress, ProvisionerError
from provisioner.services import status
from provisioner.services.site import Site

log = structlog.get_logger()
_KEY = "provisioner.site"


def new_app(name: str, site: Site, *, longest_body: int) -> Flask:
    """An application with our errors, health routes and limits; ``longest_body`` in bytes."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = longest_body
    app.extensions[_KEY] = site
    app.url_map.merge_slashes = False
    app.register_error_handler(ProvisionerError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.add_url_rule("/healthz", view_func=_health)
    app.add_url_rule("/readyz", view_func=lambda: _ready(site))
    app.after_request(_plain_headers)
    app.wsgi_app = _OneSlash(_TrustedProxies(app.wsgi_app, site.settings.trusted_proxies))  # type: ignore[method-assign]
    return app


def source() -> str:
    """The address of the peer, in normal form; forwarded headers count only from a trusted proxy."""
    return normal_ip(request.remote_addr or "0.0.0.0")  # noqa: S104 - the text of an address, not bound


def problem(error: ProvisionerError, status_code: int | None = None, *, pointer: str = "") -> Response:
    """An error of ours as problem+json (RFC 9457); ``pointer`` is the JSON pointer of the bad field in the body."""
    code = status_code or error.status
    said = error.as_dict() | {"pointer": pointer}
    body = {**said, "type": "about:blank", "title": HTTPStatus(code).phrase, "status": code}
    return Response(json.dumps(body), code, content_type="application/problem+json")


def _ours(error: ProvisionerError) -> Response:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request failed", path_rule=str(request.url_rule), code=error.code, error=str(error))
    return problem(error)


def _http(error: HTTPException) -> Response:
    code = error.code or 500
    if isinstance(error, InternalServerError):
        log.error("unexpected error", path_rule=str(request.url_rule), exc_info=error.original_exception)
        detail, hint = "something went wrong here", "the server's log has the details"
    else:
        detail, hint = error.description or error.name, ""
    body = {
        "type": "about:blank",
        # not HTTPStatus: its phrases change with Python's version
        "title": error.name,
        "status": code,
        "code": error.name.lower().replace(" ", "-"),
        "detail": detail,
        "hint": hint,
        "where": "",
        "pointer": "",
    }
    headers = [header for header in error.get_headers() if header[0] in {"Allow", "Retry-After"}]
    return Response(json.dumps(body), code, headers, content_type="application/problem+json")


def _health() -> dict[str, str]:
    return {"status": "ok"}


def _ready(site: Site) -> tuple[dict[str, Any], int]:
    why_not = status.not_ready(site)
    return ({"status": "ready"}, 200) if why_not is None else ({"status": "not ready", "why": why_not}, 503)


def _plain_headers(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


class _OneSlash:
    """Double slashes in the path become one: shim over HTTP asks for ``/boot//grubx64.efi``, and firmware follows
    no redirect.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ.get("PATH_INFO", "")
        while "//" in path:
            path = path.replace("//", "/")
        environ["PATH_INFO"] = path
        return self._app(environ, start_response)


class _TrustedProxies:
    """``X-Forwarded-For`` counts if the peer itself is a trusted proxy, else it is as if it were not there."""

    def __init__(self, app: Any, networks: tuple[str, ...]) -> None:
        self._app, self._networks = app, networks
        self._fixed = ProxyFix(app, x_for=1, x_proto=1, x_host=1)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        trusted = self._networks and self._trusts(environ.get("REMOTE_ADDR", ""))
        return (self._fixed if trusted else self._app)(environ, start_response)

    def _trusts(self, peer: str) -> bool:
        try:
            address = normal_ip(peer)
        except MalformedAddress:
            return False
        return any(contains(network, address) for network in self._networks)
