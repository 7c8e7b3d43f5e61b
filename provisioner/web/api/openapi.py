"""The OpenAPI 3.1 document, made from the table of operations (https://spec.openapis.org/oas/v3.1.1)."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from provisioner import __version__
from provisioner.errors import ProvisionerError, TooMany
from provisioner.web.api import examples
from provisioner.web.api.operations import Operation
from provisioner.web.api.shapes.common import Problem
from provisioner.web.api.shapes.radius import Rehearsed

PREFIX = "/api/v1"
HIGHEST_ID = 2**62
_REF = "#/components/schemas/{model}"
_Links = dict[Any, dict[str, Any]]
_NAMES = {
    "name": ("the object's name; for a machine, any spelling of one of its MACs too", "web01"),
    "mac": ("a MAC address in any spelling", "52-54-00-12-34-56"),
    "kind": ("the template's kind", "kickstart"),
    "id": ("the number of the build", "17"),
    "uid": ("the id", "6f1d2c"),
    "secret": ("the secret's name", "root_password"),
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document as plain data."""
    schemas = _schemas(operations)
    links = _links(operations)
    refusals: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, refusals, links)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Provisioner",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Bare-metal provisioning: machines, profiles, builds. Errors are problem+json (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API token (`provisioner token add`), or what POST /sessions answers",
                }
            },
        },
    }


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    bodies = [operation.body for operation in operations if operation.body is not None]
    answers: list[type[BaseModel]] = [
        operation.answer
        for operation in operations
        if isinstance(operation.answer, type) and issubclass(operation.answer, BaseModel)
    ]
    answers += [Problem, Rehearsed]
    models: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in dict.fromkeys(bodies)]
    models += [(model, "serialization") for model in dict.fromkeys(answers)]
    _, definitions = models_json_schema(models, ref_template=_REF)
    schemas = dict(definitions["$defs"])
    for schema in schemas.values():
        # What is left out of a change stays as it is; a default would say something else.
        for field in schema.get("properties", {}).values():
            field.pop("default", None)
    return schemas


def _operation(operation: Operation, refusals: dict[str, Any], links: _Links) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation), *_header_parameters(operation)],
        "responses": _answers(operation, refusals, links),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.public:
        described["security"] = []
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {"application/json": _content(operation.body)}}
    if operation.noun is not None:
        described["x-right"] = f"{operation.noun}:{operation.verb}"
    return described


def _links(operations: Sequence[Operation]) -> _Links:
    """What can be done next with an object that was answered: by its name, or a build's id, and its ETag."""
    onward: _Links = {}
    for operation in operations:
        shape, names = operation.answer, operation.names
        if not isinstance(shape, type) or not issubclass(shape, BaseModel):
            continue
        key = "id" if "id" in shape.model_fields else "name" if "revision" in shape.model_fields else ""
        base = "/builds" if key == "id" else "/" + operation.tag
        if not key or "kind" in names or (key == "id" and "/builds" not in operation.path):
            continue
        for other in operations:
            if other.names == [key] and other.path.startswith(f"{base}/{{{key}}}"):
                parameters = {f"path.{key}": f"$response.body#/{key}"}
                if other.match:
                    parameters["header.If-Match"] = "$response.header.ETag"
                link = {"operationId": other.id, "parameters": parameters}
                onward.setdefault(shape, {})[other.id] = link
    return onward


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": _REF.format(model=model.__name__)}, "example": examples.of(model)}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters = []
    for name in operation.names:
        words, example = _NAMES.get(name, (f"the {name}", name))
        schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[A-Za-z0-9._:-]+$"}
        if name == "id":
            schema = {"type": "integer", "minimum": 1, "maximum": HIGHEST_ID}
        parameters.append(
            {"name": name, "in": "path", "required": True, "description": words, "schema": schema, "example": example}
        )
    return parameters


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema()
    parameters = []
    for name, words in schema["properties"].items():
        shape = {key: value for key, value in words.items() if key not in {"title", "description", "examples"}}
        choices = [each for each in shape.pop("anyOf", []) if each != {"type": "null"}]
        if choices:
            shape = {key: value for key, value in shape.items() if key != "default"} | choices[0]
        parameter = {"name": name, "in": "query", "required": False, "schema": shape}
        parameter["description"] = words.get("description", "")
        if words.get("examples"):
            parameter["example"] = words["examples"][0]
        parameters.append(parameter)
    return parameters


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if operation.match:
        parameters.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "description": "the ETag of the object that the change is for; `*` changes it whatever it is by now",
                "schema": {"type": "string", "pattern": r'^(\*|"[0-9]+\.[0-9]+")$'},
                "example": '"12.3"',
            }
        )
    if operation.verb == "write" and not operation.public:
        parameters.append(
            {
                "name": "X-Reason",
                "in": "header",
                "required": False,
                "description": "why; kept in the history",
                "schema": {"type": "string", "maxLength": 500},
                "example": "INC-1234",
            }
        )
    if operation.rehearsable:
        parameters.append(
            {
                "name": "X-Dry-Run",
                "in": "header",
                "required": False,
                "description": "`true`: answer as if it were done, with what it would do to machines, and take it back",
                "schema": {"type": "string", "enum": ["true", "false"]},
                "example": "true",
            }
        )
    return parameters


