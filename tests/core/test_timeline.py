"""The stages of a build: whatever machines report, in whatever order, one stage at most is under way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.timeline import Progress, durations, stages

KINDS = [
    *("armed", "dhcp", "loader", "script", "answer", "installer", "secret", "disk", "packages", "handoff", "built"),
    *("configured", "failed", "handoff-failed", "halt", "flag", "local-boot", "refused-event", "continued"),
]
STATES = ["armed", "booting", "installing", "built", "configured", "failed", "cancelled"]


def event(kind: str, seconds: float, attempt: int | None = 1, message: str = "") -> dict[str, Any]:
    return {"kind": kind, "seconds": seconds, "attempt": attempt, "message": message}


def told(state: str, *events: dict[str, Any], was_built: bool = False) -> dict[str, str]:
    return {each.key: str(each.progress) for each in stages(events, state, was_built=was_built)}


histories = st.lists(
    st.builds(
        event, st.sampled_from(KINDS), st.floats(0, 10_000), st.sampled_from([None, 1, 2, 3]), st.text(max_size=5)
    ),
    max_size=30,
)


@given(histories, st.sampled_from(STATES), st.booleans())
def test_whatever_was_reported_the_stages_are_in_order(
    events: list[dict[str, Any]], state: str, was_built: bool
) -> None:
    found = stages(events, state, was_built=was_built or state in {"built", "configured"})
    marks = [each.progress for each in found]
    assert len(marks) == 10
    behind = [mark in {Progress.DONE, Progress.UNSEEN} for mark in marks]
    assert behind == sorted(behind, reverse=True), "what is behind comes before what is not"
    current = [mark for mark in marks if mark in {Progress.NOW, Progress.FAILED}]
    assert len(current) <= 1
    if current:
        assert marks[behind.index(False)] is current[0], "the next one is the one under way"
        assert (current[0] is Progress.FAILED) == (state == "failed")
    assert (not current) or state not in {"configured", "cancelled"}
    assert all(each.lasted is None or each.lasted >= 0 for each in found)


@given(st.lists(st.builds(event, st.just("disk"), st.floats(0, 1000)), max_size=20))
def test_durations_are_never_negative(events: list[dict[str, Any]]) -> None:
    found = durations(events)
    assert len(found) == len(events)
    assert all(each >= 0 for each in found)


def test_a_whole_build() -> None:
    way = ("armed", "dhcp", "loader", "script", "answer", "installer", "disk", "packages", "built", "configured")
    events = [event(kind, place * 10.0, None if place < 3 else 1) for place, kind in enumerate(way)]
    found = {each.key: each for each in stages(events, "configured", was_built=True)}
    assert {str(each.progress) for each in found.values()} == {"done"}
    assert {key: each.lasted for key, each in found.items() if each.lasted is not None} == {
        "dhcp": 10, "loader": 10, "script": 10, "kernel": 10, "answer": 0,
        "installer": 40, "built": 0, "handoff": 10, "configured": 0,
    }  # fmt: skip
    assert found["installer"].said == "packages"


@pytest.mark.parametrize(
    ("events", "state", "now"),
    [
        (("armed",), "armed", "dhcp"),
        (("armed", "dhcp"), "armed", "loader"),
        (("armed", "dhcp", "loader"), "armed", "script"),
        (("armed", "script"), "booting", "kernel"),
        (("armed", "script", "answer"), "installing", "installer"),
        (("armed", "script", "answer", "disk"), "installing", "installer"),
        (("armed", "script", "answer", "built"), "built", "handoff"),
    ],
)
def test_what_is_under_way(events: tuple[str, ...], state: str, now: str) -> None:
    found = told(state, *(event(kind, place) for place, kind in enumerate(events)), was_built=state == "built")
    assert [key for key, mark in found.items() if mark == "now"] == [now]


def test_what_nobody_told_of_is_passed_all_the_same() -> None:
    found = told("booting", event("armed", 0), event("script", 5))
    assert (found["dhcp"], found["loader"], found["script"]) == ("unseen", "unseen", "done")


@pytest.mark.parametrize(("last", "was_built", "failed"), [("script", False, "kernel"), ("disk", False, "installer")])
def test_a_failure_stands_where_it_was(last: str, was_built: bool, failed: str) -> None:
    events = [event("armed", 0), event("script", 1), *([event("answer", 2)] if last == "disk" else []), event(last, 3)]
    assert [key for key, mark in told("failed", *events, was_built=was_built).items() if mark == "failed"] == [failed]


def test_a_failed_handoff_is_no_failed_installer() -> None:
    events = [event(kind, place) for place, kind in enumerate(("armed", "script", "answer", "built", "handoff-failed"))]
    found = told("failed", *events, was_built=True)
    assert (found["installer"], found["built"], found["handoff"]) == ("done", "done", "failed")


def test_a_machine_that_boots_again_begins_again() -> None:
    first = [
        event("armed", 0, None),
        event("loader", 1, None),
        event("script", 2),
        event("answer", 3),
        event("disk", 4),
    ]
    again = [event("loader", 60, None), event("script", 61, 2)]
    found = {each.key: each for each in stages([*first, *again], "booting", was_built=False)}
    assert found["kernel"].progress == "now"
    assert found["installer"].progress == "coming"
    assert found["loader"].at == 60


def test_installers_that_ask_dhcp_again_are_not_the_firmware() -> None:
    events = [
        event("armed", 0),
        event("dhcp", 1, None),
        event("script", 2),
        event("answer", 3),
        event("dhcp", 90, None),
    ]
    found = {each.key: each for each in stages(events, "installing", was_built=False)}
    assert found["dhcp"].at == 1
