"""The web UI: server-rendered pages over the same services as the API and the command line."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from provisioner.errors import NotLoggedIn, ProvisionerError
from provisioner.services import tokens
from provisioner.services.site import Site
from provisioner.web.api.requests import request_id
from provisioner.web.common import source
from provisioner.web.ui import (
    adding,
    buildacts,
    builds,
    bulk,
    cookies,
    distros,
    help,  # noqa: A004 - the page's name
    images,
    live,
    login,
    machine,
    machineacts,
    machineedit,
    machines,
    mediaedit,
    networks,
    onebuild,
    otherdhcp,
    overview,
    people,
    plans,
    profileedit,
    profiles,
    rack,
    records,
    settings,
    shell,
    templateedit,
    templates,
    underway,
    webhooks,
)
from provisioner.web.ui.pages import Page, Visit, nobody, path

log = structlog.get_logger()
_MODULES = (
    overview,
    machines,
    adding,
    plans,
    bulk,
    machine,
    machineacts,
    machineedit,
    builds,
    onebuild,
    buildacts,
    rack,
    profiles,
    profileedit,
    templates,
    templateedit,
    distros,
    images,
    mediaedit,
    networks,
    otherdhcp,
    records,
    people,
    webhooks,
    settings,
    help,
    login,
    live,
    underway,
)


def pages() -> list[Page]:
    """Every page."""
    return [page for module in _MODULES for page in module.pages.table]


def register(app: Flask, site: Site) -> None:
    """Give the application the pages, the login and the static files."""
    cookies.register(app, site)
    app.register_blueprint(shell.blueprint())
    app.jinja_env.globals["path"] = path
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for page in pages():
        app.add_url_rule(
            page.rule,
            endpoint=f"page.{page.name}",
            view_func=_view(site, page),
            methods=[page.method],
            provide_automatic_options=False,
        )
    others: Callable[[HTTPException], Any] = app.error_handler_spec[None][None][HTTPException]
    app.register_error_handler(HTTPException, lambda error: _no_page(site, error, others))


def _view(site: Site, page: Page) -> Callable[..., Response]:
    def view(**names: Any) -> Response:
        request.max_content_length = request.max_form_memory_size = page.longest_body
        visit = nobody(site, source(), request_id())
        try:
            visit = _identified(site, page)
            if page.method == "POST":
                cookies.check_post()
            return page.handler(visit, **names)
        except NotLoggedIn:
            cookies.close_session()
            return visit.redirect(login.way_in())
        except ProvisionerError as error:
            return refusal(visit, error)

    return view


def _identified(site: Site, page: Page) -> Visit:
    """Whoever has a login is known on public pages too, if it is still good."""
    bearer = cookies.bearer()
    if page.public and not bearer:
        return nobody(site, source(), request_id())
    try:
        principal = tokens.authenticate(site, bearer, source())
    except NotLoggedIn:
        if page.public:
            return nobody(site, source(), request_id())
        raise
    if page.noun is not None:
        principal.require(page.noun, page.verb)
    return Visit(site, principal, source(), request_id(), bearer)


def refusal(visit: Visit, error: ProvisionerError) -> Response:
    """The page, or the part of one, that says what happened, why, and what to do next."""
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("page failed", page=str(request.url_rule), code=error.code, error=str(error), request=request_id())
    template = "parts/refusal.html" if visit.is_fragment else "refusal.html"
    return visit.render(template, error.status, error=error)


def _no_page(site: Site, error: HTTPException, others: Callable[[HTTPException], Any]) -> Any:
    """A page for people; problem+json for programs, which ask below ``/api`` or do not ask for HTML."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"])
    wants_page = "HX-Request" in request.headers or best == "text/html"
    if request.path.startswith("/api/") or not wants_page:
        return others(error)
    problem: Response = others(error)
    told = problem.get_json(force=True)
    known = ProvisionerError(str(told["detail"]), hint=str(told["hint"]))
    visit = nobody(site, source(), request_id())
    return visit.render("parts/refusal.html" if visit.is_fragment else "refusal.html", problem.status_code, error=known)
