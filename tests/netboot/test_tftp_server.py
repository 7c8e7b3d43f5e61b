"""The server over real sockets: content, options, repeats, refusals."""

import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.errors import InvalidSettings, NotFound, PortInUse, Refused
from provisioner.netboot.tftp import Content, OpenFile, Request, TftpServer
from tests.netboot.tftp_client import (
    CALM,
    DATA,
    ERROR,
    OACK,
    RRQ,
    WRQ,
    Client,
    fetch,
    from_dict,
    poll,
    request,
    running,
)

BLKSIZES = (8, 512, 1024, 1428, 1468, 8192, 65464)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def opened(path: Path) -> OpenFile:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return OpenFile(fd, os.fstat(fd).st_size)


# Content


@pytest.mark.parametrize("blksize", BLKSIZES)
@pytest.mark.parametrize("windowsize", [None, 1, 3, 16])
def test_t07_t14_content_is_byte_exact_at_every_edge(tmp_path: Path, blksize: int, windowsize: int | None) -> None:
    sizes = sorted({0, 1, *(n * blksize + more for n in (1, 2, 7) for more in (-1, 0, 1))})
    path = tmp_path / "content"
    path.write_bytes(noise(max(sizes)))

    def resolve(asked: Request) -> Content:
        kind, size = asked.name.split("-")
        if kind == "bytes":
            return noise(max(sizes))[: int(size)]
        file = opened(path)
        return OpenFile(file.fd, int(size))

    options: dict[str, object] = {"blksize": blksize, "tsize": 0}
    if windowsize:
        options["windowsize"] = windowsize
    with running(resolve) as tftp:
        for size in sizes:
            assert fetch(tftp.address, f"bytes-{size}", options) == noise(max(sizes))[:size]
            assert fetch(tftp.address, f"file-{size}", options) == noise(max(sizes))[:size]
        ended = tftp.ended(2 * len(sizes))
    assert {(transfer.outcome, transfer.blksize) for transfer in ended} == {("complete", blksize)}
    assert sorted(transfer.size for transfer in ended) == sorted(sizes * 2)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 5000])
def test_t07_without_options_data_comes_first_in_512_bytes(size: int) -> None:
    with running(from_dict({"x": noise(size)})) as tftp:
        assert fetch(tftp.address, "x") == noise(size)
        (transfer,) = tftp.ended()
    assert (transfer.sent_bytes, transfer.blksize, transfer.windowsize, transfer.resends) == (size, 512, 1, 0)


@pytest.mark.parametrize("windowsize", [1, 5])
def test_r09_block_numbers_go_round_to_zero(windowsize: int) -> None:
    content = noise(8 * 66_000 + 3)
    with running(from_dict({"x": content})) as tftp:
        assert fetch(tftp.address, "x", {"blksize": 8, "windowsize": windowsize}) == content


@pytest.mark.full
def test_r09_33_mib_in_blocks_of_512() -> None:
    content = noise(33 << 20)
    with running(from_dict({"x": content})) as tftp:
        assert fetch(tftp.address, "x") == content


def test_descriptors_are_closed_when_transfers_end(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(noise(2000))

    def open_here() -> int:
        return sum(_target(fd) == path for fd in Path("/proc/self/fd").iterdir())

    with running(lambda _: opened(path)) as tftp:
        assert fetch(tftp.address, "x") == noise(2000)
        with Client(tftp.address) as client:
            client.ask("x")
            client.receive()
            client.error(0)
            tftp.ended(2)
        with Client(tftp.address) as client:
            client.ask("x")
            client.receive()
            assert open_here() == 1
    assert open_here() == 0


def test_t06_content_that_nobody_waits_for_any_more_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(noise(2000))
    gate, asked = threading.Event(), threading.Event()

    def resolve(wanted: Request) -> Content:
        if wanted.name == "y":
            return b"other"
        asked.set()
        gate.wait()
        return opened(path)

    with running(resolve) as tftp, Client(tftp.address) as client:
        client.ask("x")
        asked.wait()
        client.ask("y")
        assert client.rest() == b"other"
        before = tftp.server.counters["abandoned"]
        gate.set()
        poll(lambda: tftp.server.counters["abandoned"] == before + 1)
        assert not any(_target(fd) == path for fd in Path("/proc/self/fd").iterdir())


def _target(fd: Path) -> Path | None:
    try:
        return fd.readlink()
    except OSError:
        return None


# Options


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"blksize": 1024}, {"blksize": "1024"}),
        ({"BLKSIZE": 1024, "TSize": 0}, {"BLKSIZE": "1024", "TSize": "5000"}),
        ({"tsize": 0, "bogus": 1, "timeout": 3}, {"tsize": "5000", "timeout": "3"}),
        ({"timeout": 2}, {"timeout": "2"}),
        ({"blksize": 99999999999, "multicast": ""}, {"blksize": "65464"}),
        ({"blksize": "65465"}, {"blksize": "65464"}),
        ({"windowsize": 4, "blksize": "abc"}, {"windowsize": "4"}),
    ],
)
def test_t03_t05_t10_the_oack_holds_what_was_accepted(asked: dict[str, object], answer: dict[str, str]) -> None:
    with running(from_dict({"x": noise(5000)})) as tftp, Client(tftp.address) as client:
        client.ask("x", asked)
        packet = client.receive()
        assert packet.opcode == OACK
        assert packet.options == answer


