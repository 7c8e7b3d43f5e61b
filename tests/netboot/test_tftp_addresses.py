"""Servers with several addresses and interfaces, and IPv6: answers come from the address that was asked (T13, R07)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netboot import netns
from tests.netboot.tftp_client import need
from tests.netboot.tftp_process import ROOT, child, content_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not netns.available(), reason="network namespaces need root and iproute2"),
]

_ASK = """
import json, socket, sys
from tests.netboot.tftp_client import OACK, Client
found = []
for host, port, source, options in json.load(sys.stdin):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    to = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0][4]
    with Client(to, source) as client:
        client.ask("file-20000", options)
        packet = client.receive()
        senders, agreed = {packet.sender[0]}, packet.options
        size = int(agreed.get("blksize", 512))
        if packet.opcode == OACK:
            client.ack(0)
            content = client.rest(blksize=size, window=int(agreed.get("windowsize", 1)))
        else:
            content = client.rest(first=packet)
        senders.add(client.peer[0])
        found.append({"senders": sorted(senders), "options": agreed, "content": content.hex()})
print(json.dumps(found))
"""


@contextmanager
def wires() -> Iterator[netns.Cable]:
    """Two namespaces joined by two cables; the server has two addresses on the first and one on the second.

    The client reaches the second's address over the first cable too: it has no route to it but that.
    """
    with netns.cable("10.66.1.1/24", "10.66.1.2/24", "fd66:1::1/64", "fd66:1::2/64") as pair:
        netns.ip("-n", pair.server, "link", "add", "server1", "type", "veth", "peer", "name", "client1", "netns",
                 pair.client)  # fmt: skip
        for namespace, interface in ((pair.server, "server1"), (pair.client, "client1")):
            netns.ip("-n", namespace, "link", "set", interface, "up")
        netns.ip("-n", pair.server, "address", "add", "10.66.2.1/24", "dev", "server1")
        netns.ip("-n", pair.server, "address", "add", "10.66.3.1/32", "dev", "server1")
        for address, interface in (
            ("10.66.1.9/24", netns.CLIENT_INTERFACE),
            ("fd66:1::9/64", netns.CLIENT_INTERFACE),
            ("10.66.2.9/24", "client1"),
        ):
            nodad = ["nodad"] if ":" in address else []
            netns.ip("-n", pair.client, "address", "add", address, "dev", interface, *nodad)
        netns.ip("-n", pair.client, "route", "add", "10.66.3.1/32", "via", "10.66.1.1")
        netns.poll(lambda: "tentative" not in netns.ip("-n", pair.server, "-6", "address", "show"))
        netns.poll(lambda: "tentative" not in netns.ip("-n", pair.client, "-6", "address", "show"))
        yield pair


def ask(pair: netns.Cable, *questions: tuple[str, int, str, dict[str, object]]) -> list[dict[str, object]]:
    """Fetch a file from the client's namespace: host, port, source address, options."""
    done = subprocess.run(
        ["ip", "netns", "exec", pair.client, sys.executable, "-c", _ASK],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, object]] = json.loads(done.stdout)
    return answers


def link_local(pair: netns.Cable) -> str:
    """The server's own fe80 address on the first cable."""
    shown = netns.ip("-n", pair.server, "-6", "-o", "address", "show", "dev", netns.SERVER_INTERFACE, "scope", "link")
    return shown.split()[3].split("/")[0]


@pytest.mark.parametrize("single_port", [False, True])
def test_t13_answers_come_from_the_address_asked_on_one_interface_and_on_two(single_port: bool) -> None:
    hosts = ["10.66.1.1", "10.66.1.2", "10.66.2.1", "10.66.3.1"]
    with wires() as pair:
        for bind in ("0.0.0.0:0", "[::]:0"):
            with child(bind=bind, namespace=pair.server, single_port=single_port) as server:
                port = server.address[1]
                asked = ({}, {"blksize": 65464}, {"blksize": 1468, "windowsize": 4})
                questions = [(host, port, "0.0.0.0", options) for host in hosts for options in asked]
                for (host, _, _, options), answer in zip(questions, ask(pair, *questions), strict=True):
                    assert answer["senders"] == [host]
                    assert answer["content"] == content_of(20_000).hex()
                    assert answer["options"] == {name: str(min(value, 1468)) for name, value in options.items()}


