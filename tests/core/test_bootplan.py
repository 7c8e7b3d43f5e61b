"""The decision at each network boot; every combination of facts is tried."""

from dataclasses import replace
from itertools import product

import pytest

from provisioner.core.bootplan import Admission, BootFacts, Network, admit, decide, guard
from provisioner.core.lifecycle import RUNNING, MachineState, NextBoot, Phase

FIRST = BootFacts(MachineState.BUILDING, Phase.ARMED, source="10.0.2.11", admission=Admission.ASSIGNED)
SECOND = replace(FIRST, phase=Phase.BOOTING, attempts=1, attempt_source="10.0.2.11", attempt_age=300.0)


def test_r01_over_all_facts_an_installer_is_only_ever_given_where_the_table_and_the_guard_say_so() -> None:
    count = 0
    for machine, phase, protected, admission, attempts, age, touched, released, announced, same in product(
        (None, *MachineState), (None, *Phase), (False, True), Admission, (0, 1, 2, 3),
        (None, -5.0, 0.0, 59.9, 60.0, 9999.0),
        (False, True), (0, 1, 2, 3, 4), (False, True), (False, True),
    ):  # fmt: skip
        facts = BootFacts(
            machine=machine, phase=phase, protected=protected, source="10.0.2.11", admission=admission,
            attempts=attempts, attempt_source="10.0.2.11" if same else "10.0.2.12", attempt_age=age,
            disk_touched=touched, released=released, reboot_announced=announced,
        )  # fmt: skip
        decision = decide(facts)
        count += 1
        assert decision.reason
        if decision.opens_attempt:
            assert decision.next_boot is NextBoot.BUILD
        if decision.next_boot is not NextBoot.BUILD:
            continue
        assert machine is MachineState.BUILDING, "no data, and every other state, never means install"
        assert phase in RUNNING
        assert not protected
        assert not announced
        assert admission is not Admission.REFUSED
        assert decision.flagged is (admission is Admission.IN_SUBNET)
        if decision.opens_attempt:
            assert attempts + 1 <= released or (attempts < 2 and not touched)
        else:
            assert attempts > 0
            assert same
            assert not touched
            assert age is not None
            assert 0 <= age < 60
    assert count > 400_000


@pytest.mark.parametrize(
    ("facts", "expected", "opens", "words"),
    [
        (FIRST, NextBoot.BUILD, True, "attempt 1"),
        (SECOND, NextBoot.BUILD, True, "attempt 2"),
        (replace(SECOND, attempt_age=59.0), NextBoot.BUILD, False, "asks again"),
        (replace(SECOND, attempt_age=59.0, attempt_source="10.0.2.12"), NextBoot.BUILD, True, "attempt 2"),
        (replace(SECOND, attempt_age=9.0, secret_taken=True), NextBoot.BUILD, True, "attempt 2"),
        (replace(SECOND, attempts=2, attempt_age=9.0, secret_taken=True), NextBoot.HALT, False, "attempt 3"),
        (replace(SECOND, attempts=2), NextBoot.HALT, False, "attempt 3"),
        (replace(SECOND, attempts=2, attempt_age=10.0), NextBoot.BUILD, False, "asks again"),
        (replace(SECOND, disk_touched=True), NextBoot.HALT, False, "wrote to a disk"),
        (replace(SECOND, disk_touched=True, attempt_age=10.0), NextBoot.HALT, False, "wrote to a disk"),
        (replace(SECOND, disk_touched=True, released=1), NextBoot.HALT, False, "wrote to a disk"),
        (replace(SECOND, disk_touched=True, released=2), NextBoot.BUILD, True, "attempt 2"),
        (replace(SECOND, attempts=2, released=3), NextBoot.BUILD, True, "attempt 3"),
        (replace(SECOND, attempts=3, released=3), NextBoot.HALT, False, "attempt 4"),
        (replace(SECOND, disk_touched=True, reboot_announced=True), NextBoot.LOCAL, False, "announced"),
        (replace(FIRST, admission=Admission.REFUSED), NextBoot.HALT, False, "not an address of this machine"),
        (replace(FIRST, protected=True), NextBoot.LOCAL, False, "protected"),
        (BootFacts(None), NextBoot.DISCOVERY, False, "no machine has this MAC"),
        (replace(FIRST, machine=MachineState.FAILED, phase=Phase.FAILED), NextBoot.HALT, False, "failed before"),
        (
            replace(FIRST, machine=MachineState.FAILED, phase=Phase.FAILED_HANDOFF),
            NextBoot.LOCAL,
            False,
            "handoff failed",
        ),
    ],
)
def test_r01_guard(facts: BootFacts, expected: NextBoot, opens: bool, words: str) -> None:
    decision = decide(facts)
    assert (decision.next_boot, decision.opens_attempt) == (expected, opens)
    assert words in decision.reason
    assert (guard(facts) is None) is (
        facts.attempts + 1 <= facts.released or (facts.attempts < 2 and not facts.disk_touched)
    )


@pytest.mark.parametrize(
    ("source", "dhcp", "expected"),
    [
        ("10.0.2.11", "authoritative", Admission.ASSIGNED),
        ("10.0.2.99", "authoritative", Admission.REFUSED),
        ("10.0.2.11", "external", Admission.ASSIGNED),
        ("10.0.2.99", "external", Admission.IN_SUBNET),
        ("10.0.2.99", "off", Admission.IN_SUBNET),
        ("10.0.3.11", "off", Admission.REFUSED),
        ("fd00::1", "off", Admission.REFUSED),
    ],
)
def test_s26_who_may_open_an_attempt(source: str, dhcp: str, expected: Admission) -> None:
    assert admit(source, ["10.0.2.11"], [Network("lab", "10.0.2.0/24", dhcp)]) is expected


def test_s26_a_machine_without_networks_admits_its_assigned_address_alone() -> None:
    assert admit("10.0.2.11", ["10.0.2.11"], []) is Admission.ASSIGNED
    assert admit("10.0.2.12", ["10.0.2.11"], []) is Admission.REFUSED
    assert admit("10.0.2.12", [], []) is Admission.REFUSED
