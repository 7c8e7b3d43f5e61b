"""Loss, copies and delays on a clock of their own: how often each block is sent, and when (T12, T14, R10).

Real sockets and programs have the same weather in test_tftp_weather.py.
"""

import errno
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netboot.tftp_simulated import Play, Played, Way

BLOCKS = 200
CONTENT = random.Random(7).randbytes(512 * (BLOCKS - 1) + 100)
SEEDS = range(20)


def played(window: int, out: Way, back: Way, *, content: bytes = CONTENT, chatty: bool = True) -> Played:
    """A transfer to its good end."""
    options = {"blksize": "512"} | ({"windowsize": str(window)} if window > 1 else {})
    done = Play(content, options, out, back, chatty=chatty).run()
    assert done.content == content
    assert done.outcome == "complete"
    return done


def same(seed: int, **weather: float) -> tuple[Way, Way]:
    return Way(seed, **weather), Way(seed + 1000, **weather)


# Lockstep


@pytest.mark.parametrize("chatty", [True, False])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_r10_in_lockstep_each_loss_costs_one_block_and_nothing_else_does(loss: float, chatty: bool) -> None:
    for seed in SEEDS:
        done = played(1, *same(seed, loss=loss), chatty=chatty)
        assert len(done.sent) <= BLOCKS + done.out.lost + done.back.lost


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_r10_data_count_in_lockstep_is_within_one_and_two_p(loss: float) -> None:
    """``loss`` of a block or of its ACK. With that much on either way nobody could do with less than 1 / (1-p)^2."""
    either = sum(len(played(1, *same(seed, loss=loss / 2)).sent) for seed in SEEDS)
    assert either <= (1 + 2 * loss) * BLOCKS * len(SEEDS)
    one_way = sum(len(played(1, Way(seed), Way(seed, loss=loss)).sent) for seed in SEEDS)
    assert one_way <= (1 + 2 * loss) * BLOCKS * len(SEEDS)
    both = sum(len(played(1, *same(seed, loss=loss)).sent) for seed in SEEDS)
    assert both <= 1.05 * BLOCKS * len(SEEDS) / (1 - loss) ** 2


@pytest.mark.parametrize("copies", [0.01, 0.05, 0.2, 1.0])
def test_t12_in_lockstep_copies_and_delays_cost_nothing(copies: float) -> None:
    for seed in SEEDS:
        done = played(1, *same(seed, copies=copies, late=copies))
        assert len(done.sent) == BLOCKS
        assert done.resends == 0


def test_t12_one_delayed_ack_does_not_double_what_follows() -> None:
    """The sorcerer's apprentice (RFC 1123, 4.2.3.1): an ACK so late that its block was sent again."""
    late = Way(1, hold=lambda raw, count: 0.5 if (raw[3], count) == (20, 21) else 0.0)
    done = played(1, late, Way(2))
    twice = {block for block, times in Counter(done.sent).items() if times > 1}
    assert twice
    assert twice <= {20, 21}
    assert len(done.sent) <= BLOCKS + 3


# Windows (RFC 7440)


@pytest.mark.parametrize("chatty", [True, False])
@pytest.mark.parametrize("window", [2, 4, 16])
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_t14_r10_a_loss_costs_at_most_its_window(loss: float, window: int, chatty: bool) -> None:
    for seed in SEEDS:
        done = played(window, *same(seed, loss=loss), chatty=chatty)
        assert len(done.sent) <= BLOCKS + window * (done.out.lost + done.back.lost)


@pytest.mark.parametrize("chatty", [True, False])
@pytest.mark.parametrize("window", [2, 4, 16])
@pytest.mark.parametrize("copies", [0.01, 0.05, 0.2, 1.0])
def test_t12_t14_copies_do_not_double_the_traffic_of_windows(copies: float, window: int, chatty: bool) -> None:
    """A switch loop or a bond in broadcast mode delivers everything twice, and some clients acknowledge each copy."""
    sent = 0
    for seed in SEEDS:
        sent += len(played(window, *same(seed, copies=copies), chatty=chatty).sent)
    assert sent <= len(SEEDS) * (BLOCKS + 2 * window)


