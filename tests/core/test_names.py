"""What objects may be called: never something that a MAC, a path or a line could be taken for."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.core.addresses import looks_like_mac
from provisioner.core.names import FEW, few, machine_name, object_name, parameter_name, template_kind, template_name
from provisioner.errors import MalformedName


@given(st.lists(st.text(st.sampled_from("ab1-"), min_size=1, max_size=4), max_size=12))
def test_few_of_many_names_say_that_there_are_more(names: list[str]) -> None:
    told = few(names)
    assert told.removesuffix(" and more").split(", ") == (names[:FEW] or [""])
    assert told.endswith(" and more") == (len(names) > FEW)


CHECKS = (machine_name, object_name, parameter_name, template_name)


@pytest.mark.parametrize(
    "text", ["52:54:00:12:34:56", "525400123456", "5254.0012.3456", "52-54-00-12-34-56", "DEADBEEFCAFE"]
)
def test_r12_a_machine_is_never_called_like_a_mac(text: str) -> None:
    with pytest.raises(MalformedName, match="MAC address"):
        machine_name(text)


@pytest.mark.parametrize(
    ("text", "name"), [("web01", "web01"), (" WEB01.Example.com ", "web01.example.com"), ("a", "a"), ("9", "9")]
)
def test_a_machine_is_called_like_a_host(text: str, name: str) -> None:
    assert machine_name(text) == name


@pytest.mark.parametrize(
    "text", ["", " ", "-web", "web-", "web..x", "web_1", "a" * 64, ".".join(["a" * 63] * 4), "wéb", "a\nb"]
)
def test_what_is_no_host_name_is_refused(text: str) -> None:
    with pytest.raises(MalformedName):
        machine_name(text)


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[a-z0-9._/-]{1,40}\n?", fullmatch=True)))
@example("lab\n")
@example("kickstart/el9.ks.j2\n")
@example("timezone\n")
@example("kickstart/../x")
def test_no_name_carries_a_line_a_path_or_another_alphabet(text: str) -> None:
    for check in CHECKS:
        try:
            name = check(text)
        except MalformedName:
            continue
        assert re.fullmatch(r"[a-z0-9._/-]+|[a-z0-9_]+", name)
        assert check(name) == name
        assert "/" not in name or check is template_name
        assert "/." not in name
        assert not (check is machine_name and looks_like_mac(name))


@given(st.binary(min_size=6, max_size=6), st.sampled_from([":", "-", ""]))
def test_r12_no_spelling_of_six_bytes_is_a_name(octets: bytes, separator: str) -> None:
    with pytest.raises(MalformedName):
        machine_name(octets.hex(separator) if separator else octets.hex())


def test_template_names_carry_their_kind() -> None:
    assert template_kind(template_name("kickstart/el9.ks.j2")) == "kickstart"
    for text in ("el9.ks.j2", "cobbler/x", "kickstart/", "kickstart/a/b", "/x", "kickstart/.hidden"):
        with pytest.raises(MalformedName):
            template_name(text)
