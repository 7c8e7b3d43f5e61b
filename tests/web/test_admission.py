"""Many large downloads: some at full speed, the others a little until it is their turn; none refused, none cut."""

import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from hypothesis import given
from hypothesis import strategies as st

from provisioner.web.server.admission import LARGE, TURN_SECONDS, Places

pytestmark = pytest.mark.slow

SIZE = 48 << 20


@given(
    st.sampled_from([1, 2, 8]),
    st.lists(st.tuples(st.sampled_from(["enter", "leave", "turn", "later"]), st.integers(0, 7)), max_size=120),
)
def test_s73_there_are_never_too_many_and_nobody_is_forgotten(most: int, steps: list[tuple[str, int]]) -> None:
    clock, running, asked = [0.0], set[int](), set[int]()
    places: Places[int] = Places(most, lambda conn: conn % 3 or None, running.add, lambda: clock[0])
    for step, conn in steps:
        if step == "enter" and conn not in asked:
            asked.add(conn)
            if places.enter(conn, LARGE):
                running.add(conn)
        elif step == "leave":
            asked.discard(conn)
            running.discard(conn)
            places.leave(conn)
        elif step == "turn":
            running -= set(places.turn())
        else:
            clock[0] += TURN_SECONDS / 2
        waiting = places.waiting()
        assert running | set(waiting) == asked
        assert not running & set(waiting)
        assert len(running) <= most
        for source in (1, 2):
            assert sum(each % 3 == source for each in running) <= max(1, most // 4)
        # Room is left only where everybody who waits is one too many of his address.
        assert len(running) == most or all(each % 3 for each in waiting)


def test_small_ones_never_wait_and_zero_means_no_limit() -> None:
    limited: Places[int] = Places(1, lambda conn: conn, lambda conn: None)
    assert [limited.enter(number, LARGE) for number in range(3)] == [True, False, False]
    assert limited.enter(9, LARGE - 1)
    unlimited: Places[int] = Places(0, lambda conn: 1, lambda conn: None)
    assert all(unlimited.enter(number, LARGE) for number in range(100))


def test_who_is_slow_makes_room_and_comes_again() -> None:
    clock, told = [0.0], list[int]()
    places: Places[int] = Places(1, lambda conn: conn, told.append, lambda: clock[0])
    assert places.enter(1, LARGE)
    assert not places.enter(2, LARGE)
    assert places.turn() == []
    clock[0] += TURN_SECONDS + 1
    assert places.turn() == [1]
    assert told == [2]
    places.leave(2)
    assert told == [2, 1]
    clock[0] += TURN_SECONDS + 1
    assert places.turn() == []  # nobody waits


@pytest.fixture(scope="module")
def service(_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """Two downloads at a time, and the path of a large file."""
    base = tmp_path_factory.mktemp("downloads")
    shutil.copytree(_template, base / "state")
    content = os.urandom(1 << 20) * (SIZE >> 20)
    sha256 = hashlib.sha256(content).hexdigest()
    path = base / "state" / "media" / "sha256" / sha256[:2] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    served = Served(
        served_environment(base / "state") | {"PROVISIONER_MEDIA_DOWNLOADS": "2"}, base / "state", log=base / "log"
    )
    served.start()
    yield served, f"/media/sha256/{sha256}/initrd.img"
    served.stop()


@dataclass
class Download:
    """One machine that fetches the file from its own address."""

    served: Served
    path: str
    number: int
    heard: int = 0
    digest: str = ""
    sock: socket.socket = field(default_factory=socket.socket)

    def ask(self) -> "Download":
        """Send the request; nothing is read."""
        host, port = self.served.environment["PROVISIONER_MEDIA_BIND"].rsplit(":", 1)
        self.sock.bind((f"127.0.3.{self.number}", 0))
        self.sock.connect(("127.0.0.1" if host == "0.0.0.0" else host, int(port)))
        self.sock.sendall(f"GET {self.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return self

    def read(self) -> "Download":
        """Read it in a thread."""
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        told, head = hashlib.sha256(), b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(1)
        assert head.startswith(b"HTTP/1.1 200")
        while data := self.sock.recv(1 << 16):
            told.update(data)
            self.heard += len(data)
        self.digest = told.hexdigest()
        self.sock.close()


@pytest.mark.slow
def test_who_waits_hears_a_little_and_gets_all_of_it(service: tuple[Served, str]) -> None:
    served, path = service
    idle = [Download(served, path, number).ask() for number in (1, 2)]
    # Both have their answer, and take nothing of it.
    for each in idle:
        assert each.sock.recv(1, socket.MSG_PEEK)
    third = Download(served, path, 3).ask().read()
    for _ in range(2):
        heard = wait_for(lambda: third.heard, what="the beginning")
        wait_for(lambda heard=heard: third.heard > heard, what="a little more")
    assert third.heard < SIZE
    idle[0].sock.close()
    assert wait_for(lambda: third.digest, what="all of it") in path
    idle[1].sock.close()


@pytest.mark.slow
def test_a_storm_of_downloads_ends_whole(service: tuple[Served, str]) -> None:
    served, path = service
    storm = [Download(served, path, 10 + number).ask().read() for number in range(24)]
    wait_for(lambda: all(each.digest for each in storm), what="all downloads")
    assert {each.digest for each in storm} == {path.split("/")[3]}
    assert {each.heard for each in storm} == {SIZE}
