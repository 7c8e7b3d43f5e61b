"""An output line is told at its line in the template, through whatever brought it there."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.render import confined, places
from provisioner.render.child import render as render_here
from provisioner.render.confined import Job
from provisioner.render.sandbox import Sandbox
from tests.render.context import context, profile, sources

pytestmark = pytest.mark.slow

MAIN = "script/main"
MARKS = "zabcdefghij"


def placed(texts: dict[str, str], data: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """Each output line with its place, by the real process."""
    job = Job(MAIN, data or {})
    (text,) = confined.render([job], texts)
    assert isinstance(text, str), text
    (told,) = confined.where([job], texts, [text])
    return list(zip(text.split("\n"), told, strict=True))


def told(texts: dict[str, str], line: str, data: dict[str, Any] | None = None) -> str:
    """The place of the output line that reads so."""
    return next(place for text, place in placed(texts, data) if text.strip() == line)


CASES: dict[str, tuple[dict[str, str], str, str]] = {
    "plain": ({MAIN: "a\nb\nwrong\n"}, "wrong", f"{MAIN}:3"),
    "after a block": ({MAIN: "a\n{% if true %}\nb\n{% endif %}\nwrong\n"}, "wrong", f"{MAIN}:5"),
    "after comments": ({MAIN: "{## 1\n2\n3 ##}\na\nwrong\n"}, "wrong", f"{MAIN}:5"),
    "whitespace control": ({MAIN: "a\n\n\n{%- if true -%}\n\n\nb\n{%- endif %}\n\nwrong\n"}, "wrong", f"{MAIN}:10"),
    "a value alone on its line": ({MAIN: "a\n{% if true %}\n{{ v }}\n{% endif %}\n"}, "wrong", f"{MAIN}:3"),
    "after a value": ({MAIN: "{{ v }}\n{{ v }}x\nwrong{{ '' }}\n"}, "wrong", f"{MAIN}:1"),
    "a value of two lines": ({MAIN: "a\nb: {{ two }}\nc\n"}, "wrong", f"{MAIN}:2"),
    "a loop": ({MAIN: "a\n{% for i in range(3) %}\nx{{ i }}\n{% endfor %}\nb\n"}, "x2", f"{MAIN}:3"),
    "a macro": (
        {MAIN: "{% macro m(x) %}\nm\n{{ x }}\n{% endmacro %}\na\n{{ m('wrong') }}b\n"},
        "wrong",
        f"{MAIN}:3",
    ),
    "an imported macro": (
        {
            MAIN: "{% from 'snippets/m' import m %}\na\n{{ m() }}\n",
            "snippets/m": "{% macro m() %}\n\nwrong\n{% endmacro %}",
        },
        "wrong",
        "snippets/m:3",
    ),
    "a call": (
        {MAIN: "{% macro m() %}\n<{{ caller() }}>\n{% endmacro %}\n{% call m() %}wrong{% endcall %}\n"},
        "<wrong>",
        f"{MAIN}:2",
    ),
    "included": ({MAIN: "a\n{% include 'snippets/s' %}\nb\n", "snippets/s": "x\nwrong\n"}, "wrong", "snippets/s:2"),
    "after an include": (
        {MAIN: "a\n{% include 'snippets/s' %}\nwrong\n", "snippets/s": "x\ny\n"},
        "wrong",
        f"{MAIN}:3",
    ),
    "extended": (
        {
            MAIN: "{% extends 'script/base' %}\n{% block b %}\n\nwrong\n{% endblock %}\n",
            "script/base": "1\n{% block b %}{% endblock %}\n3\n",
        },
        "wrong",
        f"{MAIN}:4",
    ),
    "of the base": (
        {
            MAIN: "{% extends 'script/base' %}\n{% block b %}\nx\n{% endblock %}\n",
            "script/base": "{% block b %}{% endblock %}\nwrong\n",
        },
        "wrong",
        "script/base:2",
    ),
    "super": (
        {
            MAIN: "{% extends 'script/base' %}\n{% block b %}\nx\n{{ super() }}{% endblock %}\n",
            "script/base": "{% block b %}\ny\nwrong\n{% endblock %}\n",
        },
        "wrong",
        "script/base:3",
    ),
    "indented": (
        {
            MAIN: "a\n{% filter indent(4, true) %}\nb\n\n{% include 'snippets/s' %}\n{% endfilter %}\n",
            "snippets/s": "x\n\nwrong\n",
        },
        "wrong",
        "snippets/s:3",
    ),
    "indented by a text": (
        {MAIN: "{% filter indent('#early| ', true) %}\nb\n\nwrong\n{% endfilter %}\n"},
        "#early| wrong",
        f"{MAIN}:4",
    ),
    "in capitals": ({MAIN: "{% filter upper %}\nb\nwrong\n{% endfilter %}\n"}, "WRONG", f"{MAIN}:3"),
    "captured and quoted": ({MAIN: "{% set s %}\nwrong{% endset %}\na\n{{ s | sh }}\n"}, "'wrong'", f"{MAIN}:2"),
    "raw": ({MAIN: "{% raw %}\n{{ x }}\nwrong\n{% endraw %}\n"}, "wrong", f"{MAIN}:3"),
    "CRLF": ({MAIN: "a\r\n{% if true %}\r\nwrong\r\n{% endif %}\r\n"}, "wrong", f"{MAIN}:3"),
    "no newline at the end": ({MAIN: "a\nwrong"}, "wrong", f"{MAIN}:2"),
}


@pytest.mark.parametrize("what", CASES)
def test_a_line_is_told_at_its_place(what: str) -> None:
    texts, line, place = CASES[what]
    assert told(texts, line, {"v": "wrong", "two": "one\nwrong"}) == place


def test_a_template_that_looks_at_its_own_text_has_no_place_rather_than_a_wrong_one() -> None:
    """Its length is another with markers: more lines, so none is told; one odd line, so that one is not."""
    lines = "{% set s %}abc{% endset %}\n{% for i in range(s | length) %}\nx\n{% endfor %}\nwrong\n"
    assert told({MAIN: lines}, "wrong") == ""
    one = "{% set s %}abc{% endset %}\n{{ s | length }}\nwrong\n"
    assert told({MAIN: one}, "wrong") == f"{MAIN}:3"
    assert told({MAIN: one}, "3") == ""


def test_what_an_error_ends_has_no_places() -> None:
    texts = {MAIN: "{% set s %}abc{% endset %}\n{% if s != 'abc' %}{{ fail('x') }}{% endif %}\nwrong\n"}
    assert told(texts, "wrong") == ""


def test_several_jobs_keep_their_places_apart() -> None:
    texts = {"script/a": "a\n{% include 'snippets/s' %}\n", "script/b": "\n\nb\n", "snippets/s": "s\n"}
    jobs = [Job("script/a", {}), Job("script/b", {}), Job("script/a", {})]
    rendered = [str(each) for each in confined.render(jobs, texts)]
    found = confined.where(jobs, texts, rendered)
    assert [each[1] for each in (found[0], found[2])] == ["snippets/s:1"] * 2
    assert found[1][2] == "script/b:3"


@dataclass
class Made:
    """Templates under construction: every visible line says its own place."""

    texts: dict[str, list[str]] = field(default_factory=dict)

    def line(self, name: str, before: str = "", after: str = "") -> None:
        """A line that says where it is."""
        lines = self.texts[name]
        lines.append(f"{before}@{name}:{len(lines) + 1}@{after}")

    def words(self) -> dict[str, str]:
        """The templates."""
        return {name: "\n".join(lines) + "\n" for name, lines in self.texts.items()}


Step = Callable[[Made, str], None]
_BEFORE = st.sampled_from(["", "  ", "\t", "{{ v }}", "    x ", "{% if v %}", "{{ '' }} ", "{% set a = 1 %}"])


@st.composite
def steps(draw: st.DrawFn, depth: int = 0) -> list[Step]:
    """What a template is made of, blocks, loops and snippets within each other."""
    made: list[Step] = []
    for _ in range(draw(st.integers(1, 5))):
        kinds = ["line", "blank", "value", "comment", "gap"]
        kind = draw(st.sampled_from(kinds if depth > 2 else [*kinds, *_OPENERS, "include"]))
        inner = draw(steps(depth + 1)) if kind in {*_OPENERS, "include"} else []
        made.append(_step(kind, draw(_BEFORE) if kind == "line" else "", inner))
    return made


_OPENERS = {
    "if": ("{% if true %}", "{% endif %}"),
    "tight": ("{% if true -%}", "{%- endif %}"),
    "loop": ("{% for i in range(2) %}", "{% endfor %}"),
    "indent": ("{% filter indent(3, true) %}", "{% endfilter %}"),
    "prefix": ("{% filter indent('# ', true) %}", "{% endfilter %}"),
    "macro": ("{% macro m() %}", "{% endmacro %}{{ m() }}"),
}


def _step(kind: str, before: str, inner: list[Step]) -> Step:
    def take(made: Made, name: str) -> None:
        lines = made.texts[name]
        if kind == "line":
            made.line(name, before, "{% endif %}" if before.startswith("{% if") else "")
        elif kind in _OPENERS:
            lines.append(_OPENERS[kind][0])
            for each in inner:
                each(made, name)
            lines.append(_OPENERS[kind][1])
        elif kind == "include":
            snippet = f"snippets/s{len(made.texts)}"
            made.texts[snippet] = []
            for each in inner:
                each(made, snippet)
            lines.append("{% include '" + snippet + "' %}")
        else:
            lines.append({"blank": "", "value": "  {{ v }}", "comment": "{## x", "gap": "   "}[kind])
            if kind == "comment":
                lines.append("y ##}")

    return take


@given(steps())
@settings(max_examples=300, deadline=None)
def test_every_line_of_any_template_is_told_where_it_says_it_is(made_of: list[Step]) -> None:
    """In this process, for speed; the cases above go through the confined one."""
    made = Made({MAIN: []})
    for step in made_of:
        step(made, MAIN)
    texts = made.words()
    plain = render_here(Sandbox(texts), MAIN, {"v": "v"}, 1 << 20)
    environment = Sandbox(texts, MARKS)
    marked = render_here(environment, MAIN, {"v": "v"}, 1 << 22)
    found = places.read(marked["text"], environment.places, MARKS, plain["text"])
    for line, place in zip(plain["text"].split("\n"), found, strict=True):
        said = re.search("@(.*?)@", line)
        assert said is None or place == said[1], (texts, line)


@pytest.mark.parametrize("links", ["dhcp", "bond-vlan"])
@pytest.mark.parametrize("shipped", ["rocky9", "debian12", "ubuntu2404"])
def test_every_line_of_a_shipped_answer_file_has_its_place(shipped: str, links: str) -> None:
    """A line that holds no expression is the template's own, letter for letter."""
    texts, template = sources(), str(profile(shipped).get("template"))
    job = Job(template, context(shipped, links=links))
    (text,) = confined.render([job], texts)
    assert isinstance(text, str), text
    (found,) = confined.where([job], texts, [text])
    for line, place in zip(text.split("\n"), found, strict=True):
        if not re.sub(r"^\s*#\w+\| ?", "", line).strip():
            continue
        name, _, number = place.rpartition(":")
        own = texts[name].split("\n")[int(number) - 1]
        assert "{" in own or own.strip() in line, (line, place, own)
