"""The Jinja environment in which hostile templates run.

This is the inner of two walls: ``confined`` puts the whole of it in a process with limits. Here nothing is reachable
but frozen plain data, a short list of filters, ``range``, and ``fail``.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import missing

from provisioner.render.filters import QUOTING, Filter
from provisioner.render.places import Marks

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(?:/[a-z0-9][a-z0-9._-]{0,63})+")
"""A template's name: two or more components, such as ``kickstart/el9.ks.j2``."""

MAX_REPEAT = 65_536
MAX_INTEGER_BITS = 256
_FILTERS = frozenset({
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "indent", "int",
    "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
    "reverse", "round", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim", "truncate", "unique",
    "upper", "wordcount",
})  # fmt: skip
_REFUSED_ATTRIBUTES = frozenset({"mro", "encode", "translate", "maketrans", "expandtabs"})


class LimitReached(ValueError):
    """A template asked for something larger than it may have."""


class TemplateRefuses(ValueError):
    """A template called ``fail``."""


class MissingVariable(jinja2.UndefinedError):
    """An undefined variable was used; ``obj`` is what should have held ``name``."""

    def __init__(self, message: str, obj: object, name: str) -> None:
        super().__init__(message)
        self.obj = obj
        self.name = name


class Missing(jinja2.StrictUndefined):
    """StrictUndefined whose error knows which name was asked of which object."""

    __slots__ = ()

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: Any = jinja2.UndefinedError,
    ) -> None:
        if exc is jinja2.UndefinedError and name is not None:

            def exc(message: str | None = None) -> MissingVariable:
                return MissingVariable(message or "", obj, str(name))

        super().__init__(hint, obj, name, exc)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with bounded operators, few filters and no helper objects."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, sources: Mapping[str, str], marks: str = "") -> None:
        """``marks``: see `places.Marks`; without it nothing is marked."""
        self.marks = marks
        self.places: list[str] = []
        super().__init__(
            extensions=[Marks] if marks else [],
            undefined=Missing,
            comment_start_string="{##",
            comment_end_string="##}",
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,
            finalize=_printable,
            loader=_Sources(sources),
            cache_size=len(sources) + 1,
            auto_reload=False,
        )
        self.globals.clear()
        self.globals["range"] = safe_range
        self.globals["fail"] = fail
        self.filters = {name: call for name, call in self.filters.items() if name in _FILTERS} | {
            name: _of_defined(call) for name, call in QUOTING.items()
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Jinja's rule, and none of the text methods that multiply or decode."""
        return attr not in _REFUSED_ATTRIBUTES and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """No ``str.format`` and ``format_map``, not even Jinja's careful ones: a width alone can take all memory."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format is not allowed in templates; use ~ to join texts")

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A key of a mapping comes before a method of the same name: ``parameters.copy`` is a parameter."""
        if isinstance(obj, MappingProxyType) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Bound what ``*``, ``**`` and ``%`` may make before they make it."""
        if operator == "%" and isinstance(left, str | bytes):
            raise LimitReached("used % to format a text, which can take all memory; use ~ to join texts")
        if operator == "*":
            _check_product(left, right)
        if operator == "**":
            _check_power(left, right)
        return super().call_binop(context, operator, left, right)


class _Sources(jinja2.BaseLoader):
    """Templates from one mapping, and from nowhere else; file names in tracebacks are template names."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = {name: text for name, text in sources.items() if NAME.fullmatch(name)}

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Any]:  # noqa: ARG002 - Jinja's
        if template not in self._sources:
            raise jinja2.TemplateNotFound(template)
        return self._sources[template], template, lambda: True

    def list_templates(self) -> list[str]:
        return sorted(self._sources)


def fail(message: str) -> None:
    """End the rendering with this message, for a combination that a template cannot write. Raises TemplateRefuses."""
    raise TemplateRefuses(str(message)[:1000])


def _of_defined(call: Filter) -> Filter:
    """The filter, but an undefined value is reported as what is missing and not as a value of a wrong type."""

    def checked(value: Any) -> str:
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises MissingVariable
        return call(value)

    return checked


def _printable(value: Any) -> Any:
    """What ``{{ }}`` may write: ``None`` in a partition line, or a list as Python spells it, is never meant."""
    if isinstance(value, str | int | float | jinja2.Undefined):
        return value
    what = {"NoneType": "nothing (null)", "tuple": "a list", "list": "a list", "mappingproxy": "a mapping"}
    kind = what.get(type(value).__name__, f"a {type(value).__name__}")
    raise TypeError(f"{kind} cannot be written as text; test it first, or use a filter such as join, json or yaml")


def freeze(value: Any) -> Any:
    """Plain data as read-only views: dict, list, str, int, float, bool, None; anything else is a TypeError."""
    if type(value) is dict:
        if not all(type(key) is str for key in value):
            raise TypeError("template data: keys must be text")
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if type(value) in {list, tuple}:
        return tuple(freeze(item) for item in value)
    if value is None or type(value) in {str, int, float, bool}:
        return value
    raise TypeError(f"template data: {type(value).__name__} is not plain data")


def path_of(context: Mapping[str, Any], wanted: object) -> str:
    """Where in the context this very object hangs (``parameters``, ``machine.interfaces[0]``), or an empty text."""
    return next((path for path, item in _walk("", context) if item is wanted), "")


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = f"{path}.{key}" if path else str(key)
            yield here, item
            yield from _walk(here, item)
    elif isinstance(value, tuple) and value:
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
            yield from _walk(f"{path}[{index}]", item)


def _check_product(left: Any, right: Any) -> None:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int):
            if len(sequence) * count > MAX_REPEAT:
                raise LimitReached(f"asked for a repetition of more than {MAX_REPEAT} characters or items")
            return
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_INTEGER_BITS:
        raise LimitReached(f"asked for a product of more than {MAX_INTEGER_BITS} bits")


def _check_power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int) and max(left.bit_length(), 1) * abs(right) > MAX_INTEGER_BITS:
        raise LimitReached(f"asked for a power of more than {MAX_INTEGER_BITS} bits")
