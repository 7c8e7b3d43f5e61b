"""Filters that quote one value for one language.

Data is quoted where it is used, by the language of that place; a value that the language cannot hold on one line (a
newline, NUL, U+2028, a lone surrogate) is an error of the template, never silently changed.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

Filter = Callable[[Any], str]

# Cc: controls with newline, NUL and U+0085; Zl and Zp: U+2028 and U+2029; Cs: what JSON's \ud800 leaves behind.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})
_WORD = re.compile(r"(?=.*[A-Za-z0-9*])[A-Za-z0-9@^+._:/*~=,-]+")
_IPXE = re.compile(r"[A-Za-z0-9@:_/.,=+~%?&;()\[\]<>{}^*!-]+")


class Unrepresentable(ValueError):
    """A value that the language at this place cannot hold."""


def line(value: object, name: str) -> str:
    """The value as text that is safe to stand on one line; booleans become ``true`` and ``false``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise Unrepresentable(f"filter {name}: a text or number is needed, not {_kind(value)}")
    text = str(value)
    for char in text:
        if unicodedata.category(char) in _UNPRINTABLE:
            raise Unrepresentable(f"filter {name}: the value {text[:40]!r} holds U+{ord(char):04X}, a control")
    return text


def sh(value: object) -> str:
    """One word of a POSIX shell, always in single quotes (so also right after a marker was filled in)."""
    return "'" + line(value, "sh").replace("'", "'\"'\"'") + "'"


def ks(value: object) -> str:
    """One argument of a kickstart command; pykickstart splits its lines as a shell does.

    A value that begins with ``%`` is refused: at the beginning of a line it would open or end a section.
    """
    text = line(value, "ks")
    if text.lstrip().startswith("%"):
        raise Unrepresentable(f"filter ks: the value {text[:40]!r} begins with %, which begins a kickstart section")
    return "'" + text.replace("'", "'\"'\"'") + "'"


def word(value: object) -> str:
    """A value that must stand bare, such as a package name: no spaces, quotes, ``#``, ``%`` or backslash, and not signs
    alone (a package ``-`` ends pykickstart with an exception).
    """
    text = line(value, "word")
    if not _WORD.fullmatch(text):
        raise Unrepresentable(
            f"filter word: {text[:40]!r} may hold only letters, digits and @^+._:/*~=,-, not signs alone"
        )
    return text


def preseed(value: object) -> str:
    """The value part of a preseed line; a trailing backslash would swallow the next line."""
    text = line(value, "preseed")
    if text.endswith("\\") or text != text.strip():
        raise Unrepresentable(f"filter preseed: {text[:40]!r} may not end in a backslash nor begin or end with a space")
    return text


def xml(value: object) -> str:
    """Text or attribute content of XML."""
    return escape(line(value, "xml"), {'"': "&quot;", "'": "&apos;"})


def xml_attribute(value: object) -> str:
    """An XML attribute value with its quotes."""
    return quoteattr(line(value, "xml_attribute"))


def ipxe(value: object) -> str:
    """One word of an iPXE script, which expands ``${...}`` before it splits words: no value may bring one in."""
    text = line(value, "ipxe")
    if not _IPXE.fullmatch(text) or text in {"||", "&&"}:
        raise Unrepresentable(f"filter ipxe: {text[:40]!r} holds a space, a quote, $ or a character that is not ASCII")
    return text


def grub(value: object) -> str:
    """One word of a GRUB script, in single quotes; GRUB has no way to write a single quote inside them."""
    text = line(value, "grub")
    if "'" in text or not text.isascii():
        raise Unrepresentable(f"filter grub: {text[:40]!r} holds a quote or a character that is not ASCII")
    return f"'{text}'"


def json_text(value: object) -> str:
    """JSON on one line, ASCII only."""
    return json.dumps(_structure(value, "json"), ensure_ascii=True, allow_nan=False)


def data_url(value: object) -> str:
    """A ``data:`` URL (RFC 2397) that holds the text, of any number of lines, as Ignition reads file contents.

    What markers and crypt hashes are made of stays as it is, so that those are filled in as in a plain text.
    """
    if not isinstance(value, str) or "\x00" in value or any(unicodedata.category(char) == "Cs" for char in value):
        raise Unrepresentable(f"filter data_url: a text without NUL is needed, not {_kind(value)}")
    return "data:," + quote(value, safe="@:/$=,")


def yaml(value: object) -> str:
    """A YAML 1.1 flow scalar or structure on one line; strings are always quoted, so ``no`` stays a string."""
    return _flow(_structure(value, "yaml"))


def _flow(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    text = json.dumps(value, allow_nan=False)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")  # YAML 1.1 takes 1e+16 for a string
    return text


def _quoted(text: str) -> str:
    """A double-quoted YAML scalar. JSON's surrogate pairs mean nothing in YAML, so wide characters stay as they are."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    code = ord(char)
    if char.isascii() and char.isprintable():
        return char
    if unicodedata.category(char) in _UNPRINTABLE or not char.isprintable() or code in {0xFEFF, 0xFFFE, 0xFFFF}:
        return f"\\U{code:08X}"
    return char


def _structure(value: object, name: str) -> Any:
    """Plain dicts, lists and scalars; NUL and lone surrogates are refused, other controls can be escaped."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if "\x00" in value or any(unicodedata.category(char) == "Cs" for char in value):
            raise Unrepresentable(f"filter {name}: the value {value[:40]!r} holds NUL or half a character")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise Unrepresentable(f"filter {name}: the keys of a mapping must be text")
        return {_structure(key, name): _structure(item, name) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_structure(item, name) for item in value]
    raise Unrepresentable(f"filter {name}: cannot write {_kind(value)}")


def _kind(value: object) -> str:
    if value is None:
        return "nothing (null)"
    return {"mappingproxy": "a mapping", "tuple": "a list", "list": "a list", "dict": "a mapping"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )


QUOTING: Mapping[str, Filter] = {
    "sh": sh,
    "ks": ks,
    "word": word,
    "preseed": preseed,
    "xml": xml,
    "xml_attribute": xml_attribute,
    "ipxe": ipxe,
    "grub": grub,
    "json": json_text,
    "data_url": data_url,
    "yaml": yaml,
}
