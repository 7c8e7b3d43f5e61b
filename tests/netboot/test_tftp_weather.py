"""Real sockets and other people's clients through a network that loses, copies and reorders (T12, T14, R10).

The exact counts are in test_tftp_simulated.py, where time does not depend on how busy this machine is.
"""

import random
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.netboot.tftp import Content, Limits, Request
from tests.netboot.lossy import Proxy, Weather, lossy
from tests.netboot.tftp_client import Client, fetch_patiently, need, poll, running

pytestmark = pytest.mark.slow

WEATHERS = {
    "1%": Weather(loss=0.01),
    "5%": Weather(loss=0.05),
    "20%": Weather(loss=0.2),
    "copies": Weather(copies=0.3),
    "late": Weather(late=0.2),
    "all": Weather(loss=0.05, copies=0.1, late=0.1),
}
HASTY = Limits(first_resend=0.1, least_resend=0.03, resend_cap=0.2, patience=1.0, linger=1.0)


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def resolve(asked: Request) -> Content | None:
    kind, _, size = asked.name.rpartition("-")
    return content_of(int(size)) if kind == "sized" else None


def losses(proxy: Proxy) -> int:
    return sum(proxy.lost.values())


@pytest.mark.parametrize("windowsize", [None, 4, 16])
@pytest.mark.parametrize("weather", WEATHERS)
def test_t12_t14_r10_every_size_comes_whole_through_bad_weather(weather: str, windowsize: int | None) -> None:
    """Nothing, one block, some blocks, and one byte more and less."""
    blksize = 512
    options: dict[str, object] = {"blksize": blksize, "tsize": 0}
    if windowsize:
        options["windowsize"] = windowsize
    sizes = [0, *(n * blksize + more for n in (1, 2, 24) for more in (-1, 0, 1))]
    with running(resolve, limits=HASTY) as tftp, lossy(tftp.address, WEATHERS[weather], seed=1) as proxy:
        for size in sizes:
            assert fetch_patiently(proxy.address, f"sized-{size}", options) == content_of(size)
        poll(lambda: len(tftp.server) == 0)
        # A lost last ACK is no failure; the report of it may come a little later.
        poll(lambda: {each.size for each in tftp.transfers if each.outcome == "complete"} == set(sizes))
    assert losses(proxy) > 0 or WEATHERS[weather].loss <= 0.01


@pytest.mark.parametrize("weather", ["5%", "all"])
def test_t12_r10_fifty_clients_at_once_in_bad_weather(weather: str) -> None:
    content = content_of(20_000)
    results: list[bytes] = []
    with running(resolve, limits=HASTY) as tftp, lossy(tftp.address, WEATHERS[weather], seed=2) as proxy:

        def one(number: int) -> None:
            options: Mapping[str, object] = {"blksize": 1024} | ({"windowsize": 4} if number % 2 else {})
            results.append(fetch_patiently(proxy.address, "sized-20000", options))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [content] * 50
        poll(lambda: len(tftp.server) == 0)
    assert losses(proxy) > 50


def test_r10_the_number_of_blocks_sent_is_explained_by_what_got_lost() -> None:
    """With calm timers: the server's clock resends only what was lost, however slow this machine is."""
    limits = Limits(first_resend=1.0, least_resend=1.0)
    blocks = 400
    with running(resolve, limits=limits) as tftp, lossy(tftp.address, Weather(loss=0.01), seed=3) as proxy:
        name = f"sized-{512 * (blocks - 1)}"
        assert fetch_patiently(proxy.address, name, {"blksize": 512}) == content_of(512 * (blocks - 1))
        lost = losses(proxy)
        sent = proxy.seen["data back"]
    assert lost > 0
    assert blocks <= sent <= blocks + lost + 3


def test_t12_copies_of_everything_cost_the_server_nothing_in_lockstep() -> None:
    limits = Limits(first_resend=60, least_resend=60, resend_cap=60)
    with running(resolve, limits=limits) as tftp, lossy(tftp.address, Weather(copies=1.0), seed=4) as proxy:
        assert fetch_patiently(proxy.address, "sized-50000", {"blksize": 512}) == content_of(50_000)
        assert proxy.seen["data back"] == 50_000 // 512 + 1


@pytest.mark.parametrize("weather", ["5%", "copies", "all"])
@pytest.mark.parametrize("program", ["curl", "atftp", "atftp window", "tftp-hpa", "busybox"])
def test_t12_r10_other_clients_in_bad_weather(tmp_path: Path, program: str, weather: str) -> None:
    """The first two datagrams are spared: curl repeats a request after 30 s, and atftp gives up at a second OACK.

    With options curl asks for a timeout of 6 s, and gets it, at each loss.
    """
    into = tmp_path / "got"
    size = 60_000
    spared = replace(WEATHERS[weather], spared=2)
    with running(resolve, limits=Limits()) as tftp, lossy(tftp.address, spared, seed=5) as proxy:
        port, name = str(proxy.address[1]), f"sized-{size}"
        local = ["-l", str(into), "127.0.0.1", port]
        command = {
            "curl": [need("curl"), "-sS", "--tftp-no-options", "-o", str(into), f"tftp://127.0.0.1:{port}/{name}"],
            "atftp": [need("atftp"), "--option", "blksize 1428", "-g", "-r", name, *local],
            "atftp window": [need("atftp"), "--option", "windowsize 4", "-g", "-r", name, *local],
            "tftp-hpa": [need("tftp"), "-m", "binary", "127.0.0.1", port, "-c", "get", name, str(into)],
            "busybox": [need("busybox"), "tftp", "-g", "-b", "1428", "-r", name, *local],
        }[program]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        assert into.read_bytes() == content_of(size)


def test_t13_behind_translation_only_the_single_port_is_heard() -> None:
    """Answers from another port do not come through; from the port that was asked they do, losses or not."""
    with (
        running(resolve, limits=HASTY) as tftp,
        lossy(tftp.address, Weather(), seed=6, nat=True) as proxy,
        Client(proxy.address) as client,
    ):
        client.ask("sized-5000", {"blksize": 1024})
        poll(lambda: proxy.lost["translated"] >= 3)
        assert client.waiting() == []
    for weather in WEATHERS.values():
        with (
            running(resolve, limits=HASTY, single_port=True) as tftp,
            lossy(tftp.address, weather, seed=7, nat=True) as proxy,
        ):
            for window in (1, 4):
                options = {"blksize": 1024, "windowsize": window}
                assert fetch_patiently(proxy.address, "sized-20000", options) == content_of(20_000)
            assert proxy.lost["translated"] == 0


@pytest.mark.parametrize("program", ["curl", "atftp"])
def test_t13_other_clients_behind_translation(tmp_path: Path, program: str) -> None:
    into = tmp_path / "got"
    with (
        running(resolve, limits=Limits(), single_port=True) as tftp,
        lossy(tftp.address, Weather(), seed=8, nat=True) as proxy,
    ):
        port = str(proxy.address[1])
        command = {
            "curl": [need("curl"), "-sS", "-o", str(into), f"tftp://127.0.0.1:{port}/sized-60000"],
            "atftp": [need("atftp"), "-g", "-r", "sized-60000", "-l", str(into), "127.0.0.1", port],
        }[program]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        assert into.read_bytes() == content_of(60_000)
    assert proxy.seen["other"] == 0