def _answers(operation: Operation, refusals: dict[str, Any], links: _Links) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase, "headers": _headers(operation)}
    if isinstance(operation.answer, type) and issubclass(operation.answer, BaseModel):
        good["content"] = {operation.media_type: _content(operation.answer)}
        if operation.streams:
            good["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    elif operation.answer is not None:
        good["content"] = {operation.media_type: {"schema": TypeAdapter(operation.answer).json_schema()}}
    onward = links.get(operation.answer, {})
    if onward and operation.verb == "write":
        good["links"] = onward
    answers = {str(operation.status): good} | _rehearsed(operation)
    if operation.method == "PUT" and operation.status == HTTPStatus.OK and operation.answer is not None:
        answers["201"] = good | {"description": HTTPStatus.CREATED.phrase}
    by_status: dict[int, list[type[ProvisionerError]]] = {}
    possible: list[type[ProvisionerError]] = [*operation.all_errors(), TooMany]
    for error in possible:
        by_status.setdefault(error.status, []).append(error)
    if operation.body is not None:
        by_status[HTTPStatus.UNSUPPORTED_MEDIA_TYPE] = []
    if operation.query is not None:
        words = "the URL is longer than 8190 bytes; the HTTP server says so, before the API sees it"
        answers["414"] = {
            "description": words,
            "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model=Problem.__name__)}}},
        }
    for status, errors in sorted(by_status.items()):
        name = "-".join([str(int(status)), *(error.code for error in errors)])
        refusals.setdefault(name, _problem(status, errors))
        answers[str(int(status))] = {"$ref": f"#/components/responses/{name}"}
    return answers


def _rehearsed(operation: Operation) -> dict[str, Any]:
    """What the rehearsal of an operation answers that else answers nothing."""
    if operation.answer is not None or not operation.tells_radius:
        return {}
    words = "of a dry run, where machines depend on what would change"
    return {"200": {"description": words, "content": {"application/json": _content(Rehearsed)}}}


def _headers(operation: Operation) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    headers: dict[str, Any] = {"X-Request-Id": {"description": "as in the history", **text}}
    has_revision = isinstance(operation.answer, type) and "revision" in getattr(operation.answer, "model_fields", {})
    if has_revision:
        headers["ETag"] = {"description": "for If-Match", **text}
    if operation.status == HTTPStatus.CREATED:
        headers["Location"] = {"description": "the new object's URL", **text}
    return headers


def _problem(status: int, errors: Sequence[type[ProvisionerError]]) -> dict[str, Any]:
    shown = {error.code: {"value": _example(error, status)} for error in errors}
    content: dict[str, Any] = {"schema": {"$ref": _REF.format(model=Problem.__name__)}}
    if shown:
        content["examples"] = shown
    words = "; ".join(f"{error.code}: {(error.__doc__ or '').splitlines()[0].rstrip('.')}" for error in errors)
    return {
        "description": words or HTTPStatus(status).phrase,
        "content": {"application/problem+json": content},
    }


def _example(error: type[ProvisionerError], status: int) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": (error.__doc__ or "").splitlines()[0],
        "hint": error.default_hint,
        "where": "",
        "pointer": "",
    }
