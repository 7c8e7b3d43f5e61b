"""Quoting: whatever the value, it stays one value; what cannot be represented is refused."""

import json
import shlex
import subprocess
from xml.etree import ElementTree as ET

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.render.filters import QUOTING, Unrepresentable

UNREPRESENTABLE = ["a\nb", "a\rb", "a\x00b", "a\u2028b", "a\u2029b", "a\u0085b", "a\x1b[31m", "a\ud800b"]
LINE_FILTERS = ["sh", "ks", "word", "preseed", "xml", "xml_attribute", "ipxe", "grub"]
printable = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


@pytest.mark.parametrize("name", LINE_FILTERS)
@pytest.mark.parametrize("value", UNREPRESENTABLE)
def test_s34_what_does_not_fit_one_line_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unrepresentable):
        QUOTING[name](value)


@pytest.mark.parametrize("name", LINE_FILTERS)
@pytest.mark.parametrize("value", [None, [], {}, ("a",), object()])
def test_structures_are_no_values(name: str, value: object) -> None:
    with pytest.raises(Unrepresentable):
        QUOTING[name](value)


@pytest.mark.parametrize("value", ["a\x00b", "a\ud800b"])
@pytest.mark.parametrize("name", ["json", "yaml"])
def test_s34_json_and_yaml_refuse_nul_and_half_characters(name: str, value: str) -> None:
    for wrapped in (value, [value], {value: 1}):
        with pytest.raises(Unrepresentable):
            QUOTING[name](wrapped)


@settings(deadline=None)
@given(printable)
def test_sh_is_one_word_for_python(value: str) -> None:
    assert shlex.split(QUOTING["sh"](value)) == [value]


@pytest.mark.parametrize("shell", [["bash"], ["dash"], ["busybox", "sh"]])
@pytest.mark.parametrize("value", ["", "it's", '$(touch x) `id` "q" \\ ; # & | * ~ {a,b}', "é ü", "-n", "%end"])
def test_sh_is_one_word_for_shells(shell: list[str], value: str) -> None:
    done = subprocess.run([*shell, "-c", f"printf %s {QUOTING['sh'](value)}"], capture_output=True, check=True)
    assert done.stdout.decode() == value


@settings(deadline=None)
@given(printable)
def test_ks_is_one_argument_and_begins_no_section(value: str) -> None:
    if value.lstrip().startswith("%"):
        with pytest.raises(Unrepresentable):
            QUOTING["ks"](value)
        return
    quoted = QUOTING["ks"](value)
    assert shlex.split(quoted) == [value]
    assert "\n" not in quoted and not quoted.lstrip().startswith("%")


@settings(deadline=None)
@given(printable)
def test_word_stands_bare(value: str) -> None:
    try:
        bare = QUOTING["word"](value)
    except Unrepresentable:
        return
    assert bare == value
    assert not set(bare) & set(" \t#%'\"\\$;|&<>()`")


JSONABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


def _fits(value: object) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


@settings(deadline=None)
@given(JSONABLE.filter(_fits))
def test_json_and_yaml_read_back(value: object) -> None:
    assert json.loads(QUOTING["json"](value)) == value
    text = QUOTING["yaml"](value)
    assert "\n" not in text
    assert yaml.safe_load(f"key: {text}\nafter: 1\n") == {"key": value, "after": 1}


@pytest.mark.parametrize(
    "value", ["no", "012", "1e3", "~", "2026-01-01", "a: b", "- x", "# c", "{a}", "&a", "*a", "!!x"]
)
def test_yaml_text_stays_text(value: str) -> None:
    assert yaml.safe_load(QUOTING["yaml"](value)) == value


def test_numbers_that_are_none_are_refused() -> None:
    for name in ("json", "yaml"):
        with pytest.raises(ValueError, match="float"):
            QUOTING[name](float("nan"))


@settings(deadline=None)
@given(printable)
def test_xml_reads_back(value: str) -> None:
    try:
        text, attribute = QUOTING["xml"](value), QUOTING["xml_attribute"](value)
        element = ET.fromstring(f"<a b={attribute}>{text}</a>")
    except ET.ParseError:
        assert any(ord(char) & 0xFFFE == 0xFFFE for char in value)  # noncharacters, which no XML may hold
        return
    assert ((element.text or ""), element.get("b")) == (value, value)


@pytest.mark.parametrize("value", ["${net0/mac}", "a b", "a'b", 'a"b', "a\\b", "||", "&&", "é", "", "$x", "`id`"])
def test_s34_ipxe_refuses_what_it_would_expand(value: str) -> None:
    with pytest.raises(Unrepresentable):
        QUOTING["ipxe"](value)


def test_plain_values_pass() -> None:
    assert QUOTING["ipxe"]("http://10.0.2.1:8080/a?b=c&d=%20") == "http://10.0.2.1:8080/a?b=c&d=%20"
    assert QUOTING["grub"]('a $b "c"') == "'a $b \"c\"'"
    assert QUOTING["sh"](True) == "'true'"
    assert QUOTING["sh"](8080) == "'8080'"


@pytest.mark.parametrize(("name", "value"), [("grub", "it's"), ("grub", "é"), ("preseed", "a\\"), ("preseed", " a")])
def test_s34_what_a_language_cannot_hold_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unrepresentable):
        QUOTING[name](value)
