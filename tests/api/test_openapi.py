"""The document says all that there is, and the page shows it without anything from elsewhere."""

import json
import re

from asking import Api, table
from pydantic import BaseModel

from provisioner.errors import InvalidInput
from provisioner.web.api import document, examples
from provisioner.web.api.openapi import PREFIX
from provisioner.web.api.shapes.common import Body


def test_every_route_is_in_the_document_and_no_other(api: Api) -> None:
    described = {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
        for path, methods in document()["paths"].items()
        for method in methods
    }
    served = {
        (method, re.sub(r"<[^>]*>", "{}", rule.rule))
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(PREFIX) and rule.endpoint not in {"api.document", "api.docs", "api.style"}
    }
    assert described == served


def test_every_operation_is_described_with_its_answers_and_errors() -> None:
    refusals = document()["components"]["responses"]
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"] and operation["operationId"], where
            assert any(status.startswith("2") for status in operation["responses"]), where
            for status, told in operation["responses"].items():
                answer = refusals[told["$ref"].rsplit("/", 1)[1]] if "$ref" in told else told
                assert answer["description"], (where, status)
                if status.startswith(("4", "5")):
                    assert "application/problem+json" in answer["content"], (where, status)
            for parameter in operation["parameters"]:
                assert parameter["description"], (where, parameter["name"])
            names = re.findall(r"\{([^}]*)\}", path)
            assert [each["name"] for each in operation["parameters"] if each["in"] == "path"] == names, where


def test_every_body_has_an_example_for_each_required_field() -> None:
    for operation in table():
        if operation.body is None:
            continue
        for name, field in operation.body.model_fields.items():
            told = field.examples or any(getattr(each, "examples", None) for each in field.metadata)
            inner = str(field.annotation)
            simple = "Literal" in inner or "bool" in inner or "int" in inner or "Body" in inner or "Change" in inner
            assert (
                not field.is_required()
                or told
                or simple
                or "examples" in str(operation.body.model_json_schema()["properties"][name])
            ), (operation.id, name)


def test_operation_names_are_unique() -> None:
    names = [operation.id for operation in table()]
    assert len(names) == len(set(names))


def test_bodies_turn_nothing_into_another_type() -> None:
    for operation in table():
        if operation.body is not None:
            assert issubclass(operation.body, Body), operation.id
            assert operation.body.model_config.get("extra") == "forbid", operation.id


def test_the_document_and_the_page_need_no_credential_and_nothing_from_elsewhere(api: Api) -> None:
    answer = api.ask("GET", "/openapi.json", bearer="")
    assert answer.json()["openapi"].startswith("3.1")
    page = api.ask("GET", "/docs", bearer="")
    assert page.status == 200
    assert "default-src 'none'" in page.response.headers["Content-Security-Policy"]
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page.text())
    assert "<script" not in page.text()
    for operation in table():
        assert operation.summary in page.text() or "&#x27;" in page.text(), operation.id
    assert api.ask("GET", "/docs.css", bearer="").response.content_type.startswith("text/css")


def test_errors_say_what_the_document_says() -> None:
    problem = document()["components"]["schemas"]["Problem"]
    said = InvalidInput("x").as_dict() | {"pointer": ""}
    assert set(said) <= set(problem["properties"])
    assert set(problem["required"]) == {*said, "type", "title", "status"}


def test_every_body_and_answer_has_an_example_that_its_shape_takes() -> None:
    for operation in table():
        shapes = [operation.body, operation.answer if isinstance(operation.answer, type) else None]
        for shape in shapes:
            if shape is not None and issubclass(shape, BaseModel):
                example = examples.of(shape)
                shape.model_validate_json(json.dumps(example), strict=True)
                called = {field.alias or name for name, field in shape.model_fields.items()}
                assert set(example) == called - {"password_hash"}, operation.id
