"""What the server outlives: junk, floods, strangers, bad networks, hanging resolvers, no descriptors left."""

import random
import struct
import threading
from dataclasses import replace

import pytest

from provisioner.netboot.tftp import Content, Limits, Request, opening
from provisioner.netboot.tftp.sockets import Arrival
from tests.netboot.tftp_client import (
    ACK,
    CALM,
    DATA,
    ERROR,
    OACK,
    Client,
    fetch,
    from_dict,
    poll,
    running,
)

pytestmark = pytest.mark.slow

CONTENT = random.Random(1).randbytes(20_000)
HASTY = Limits(first_resend=0.05, least_resend=0.02, resend_cap=0.1, linger=0.5)
HEARD = {2, 3}
"""Datagrams to who never acknowledges: three (see `test_tftp_simulated`); a host that is too busy leaves one out."""


# Junk at a session (T02)


def test_t02_junk_at_a_sessions_own_port_changes_nothing() -> None:
    rng = random.Random(3)
    with running(from_dict({"x": CONTENT}), limits=CALM) as tftp, Client(tftp.address) as client:
        client.ask("x")
        first = client.receive()
        for raw in (b"", b"\0", b"\0\4", b"\0\4\0", b"\0\5", b"\0\5\0", b"\0\3\0\1x", b"\xff" * 600, b"\0\4\0\0"):
            client.send(raw, client.peer)
        for _ in range(50):
            client.send(b"\0\4" + rng.randbytes(1) + b"\xfe", client.peer)
            client.send(struct.pack("!H", rng.choice((0, 1, 2, 3, 6, 7, 999))) + rng.randbytes(20), client.peer)
        assert client.rest(first=first) == CONTENT
        assert [transfer.resends for transfer in tftp.ended()] == [0]


# Strangers (T09)


def test_t09_a_stranger_cannot_touch_a_session() -> None:
    with (
        running(from_dict({"x": CONTENT}), limits=CALM) as tftp,
        Client(tftp.address) as client,
        Client(tftp.address) as other_port,
        Client(tftp.address, "127.0.0.3") as other_address,
    ):
        client.ask("x", {"blksize": 512})
        assert client.receive().opcode == OACK
        for stranger in (other_port, other_address):
            for raw in (struct.pack("!HH", ACK, 0), struct.pack("!HH", ERROR, 0) + b"\0", b"\0\3\0\1junk"):
                stranger.send(raw, client.peer)
        tftp.barrier()
        assert client.waiting() == []
        client.ack(0)
        for stranger in (other_port, other_address):
            stranger.send(struct.pack("!HH", ACK, 1), client.peer)
            stranger.send(struct.pack("!HH", ERROR, 0) + b"\0", client.peer)
        assert client.rest() == CONTENT
        assert other_port.waiting() == other_address.waiting() == []


# Amplification and half-open sessions (T08, T26, R38)


@pytest.mark.parametrize("options", [{}, {"blksize": 65464, "tsize": 0, "windowsize": 64}])
def test_t26_who_never_acknowledges_gets_three_small_datagrams(options: dict[str, object]) -> None:
    with running(from_dict({"x": CONTENT}), limits=HASTY) as tftp, Client(tftp.address) as client:
        client.ask("x", options)
        client.ask("x", options)
        assert [transfer.outcome for transfer in tftp.ended()] == ["timeout"]
        packets = client.waiting()
    assert len(packets) in HEARD
    assert {packet.raw for packet in packets} == {packets[0].raw}
    assert sum(len(packet.raw) for packet in packets) <= 3 * 516


def test_t26_an_address_with_many_silent_sessions_hears_less() -> None:
    limits = Limits(first_resend=0.05, resend_cap=0.1, linger=0.05, half_open_per_client=5)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp:
        clients = [Client(tftp.address) for _ in range(10)]
        try:
            for client in clients:
                client.ask("x")
            tftp.ended(10)
            heard = sorted(len(client.waiting()) for client in clients)
        finally:
            for client in clients:
                client.socket.close()
    assert heard[0] == 1
    assert heard[-1] in HEARD


def test_t12_an_ack_that_comes_after_all_resends_is_still_taken() -> None:
    limits = Limits(first_resend=0.02, resend_cap=0.05)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp, Client(tftp.address) as client:
        client.ask("x", {"tsize": 0})
        assert [client.receive().opcode for _ in range(3)] == [OACK] * 3
        poll(lambda: (session := tftp.server._sessions.any()) is not None and session.lingering)
        client.ack(0)
        content = bytearray()
        block = 0
        while len(content) < len(CONTENT):
            packet = client.receive()
            if packet.opcode == DATA and packet.number == block + 1:
                content += packet.data
                block += 1
                client.ack(block)
        assert bytes(content) == CONTENT