@pytest.mark.parametrize("options", [{"bogus": "1"}, {"blksize": "0"}, {"blksize": "7"}, {"timeout": "0"}])
def test_t10_no_option_accepted_means_plain_data(options: dict[str, str]) -> None:
    with running(from_dict({"x": noise(700)})) as tftp, Client(tftp.address) as client:
        client.ask("x", options)
        packet = client.receive()
        assert (packet.opcode, packet.number, packet.data) == (DATA, 1, noise(700)[:512])


def test_t10_the_resolver_sees_the_options_in_lower_case() -> None:
    seen: list[Request] = []

    def resolve(asked: Request) -> Content:
        seen.append(asked)
        return b"content"

    with running(resolve) as tftp, Client(tftp.address) as client:
        client.ask("/a//b", {"TSIZE": 0, "x": "Y"})
        client.receive()
        expected = Request("a/b", "127.0.0.1", client.port, "127.0.0.1", {"tsize": "0", "x": "Y"})
    assert seen == [expected]


def test_r05_edk2_asks_for_the_size_and_begins_again_from_the_same_port() -> None:
    content = noise(10_000)
    with running(from_dict({"boot.efi": content})) as tftp, Client(tftp.address) as client:
        client.ask("boot.efi", {"tsize": 0, "blksize": 1468, "windowsize": 4})
        assert client.receive().options == {"tsize": "10000", "blksize": "1468", "windowsize": "4"}
        client.error(8, b"User aborted the transfer")
        (probe,) = tftp.ended()
        assert len(tftp.server) == 0
        client.ask("boot.efi", {"blksize": 1468, "windowsize": 4})
        assert client.receive().options == {"blksize": "1468", "windowsize": "4"}
        client.ack(0)
        assert client.rest(blksize=1468, window=4) == content
        outcomes = [transfer.outcome for transfer in tftp.ended(2)]
        assert client.waiting() == [], "the ERROR is answered by silence"
    assert outcomes == ["probe", "complete"]
    assert probe.sent_bytes == 0


# Repeats


def test_t11_a_repeated_request_is_answered_by_the_same_session() -> None:
    with running(from_dict({"x": noise(3000)})) as tftp, Client(tftp.address) as client:
        client.ask("x", {"blksize": 1024})
        first = client.receive()
        client.ask("x", {"blksize": 1024})
        assert client.receive() == first, "from the same port of the server"
        assert len(tftp.server) == 1
        client.ack(0)
        assert client.rest(blksize=1024) == noise(3000)


def test_t11_a_repeated_request_without_options_gets_data_1_again() -> None:
    with running(from_dict({"x": noise(600)})) as tftp, Client(tftp.address) as client:
        client.ask("x")
        first = client.receive()
        client.ask("x")
        again = client.receive()
        assert (first.opcode, first.number) == (DATA, 1)
        assert again == first
        assert client.rest(first=again) == noise(600)


def test_t11_another_file_from_the_same_port_begins_at_once() -> None:
    with running(from_dict({"x": noise(3000), "y": noise(2000)})) as tftp, Client(tftp.address) as client:
        client.ask("x")
        assert client.receive().data == noise(3000)[:512]
        client.ask("y")
        assert client.rest() == noise(2000)
        assert [transfer.outcome for transfer in tftp.ended(2)] == ["aborted", "complete"]


def test_t11_a_machine_that_was_reset_in_the_middle_boots_from_the_same_port() -> None:
    content = noise(5000)
    with running(from_dict({"x": content})) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()
        client.ack(1)
        assert client.receive().number == 2
        old = client.peer
        client.ask("x")
        packet = client.receive()
        assert packet.number == 1
        assert packet.sender != old
        assert client.rest(first=packet) == content


