"""Thousands of sessions that nobody acknowledges, and no descriptors left, in a process of its own (T08, R38, P3)."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from provisioner.netboot.tftp.opening import sessions_that_fit
from tests.netboot.tftp_client import (
    CALM,
    Client,
    fetch,
    fetch_patiently,
    from_dict,
    poll,
    request,
    running,
)
from tests.netboot.tftp_process import Child, child, content_of

pytestmark = pytest.mark.slow

NAME = "file-20000"
CONTENT = content_of(20_000)
OPTIONS = {"blksize": 1024, "tsize": 0}
ASK = request(1, NAME, OPTIONS)


@contextmanager
def silent(server: Child, count: int, *, hosts: int = 50) -> Iterator[list[socket.socket]]:
    """So many client ports that have asked, and read and acknowledge nothing, spread over this many addresses."""
    with ExitStack() as stack:
        ports = []
        for number in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"127.0.1.{1 + number % hosts}", 0))
            sock.sendto(ASK, server.address)
            ports.append(sock)
            if number % 50 == 49:
                server.barrier()
        server.barrier()
        yield ports


def test_t08_r38_five_thousand_half_open_sessions_with_the_limits_as_shipped() -> None:
    """Bounded sessions, descriptors and memory; real transfers pass while they are there, and go on through it."""
    with child() as server, Client(server.address, "127.0.0.2") as honest:
        assert fetch(server.address, NAME, OPTIONS) == CONTENT
        honest.ask(NAME, OPTIONS)
        honest.receive()
        honest.ack(0)
        first = honest.receive()
        with silent(server, 2500):
            before = server.state()
            with silent(server, 2500) as ports:
                for number in range(30):
                    source = f"127.0.2.{1 + number}"
                    assert fetch(server.address, NAME, OPTIONS, source=source) == CONTENT
                for junk in (b"\0\4\7\7", b"junk", ASK):
                    for port in ports:
                        port.sendto(junk, server.address)
                    server.barrier()
                after = server.state()
        assert before["sessions"] <= 2000
        assert after["sessions"] <= 2000
        assert after["descriptors"] <= 2 * 2000 + 100
        assert after["rss"] < before["rss"] + 10_000, "KiB"
        content, block = first.data, 1
        honest.ack(1)
        while len(content) < len(CONTENT):  # what was acknowledged is not evicted
            packet = honest.receive()
            if packet.number == block + 1:
                content, block = content + packet.data, block + 1
                honest.ack(block)
        assert content == CONTENT
        assert not {"loop_errors", "request_errors", "transfer_errors"} & set(after["counters"])


def test_t08_half_open_sessions_end_by_themselves_and_leave_nothing() -> None:
    with child(first_resend=0.1, resend_cap=0.2, linger=0.2) as server:
        before = server.state()
        with silent(server, 500) as ports:
            poll(lambda: server.state()["sessions"] == 0, 60)
            after = server.state()
            heard = [len(list(read_all(port))) for port in ports]
        assert after["descriptors"] <= before["descriptors"] + 8, "the resolver's threads may have some"
        assert set(after["outcomes"]) == {"timeout"}
        assert after["outcomes"]["timeout"] in range(480, 501), "a busy host's kernel may drop a question"
        assert max(heard) in {2, 3}, "a host that is too busy comes late, and leaves one out"


def read_all(port: socket.socket) -> Iterator[bytes]:
    port.setblocking(False)
    while True:
        try:
            yield port.recv(2000)
        except BlockingIOError:
            return


@pytest.mark.parametrize("nofile", [64, 256])
def test_t08_with_few_descriptors_the_oldest_silent_sessions_give_theirs(nofile: int) -> None:
    """EMFILE at the transfers' sockets and at the files: the server lives on, and asking again is enough."""
    with child(nofile=nofile, source_rate=1e6, source_burst=1e6, rate=1e6, burst=1e6) as server:
        with silent(server, 600):
            state = server.state()
            assert state["descriptors"] <= nofile
            assert state["sessions"] < nofile
            assert state["counters"]["ended_evicted"] + state["counters"].get("no_socket", 0) > 0
            for _ in range(20):
                assert fetch_patiently(server.address, NAME, OPTIONS) == CONTENT
        assert set(server.state()["outcomes"]) <= {"complete", "evicted", "aborted"}, "nobody was told an error"