@pytest.mark.parametrize("window", [2, 4, 16])
@pytest.mark.parametrize("late", [0.01, 0.05, 0.2])
def test_t14_r10_a_delay_costs_at_most_its_window(late: float, window: int) -> None:
    for seed in SEEDS:
        done = played(window, *same(seed, late=late))
        assert len(done.sent) <= BLOCKS + window * (done.out.delayed + done.back.delayed)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(0, 40_000),
    window=st.integers(1, 20),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    copies=st.sampled_from([0.0, 0.01, 0.05, 0.2, 1.0]),
    late=st.sampled_from([0.0, 0.01, 0.05, 0.2]),
    chatty=st.booleans(),
    segments=st.booleans(),
)
def test_t12_t14_r10_whatever_the_weather_the_content_is_the_same(
    seed: int, size: int, window: int, loss: float, copies: float, late: float, chatty: bool, segments: bool
) -> None:
    ways = same(seed, loss=loss, copies=copies, late=late, most_late=0.3)
    options = {"blksize": "512", "windowsize": str(window), "tsize": "0"}
    first_ack = Play(CONTENT[:size], options, *ways, chatty=chatty, segments=segments)
    done = first_ack.run()
    if done.outcome == "timeout" and not first_ack.session.answered:
        return  # three OACKs in vain: the client would ask again
    assert (done.outcome, done.content) == ("complete", CONTENT[:size])


@pytest.mark.parametrize("window", [1, 4, 16])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 512 * 16 - 1, 512 * 16, 512 * 16 + 1])
def test_t12_t14_every_size_at_five_percent_of_everything(size: int, window: int) -> None:
    for seed in SEEDS:
        played(window, *same(seed, loss=0.05, copies=0.05, late=0.05), content=CONTENT[:size])


# When


def silent_after(acks: int) -> Way:
    """The way of ACKs of a client that falls silent."""
    return Way(1, drop=lambda _, count: count > acks)


@pytest.mark.parametrize("options", [{"blksize": "512"}, {"blksize": "512", "windowsize": "4"}])
def test_t12_resends_come_within_a_second_and_then_ever_later_up_to_six(options: dict[str, str]) -> None:
    play = Play(CONTENT, options, silent_after(1), Way(2))
    done = play.run()
    window = int(options.get("windowsize", 1))
    bursts = done.times[::window]
    waits = [after - before for before, after in pairwise(bursts)]
    assert 0.1 <= waits[0] <= 1.0
    assert all(later >= 0.85 * sooner for sooner, later in pairwise(waits))
    assert 4.0 <= max(waits) <= 6.0
    assert done.outcome == "timeout"
    assert play.now <= 30 + 6, "and nothing is held for ever"


@pytest.mark.parametrize("options", [{}, {"blksize": "512", "tsize": "0", "windowsize": "64"}])
def test_t26_who_never_acknowledges_gets_three_datagrams(options: dict[str, str]) -> None:
    back = Way(2)
    done = Play(CONTENT, options, silent_after(0), back, patience=1e9).run()
    assert (done.outcome, back.seen) == ("timeout", 3)


@pytest.mark.parametrize("timeout", [1, 2, 7, 255])
def test_t12_a_timeout_that_was_asked_for_is_the_wait(timeout: int) -> None:
    done = Play(CONTENT, {"timeout": str(timeout)}, silent_after(1), Way(2)).run()
    waits = [after - before for before, after in pairwise(done.times)]
    assert waits
    assert waits == pytest.approx([timeout] * len(waits))
    assert done.outcome == "timeout"


@pytest.mark.parametrize("size", [512 * 3, 512 * 3 + 1])
def test_t12_a_lost_last_ack_is_no_failure(size: int) -> None:
    blocks = size // 512 + 1
    play = Play(CONTENT[:size], {"tsize": "0"}, silent_after(blocks), Way(2))
    done = play.run()
    assert done.content == CONTENT[:size]
    assert done.outcome == "complete"
    assert play.now < 60


def test_t12_patience_counts_from_the_last_of_many_acks() -> None:
    """A slow client that took longer than our patience in all, and then falls silent, is waited for all the same."""
    acks = 150
    slow = Way(1, hold=lambda _, count: 0.2 + 0.05 * (count % 2), drop=lambda _, count: count > acks)
    play = Play(CONTENT, {"blksize": "512"}, slow, Way(2))
    done = play.run()
    assert done.outcome == "timeout"
    silent_since = next(at for at, block in zip(done.times, done.sent, strict=True) if block == done.sent[-1])
    assert silent_since > 30
    assert play.now - silent_since >= 30


@pytest.mark.parametrize("windows", [0, 1, 7])
def test_t14_a_route_on_which_the_kernel_stops_cutting_windows_costs_a_resending(windows: int) -> None:
    """As when a failover leads to a card that cannot do it: the send fails with EIO from then on."""

    class Stopping(Play):
        whole = 0

        def send(self, data: bytes, /) -> int:
            if len(data) > self.blksize + 4:
                if self.whole == windows:
                    raise OSError(errno.EIO, "no checksums there")
                self.whole += 1
            return super().send(data)

    done = Stopping(CONTENT, {"blksize": "512", "windowsize": "8"}, Way(1), Way(2)).run()
    assert (done.outcome, done.content) == ("complete", CONTENT)
    assert len(done.sent) == BLOCKS
