"""The REST API under ``/api/v1``: one table of operations, and the routes, rights and documents made from it."""

import json
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.routing import BaseConverter

from provisioner.core.policy import READ
from provisioner.errors import ProvisionerError, TooMany
from provisioner.services import radius
from provisioner.services.site import Site
from provisioner.web.api import docs, openapi
from provisioner.web.api.openapi import PREFIX
from provisioner.web.api.operations import BATCH_BYTES, Call, Operation
from provisioner.web.api.requests import read_call, request_id
from provisioner.web.api.routes import batches, builds, content, handoffs, machines, networks, people, storm, webhooks
from provisioner.web.common import problem

log = structlog.get_logger()
_NOUNS = (machines, batches, builds, handoffs, networks, content, people, webhooks, storm)
LONGEST_BODY = BATCH_BYTES


def operations() -> list[Operation]:
    """Every operation, in the order of the document."""
    return [operation for noun in _NOUNS for operation in noun.operations.table]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi.document(operations())


def register(app: Flask, site: Site) -> None:
    """Give the application the API's routes, its document and its documentation page."""
    app.url_map.converters["object"] = _object_name()
    for operation in operations():
        path = operation.path.replace("{id}", f"<int(max={openapi.HIGHEST_ID}):id>")
        rule = PREFIX + path.replace("{", "<object:").replace("}", ">")
        app.add_url_rule(
            rule,
            endpoint=f"api.{operation.id}",
            view_func=_view(site, operation),
            methods=[operation.method],
            # OPTIONS would answer without a credential; there is no CORS here.
            provide_automatic_options=False,
        )
    app.add_url_rule(f"{PREFIX}/openapi.json", "api.document", _document, provide_automatic_options=False)
    app.add_url_rule(f"{PREFIX}/docs", "api.docs", _docs, provide_automatic_options=False)
    app.add_url_rule(f"{PREFIX}/docs.css", "api.style", docs.style, provide_automatic_options=False)


def _object_name() -> type[BaseConverter]:
    """A name in a path that does not end as an action does: a MAC has colons too, `web01:rename` is no name."""
    actions = {operation.path.rsplit("}:", 1)[1] for operation in operations() if "}:" in operation.path}
    ending = "|".join(sorted(actions))
    return type("ObjectName", (BaseConverter,), {"regex": rf"(?:(?!:(?:{ending})$)[^/])+"})


def _document() -> Response:
    return Response(json.dumps(document()), content_type="application/json", headers={"Cache-Control": "no-cache"})


def _docs() -> Response:
    return docs.page(document())


def _view(site: Site, operation: Operation) -> Callable[..., Response]:
    def view(**names: Any) -> Response:
        # A body that no operation takes may not wait in the connection either.
        request.max_content_length = operation.longest_body
        call = None
        try:
            call = read_call(site, operation, {name: str(value) for name, value in names.items()})
            answer = operation.handler(call)
            reached = _reached(site, operation, call)
        except ProvisionerError as error:
            # A change that validation refuses was rehearsed all the same.
            reached = None if call is None else _reached(site, operation, call)
            error.details |= {} if reached is None else {"radius": reached}
            return _refusal(error, operation)
        response = answer if isinstance(answer, Response) else _answer(operation, answer, reached)
        response.headers["X-Request-Id"] = request_id()
        return response

    return view


def _reached(site: Site, operation: Operation, call: Call) -> dict[str, Any] | None:
    """What a rehearsal would do to machines; who may not read machines may not read their answer files."""
    told = operation.tells_radius and call.principal.may("machines", READ)
    return radius.report(site, call.watch) if told else None


def _answer(operation: Operation, answer: Any, reached: dict[str, Any] | None) -> Response:
    status = operation.status
    if isinstance(answer, tuple):
        answer, status = answer
    if operation.answer is None and reached is None:
        return Response(status=status)
    if operation.answer is None:
        answer, status = {}, HTTPStatus.OK
    if reached is not None:
        answer |= {"radius": reached}
    response = Response(json.dumps(answer, allow_nan=False), status, content_type=operation.media_type)
    revision = answer.get("revision") if isinstance(answer, dict) else None
    if revision:
        response.headers["ETag"] = f'"{revision}"'
    if status == 201 and isinstance(answer, dict):
        place = answer.get("location") or f"{operation.path.split('/by-mac')[0]}/{answer.get('name', '')}"
        response.headers["Location"] = PREFIX + place
    return response


def _refusal(error: ProvisionerError, operation: Operation) -> Response:
    if error.status >= 500:
        log.warning("request failed", operation=operation.id, code=error.code, error=str(error), request=request_id())
    pointer = error.where if error.where.startswith("/") else ""
    if not pointer and operation.body is not None and error.where in operation.body.model_fields:
        pointer = f"/{error.where}"
    response = problem(error, pointer=pointer)
    response.headers["X-Request-Id"] = request_id()
    if error.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="provisioner"'
    if isinstance(error, TooMany):
        response.headers["Retry-After"] = str(max(1, round(float(error.details.get("retry_after", 1)))))
    return response