def test_t11_a_delayed_copy_of_the_request_does_not_disturb_the_transfer() -> None:
    content = noise(5000)
    with running(from_dict({"x": content})) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()
        session = client.peer
        client.ack(1)
        assert client.receive().number == 2
        client.ask("x")
        stranger = client.receive()
        assert stranger.number == 1
        client.error(5, b"unknown transfer ID")
        client.peer = session
        client.ack(2)
        assert content[:1024] + client.rest(acknowledged=2) == content


# Refusals


def test_t20_a_write_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    asked: list[Request] = []

    def resolve(wanted: Request) -> Content | None:
        asked.append(wanted)
        return None

    with running(resolve) as tftp, Client(tftp.address) as client:
        for name in ("x", "../x", str(tmp_path / "x"), b"\xff" * 30, ""):
            client.send(request(WRQ, name, {"tsize": 5}))
            packet = client.receive()
            assert (packet.opcode, packet.number) == (ERROR, 2)
        assert len(tftp.server) == 0
    assert asked == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [b"../../etc/passwd", b"a\\..\\b", b"C:\\x", b"caf\xe9", b"x" * 513, b"", b"...", b"a\rb\x1b[31mc"]
)
def test_t21_t23_t24_bad_names_get_an_error_that_repeats_nothing(name: bytes) -> None:
    with running(lambda _: b"secret") as tftp, Client(tftp.address) as client:
        client.ask(name)
        packet = client.receive()
        assert (packet.opcode, packet.number, packet.data) == (ERROR, 2, b"file name not allowed")


@pytest.mark.parametrize("size", [4096, 60_000])
def test_t23_a_huge_datagram_gets_an_error(size: int) -> None:
    with running(lambda _: b"secret") as tftp, Client(tftp.address) as client:
        client.ask(b"n" * size)
        packet = client.receive()
        assert (packet.opcode, packet.number, packet.data) == (ERROR, 4, b"malformed request")


@pytest.mark.parametrize("mode", ["netascii", "mail"])
def test_t04_other_modes_are_refused(mode: str) -> None:
    with running(lambda _: b"x") as tftp, Client(tftp.address) as client:
        client.ask("x", mode=mode)
        assert client.receive().opcode == ERROR


@pytest.mark.parametrize(
    ("raised", "code", "outcome"),
    [
        (None, 1, "not-found"),
        (NotFound("no /srv/secret/x"), 1, "not-found"),
        (Refused("because"), 2, "refused"),
        (RuntimeError("at /srv/secret/x"), 0, "error"),
    ],
)
def test_t06_t24_each_failure_has_its_code_and_tells_nothing(raised: Exception | None, code: int, outcome: str) -> None:
    def resolve(asked: Request) -> Content | None:
        if asked.name == "good":
            return b"good"
        if raised is not None:
            raise raised
        return None

    with running(resolve) as tftp, Client(tftp.address) as client:
        client.ask("bad", {"tsize": 0})
        packet = client.receive()
        assert (packet.opcode, packet.number) == (ERROR, code)
        assert b"/" not in packet.data
        assert b"because" not in packet.data
        assert fetch(tftp.address, "good") == b"good"
        assert {transfer.outcome for transfer in tftp.ended(2)} == {outcome, "complete"}


@pytest.mark.parametrize("kind", ["directory", "fifo", "device", "longer", "text"])
def test_t04_what_is_not_a_regular_file_is_an_error_and_is_closed(tmp_path: Path, kind: str) -> None:
    def resolve(asked: Request) -> Content:
        if asked.name == "good":
            return b"good"
        if kind == "text":
            return "text"  # type: ignore[return-value]
        path = Path("/dev/zero") if kind == "device" else tmp_path / "x"
        if kind == "directory":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "longer":
            path.write_bytes(b"short")
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return OpenFile(fd, 100 if kind == "longer" else 0)

    with running(resolve) as tftp, Client(tftp.address) as client:
        client.ask("bad")
        packet = client.receive()
        assert (packet.opcode, packet.number, packet.data) == (ERROR, 0, b"server error")
        assert fetch(tftp.address, "good") == b"good"


