"""Hostile templates: published sandbox escapes as bodies and as names, and what data a template can reach at all."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import ACTOR

from provisioner.errors import (
    ContentError,
    InvalidInput,
    MalformedContent,
    MalformedName,
    MissingParameter,
    TemplateError,
)
from provisioner.render.confined import Job, render
from provisioner.services import content, profiles, templates
from provisioner.services.site import Site
from tests.render.context import context
from tests.render.escapes import ESCAPES, NAMES


@pytest.fixture
def trap() -> Iterator[int]:
    """A port of 127.0.0.1; the test fails if anybody connects to it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_s30_published_escapes_execute_nothing(tmp_path: Path, trap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every escape, as a template's body, ends as an error of that template."""
    monkeypatch.setenv("PROVISIONER_CANARY", "canary-in-the-environment")
    canary = tmp_path / "canary"
    tmp_path.chmod(0o777)
    published = [body for bodies in ESCAPES.values() for body in bodies]
    bodies = [body.replace("{canary}", str(canary)).replace("{port}", str(trap)) for body in published]
    sources = {f"kickstart/e{index}": body for index, body in enumerate(bodies)}
    answers = render([Job(name, context()) for name in sources], sources)
    escaped = [(body, answer) for body, answer in zip(bodies, answers, strict=True) if isinstance(answer, str)]
    assert escaped == []
    assert all(isinstance(answer, ContentError) for answer in answers)
    assert not any("canary-in-the-environment" in str(answer) or "root:" in str(answer) for answer in answers)
    assert not canary.exists()


@pytest.mark.parametrize("name", NAMES)
def test_s32_names_that_are_not_names_are_refused(name: str) -> None:
    with pytest.raises(MalformedName):
        render([Job(name, {})], {})
    with pytest.raises(MalformedName):
        render([], {name: "text"})


@pytest.mark.parametrize("name", [name for name in NAMES if "/" in name])
def test_s30_s32_no_such_name_is_taken_by_any_door(site: Site, tmp_path: Path, name: str) -> None:
    """Neither a template nor a profile that names it, nor a file of a checkout; and nothing is evaluated."""
    canary = tmp_path / "canary"
    name = name.replace("{canary}", str(canary))
    with pytest.raises((MalformedName, MalformedContent)):
        templates.add(site, ACTOR, name, "text")
    with pytest.raises(InvalidInput):
        profiles.add(site, ACTOR, {"name": "odd", "parent": "rocky9", "template": name})
    file = name.removeprefix("kickstart/")
    if "/" not in file and "\0" not in file and file not in {"", "..", ".hidden"}:
        (tmp_path / "site/kickstarts/kickstart").mkdir(parents=True)
        (tmp_path / "site/kickstarts/kickstart" / file).write_text("text")
        with pytest.raises(InvalidInput) as caught:
            content.apply(site, ACTOR, tmp_path / "site")
        assert caught.value.where.startswith("kickstarts/kickstart/")
    assert not canary.exists()


@pytest.mark.parametrize("value", [object(), {1: "a"}, {"a": {"b": {1, 2}}}, b"bytes", Path("/")])
def test_s31_only_plain_data_is_passed(value: object) -> None:
    with pytest.raises(TypeError):
        render([Job("script/a", {"x": value})], {"script/a": "x"})


def test_s33_an_undefined_variable_fails_and_says_which() -> None:
    sources = {
        "kickstart/a": "one\n{{ parameters.disk_size }}\n",
        "kickstart/b": "{{ machine.interfaces[0].speed }}",
        "kickstart/c": "{% if nothing %}{% endif %}",
        "kickstart/d": "\n\n{% include 'snippets/s' %}",
        "snippets/s": "x\n\n{{ parameters.inner }}",
    }
    a, b, c, d = render([Job(f"kickstart/{name}", context()) for name in "abcd"], sources)
    assert isinstance(a, MissingParameter)
    assert (a.where, a.message) == ("kickstart/a:2", "no value for parameters.disk_size")
    assert "--param disk_size=" in a.hint
    assert isinstance(b, MissingParameter) and b.message == "no value for machine.interfaces[0].speed"
    assert isinstance(c, MissingParameter) and c.message == "no value for nothing"
    assert isinstance(d, MissingParameter) and d.where == "snippets/s:3"


def test_s34_data_is_never_rendered_twice() -> None:
    values = {"a": "{{ 7 * 7 }}", "b": "{% include 'snippets/s' %}", "c": "{## x ##}"}
    sources = {"script/a": "{{ parameters.a }}|{{ parameters.b }}|{{ parameters.c }}", "snippets/s": "included"}
    (text,) = render([Job("script/a", {"parameters": values})], sources)
    assert text == "{{ 7 * 7 }}|{% include 'snippets/s' %}|{## x ##}"


def test_errors_name_the_template_and_line() -> None:
    sources = {
        "kickstart/syntax": "a\n{% if %}\n",
        "kickstart/runtime": "a\n\n{{ 1 / 0 }}",
        "kickstart/include": "{% include 'snippets/none' %}",
        "kickstart/inner": "{% include 'snippets/broken' %}",
        "snippets/broken": "\n{{ parameters.a | nofilter }}",
        "kickstart/filter": "\n{{ 'a\\nb' | ks }}",
    }
    names = [name for name in sources if name.startswith("kickstart")]
    answers = dict(zip(names, render([Job(name, {"parameters": {}}) for name in names], sources), strict=True))
    assert all(isinstance(answer, TemplateError) for answer in answers.values())
    where = {name: answer.where for name, answer in answers.items() if isinstance(answer, TemplateError)}
    assert where == {
        "kickstart/syntax": "kickstart/syntax:2",
        "kickstart/runtime": "kickstart/runtime:3",
        "kickstart/include": "kickstart/include:1",
        "kickstart/inner": "snippets/broken:2",
        "kickstart/filter": "kickstart/filter:2",
    }
    assert "snippets/none" in str(answers["kickstart/include"])


def test_shell_that_looks_like_a_jinja_comment_survives() -> None:
    """``${#a[@]}`` is a shell's length of an array; Jinja's own comment marker would eat the rest of the file."""
    text = "echo ${#array[@]} {# not a comment #}\n{## gone ##}\nend\n"
    assert render([Job("script/a", {})], {"script/a": text}) == ["echo ${#array[@]} {# not a comment #}\nend\n"]


@pytest.mark.parametrize("value", [None, [], {}, ["a"], {"a": 1}])
def test_nothing_and_structures_are_not_written_as_text(value: object) -> None:
    """``None`` in a partition line installs something nobody asked for."""
    (answer,) = render([Job("script/a", {"v": value})], {"script/a": "\npart / --size={{ v }}"})
    assert isinstance(answer, TemplateError)
    assert answer.where == "script/a:2"


def test_a_parameter_may_have_the_name_of_a_method() -> None:
    sources = {"script/a": "{{ parameters.copy }} {{ parameters.items }} {{ parameters['keys'] }}"}
    values = {"copy": "a", "items": "b", "keys": "c"}
    assert render([Job("script/a", {"parameters": values})], sources) == ["a b c"]


@pytest.mark.parametrize("name", ["lipsum", "cycler", "joiner", "namespace", "dict", "attr", "random", "format"])
def test_s30_no_helper_of_jinja_is_there(name: str) -> None:
    """Each has been the first step of an escape, or gives another result each time."""
    sources = {"script/a": f"{{{{ {name} is defined }}}} {{{{ {name!r} is filter }}}}"}
    assert render([Job("script/a", {})], sources) == ["False False"]
