"""So many connections from one address and no more (S73): a small server of ours, and each listener of a service."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Served, free_port, served_environment, wait_for
from slowly import crowd, honest

from provisioner.web.server.sources import Sources

ROOM, MOST, PROXY = 40, 8, "127.0.0.9"


@contextmanager
def serving(tmp_path: Path, host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """A small server with room for 40 connections, of which one address may have 8; and where its log is."""
    file, port = tmp_path / "file", free_port()
    with file.open("wb") as large:
        large.truncate(24 << 20)
    program = Path(__file__).parents[1] / "smallserver.py"
    command = [sys.executable, program, port, ROOM, file, MOST, f"{PROXY}/32"]
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen([str(each) for each in command], stdout=out, stderr=out)

    def up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, port)) == 0

    try:
        wait_for(up, 60, "the small server")
        yield host, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    assert "Traceback" not in (tmp_path / "log").read_text()


def connect(where: tuple[str, int], source: str, stack: ExitStack, *, takes: int = 0) -> socket.socket:
    """A connection from that loopback address; one that ``takes`` little has asked for the file and reads no more."""
    sock = stack.enter_context(socket.socket())
    if takes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.bind((source, 0))
    sock.connect(where)
    if takes:
        sock.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(takes) == b"HTTP/1.1 "[:takes]
    return sock


def asks(sock: socket.socket, word: str) -> bool:
    """Whether a request is answered on it."""
    try:
        sock.sendall(f"GET /echo?{word} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        heard = b""
        while word.encode() not in heard and (data := sock.recv(4096)):
            heard += data
        return word.encode() in heard
    except OSError:
        return False


def ended(sock: socket.socket) -> bool:
    """Whether the server has ended it."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.settimeout(60)


@pytest.mark.slow
def test_s73_who_is_silent_longest_makes_room_for_others_of_the_same_address(tmp_path: Path) -> None:
    with serving(tmp_path) as where, ExitStack() as stack:
        others = [connect(where, "127.0.0.3", stack) for _ in range(MOST)]
        idle = [connect(where, "127.0.0.2", stack) for _ in range(MOST)]
        assert all(asks(each, "known") for each in idle[4:])  # these were silent for less long
        fresh = [connect(where, "127.0.0.2", stack) for _ in range(4)]
        assert all(asks(each, f"quick{number}") for number, each in enumerate(fresh))
        wait_for(lambda: all(ended(each) for each in idle[:4]), 30, "the end of the longest silent")
        assert not any(ended(each) for each in [*idle[4:], *others])
        assert all(asks(each, "still") for each in [*idle[4:], *others])


@pytest.mark.slow
def test_s73_an_address_that_is_busy_with_all_it_may_have_gets_no_more_and_others_do(tmp_path: Path) -> None:
    with serving(tmp_path) as where, ExitStack() as stack:
        busy = [connect(where, "127.0.0.2", stack, takes=9) for _ in range(MOST)]
        for number in range(3):
            assert not asks(connect(where, "127.0.0.2", stack), f"more{number}")
            assert asks(connect(where, "127.0.0.3", stack), f"other{number}")
        assert not any(ended(each) for each in busy)  # what is being answered goes on
        busy.pop().close()
        wait_for(lambda: asks(connect(where, "127.0.0.2", stack), "again"), 30, "a place that is free again")
    assert (tmp_path / "log").read_text().count("too many connections from one address") == 1


@pytest.mark.slow
def test_s73_a_trusted_proxy_speaks_for_many(tmp_path: Path) -> None:
    with serving(tmp_path) as where, ExitStack() as stack:
        behind = [connect(where, PROXY, stack) for _ in range(3 * MOST)]
        assert all(asks(each, "one-of-many") for each in behind)


class Connected:
    """As much of a connection as is counted."""

    def __init__(self, host: str) -> None:
        self.peer = (host, 1)


@pytest.mark.parametrize(
    ("hosts", "together"),
    [
        (["10.0.2.1", "10.0.2.1", "::ffff:10.0.2.1"], True),
        (["fe80::1%eth0", "fe80::2%eth0", "fe80::ffff:1"], True),
        (["2001:db8::1", "2001:db8:0:0:1::1", "2001:db8::ffff"], True),
        (["10.0.2.1", "10.0.2.2", "10.0.2.3"], False),
        (["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"], False),
        (["10.9.0.1", "10.9.0.1", "10.9.0.1"], False),
        (["fd00:9::1", "fd00:9::1", "fd00:9::1"], False),
    ],
)
def test_s73_which_addresses_are_one_source(hosts: list[str], together: bool) -> None:
    sources = Sources(2, ("10.9.0.0/16", "fd00:9::1/64"))
    there = [Connected(host) for host in hosts]
    for each in there[:2]:
        assert sources.full(each.peer) is None
        sources.add(each)  # type: ignore[arg-type]
    assert sources.full(there[2].peer) == (there[:2] if together else None)
    for each in there[:2]:
        sources.remove(each)  # type: ignore[arg-type]
        sources.remove(each)  # type: ignore[arg-type]
    assert sources.full(there[2].peer) is None
    assert sources._there == {}


PLANES: dict[str, Callable[[Served], str]] = {
    "boot": lambda served: served.boot,
    "media": lambda served: served.media,
    "admin": lambda served: served.admin,
}


@pytest.mark.slow
def test_s73_each_listener_has_the_limit_of_the_setting(_template: Path, tmp_path: Path) -> None:
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state") | {"PROVISIONER_CONNECTIONS_PER_ADDRESS": "20"}
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    served.start()
    try:
        for plane, address in PLANES.items():
            host, _, port = address(served).rpartition("/")[2].partition(":")
            with crowd() as slow:
                for _ in range(100):
                    slow.join((host, int(port)), "silent")
                most = 20 * (1 if plane == "admin" else 2)  # the others have two processes
                wait_for(lambda slow=slow, most=most: slow.there() <= most, 15, f"{plane} to end the others")
                url = f"{address(served)}/healthz"
                honest(lambda url=url: served.http(url, source="127.0.0.5").status == 200)
                honest(lambda url=url: served.http(url).status == 200, 5)
    finally:
        served.stop()
    assert "Traceback" not in served.log.read_text()
