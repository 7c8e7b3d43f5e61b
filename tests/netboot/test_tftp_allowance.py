"""What goes to sources that acknowledge nothing is capped (T26, S74)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.netboot.tftp import Limits
from provisioner.netboot.tftp import allowance as module
from provisioner.netboot.tftp.allowance import REAL_FACTOR, REAL_SECONDS, Allowance
from tests.netboot.tftp_client import CALM, DATA, ERROR, RRQ, WRQ, Client, fetch, from_dict, request, running

LIMITS = Limits(source_rate=10, source_burst=30, rate=50, burst=100)
ASKED = st.tuples(st.integers(0, 5), st.integers(1, 3), st.floats(0, 0.2))


@given(st.lists(ASKED, max_size=200))
def test_t26_s74_no_source_and_not_all_of_them_get_more_than_their_cap(asked: list[tuple[int, int, float]]) -> None:
    allowance = Allowance(LIMITS, 0.0)
    now = 0.0
    got: dict[int, int] = {}
    for source, wanted, pause in asked:
        now += pause
        granted = allowance.take(f"192.0.2.{source}", wanted, now)
        assert 0 <= granted <= wanted
        got[source] = got.get(source, 0) + granted
    assert all(each <= 30 + 10 * now for each in got.values())
    assert sum(got.values()) <= 100 + 50 * now


def test_t26_tokens_come_back_with_time_and_then_some_at_once() -> None:
    allowance = Allowance(LIMITS, 0.0)
    assert sum(allowance.take("a", 3, 0.0) for _ in range(100)) == 30
    assert allowance.take("a", 3, 0.05) == 0
    assert allowance.take("a", 3, 0.1) == 1
    assert allowance.take("a", 3, 60.0) == 3


def test_t26_when_tokens_run_low_each_request_is_answered_once() -> None:
    allowance = Allowance(LIMITS, 0.0)
    grants = [allowance.take("a", 3, 0.0) for _ in range(30)]
    assert grants == [3] * 6 + [1] * 12 + [0] * 12


def test_s74_a_source_that_acknowledges_is_not_held_back_by_others() -> None:
    allowance = Allowance(LIMITS, 0.0)
    granted = allowance.take("real", 3, 0.0)
    allowance.acknowledged("real", granted, 0.0)
    while any(allowance.take(f"forged{n}", 3, 0.0) for n in range(20)):
        pass
    assert allowance.take("stranger", 3, 0.0) == 0
    assert sum(allowance.take("real", 3, 0.0) for _ in range(1000)) == 30 * REAL_FACTOR
    assert allowance.take("real", 1, REAL_SECONDS - 1) == 1
    assert sum(allowance.take("real", 3, REAL_SECONDS + 1) for _ in range(1000)) <= 30


def test_t26_a_rack_behind_one_address_that_acknowledges_is_served_whole() -> None:
    allowance = Allowance(Limits(), 0.0)
    granted = [allowance.take("nat", 3, 0.0) for _ in range(1000)]
    assert all(granted), "a thousand machines at the very same moment"
    for each in granted:
        allowance.acknowledged("nat", each, 0.1)
    assert all(allowance.take("nat", 3, 0.1) for _ in range(10_000))


def test_p3_forged_sources_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SOURCES", 50)
    allowance = Allowance(LIMITS, 0.0)
    for n in range(1000):
        allowance.take(str(n), 1, float(n))
    assert len(allowance) == 50


CAPPED = replace(CALM, source_rate=0.0, source_burst=10.0)


def test_t26_s74_requests_beyond_the_cap_are_dropped_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with running(from_dict({"x": bytes(2000)}), limits=CAPPED) as tftp:
        clients = [Client(tftp.address, "127.0.0.2") for _ in range(40)]
        try:
            for client in clients:
                client.ask("x")
            tftp.barrier()
            heard = [client.receive().opcode for client in clients[:6]]
            assert fetch(tftp.address, "x", source="127.0.0.3") == bytes(2000), "others are served"
            late = [packet for client in clients[6:] for packet in client.waiting()]
        finally:
            for client in clients:
                client.socket.close()
        assert heard == [DATA] * 6
        assert len(late) <= 2
        assert tftp.server.counters["dropped_rate"] >= 32
    assert 1 <= capsys.readouterr().out.count("nobody acknowledges") <= 20


def test_t26_errors_are_capped_too() -> None:
    with running(from_dict({}), limits=CAPPED) as tftp, Client(tftp.address, "127.0.0.2") as client:
        for n in range(40):
            client.send(request(RRQ if n % 2 else WRQ, "../x"))
        tftp.barrier()
        assert [packet.opcode for packet in client.waiting()] == [ERROR] * 10
        assert tftp.server.counters["dropped_rate"] == 30


def test_s74_a_machine_that_boots_has_its_tokens_back_at_each_file() -> None:
    with running(from_dict({"x": bytes(2000)}), limits=CAPPED) as tftp:
        for _ in range(50):
            assert fetch(tftp.address, "x", source="127.0.0.2") == bytes(2000)
        assert tftp.server.counters["dropped_rate"] == 0