def test_a_file_that_shrinks_while_it_is_served_ends_its_own_transfer_only(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(noise(100_000))
    with running(lambda asked: opened(path) if asked.name == "x" else b"good") as tftp, Client(tftp.address) as client:
        client.ask("x")
        packet = client.receive()
        os.truncate(path, 100)
        while packet.opcode == DATA:  # what was read before
            block = packet.number
            assert packet.data == noise(100_000)[512 * (block - 1) : 512 * block]
            client.ack(block)
            packet = client.receive()
        assert (packet.opcode, packet.number) == (ERROR, 0)
        assert [transfer.outcome for transfer in tftp.ended()] == ["error"]
        assert fetch(tftp.address, "good") == b"good"


def test_t25_requests_from_elsewhere_are_dropped_before_parsing() -> None:
    def admitted(address: str) -> bool:
        if address == "127.0.0.9":
            raise RuntimeError("the list cannot be read")
        return address == "127.0.0.2"

    with (
        running(lambda _: b"content", admitted=admitted) as tftp,
        Client(tftp.address) as stranger,
        Client(tftp.address, "127.0.0.9") as undecided,
    ):
        for client in (stranger, undecided):
            client.ask("x")
            client.ask("../x")
            client.send(request(WRQ, "x"))
        assert fetch(tftp.address, "x", source="127.0.0.2") == b"content"
        assert stranger.waiting() == []
        assert undecided.waiting() == []
        assert tftp.server.counters["not_admitted"] == 3


# Addresses


@pytest.mark.parametrize(
    ("bind", "asked", "source"),
    [
        ("0.0.0.0:0", "127.0.0.7", "127.0.0.1"),
        ("[::]:0", "::1", "::1"),
        ("[::]:0", "127.0.0.8", "127.0.0.1"),
        ("[::1]:0", "::1", "::1"),
        ("127.0.0.5:0", "127.0.0.5", "127.0.0.6"),
    ],
)
def test_t13_answers_come_from_the_address_that_was_asked(bind: str, asked: str, source: str) -> None:
    seen: list[tuple[str, str]] = []

    def resolve(wanted: Request) -> Content:
        seen.append((wanted.client, wanted.local))
        return noise(3000)

    with running(resolve, bind=bind) as tftp, Client((asked, tftp.address[1]), source) as client:
        client.ask("x", {"blksize": 1024})
        packet = client.receive()
        assert packet.opcode == OACK
        assert packet.sender[0] == asked
        client.ack(0)
        assert client.rest(blksize=1024) == noise(3000)
        client.send(request(WRQ, "x"))
        assert client.receive().sender == (asked, tftp.address[1])
    assert seen == [(source, asked)]


def test_a_taken_port_is_said_with_what_to_do() -> None:
    with running(lambda _: None) as tftp:
        host, port = tftp.address
        with pytest.raises(PortInUse) as raised:
            TftpServer(f"{host}:{port}", lambda _: None)
    assert str(port) in raised.value.message
    assert "ss -ulpn" in raised.value.hint


@pytest.mark.parametrize("bind", ["", "69", ":69", "host:69", "0.0.0.0:", "0.0.0.0:x", "0.0.0.0:65536", "192.0.2.1:0"])
def test_an_impossible_address_is_a_wrong_setting(bind: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        TftpServer(bind, lambda _: None)
    assert raised.value.where == "tftp_bind"


# Life


def test_stop_before_serve_and_twice() -> None:
    server = TftpServer("127.0.0.1:0", lambda _: None)
    server.stop()
    server.serve()
    server.stop()
    again = TftpServer("{}:{}".format(*server.address), lambda _: None)
    assert again.address == server.address
    again.stop()
    again.serve()


def test_stop_ends_transfers_and_reports_them() -> None:
    with running(from_dict({"x": noise(5000)})) as tftp, Client(tftp.address) as client:
        client.ask("x")
        client.receive()
        tftp.barrier()
    assert [transfer.outcome for transfer in tftp.transfers] == ["stopped"]


def test_a_report_that_fails_is_not_the_transfers_concern() -> None:
    called = threading.Event()

    def on_end(_: object) -> None:
        called.set()
        raise RuntimeError("the database is gone")

    server = TftpServer("127.0.0.1:0", lambda _: b"content", on_end=on_end)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        for _ in range(3):
            assert fetch(server.address, "x") == b"content"
        poll(called.is_set)
        assert thread.is_alive()
    finally:
        server.stop()
        thread.join()


def test_r38_sessions_are_bounded_by_a_limit() -> None:
    limits = replace(CALM, sessions=20)
    with running(from_dict({"x": noise(2000)}), limits=limits) as tftp:
        clients = [Client(tftp.address) for _ in range(60)]
        try:
            for client in clients:
                client.send(request(RRQ, "x"))
                client.receive()
                assert len(tftp.server) <= 20
            outcomes = [transfer.outcome for transfer in tftp.ended(40)]
            assert set(outcomes) == {"evicted"}
        finally:
            for client in clients:
                client.socket.close()
        assert fetch(tftp.address, "x") == noise(2000)
