"""Several processes at TFTP's port: the kernel deals out the clients, and each client stays where it is (P3, R38)."""

import os
import select
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Served, served_environment, wait_for
from ownservice import own_service
from played import processes

from provisioner.errors import PortInUse
from provisioner.netboot.children import tftp_ports
from provisioner.netboot.tftp import Limits, TftpServer, Transfer
from provisioner.netboot.tftp.sockets import open_port
from provisioner.settings import Settings
from tests.netboot.tftp_client import CALM, PATIENCE, Client, fetch, poll

CONTENT = bytes(range(256)) * 200
LOADER = "grub/grub.cfg"


def settings(port: int, workers: int) -> Settings:
    return Settings(tftp_bind=f"127.0.0.1:{port}", tftp_workers=workers)


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def servers(count: int, port: int, *, single_port: bool = False) -> Iterator[list[list[Transfer]]]:
    """So many servers at one port, and how the transfers of each ended."""
    ended: list[list[Transfer]] = [[] for _ in range(count)]
    with ExitStack() as stack:
        for sock, transfers in zip(tftp_ports(settings(port, count)), ended, strict=True):
            server = TftpServer(
                sock, lambda _: CONTENT, on_end=transfers.append, limits=CALM.divided(count), single_port=single_port
            )
            thread = threading.Thread(target=server.serve)
            thread.start()
            stack.callback(thread.join, PATIENCE)
            stack.callback(server.stop)
        yield ended


@pytest.mark.parametrize("single_port", [False, True])
def test_clients_are_dealt_out_and_each_is_served_by_one(port: int, single_port: bool) -> None:
    clients = 40
    with servers(2, port, single_port=single_port) as ended:
        for _ in range(clients):
            assert fetch(("127.0.0.1", port), "x", {"blksize": 1024, "windowsize": 4}) == CONTENT
        poll(lambda: sum(map(len, ended)) == clients)
    assert all(ended), "2 in 10^12 that one gets none by chance"
    assert {transfer.outcome for each in ended for transfer in each} == {"complete"}
    assert {transfer.resends for each in ended for transfer in each} == {0}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("reusing", [False, True])
def test_a_port_of_another_program_is_in_use(port: int, workers: int, reusing: bool) -> None:
    """However many processes; one that lets others in is noticed by `serve`, which asks for the port alone first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reusing)
        other.bind(("127.0.0.1", port))
        if reusing and workers > 1:
            for each in tftp_ports(settings(port, workers)):
                each.close()
            return
        with pytest.raises(PortInUse) as raised:
            tftp_ports(settings(port, workers))
    assert str(port) in raised.value.message
    assert "ss -ulpn" in raised.value.hint


def test_one_process_has_its_port_alone(port: int) -> None:
    (only,) = tftp_ports(settings(port, 1))
    with only, pytest.raises(PortInUse):
        open_port(f"127.0.0.1:{port}", 1 << 16, one_of_many=True)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 16])
def test_r38_all_shares_together_are_no_more_than_the_whole(workers: int) -> None:
    whole = Limits()
    share = whole.divided(workers)
    for name in ("sessions", "waiting", "half_open_per_client", "crowd", "cache_bytes", "source_rate", "burst"):
        assert 0 < getattr(share, name) * workers <= getattr(whole, name), name
    assert share.resolvers >= 4, "one slow client may keep two"
    assert share.patience == whole.patience


def test_the_number_of_processes_follows_the_processors_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, expected in ((1, 1), (2, 1), (3, 1), (4, 2), (8, 4), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        assert Settings().tftp_processes == expected
        assert Settings(tftp_workers=3).tftp_processes == 3


# The whole service


@pytest.fixture
def service(_template: Path, tmp_path: Path) -> Iterator[Served]:
    """A service of two TFTP processes, at one port with all their transfers."""
    with own_service(_template, tmp_path, tftp_workers="2", tftp_single_port="on") as served:
        yield served


def workers(served: Served) -> dict[str, int]:
    return {name: pid for pid, name in processes(served.state).items() if name.startswith("tftp")}


def sockets_at(address: tuple[str, int]) -> int:
    host = struct.unpack("=I", socket.inet_aton(address[0]))[0]
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(row[1] == f"{host:08X}:{address[1]:04X}" for row in rows)


def answered(clients: list[Client]) -> list[Client]:
    """Those who hear something, until nobody has for a while."""
    heard: dict[int, Client] = {}
    silent = {client.socket.fileno(): client for client in clients}
    while ready := select.select(list(silent), [], [], 2.0)[0]:
        heard |= {descriptor: silent.pop(descriptor) for descriptor in ready}
    return list(heard.values())


def rest(client: Client) -> bytes:
    """The transfer from DATA 1 on; what the server repeats, as nothing was heard of us for so long, is passed over."""
    content, block, blksize = b"", 0, 8
    while True:
        packet = client.receive()
        if packet.number == block + 1:
            content, block = content + packet.data, block + 1
            client.ack(block)
            if len(packet.data) < blksize:
                return content


@pytest.mark.slow
def test_p3_a_killed_worker_comes_back_and_transfers_of_the_other_go_on(service: Served) -> None:
    before = workers(service)
    assert set(before) == {"tftp", "tftp-2"}
    assert sockets_at(service.tftp) == 2
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(service.tftp)) for _ in range(24)]
        for client in clients:
            client.ask(LOADER, {"blksize": 8})
            client.receive()
        os.kill(before["tftp"], signal.SIGSTOP)  # then whose ACKs are answered tells which clients the other has
        for client in clients:
            client.ack(0)
        others = answered(clients)
        assert 0 < len(others) < len(clients)
        os.kill(before["tftp"], signal.SIGKILL)
        wait_for(lambda: workers(service).get("tftp", before["tftp"]) != before["tftp"], 60, "the worker again")
        for client in others:
            assert rest(client).startswith(b"set timeout=0")
        for _ in range(24):  # both serve
            assert fetch(service.tftp, LOADER).startswith(b"set timeout=0")
    after = workers(service)
    assert after["tftp-2"] == before["tftp-2"]
    assert set(after) == set(before)


@pytest.mark.slow
def test_a_second_program_that_shares_its_port_is_refused_at_start(_template: Path, tmp_path: Path) -> None:
    """SO_REUSEPORT alone would let us in, and half of the machines would be answered by the other."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state") | {"PROVISIONER_TFTP_WORKERS": "2"}
    host, _, port = environment["PROVISIONER_TFTP_BIND"].rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, int(port)))
        done = Served(environment, tmp_path / "state").cli("serve", code=1)
    assert f"[port-in-use] tftp_bind: cannot listen on {host}:{port}" in done.stderr
    assert processes(tmp_path / "state") == {}
