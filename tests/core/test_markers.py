"""Markers are filled in one pass: no value can bring another value in."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.markers import BUILD_URLS, NAMES, fill, fill_secrets, marker, refuse_markers, secrets_in
from provisioner.errors import MalformedContent

tricky = st.text(alphabet="@provisner:_bt ", max_size=40) | st.sampled_from([marker(name) for name in NAMES])


@given(
    st.lists(st.one_of(tricky, st.sampled_from(NAMES).map(marker)), max_size=8),
    st.dictionaries(st.sampled_from(NAMES), tricky),
)
def test_fill_is_one_pass_and_never_fails(pieces: list[str], values: dict[str, str]) -> None:
    text = "|".join(pieces)
    expected = "|".join(
        values.get(next((name for name in NAMES if marker(name) == piece), ""), piece) for piece in pieces
    )
    if all(piece in {marker(name) for name in NAMES} or "@@provisioner:" not in piece for piece in pieces):
        assert fill(text, values) == expected
    assert fill(text, {}) == text, "what is not known stays as it is"


def test_a_value_that_holds_a_marker_is_not_looked_at_again() -> None:
    values = {"boot_url": marker("answer_token"), "answer_token": "SECRET"}
    assert fill(f"x {marker('boot_url')} y", values) == f"x {marker('answer_token')} y"


def test_every_url_that_templates_see_is_filled_completely() -> None:
    values = dict.fromkeys(NAMES, "v")
    for url in BUILD_URLS.values():
        assert "@@" not in fill(url, values)


@pytest.mark.parametrize(
    "value",
    [
        "@@provisioner:x",
        {"a": ["b", {"c": marker("boot_url")}]},
        {marker("boot_url"): 1},
        [("x", marker("event_token"))],
    ],
)
def test_s21_a_value_that_could_be_taken_for_a_marker_is_refused_at_input(value: Any) -> None:
    with pytest.raises(MalformedContent, match="reserved"):
        refuse_markers(value, "parameters")
    refuse_markers({"a": ["b@@", 1, None, {"c": "provisioner:"}]}, "parameters")


@given(st.text(max_size=60))
def test_s23_only_the_alphabet_of_crypt_hashes_is_filled_in(value: str) -> None:
    text = f'{{"passwordHash": "{marker("secret_root_password")}", "x": "{marker("boot_url")}"}}'
    assert secrets_in(text) == ("root_password",)
    if re.fullmatch(r"[A-Za-z0-9./$=,_-]+", value):
        assert json.loads(fill_secrets(text, {"root_password": value}))["passwordHash"] == value
        return
    with pytest.raises(MalformedContent):
        fill_secrets(text, {"root_password": value})


def test_s23_urls_and_tokens_never_fill_in_a_secret() -> None:
    text = marker("secret_root_password")
    assert fill(text, dict.fromkeys(NAMES, "x")) == text
    assert secrets_in(marker("boot_url")) == ()
