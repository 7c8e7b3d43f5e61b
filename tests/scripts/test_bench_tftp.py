"""The TFTP rows of `scripts/bench storm`: what counts as reached, and what is said of peers that die or are missing."""

import dataclasses

import pytest
from benchkit import tftp
from benchkit.groups import Used
from benchkit.tftp import Taken
from benchkit.tftpclient import Told

MIB = 1 << 20


def taken(speed: float, *, p99: float = 1.0, completed: int = 10, died: bool = False, cpu: float = 1.0) -> Taken:
    """A round in which ten clients were to have a MiB each, at so many MB/s."""
    size = completed * MIB
    told = Told(10, completed, size, max(size, 1) / speed / 1e6, p99, packets=2 * 735 * completed, requests_resent=0)
    return Taken(told, Used(cpu / 2, cpu / 2), {"server": cpu}, died)


def row(ours: list[Taken], theirs: list[Taken] | str, **more: float) -> tftp.Row:
    peer = theirs if isinstance(theirs, str) else tftp.figures("dnsmasq 2.90", theirs)
    answers = {tftp.OURS: tftp.figures(tftp.OURS, ours), "dnsmasq": peer}
    return tftp.compared("speed", answers, {"dnsmasq": 2.5}, "at least 2.5 x", p99=more.get("p99"))


def test_the_median_of_the_rounds_counts() -> None:
    assert row([taken(90), taken(250), taken(260)], [taken(100), taken(100), taken(900)]).reached
    assert not row([taken(90), taken(249), taken(260)], [taken(100), taken(100), taken(900)]).reached


def test_p99_counts_where_it_was_asked_for() -> None:
    assert row([taken(300, p99=0.25)], [taken(100, p99=1.0)], p99=0.25).reached
    late = row([taken(300, p99=0.26)], [taken(100, p99=1.0)], p99=0.25)
    assert not late.reached
    assert "processor seconds" in late.note


def test_one_client_of_ours_without_the_file_spoils_the_row() -> None:
    assert not row([taken(900), taken(900), taken(900, completed=9)], [taken(100)]).reached


def test_a_peer_that_died_is_measured_by_the_rounds_it_lived_through() -> None:
    dead = taken(10, completed=2, died=True)
    told = row([taken(300)] * 3, [dead, dead, taken(150)])
    assert not told.reached
    assert "throughput 2.00 x dnsmasq" in told.ratio
    assert "died in 2 of 3 rounds" in told.peer
    assert "nobody has the file, died in 1 of 1 rounds" in row([taken(300)], [taken(1, completed=0, died=True)]).peer


def test_a_peer_that_is_missing_is_named_and_nothing_is_reached() -> None:
    told = row([taken(900)], "dnsmasq: not measured: run this as root")
    assert not told.reached
    assert "run this as root" in told.peer
    assert "run this as root" in told.note


def test_processor_time_is_counted_for_each_gib() -> None:
    ours = tftp.figures(tftp.OURS, [taken(100, cpu=0.5)])
    assert ours.per_gib == pytest.approx(0.5 * 1024 / 10)
    assert ours.per_packet == pytest.approx(0.5e6 / 14700)
    assert dataclasses.replace(ours, died="").load.endswith("(server 0.50), 50 % of them the kernel's")
