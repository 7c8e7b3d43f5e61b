"""Reading a request strictly: credential, names, query, body and If-Match, each with an error that names its place."""

import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from provisioner.core.parameters import check_plain
from provisioner.core.policy import Principal
from provisioner.errors import InvalidInput, MalformedContent, NeedsMatch, ProvisionerError, TooLarge
from provisioner.services import tokens
from provisioner.services.lives import printable
from provisioner.services.radius import Watch
from provisioner.services.site import Actor, Site
from provisioner.web.api.operations import Call, Operation
from provisioner.web.common import source

_DEEPEST = 64
_LONGEST_REASON = 500
_ANYBODY = Principal("", role=None)  # type: ignore[arg-type]
_ETAG = re.compile(r'"([0-9]+\.[0-9]+)"')


def read_call(site: Site, operation: Operation, names: Mapping[str, str]) -> Call:
    """The request as the operation's handler takes it. The right is checked before anything else is read."""
    bearer = _bearer()
    where_from = source()
    principal = _ANYBODY
    if not operation.public:
        principal = tokens.authenticate(site, bearer, where_from)
        if operation.noun is not None:
            principal.require(operation.noun, operation.verb)
    watch = Watch(site) if _dry_run(operation) else None
    return Call(
        site=site if watch is None else site.rehearsing(watch),
        principal=principal,
        actor=_actor(principal, where_from),
        source=where_from,
        names={name: _name(name, text) for name, text in names.items()},
        query=_query(operation.query),
        body=_body(operation) if operation.body is not None else None,
        expect=_expected() if operation.match else None,
        bearer=bearer,
        watch=watch,
    )


def _bearer() -> str:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return ""
    return text.strip()


def _dry_run(operation: Operation) -> bool:
    """Whether the change is to be taken back at its end. Where it cannot be it is refused, not made."""
    text = request.headers.get("X-Dry-Run", "false")
    if text not in {"true", "false"}:
        raise InvalidInput(f"X-Dry-Run: {text[:40]!r}", where="X-Dry-Run", hint="write true or false")
    if text == "false" or operation.verb != "write":
        return False
    if not operation.rehearsable:
        raise InvalidInput(
            "this cannot be rehearsed: not all of it can be taken back", where="X-Dry-Run", hint="leave it out"
        )
    return True


def _actor(principal: Principal, where_from: str) -> Actor:
    # WSGI hands over headers as Latin-1; people write their reasons in UTF-8.
    sent = request.headers.get("X-Reason", "").encode("latin-1", "replace").decode(errors="replace")
    if len(sent) > _LONGEST_REASON:
        raise InvalidInput("the reason is too long", where="X-Reason", hint=f"at most {_LONGEST_REASON} characters")
    reason = printable(sent)
    through = f"token {principal.token}, " if principal.token else ""
    return Actor(who=principal.who, origin=f"api ({through}{where_from})"[:64], request=request_id(), reason=reason)


def request_id() -> str:
    """This request's id: in the history, in the log, and in the answer's ``X-Request-Id``."""
    if "provisioner.request" not in request.environ:
        request.environ["provisioner.request"] = uuid.uuid4().hex
    return str(request.environ["provisioner.request"])


def _name(name: str, text: str) -> str:
    if len(text) > 253 or not text.isprintable():
        raise InvalidInput(f"{text[:80]!r} cannot be a {name}", where=name, hint="names are short and printable")
    return text


def _query(model: type[BaseModel] | None) -> Any:
    given = request.args.to_dict(flat=False)
    if model is None:
        model = _Nothing
    twice = [key for key, values in given.items() if len(values) > 1]
    if twice:
        raise InvalidInput(f"{twice[0][:80]!r} is given twice", where=twice[0][:80], hint="give each parameter once")
    try:
        return model.model_validate({key: values[0] for key, values in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])[:80] if first["loc"] else ""
        known = ", ".join(model.model_fields) or "none"
        raise InvalidInput(
            f"query parameter {key!r}: {first['msg']}", where=key, hint=f"it takes {known}", parameter=key
        ) from None


class _Nothing(BaseModel, extra="forbid"):
    """No query parameters."""


def _body(operation: Operation) -> Any:
    assert operation.body is not None  # noqa: S101 - the caller looked
    raw = read_raw(operation.longest_body)
    if request.mimetype != "application/json" and not (request.mimetype.endswith("+json")):
        raise UnsupportedMediaType("send the body as application/json")
    check_json(raw)
    try:
        return operation.body.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise _invalid(error, operation.body) from None


def read_raw(longest: int) -> bytes:
    """The body's bytes. Raises TooLarge."""
    request.max_content_length = longest
    try:
        return request.get_data(cache=True)
    except RequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {longest} bytes") from None


def _invalid(error: ValidationError, model: type[BaseModel]) -> ProvisionerError:
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = errors[0]
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in first["loc"])
    unknown = first["type"] == "extra_forbidden"
    hint = f"it takes {', '.join(model.model_fields)}" if unknown and len(first["loc"]) == 1 else "mend this field"
    return InvalidInput(
        f"{pointer or 'the body'}: {first['msg']}",
        where=pointer,
        hint=hint,
        errors=[
            {"pointer": "".join(f"/{part}" for part in each["loc"]), "detail": each["msg"]} for each in errors[:20]
        ],
    )


def check_json(raw: bytes) -> None:
    """Refuse what JSON readers disagree on, and what would not come back from a database: doubled keys, NaN, 1e400,
    lone surrogates, bottomless nesting (RFC 8259, sections 4 and 6). Raises MalformedContent.
    """
    try:
        data = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise MalformedContent("the body is not UTF-8 text", hint="send JSON in UTF-8") from error
    except RecursionError as error:
        raise MalformedContent("the body is nested too deeply", hint=f"at most {_DEEPEST} levels") from error
    except json.JSONDecodeError as error:
        raise MalformedContent(
            f"the body is not JSON: {error.msg} in line {error.lineno}, column {error.colno}", hint="mend the body"
        ) from error
    except ValueError as error:
        raise MalformedContent(f"the body cannot be taken: {error}", hint="mend the body") from error
    _refuse_deep(data)
    check_plain(data, "")


def _refuse_deep(data: Any) -> None:
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise MalformedContent("the body is nested too deeply", hint=f"at most {_DEEPEST} levels")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = [each for each in inner if isinstance(each, dict | list)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _expected() -> str | None:
    text = request.headers.get("If-Match", "").strip()
    if not text:
        raise NeedsMatch("this change does not say which version of the object it is for", where="If-Match")
    if text == "*":
        return None
    found = _ETAG.fullmatch(text)
    if found is None:
        # Also several, and weak ones: none of ours looks so, so none can match.
        return "none"
    return found[1]