def test_t08_a_file_that_cannot_be_opened_for_want_of_descriptors_is_no_error_to_the_client() -> None:
    def resolve(_: object) -> bytes:
        if len(asked) < 2:
            asked.append(1)
            raise OSError(24, "Too many open files")
        return CONTENT

    asked: list[int] = []
    with running(resolve, limits=CALM) as tftp:
        assert fetch_patiently(tftp.address, "x", OPTIONS, pause=0.05) == CONTENT
        assert tftp.server.counters["no_room"] == 2


def test_t08_sessions_fit_into_the_descriptors_that_there_are() -> None:
    with child(nofile=300, first_resend=60, resend_cap=60) as server, silent(server, 400):
        poll(lambda: server.state()["sessions"] == (300 - 128) // 2)
    assert sessions_that_fit(7) == 7


def test_p3_one_address_cannot_hold_all_sessions_by_acknowledging_a_little() -> None:
    """Each session gets on a little, so none is half-open; still another address finds room."""
    limits = replace(CALM, sessions=30, crowd=10)
    with running(from_dict({"x": CONTENT}), limits=limits) as tftp, ExitStack() as stack:
        other = stack.enter_context(Client(tftp.address, "127.0.0.3"))
        other.ask("x")
        other.receive()
        other.ack(1)
        other.receive()
        for _ in range(29):
            slow = stack.enter_context(Client(tftp.address, "127.0.0.2"))
            slow.ask("x")
            slow.receive()
            slow.ack(1)
            assert slow.receive().number == 2
        assert len(tftp.server) == 30
        for number in range(5):
            assert fetch(tftp.address, "x", source=f"127.0.0.{10 + number}") == CONTENT
        other.ack(2)
        assert CONTENT[:1024] + other.rest(acknowledged=2) == CONTENT, "one session is no crowd"
        assert [transfer.client for transfer in tftp.transfers if transfer.outcome == "evicted"] == ["127.0.0.2"] * 1


def test_t08_without_a_crowd_a_full_server_lets_new_requests_wait() -> None:
    with running(from_dict({"x": CONTENT}), limits=replace(CALM, sessions=3)) as tftp, ExitStack() as stack:
        clients = [stack.enter_context(Client(tftp.address, f"127.0.0.{2 + n}")) for n in range(3)]
        for client in clients:
            client.ask("x")
            client.receive()
            client.ack(1)
            client.receive()
        with Client(tftp.address) as late:
            late.ask("x")
            poll(lambda: tftp.server.counters["dropped_full"] == 1)
            assert late.waiting() == []
            clients[0].error(0)
            tftp.ended()
            late.ask("x")
            assert late.rest() == CONTENT


# Strangers (T09)


def test_t09_strangers_flood_the_ports_of_sessions_in_vain() -> None:
    """ACK, ERROR and DATA from another port and another address, between any two blocks. Forged ones nobody can tell
    from the client's own: what this shows is that one has to forge both address and port.
    """
    packets = [struct.pack("!HH", opcode, block) + b"\0" for opcode in (3, 4, 5) for block in (0, 1, 2, 7, 65535)]
    for single_port in (False, True):
        with (
            running(from_dict({"x": CONTENT}), limits=CALM, single_port=single_port) as tftp,
            Client(tftp.address) as client,
            Client(tftp.address) as other_port,
            Client(tftp.address, "127.0.0.3") as other_address,
        ):
            client.ask("x", {"blksize": 1000, "windowsize": 2})
            assert client.receive().options["windowsize"] == "2"
            content, block = b"", 0
            while block < 21:
                for stranger in (other_port, other_address):
                    for raw in packets:
                        stranger.send(raw, client.peer)
                client.ack(block)
                for _ in range(2 if block < 20 else 1):
                    packet = client.receive()
                    block += 1
                    assert packet.number == block
                    content += packet.data
            client.ack(block)
            (transfer,) = tftp.ended()
            assert content == CONTENT
            assert (transfer.outcome, transfer.resends) == ("complete", 0)
            assert other_port.waiting() == other_address.waiting() == []
