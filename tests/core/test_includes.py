"""What a template reaches, by its text: compared with what Jinja's own parser says."""

import jinja2.meta
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.includes import Includes, references
from provisioner.render.sandbox import Sandbox

PLAIN = {
    '{% include "snippets/a" %}': {"snippets/a"},
    "{%- include 'snippets/a' -%}": {"snippets/a"},
    "{%+ include 'snippets/a' +%}": {"snippets/a"},
    '{%\n  include\n"snippets/a"\n%}': {"snippets/a"},
    '{%include"snippets/a"%}': {"snippets/a"},
    '{% include "snippets/a" ignore missing %}': {"snippets/a"},
    '{% include "snippets/a" ignore missing without context %}': {"snippets/a"},
    '{% extends "kickstart/b" %}{% include "snippets/a" %}': {"kickstart/b", "snippets/a"},
    '{% import "snippets/a" as a %}': {"snippets/a"},
    '{% from "snippets/a" import b, c as d with context %}': {"snippets/a"},
    "{% if x %}no{% endif %} include": set(),
}
COMPUTED = [
    "{% include which %}",
    '{% include "snippets/" ~ which %}',
    '{% include "snippets/" "a" %}',
    '{% include "snippets/\\x61" %}',
    '{% include ["snippets/a", "snippets/b"] %}',
    '{% include "snippets/a" if x else "snippets/b" %}',
    '{% include "snippets/a" | lower %}',
    '{% include "%}" ~ which %}',
    "{% extends layout %}",
]


@pytest.mark.parametrize("text", PLAIN)
def test_fixed_names_are_found(text: str) -> None:
    assert references(text) == PLAIN[text]


@pytest.mark.parametrize("text", COMPUTED)
def test_a_computed_name_may_be_any(text: str) -> None:
    assert references(text) is None


_PIECES = st.sampled_from([
    "include", "extends", "import", "from", "as", "with", "context", "ignore", "missing", "if", "else", "in", "not",
    '"s/a"', "'s/b'", '"s/" "c"', "x", "~", "|", "lower", ",", "[", "]", "(", ")", " ", "\n", "-", "+", "%}", "{%",
    "{%-", "{{", "}}", "{##", "##}", "{% raw %}", "{% endraw %}", "text",
])  # fmt: skip


@given(st.lists(_PIECES, max_size=14).map(" ".join) | st.lists(_PIECES, max_size=14).map("".join))
def test_whatever_jinja_finds_is_found(text: str) -> None:
    environment = Sandbox({})
    try:
        told = set(jinja2.meta.find_referenced_templates(environment.parse(text)))
    except jinja2.TemplateError:
        return
    found = references(text)
    assert found is None or told <= found


def test_what_is_reached_is_followed_and_may_be_missing_or_go_in_a_circle() -> None:
    includes = Includes({
        "k/a": '{% include "s/b" %}',
        "s/b": '{% include "s/c" %}{% include "s/gone" ignore missing %}',
        "s/c": '{% include "s/b" %}',
        "s/d": "",
        "k/any": "{% include parameters.snippet %}",
    })  # fmt: skip
    assert includes.reached("k/a") == {"k/a", "s/b", "s/c", "s/gone"}
    assert includes.reached("s/d") == {"s/d"}
    assert includes.reached("k/any") == {"k/a", "s/b", "s/c", "s/d", "k/any"}
    assert includes.reached_by(["s/d", "s/c"]) == {"s/d", "s/b", "s/c", "s/gone"}
    assert set(includes.texts("k/a")) == {"k/a", "s/b", "s/c"}