def test_t08_junk_does_not_hold_a_session() -> None:
    with running(from_dict({"x": CONTENT}), limits=HASTY) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()

        def ended() -> bool:
            client.send(b"\0\4\7\7", client.peer)
            client.send(b"junk", client.peer)
            return bool(tftp.transfers)

        poll(ended)
        assert [transfer.outcome for transfer in tftp.transfers] == ["timeout"]


def test_t08_without_descriptors_the_oldest_silent_session_gives_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    real = opening.connect
    allowed = 3

    with running(from_dict({"x": CONTENT}), limits=CALM) as tftp:

        def scarce(arrival: Arrival) -> object:
            if len(tftp.server) >= allowed:
                raise OSError(24, "Too many open files")
            return real(arrival)

        monkeypatch.setattr(opening, "connect", scarce)
        clients = [Client(tftp.address) for _ in range(6)]
        try:
            for client in clients:
                client.ask("x")
                client.receive()
                assert len(tftp.server) <= allowed
            assert [transfer.outcome for transfer in tftp.ended(3)] == ["evicted"] * 3
            for client in clients[3:]:
                client.ack(1)
                assert client.receive().number == 2
            with Client(tftp.address) as late:
                late.ask("x")
                poll(lambda: tftp.server.counters["no_socket"] == 1)
                assert late.waiting() == [], "no ERROR: it asks again"
        finally:
            for client in clients:
                client.socket.close()


# Resending (T12, R10)


def test_t12_repeated_acks_do_not_double_the_traffic() -> None:
    with running(from_dict({"x": CONTENT}), limits=CALM) as tftp, Client(tftp.address) as client:
        client.ask("x", {"blksize": 512})
        client.receive()
        client.ack(0)
        client.ack(0)
        content = b""
        while len(content) < len(CONTENT):
            packet = client.receive()
            assert packet.number == len(content) // 512 + 1
            content += packet.data
            for _ in range(3):
                client.ack(packet.number)
        (transfer,) = tftp.ended()
        assert client.waiting() == []
    assert content == CONTENT
    assert (transfer.resends, transfer.sent_bytes) == (0, len(CONTENT))


def test_r10_a_lost_block_in_a_window_is_sent_again_at_once() -> None:
    with running(from_dict({"x": CONTENT}), limits=CALM) as tftp, Client(tftp.address) as client:
        client.ask("x", {"blksize": 1000, "windowsize": 8})
        client.receive()
        client.ack(0)
        assert [client.receive().number for _ in range(8)] == list(range(1, 9))
        for _ in range(5):
            client.ack(2)  # block 3 got lost; a chatty client says so for each block after it
        assert [client.receive().number for _ in range(8)] == list(range(3, 11))
        client.ack(10)
        assert CONTENT[:10_000] + client.rest(blksize=1000, window=8, acknowledged=10) == CONTENT
        assert [transfer.resends for transfer in tftp.ended()] == [6]


def test_r09_r10_a_lost_block_is_known_by_its_number_after_the_wrap() -> None:
    content = random.Random(9).randbytes(8 * 65_550)
    with running(from_dict({"x": content}), limits=CALM) as tftp, Client(tftp.address) as client:
        client.ask("x", {"blksize": 8, "windowsize": 4})
        client.receive()
        client.ack(0)
        for last in range(4, 65_537, 4):
            assert [client.receive().number for _ in range(4)] == [n & 0xFFFF for n in range(last - 3, last + 1)]
            client.ack(last)
        assert [client.receive().number for _ in range(4)] == [1, 2, 3, 4]
        client.ack(65_538)
        assert [client.receive().number for _ in range(4)] == [3, 4, 5, 6]
        client.ack(65_542)
        assert content[: 8 * 65_542] + client.rest(blksize=8, window=4, acknowledged=65_542) == content


@pytest.mark.parametrize("closed", [True, False])
def test_t12_a_lost_last_ack_is_no_failure(closed: bool) -> None:
    limits = Limits(first_resend=0.05, least_resend=0.02, resend_cap=0.05, patience=60.0 if closed else 0.2)
    with running(from_dict({"x": CONTENT[:700]}), limits=limits) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()
        client.ack(1)
        assert client.receive().number == 2
        if closed:
            client.socket.close()
        assert [transfer.outcome for transfer in tftp.ended()] == ["complete"]
        assert len(tftp.server) == 0


def test_a_port_that_closes_in_the_middle_ends_the_transfer() -> None:
    limits = Limits(first_resend=0.05, least_resend=0.02, resend_cap=0.05, patience=60.0)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp:
        with Client(tftp.address) as client:
            client.ask("x")
            client.receive()
            client.ack(1)
            client.receive()
        assert [transfer.outcome for transfer in tftp.ended()] == ["aborted"]


