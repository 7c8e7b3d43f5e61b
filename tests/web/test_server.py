"""Our HTTP server below a small application: what clients do to it, quick, slow and odd."""

import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import free_port, wait_for

pytestmark = pytest.mark.slow
TEXT_KIB = b"0123456789abcdef" * 64


@dataclass
class Small:
    """The running server."""

    port: int
    file: Path
    process: subprocess.Popen[bytes]
    log: Path
    mistaken: bool = False
    """Whether a traceback is expected."""

    def connect(self, *, small: bool = False) -> socket.socket:
        """A connection; a small one takes little at a time."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def ask(self, data: bytes) -> bytes:
        """All that comes back until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            return everything(sock)


def everything(sock: socket.socket) -> bytes:
    """Read to the end."""
    found = bytearray()
    while data := sock.recv(65536):
        found += data
    return bytes(found)


def one(sock: socket.socket) -> tuple[bytes, bytes]:
    """One answer with its length given: head and body."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += sock.recv(1)
    head = bytes(data)
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    body = bytearray()
    while len(body) < length:
        more = sock.recv(length - len(body))
        assert more
        body += more
    return head, bytes(body)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """A server of the test's own, with room for 24 connections."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(7).randbytes(24 << 20))
    port, log = free_port(), tmp_path / "log"
    program = Path(__file__).parents[1] / "smallserver.py"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, str(program), str(port), "24", str(file)], stdout=out, stderr=out)
    found = Small(port, file, process, log)

    def up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(up, 60, "the small server")
    yield found
    process.send_signal(signal.SIGTERM)
    process.wait(40)
    assert ("Traceback" in log.read_text()) == found.mistaken


def get(path: str, more: str = "") -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()


