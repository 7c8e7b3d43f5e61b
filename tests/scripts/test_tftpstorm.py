"""The load client of `scripts/bench storm`, beside the TFTP server: what it counts can be relied on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchkit import tftpclient

from tests.netboot.tftp_process import child, content_of

pytestmark = pytest.mark.slow
SIZE = 100_000


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    with tftpclient.compiled() as path:
        yield path


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    with child() as running:
        yield running.address


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(content_of(SIZE))
    return path


def asked(program: Path, server: tuple[str, int], compare: Path, *words: object, name: str = "") -> dict[str, Any]:
    host, port = server
    file = name or f"file-{compare.stat().st_size}"
    return tftpclient.ask(program, "--host", host, "--port", port, "--file", file, "--compare", compare, *words)


@pytest.mark.parametrize("terms", [(), ("--blksize", 512), ("--windowsize", 16), ("--blksize", 1000)])
def test_all_clients_complete(program: Path, server: tuple[str, int], content: Path, terms: tuple[object, ...]) -> None:
    told = asked(program, server, content, "--clients", 50, *terms)
    assert told["completed"] == told["clients"] == 50, told
    assert told["bytes"] == 50 * SIZE
    blksize = dict(zip(terms[::2], terms[1::2], strict=True)).get("--blksize", 1428)
    assert told["data"] == 50 * (SIZE // int(str(blksize)) + 1)
    assert 0 < told["p50"] <= told["p99"] <= told["max"] <= told["wall"]


def test_windows_are_acknowledged_as_a_whole(program: Path, server: tuple[str, int], content: Path) -> None:
    told = asked(program, server, content, "--windowsize", 16)
    blocks = SIZE // 1428 + 1
    assert told["acks"] == 1 + -(-blocks // 16), told  # one of them is the OACK's


@pytest.mark.parametrize("at", [0, 1427, 1428, SIZE - 1])
def test_one_wrong_byte_is_noticed(program: Path, server: tuple[str, int], content: Path, at: int) -> None:
    wrong = bytearray(content.read_bytes())
    wrong[at] ^= 1
    content.write_bytes(wrong)
    told = asked(program, server, content, "--clients", 3)
    assert (told["completed"], told["wrong"]) == (0, 3), told
    assert f"wrong bytes in block {at // 1428 + 1}" in told["first_problem"]


@pytest.mark.parametrize("size", [SIZE - 1, SIZE - 1428])
def test_another_size_is_noticed(program: Path, server: tuple[str, int], content: Path, size: int) -> None:
    content.write_bytes(content_of(size))
    told = asked(program, server, content, name=f"file-{SIZE}")
    assert (told["completed"], told["odd"]) == (0, 1), told  # by tsize, before a byte came


def test_losses_are_as_asked_and_mended(program: Path, server: tuple[str, int], content: Path) -> None:
    words = ("--clients", 20, "--loss-in", 3, "--loss-out", 3, "--timeout", 0.2)
    told = asked(program, server, content, *words)
    assert told["completed"] == 20, told
    received, sent = told["data"] + told["repeats"] + told["lost_in"], told["acks"] + 20
    assert 0.01 < told["lost_in"] / received < 0.06, told
    assert 0.01 < told["lost_out"] / sent < 0.06, told


def test_losses_are_mended_in_windows(program: Path, server: tuple[str, int], content: Path) -> None:
    words = ("--clients", 20, "--windowsize", 16, "--loss-in", 3, "--loss-out", 3, "--timeout", 0.2)
    told = asked(program, server, content, *words)
    assert told["completed"] == 20, told
    assert told["lost_in"] > 0, told


def test_half_open_sessions_stay_beside(program: Path, content: Path) -> None:
    with child() as running:
        told = asked(program, running.address, content, "--clients", 5, "--half-open", 40)
        assert (told["completed"], told["half_open_answered"]) == (5, 40), told
        sessions = running.state()["counters"]
        assert sessions["requests"] >= 45, sessions


def test_a_missing_file_and_a_server_that_is_not_there(program: Path, server: tuple[str, int], content: Path) -> None:
    told = asked(program, server, content, name="nothing")
    assert (told["completed"], told["refused"]) == (0, 1), told
    assert "ERROR 1" in told["first_problem"]
    told = asked(program, ("127.0.0.77", 9), content, "--timeout", 0.05, "--retries", 1)
    assert told["completed"] == 0, told
    assert told["refused"] + told["timed_out"] == 1, told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--host", "192.0.2.1"), "127.0.0.0/8"),
        (("--host", "localhost"), "127.0.0.0/8"),
        (("--host", "::1"), "127.0.0.0/8"),
        (("--source", "10.0.0.1"), "127.0.0.0/8"),
        (("--source", "127.255.255.250", "--clients", "100"), "leave 127.0.0.0/8"),
        (("--clients", "0"), "from 1 to 20000"),
        (("--clients", "many"), "from 1 to 20000"),
        (("--nonsense",), "--help"),
    ],
)
def test_only_loopback_and_only_what_makes_sense(
    program: Path, content: Path, words: tuple[str, ...], why: str
) -> None:
    command = [program, "--file", "x", "--compare", content, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
