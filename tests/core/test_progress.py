"""What a build does in words, medians, and when silence means that somebody should look."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.lifecycle import Phase
from provisioner.core.progress import STAGES, UNDER_WAY, Usual, by_profile, doing, is_stuck, stage, usual

seconds = st.floats(0, 1e6)
maybe = st.none() | seconds


@given(st.sampled_from(list(Phase)), seconds, seconds, maybe, maybe, maybe)
def test_more_silence_never_makes_a_build_less_stuck(
    phase: Phase, silent: float, more: float, asked: float | None, install: float | None, handoff: float | None
) -> None:
    known = Usual(install, handoff, 1)
    assert is_stuck(phase, silent + more, asked, known) >= is_stuck(phase, silent, asked, known)


@given(st.sampled_from([phase for phase in Phase if phase not in UNDER_WAY]), seconds, maybe)
def test_what_ended_is_never_stuck(phase: Phase, silent: float, asked: float | None) -> None:
    assert not is_stuck(phase, silent, asked, Usual())


def test_a_slow_profile_is_given_its_time() -> None:
    assert is_stuck(Phase.INSTALLING, 1500, None, Usual())
    assert not is_stuck(Phase.INSTALLING, 1500, None, Usual(install=3600))
    assert is_stuck(Phase.INSTALLING, 3700, None, Usual(install=3600))


def test_firmware_that_asks_and_does_not_come_on_is_stuck_within_minutes() -> None:
    assert is_stuck(Phase.ARMED, 10, 200, Usual())
    assert not is_stuck(Phase.ARMED, 10, 20, Usual())
    assert not is_stuck(Phase.BOOTING, 10, 200, Usual()), "an installer asks DHCP again"
    assert not is_stuck(Phase.ARMED, 600, None, Usual()), "nobody switched it on yet"


def test_medians_by_profile() -> None:
    rows = [("a", 10.0, 1.0), ("a", 30.0, None), ("a", 20.0, 3.0), ("b", None, None)]
    assert by_profile(rows) == {"a": Usual(20.0, 2.0, 3), "b": Usual(None, None, 1)}
    assert usual([]) == Usual()


def test_every_phase_has_a_stage_and_every_step_words() -> None:
    assert [stage(Phase(name)) for name in STAGES] == [0, 1, 2, 3, 4]
    assert stage(Phase.FAILED_HANDOFF) == 3
    assert all(0 <= stage(phase) < len(STAGES) for phase in Phase)
    assert doing("packages") == "installing packages"
    assert doing("firmware-update") == "firmware-update", "a template's own step is said as it is"
