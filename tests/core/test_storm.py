"""The arithmetic of boot storms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.core.storm import (
    Boot,
    Limit,
    Path,
    amount,
    duration,
    plan,
    rate,
    round_trips,
    speed,
    tcp_share,
    tftp_share,
)
from provisioner.errors import InvalidInput

BOOTS = st.builds(
    Boot,
    tftp=st.integers(0, 10**7),
    boot=st.integers(1, 10**6),
    media=st.integers(0, 10**10),
    tree=st.integers(0, 10**10),
)
RATES = st.none() | st.floats(1e6, 1e10)
PATHS = st.builds(
    Path,
    link=st.floats(1e7, 4e11),
    client_link=st.floats(1e7, 1e11),
    round_trip=st.floats(1e-5, 0.1),
    blksize=st.integers(512, 65464),
    windowsize=st.integers(1, 64),
    tftp_rate=RATES,
    media_rate=RATES,
)


@given(st.integers(1, 100_000), BOOTS, PATHS, st.none() | st.floats(0, 1e5))
def test_a_plan_adds_up(machines: int, boot: Boot, path: Path, install: float | None) -> None:
    found = plan(machines, boot, path, install)
    assert found.wire_bytes > boot.total
    assert found.link_seconds * path.link / 8 == pytest.approx(machines * found.wire_bytes)
    assert found.together >= max(found.link_seconds, found.server_seconds, found.alone_seconds) * (1 - 1e-9)
    assert 1 <= found.wave <= machines
    assert found.wave * (found.waves - 1) < machines <= found.wave * found.waves
    # Nothing is carried faster in waves, and the last wave may not come late because of them.
    assert found.in_waves >= found.together * (1 - 1e-9)
    assert found.in_waves <= (found.together + found.alone_seconds) * (1 + 1e-9)
    assert found.mean_in_waves <= (found.together + found.alone_seconds) * (1 + 1e-9)
    assert found.apart == 0 or found.waves > 1


@given(st.integers(1, 10_000), BOOTS, PATHS)
def test_more_machines_never_take_less_and_a_faster_link_never_more(machines: int, boot: Boot, path: Path) -> None:
    found = plan(machines, boot, path)
    assert plan(machines + 1, boot, path).together >= found.together
    faster = Path(path.link * 2, path.client_link, path.round_trip, path.blksize, path.windowsize)
    slower = Path(path.link, path.client_link, path.round_trip, path.blksize, path.windowsize)
    assert plan(machines, boot, faster).together <= plan(machines, boot, slower).together


@given(st.integers(2, 10_000), BOOTS, st.floats(1e8, 1e11))
def test_a_wave_is_over_within_the_time_wanted_or_is_one_machine(machines: int, boot: Boot, link: float) -> None:
    found = plan(machines, boot, Path(link=link), within=10)
    each = max(found.link_seconds, found.server_seconds) / machines
    assert found.wave == 1 or found.wave * each <= max(10, found.alone_seconds) * (1 + 1e-9)


def test_four_hundred_machines_on_ten_gigabits() -> None:
    boot = Boot(tftp=90_000, boot=20_000, media=95_000_000)
    found = plan(400, boot, Path(link=10e9))
    assert found.limit is Limit.LINK
    assert math.isclose(found.link_seconds, 400 * 95.11e6 * 8 / 10e9 / 0.9415, rel_tol=0.01)
    assert (found.waves, found.wave) == (4, 100)
    assert found.apart == pytest.approx(found.link_seconds / 4)
    assert found.mean_in_waves < 0.7 * found.mean_together


@pytest.mark.parametrize(
    ("machines", "boot", "path", "install", "limit"),
    [
        (1000, Boot(media=10**8), Path(link=1e9), None, Limit.LINK),
        (1000, Boot(media=10**8), Path(link=1e11, media_rate=5e8), None, Limit.SERVER),
        (1, Boot(tftp=6 * 10**7), Path(link=1e10, blksize=512), None, Limit.TFTP),
        (1, Boot(media=10**9), Path(link=1e10, client_link=1e9), None, Limit.CLIENT),
        (10, Boot(media=10**8), Path(link=1e10), 600.0, Limit.INSTALLER),
    ],
)
def test_what_limits(machines: int, boot: Boot, path: Path, install: float | None, limit: Limit) -> None:
    assert plan(machines, boot, path, install).limit is limit


def test_few_machines_begin_at_once() -> None:
    found = plan(8, Boot(media=10**7), Path(link=1e10))
    assert (found.wave, found.waves, found.apart) == (8, 1, 0.0)


def test_tftp_goes_a_window_a_round_trip() -> None:
    assert round_trips(0, 512, 1) == 0
    assert round_trips(511, 512, 1) == 2
    assert round_trips(512, 512, 1) == 3  # an empty block ends it
    assert round_trips(512 * 100, 512, 16) == 1 + 7


def test_headers_take_their_share() -> None:
    assert tftp_share(512) == pytest.approx(512 / 582)
    assert tftp_share(1428) > 0.95
    assert tftp_share(4096) < 4096 / (4096 + 32 + 38)
    assert tcp_share() == pytest.approx(1448 / 1538)


@pytest.mark.parametrize(("text", "bits"), [("10G", 1e10), ("2.5g", 2.5e9), ("100Mbit/s", 1e8), ("25 Gbps", 2.5e10)])
def test_rates_are_read(text: str, bits: float) -> None:
    assert rate(text) == bits


@pytest.mark.parametrize("text", ["", "fast", "-1G", "0", "10", "999999T", "1e9", "10G/s", "\u0661G"])
def test_other_rates_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        rate(text)
    assert "10G" in raised.value.hint


def test_numbers_for_people() -> None:
    told = [duration(each) for each in (0.04, 9.96, 35.2, 60, 250, 7500)]
    assert told == ["0.0 s", "10 s", "35 s", "1 min", "4 min 10 s", "2 h 5 min"]
    assert [amount(each) for each in (900, 95e6, 9.96e9, 38.2e9, 2e12)] == ["1 kB", "95 MB", "10 GB", "38 GB", "2.0 TB"]
    assert [speed(each) for each in (1e10, 2.5e9, 1e8)] == ["10 Gbit/s", "2.5 Gbit/s", "100 Mbit/s"]
