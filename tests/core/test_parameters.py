"""Inheritance, compared with an oracle that is too simple to be wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.parameters import Level, ancestry, check_kernel_options, option_name, resolve
from provisioner.errors import MalformedContent, ParentCycle

names = st.sampled_from(["timezone", "packages", "disk", "motd"])
values = st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=3), st.none())
options = st.builds(
    lambda remove, name, value: f"!{name}" if remove else name + value,
    st.booleans(),
    st.sampled_from(["console", "quiet", "nomodeset", "ip"]),
    st.sampled_from(["", "=ttyS0", "=tty0,115200n8"]),
)


@st.composite
def level_lists(draw: st.DrawFn) -> list[Level]:
    """Some levels, each with a source of its own."""
    contents = draw(st.lists(st.tuples(st.dictionaries(names, values), st.lists(options, max_size=4)), max_size=6))
    return [
        Level(f"level {number}", parameters, kernel_options, {"template": number} if number % 2 else {})
        for number, (parameters, kernel_options) in enumerate(contents)
    ]


@given(level_lists())
def test_parameters_the_later_wins_by_key_and_says_where_it_came_from(levels: list[Level]) -> None:
    resolved = resolve(levels)
    expected: dict[str, Any] = {}
    for level in levels:
        expected |= level.parameters
    assert resolved.plain_parameters() == expected
    for name, effective in resolved.parameters.items():
        givers = [level.source for level in levels if name in level.parameters]
        assert effective.source == givers[-1]
        assert list(effective.overrides) == givers[:-1]
    templates = [level.fields["template"] for level in levels if level.fields]
    assert resolved.field("template") == (templates[-1] if templates else None)
    assert resolved.field("image") is None


@given(level_lists())
def test_kernel_options_replace_by_name_and_an_exclamation_mark_removes(levels: list[Level]) -> None:
    expected: list[tuple[str, str]] = []
    for level in levels:
        touched = {option.strip("!").split("=")[0] for option in level.kernel_options}
        expected = [each for each in expected if each[0].split("=")[0] not in touched]
        expected += [(option, level.source) for option in level.kernel_options if not option.startswith("!")]
    resolved = resolve(levels)
    assert [(each.value, each.source) for each in resolved.kernel_options] == expected
    assert resolved.plain_kernel_options() == [option for option, _ in expected]


def test_lists_replace_and_one_level_may_repeat_an_option() -> None:
    resolved = resolve(
        [
            Level("root", {"packages": ["vim"]}, ["quiet", "console=tty0"]),
            Level("leaf", {"packages": ["nginx"]}, ["!quiet", "console=tty1", "console=ttyS0"]),
        ]
    )
    assert resolved.plain_parameters() == {"packages": ["nginx"]}
    assert resolved.plain_kernel_options() == ["console=tty1", "console=ttyS0"]
    assert option_name("!console") == option_name("console=x") == "console"


@given(st.dictionaries(st.sampled_from("abcdef"), st.none() | st.sampled_from("abcdef"), min_size=1))
def test_ancestry_ends_at_a_root_or_names_the_cycle(parents: dict[str, str | None]) -> None:
    start = sorted(parents)[0]
    line, current = [], start
    while current is not None and current not in line:
        line.append(current)
        current = parents.get(current)  # type: ignore[assignment]
    if current is None:
        assert ancestry(start, parents) == line[::-1]
    else:
        with pytest.raises(ParentCycle) as caught:
            ancestry(start, parents)
        assert f"{current} -> " in caught.value.message


@pytest.mark.parametrize(
    "option",
    ["a b", "a\nb", "a;reboot", "$(x)", "`x`", "a'b", 'a"b', "a&b", "é", "", 5, None, "initrd=x", "BOOTIF=x", "a\\"],
)
def test_a_kernel_option_that_would_break_the_boot_script_is_refused(option: Any) -> None:
    with pytest.raises(MalformedContent) as caught:
        check_kernel_options(["quiet", option], "profile x")
    assert caught.value.where == "profile x"
    assert check_kernel_options(["quiet", "!rhgb", "console=ttyS0,115200n8"], "") == [
        "quiet",
        "!rhgb",
        "console=ttyS0,115200n8",
    ]
