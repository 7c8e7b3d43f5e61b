"""When to send again (T12), and what alarms cost."""

from hypothesis import given
from hypothesis import strategies as st

from provisioner.netboot.tftp.pace import Alarm, RoundTrip, Timers


def trip(fixed: float | None = None) -> RoundTrip:
    return RoundTrip(first=1.0, least=0.1, cap=5.0, fixed=fixed)


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(0, 40))
def test_t12_the_first_resend_comes_within_a_second_and_none_later_than_the_cap(
    seen: list[float], attempt: int
) -> None:
    pace = trip()
    for seconds in seen:
        pace.seen(seconds)
    assert 0.1 <= pace.wait(0) <= 1.0
    assert 0.09 <= pace.wait(attempt) <= 5.0
    assert pace.wait(attempt + 1) >= 0.9 * pace.wait(0)


def test_t12_the_wait_follows_the_round_trips_seen() -> None:
    pace = trip()
    for _ in range(50):
        pace.seen(0.3)
    assert 0.3 <= pace.wait(0) < 0.4
    for _ in range(50):
        pace.seen(0.001)
    assert pace.wait(0) == 0.1


def test_t12_a_timeout_that_the_client_asked_for_is_kept() -> None:
    pace = trip(fixed=3)
    pace.seen(0.001)
    assert [pace.wait(attempt) for attempt in range(4)] == [3, 3, 3, 3]


def alarm_at(due: float) -> Alarm:
    alarm = Alarm()
    alarm.due = due
    return alarm


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=40))
def test_alarms_come_up_in_time_and_only_once(plan: list[tuple[int, int, bool]]) -> None:
    timers = Timers()
    alarms = []
    for first, then, cancelled in plan:
        alarm = alarm_at(first)
        timers.arm(alarm)
        alarm.due = then
        timers.arm(alarm)
        if cancelled:
            timers.cancel(alarm)
        alarms.append((alarm, then, cancelled))
    rung: list[tuple[Alarm, int]] = []
    for now in range(52):
        rung += [(alarm, now) for alarm in timers.expired(now)]
    assert sorted(when for _, when in rung) == sorted(then for _, then, cancelled in alarms if not cancelled)
    assert all(alarm.due == when for alarm, when in rung)
    assert len(timers) == 0


def test_putting_an_alarm_off_costs_no_entry() -> None:
    timers = Timers()
    alarm = alarm_at(1)
    timers.arm(alarm)
    for due in range(2, 1000):
        alarm.due = due
        timers.arm(alarm)
    assert len(timers) == 1
    assert list(timers.expired(500)) == []
    assert list(timers.expired(999)) == [alarm]


def test_t08_cancelled_alarms_do_not_pile_up() -> None:
    timers = Timers()
    for n in range(100_000):
        alarm = alarm_at(255 + n)
        timers.arm(alarm)
        timers.cancel(alarm)
    assert len(timers) < 3000