def post(path: str, body: bytes, more: str = "") -> bytes:
    """A request with a body."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def test_requests_of_one_connection_one_after_another_and_sent_ahead(small: Small) -> None:
    with small.connect() as sock:
        for number in range(5):
            sock.sendall(get(f"/echo?{number}"))
            head, body = one(sock)
            assert body == str(number).encode()
            assert b"keep-alive" in head
        sock.sendall(b"".join(post("/echo", b"x%d" % number) for number in range(9)))
        assert [one(sock)[1] for _ in range(9)] == [b"x%d" % number for number in range(9)]
        # what was ignored of a body is not the next request
        sock.sendall(post("/ignore", b"GET /echo?smuggled HTTP/1.1\r\n\r\n") + get("/echo?last"))
        assert (one(sock)[1], one(sock)[1]) == (b"refused", b"last")


def test_a_client_that_closes_its_side_after_asking_is_answered(small: Small) -> None:
    with small.connect() as sock:
        sock.sendall(get("/echo?1") + get("/echo?2"))
        sock.shutdown(socket.SHUT_WR)
        answers = everything(sock)
    assert answers.count(b"HTTP/1.1 200 OK") == 2


def test_one_who_wants_to_hear_continue_hears_it_once(small: Small) -> None:
    with small.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        head, body = one(sock)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == b"abc"


def test_large_bodies_are_read_by_those_who_want_them(small: Small) -> None:
    body = random.Random(1).randbytes(1 << 20)
    answer = small.ask(post("/echo", body))
    assert answer.partition(b"\r\n\r\n")[2] == body
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:5000], body[5000:])) + b"0\r\n\r\n"
    answer = small.ask(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
    assert answer.partition(b"\r\n\r\n")[2] == body
    assert b"403" in small.ask(post("/ignore", body))


def test_more_large_bodies_than_are_read_at_a_time_take_turns(small: Small) -> None:
    body = random.Random(2).randbytes(1 << 18)
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(small.ask(post("/echo", body)))) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [answer.partition(b"\r\n\r\n")[2] == body for answer in answers] == [True] * 12


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\nHost: x\n\n", b"400 Bad Request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414 Request URI Too Long"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", b"431 Request Header Fields Too Large"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, b"431 Request Header Fields Too Large"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n", b"501 Not Implemented"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_s73_what_is_no_request_is_refused_in_words(small: Small, data: bytes, status: bytes) -> None:
    answer = small.ask(data)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n"), answer[:200]
    assert b"application/problem+json" in answer
    assert b'"hint"' in answer


def test_files_come_whole_to_who_reads_slowly_and_hold_no_thread(small: Small) -> None:
    slow = [small.connect(small=True) for _ in range(8)]  # twice the threads
    for each in slow:
        each.sendall(get("/file"))
        assert each.recv(9) == b"HTTP/1.1 "
    with small.connect() as sock:
        for _ in range(5):
            sock.sendall(get("/echo?quick"))
            assert one(sock)[1] == b"quick"
    wanted = hashlib.sha256(small.file.read_bytes()).digest()
    for each in slow:
        _, body = one(each)
        assert hashlib.sha256(body).digest() == wanted
        each.sendall(get("/echo?and+then"))  # and the connection goes on
        assert one(each)[1] == b"and+then"
        each.close()


def test_so_do_answers_from_memory(small: Small) -> None:
    slow = [small.connect(small=True) for _ in range(8)]
    for each in slow:
        each.sendall(get("/large?900"))
    with small.connect() as sock:
        sock.sendall(get("/echo?quick"))
        assert one(sock)[1] == b"quick"
    for each in slow:
        assert one(each)[1] == TEXT_KIB * 900
        each.close()
    # and one that is longer than is kept
    assert small.ask(get("/large?20000", "Connection: close\r\n")).partition(b"\r\n\r\n")[2] == TEXT_KIB * 20_000


def test_a_stream_s_lines_go_out_one_by_one(small: Small) -> None:
    with small.connect() as sock, small.connect() as other:
        sock.sendall(get("/stream"))
        heard = b""
        while b"first\n" not in heard:
            heard += sock.recv(1000)
        other.sendall(get("/next"))
        assert one(other)[1] == b"yes"
        while b"0\r\n\r\n" not in heard:
            heard += sock.recv(1000)
        assert b"second\n" in heard


def test_a_file_that_shrinks_ends_the_connection(small: Small) -> None:
    with small.connect(small=True) as sock:
        sock.sendall(get("/file"))
        assert sock.recv(9) == b"HTTP/1.1 "
        os.truncate(small.file, 1 << 20)
        assert len(everything(sock)) < 24 << 20
    assert b"quick" in small.ask(get("/echo?quick", "Connection: close\r\n"))


def test_who_goes_away_half_way_leaves_nothing_behind(small: Small) -> None:
    small.ask(get("/echo?warm", "Connection: close\r\n"))
    worker = next(
        int(each.name)
        for each in Path("/proc").glob("[0-9]*")
        if (each / "stat").exists()
        and (each / "stat").read_text().rpartition(")")[2].split()[1] == str(small.process.pid)
    )

    def descriptors() -> int:
        return len(list(Path(f"/proc/{worker}/fd").iterdir()))

    before = wait_for(descriptors)
    for data in (b"G", get("/file"), get("/large?900"), get("/large?20000"), post("/echo", b"x" * 100)[:-50]):
        for _ in range(4):
            sock = small.connect(small=True)
            sock.sendall(data)
            if data.endswith(b"\r\n\r\n"):
                sock.recv(1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as of a power cut
            sock.close()
    wait_for(lambda: descriptors() <= before, 30, "as few descriptors as before")


def test_when_all_connections_are_taken_the_longest_waiting_make_room(small: Small) -> None:
    idle = [small.connect() for _ in range(60)]  # there is room for 24
    for number in range(10):
        assert b"quick" in small.ask(get(f"/echo?quick{number}", "Connection: close\r\n"))
    for each in idle:
        each.close()


def test_what_is_being_answered_when_it_stops_is_finished(small: Small) -> None:
    with small.connect() as sock, small.connect(small=True) as slow:
        slow.sendall(get("/file"))
        assert slow.recv(9) == b"HTTP/1.1 "
        sock.sendall(get("/sleep"))
        small.process.send_signal(signal.SIGTERM)
        _, body = one(sock)
        assert body == b"awake"
        assert hashlib.sha256(one(slow)[1]).digest() == hashlib.sha256(small.file.read_bytes()).digest()


def test_a_stream_does_not_keep_it_from_ending(small: Small) -> None:
    with small.connect() as sock:
        sock.sendall(get("/stream"))
        heard = b""
        while b"first\n" not in heard:
            heard += sock.recv(1000)
        small.process.send_signal(signal.SIGTERM)
        assert b"second" not in everything(sock)


def test_a_header_that_is_none_is_the_application_s_mistake(small: Small) -> None:
    small.mistaken = True
    answer = small.ask(get("/header"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"b: c" not in answer
    assert b"quick" in small.ask(get("/echo?quick", "Connection: close\r\n"))