def test_t12_patience_counts_from_the_last_progress() -> None:
    limits = Limits(first_resend=0.02, least_resend=0.02, resend_cap=0.02, patience=2.0)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp, Client(tftp.address) as client:
        client.ask("x", {"blksize": 1000})
        client.receive()
        client.ack(0)
        for block in range(1, 22):  # each block eight times: more than two seconds in all
            heard = 0
            while heard < 8:
                heard += client.receive().number == block
            client.ack(block)
        assert [transfer.outcome for transfer in tftp.ended()] == ["complete"]


def test_t12_a_client_that_dies_in_the_middle_is_given_up() -> None:
    limits = Limits(first_resend=0.05, least_resend=0.02, resend_cap=0.05, patience=0.2)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()
        client.ack(1)
        (transfer,) = tftp.ended()
    assert transfer.outcome == "timeout"
    assert transfer.resends >= 2


# Resolvers (T06)


class Gate:
    """A resolver that hangs on names with `hang` until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked: list[str] = []

    def __call__(self, wanted: Request) -> Content:
        self.asked.append(wanted.name)
        if wanted.name.startswith("hang"):
            self.open.wait()
        return CONTENT


def test_t06_a_hanging_resolver_concerns_its_own_client_only() -> None:
    gate = Gate()
    try:
        with (
            running(gate, limits=replace(CALM, resolvers=2, resolve_seconds=0.2)) as tftp,
            Client(tftp.address) as client,
        ):
            client.ask("hang")
            poll(lambda: gate.asked == ["hang"])
            client.ask("hang")
            assert fetch(tftp.address, "x") == CONTENT
            packet = client.receive()
            assert (packet.opcode, packet.number) == (ERROR, 0)
            client.ask("hang")
            assert fetch(tftp.address, "x") == CONTENT
            assert gate.asked.count("hang") == 1, "a repeat does not hang a second thread"
            gate.open.set()
            client.ask("x")
            assert client.rest() == CONTENT
    finally:
        gate.open.set()


def test_t06_one_client_cannot_hold_all_threads() -> None:
    gate = Gate()
    limits = replace(CALM, resolvers=3, resolve_seconds=60)
    with running(gate, limits=limits) as tftp, Client(tftp.address) as first, Client(tftp.address) as second:
        try:
            for n, client in enumerate((first, second)):
                client.ask(f"hang{n}")
            poll(lambda: sorted(gate.asked) == ["hang0", "hang1"])

            def noticed() -> bool:  # after a second they count as slow; then more of that address is dropped
                with Client(tftp.address) as third:
                    third.ask("x")
                    tftp.barrier()
                return tftp.server.counters["dropped_busy"] > 0

            poll(noticed)
            assert fetch(tftp.address, "x", source="127.0.0.2") == CONTENT
            gate.open.set()
            assert first.rest() == second.rest() == CONTENT
        finally:
            gate.open.set()


def test_t06_when_all_threads_are_busy_requests_are_dropped_and_later_served() -> None:
    gate = Gate()
    limits = replace(CALM, resolvers=1, waiting=1, resolve_seconds=60)
    with running(gate, limits=limits) as tftp, Client(tftp.address) as first, Client(tftp.address) as dropped:
        try:
            first.ask("hang")
            poll(lambda: gate.asked)
            with Client(tftp.address) as queued:
                queued.ask("x")
                tftp.barrier()
                dropped.ask("x")
                tftp.barrier()
                assert tftp.server.counters["dropped_busy"] == 1
                gate.open.set()
                assert queued.rest() == CONTENT
            assert dropped.waiting() == []
            dropped.ask("x")
            assert dropped.rest() == CONTENT
        finally:
            gate.open.set()


def test_t06_a_new_request_from_the_same_port_does_not_wait_for_the_old_one() -> None:
    gate = Gate()
    with running(gate) as tftp, Client(tftp.address) as client:
        try:
            client.ask("hang")
            poll(lambda: gate.asked)
            client.ask("x")
            assert client.rest() == CONTENT
            gate.open.set()
            poll(lambda: tftp.server.counters["requests"] == 2)
            tftp.barrier()
            assert client.waiting() == []
        finally:
            gate.open.set()


def test_a_server_stops_although_a_resolver_hangs() -> None:
    gate = Gate()
    try:
        with running(gate) as tftp, Client(tftp.address) as client:
            client.ask("hang")
            poll(lambda: gate.asked)
        assert not tftp.thread.is_alive()
        assert tftp.transfers == []
    finally:
        gate.open.set()
