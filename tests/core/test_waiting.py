"""What a build waits for, in each phase and after each event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.lifecycle import Phase
from provisioner.core.waiting import PEOPLE, waiting

KINDS = st.sampled_from(["dhcp", "loader", "script", "answer", "disk", "packages", "halt", "flag", "anything", "built"])
EVENTS = st.lists(st.tuples(KINDS, st.text(max_size=9)), max_size=6)


@pytest.mark.parametrize(
    ("phase", "kinds", "what", "where"),
    [
        (Phase.ARMED, [], "the machine to boot from the network", "power it on"),
        (Phase.ARMED, ["dhcp"], "the firmware to fetch its loader", "is TFTP"),
        (Phase.INSTALLING, ["script", "disk"], "the installer to finish", "it is writing to the disk"),
        (Phase.INSTALLING, ["disk", "dhcp", "loader"], "the installer to finish", "it is writing to the disk"),
        (Phase.BUILT, ["disk"], "the first boot from the disk", ""),
    ],
)
def test_where_to_look_follows_from_what_happened_last(phase: Phase, kinds: list[str], what: str, where: str) -> None:
    found = waiting(phase, [(kind, "") for kind in kinds], "web01")
    assert found.what.startswith(what) and found.where.startswith(where)
    assert not found.person
    assert found.sentence.startswith(what) and (not where or f": {where}" in found.sentence)


def test_a_halted_build_waits_for_a_person_and_says_why() -> None:
    found = waiting(Phase.INSTALLING, [("disk", ""), ("halt", "it wrote: to a disk"), ("flag", "x")], "web01")
    assert found.person
    assert found.what.startswith("it wrote: to a disk. `provisioner build continue web01`")
    assert found.sentence == f"you: {found.what}"
    assert not waiting(Phase.INSTALLING, [("halt", "why"), ("disk", "")], "web01").person


@given(phase=st.sampled_from(list(Phase)), events=EVENTS)
def test_people_are_asked_only_where_nothing_goes_on_by_itself(phase: Phase, events: list[tuple[str, str]]) -> None:
    found = waiting(phase, events, "web01")
    if phase in PEOPLE:
        assert found.person
    elif phase not in {Phase.BOOTING, Phase.INSTALLING}:
        assert not found.person
    assert found.person == found.sentence.startswith("you: ")
    assert bool(found.sentence) == bool(found.what)
