"""Profiles as files: read strictly, and each complaint names its line."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.content import dump_profile, load_yaml, parse_profile
from provisioner.errors import InvalidInput, MalformedContent

GOOD = """\
name: rocky9-web
parent: rocky9
description: Web tier
distro: {os: rocky, version: "9", arch: x86_64}
template: kickstart/el9.ks.j2
kernel_options: ["console=ttyS0,115200n8", "!quiet"]
parameters: {timezone: Europe/Berlin, packages: [nginx]}
handoff: {tool: puppet, server: puppet.example.com}
local_boot: auto
"""


def test_the_example_of_the_design_is_read() -> None:
    content = parse_profile(GOOD, "profiles/rocky9-web.yaml")
    assert content.name == "rocky9-web"
    assert content.fields()["distro"] == {"os": "rocky", "version": "9", "arch": "x86_64"}
    assert content.parameters == {"timezone": "Europe/Berlin", "packages": ["nginx"]}
    assert parse_profile("name: a\ndistro: rocky-9.6\n", "x").fields()["distro"] == {"name": "rocky-9.6"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: a\nname: b\n", 2, "stands twice"),
        ("name: a\nparameters:\n  x: 1\n  x: 2\n", 4, "stands twice"),
        ("name: a\nparameters: {x: &x [1], y: *x}\n", 2, "alias"),
        ("name: a\ncolour: red\n", 2, "colour"),
        ("name: a\nkernel_options: quiet\n", 2, "kernel_options"),
        ("name: a\nkernel_options: [quiet, 5]\n", 2, "kernel_options"),
        ("name: a\nkernel_options: ['a b']\n", 2, "would break the boot script"),
        ("name: a\nparameters: [x]\n", 2, "parameters"),
        ("name: a\nparameters: {X-y: 1}\n", None, "not a parameter's name"),
        ("name: a\nparameters: {day: 2026-01-01}\n", 2, "2026"),
        ("name: a\nparameters: {ports: {80: http}}\n", 2, "80"),
        ("name: a\nparameters: {x: .nan}\n", 2, "nan"),
        ('name: a\nparameters: {x: "\\0"}\n', 2, "character"),
        ('name: a\nparameters: {x: ["\\ud800"]}\n', 2, "character"),
        ("name: a\ntemplate: nowhere\n", None, "not a template's name"),
        ("name: a\nparameters: {x: '@@provisioner:boot_url@@'}\n", 2, "reserved"),
        ("name: a\ndistro: x\nimage: y\n", 3, "not both"),
        ("name: a\ndistro: {os: rocky, colour: red}\n", 2, "distro"),
        ("name: 5\n", 1, "name"),
        ("name: a\nparameters: {x: 1\n", 3, "broken YAML"),
        ("name: a\n? [b]\n: c\n", 2, "broken YAML"),
        ("- a\n", None, "not a mapping"),
        ("", None, "not a mapping"),
        ("name: a\nx: !!python/object:os.system {}\n", 2, "broken YAML"),
        ("name: a\n---\nname: b\n", 2, "broken YAML"),
    ],
)
def test_what_is_wrong_names_file_and_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_profile(text, "profiles/a.yaml")
    assert words in caught.value.message
    assert caught.value.where.startswith("profiles/a.yaml")
    if line is not None:
        assert caught.value.where == f"profiles/a.yaml:{line}"


@given(st.one_of(st.text(), st.text(alphabet="name:ab-?[]{}&*!<>|'\"#,\n 0~.=%@`")))
@example("!!int ''")
@example("!!float ''")
@example("!!bool x")
@example("!!timestamp x")
@example("? [a]\n: b")
@example("? {a: b}\n: c")
@example("!!set {a, b}")
@example("[" * 3000)
@example("{a: " * 3000)
@example("<<: 1")
@example("<<: [a]")
@example("a: 0b")
@example("1e999999: 2")
@example("\ufeffname: a")
def test_garbage_is_refused_and_never_crashes(text: str) -> None:
    for parse in (parse_profile, load_yaml):
        try:
            parse(text, "x.yaml")
        except InvalidInput as error:
            assert error.where.startswith("x.yaml")


def test_a_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"
    with pytest.raises(MalformedContent, match="aliases are not allowed"):
        load_yaml(bomb, "x")
    with pytest.raises(MalformedContent, match="larger than"):
        load_yaml("x" * (2 << 20), "x")


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "- - ? "])
@pytest.mark.parametrize("characters", [5_000, 1_000_000])
def test_s36_depth_is_refused_before_it_costs_anything(piece: str, characters: int) -> None:
    """A megabyte of brackets took libyaml many minutes."""
    with pytest.raises(MalformedContent, match=r"nested deeper|recursion"):
        load_yaml(piece * (characters // len(piece)), "x")


@pytest.mark.parametrize("value", ["1.0e+400", "-.inf", ".NaN", "!!float 1e400"])
def test_s36_numbers_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(MalformedContent):
        parse_profile(f"name: a\nparameters: {{x: {value}}}\n", "x")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20).filter(
    lambda text: "@@provisioner:" not in text
)
parameter_values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
profiles = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)},
    optional={
        "parent": st.just("linux"),
        "description": texts,
        "distro": st.sampled_from([{"name": "rocky-9.6"}, {"os": "rocky", "version": "9"}]),
        "template": st.just("kickstart/el9.ks.j2"),
        "kernel_options": st.lists(st.sampled_from(["quiet", "!quiet", "console=ttyS0"]), max_size=3),
        "parameters": st.dictionaries(
            st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True), parameter_values, max_size=4
        ),
        "handoff": st.fixed_dictionaries({"tool": st.just("script")}, optional={"text": texts}),
        "local_boot": st.just("exit"),
    },
)


@given(profiles)
@example({"name": "12"})
@example({"name": "1e3"})
@example({"name": "null", "description": "yes"})
def test_what_is_dumped_is_read_back(data: dict[str, Any]) -> None:
    content = parse_profile(dump_profile(data), "x.yaml")
    assert content.name == data["name"]
    assert content.parent == data.get("parent")
    for key, value in content.fields().items():
        assert (value or None) == (data.get(key) or None), key


def test_a_value_that_stands_twice_is_dumped_twice() -> None:
    shared = ["nginx"]
    text = dump_profile({"name": "a", "parameters": {"x": shared, "y": shared}})
    assert parse_profile(text, "x").parameters == {"x": ["nginx"], "y": ["nginx"]}