@pytest.mark.parametrize("single_port", [False, True])
def test_t13_r07_ipv6_answers_come_from_the_address_asked_in_blocks_that_fit(single_port: bool) -> None:
    with wires() as pair, child(bind="[::]:0", namespace=pair.server, single_port=single_port) as server:
        local = link_local(pair)
        hosts = ["fd66:1::1", "fd66:1::2", f"{local}%{netns.CLIENT_INTERFACE}"]
        for mtu, blksize in ((1500, "1448"), (1280, "1228")):
            netns.ip("-n", pair.server, "link", "set", netns.SERVER_INTERFACE, "mtu", str(mtu))
            answers = ask(pair, *((host, server.address[1], "::", {"blksize": 65464}) for host in hosts))
            for host, answer in zip(hosts, answers, strict=True):
                assert [str(sender).split("%")[0] for sender in answer["senders"]] == [host.split("%")[0]]  # type: ignore[attr-defined]
                assert answer["options"] == {"blksize": blksize}
                assert answer["content"] == content_of(20_000).hex()


def test_t13_curl_over_ipv6(tmp_path: Path) -> None:
    into = tmp_path / "got"
    with child(bind="[::]:0") as server:
        url = f"tftp://[::1]:{server.address[1]}/sized-20000"
        subprocess.run([need("curl"), "-6", "-g", "-sS", "-o", str(into), url], check=True, timeout=60)
        assert into.read_bytes() == content_of(20_000)
    with wires() as pair, child(bind="[::]:0", namespace=pair.server) as server:
        for host in ("[fd66:1::2]", f"[{link_local(pair)}%25{netns.CLIENT_INTERFACE}]"):
            into.unlink()
            url = f"tftp://{host}:{server.address[1]}/file-20000"
            command = ["ip", "netns", "exec", pair.client, need("curl"), "-6", "-g", "-sS", "-o", str(into), url]
            subprocess.run(command, check=True, timeout=60)
            assert into.read_bytes() == content_of(20_000)


def test_t26_p4_a_forged_source_hears_three_small_datagrams_and_no_more() -> None:
    """The victim of a forger: it never asked, and its kernel, having no such port, is not there to say so.

    What a forger cannot do is acknowledge; what he sends from a victim's address is bounded, not prevented.
    """
    forged = "10.66.1.77"
    counted = f"""
import socket, struct, sys
from tests.netboot.tftp_client import request
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
sniff = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
sniff.bind(({netns.CLIENT_INTERFACE!r}, 0))
ask = request(1, "file-20000", {{"blksize": 1468, "tsize": 0}})
udp = struct.pack("!HHHH", 7777, int(sys.argv[1]), 8 + len(ask), 0) + ask
ends = socket.inet_aton("{forged}") + socket.inet_aton("10.66.1.1")
raw.sendto(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends + udp, ("10.66.1.1", 0))
print("sent", flush=True)
heard = []
sniff.settimeout(1)
for line in iter(sys.stdin.readline, ""):
    break
while True:
    try:
        packet = sniff.recv(2000)
    except TimeoutError:
        break
    if packet[16:20] == socket.inet_aton("{forged}") and packet[9] == 17:
        heard.append(len(packet) - 28)
print(heard)
"""
    with (
        wires() as pair,
        child(bind="0.0.0.0:0", namespace=pair.server, first_resend=0.1, resend_cap=0.2, linger=0.2) as server,
    ):
        netns.ip("-n", pair.server, "neigh", "add", forged, "lladdr", "02:00:00:00:00:77", "dev",
                 netns.SERVER_INTERFACE)  # fmt: skip
        command = ["ip", "netns", "exec", pair.client, sys.executable, "-c", counted, str(server.address[1])]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forger:
            assert forger.stdin is not None
            assert forger.stdout is not None
            assert forger.stdout.readline() == "sent\n"
            netns.poll(lambda: server.state()["outcomes"] == {"timeout": 1})
            forger.stdin.write("\n")
            forger.stdin.flush()
            heard = json.loads(forger.stdout.readline())
    assert len(heard) in {2, 3}, "a host that is too busy comes late, and leaves one out"
    assert sum(heard) <= 3 * 516
    assert max(heard) < 60, "an OACK comes before any content"
