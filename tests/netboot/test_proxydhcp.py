"""The proxy in the DHCP child beside a plain dnsmasq of somebody else, asked by clients that speak as firmware does."""

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.dhcp import DhcpSubnet
from provisioner.netboot.dhcp.dnsmasq import Paths
from provisioner.netboot.dhcp.status import ProxyState, read_status
from provisioner.netboot.proxydhcp.responder import Responder
from provisioner.netboot.proxydhcp.sockets import Link
from tests.netboot import netns
from tests.netboot.dhcp_client import packet
from tests.netboot.netns import poll
from tests.netboot.office import FOREIGN, INTERFACE, MACHINE, US, Office, office, plug
from tests.netboot.test_dhcp_child import LAB, WEB01, WEB02, Running, database_of, machine, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not netns.available() or shutil.which("dnsmasq") is None, reason="needs root, iproute2 and dnsmasq"
    ),
]
URL = f"http://{US}:8080"
OFFICE = DhcpSubnet(
    "office", "10.0.3.0/24", None, (), None, (), "proxy", "http://10.9.9.9:8080", "10.9.9.9", 8080, tftp_everywhere=True
)
OFFER, ACK = 2, 5
BOX = "52:54:00:00:00:09"
USE_THE_FILE = "060108ff"


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office(tmp_path_factory.mktemp("office")) as this:
        yield this


@pytest.fixture
def proxy(wire: Office, tmp_path: Path) -> Iterator[Running]:
    """A child with the office's subnet in proxy mode, which answers."""
    with running(database_of(subnets=(OFFICE,)), tmp_path, wire.enter_server) as child:
        open_on(child, INTERFACE)
        yield child


def open_on(child: Running, *interfaces: str) -> ProxyState:
    """Wait until the proxy is open on these interfaces."""
    return poll(lambda: child.status.proxy if child.status.proxy.interfaces == interfaces else None)


def asks(kind: str, mac: str = BOX, **more: Any) -> dict[str, Any]:
    return {"mac": mac, "kind": kind, **more}


def at_4011(kind: str, **more: Any) -> dict[str, Any]:
    """As a ROM asks for what the OFFER lacked: it has its address by then."""
    return asks(kind, message=3, port=4011, source=MACHINE, ciaddr=MACHINE, target=US, **more)


def told(replies: list[dict[str, Any]]) -> tuple[str, bytes]:
    """File and vendor class of the one reply."""
    (reply,) = replies
    return reply["file"], bytes.fromhex(reply["options"]["60"])


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("rom", "undionly.kpxe"),
        ("uefi", "snponly.efi"),
        ("uefi9", "snponly.efi"),
        ("ipxe", f"{URL}/boot/ipxe"),
        ("ipxe-efi", f"{URL}/boot/ipxe"),
    ],
)
def test_each_firmware_gets_its_boot_file_with_the_offer(wire: Office, proxy: Running, kind: str, file: str) -> None:
    """The whole of it: an address from there and none from us, and from us all that lets a ROM do without port 4011."""
    (replies,) = wire.ask(asks(kind))
    foreign = next(reply for reply in replies if reply["server"] == FOREIGN)
    ours = next(reply for reply in replies if reply["server"] == US)
    assert foreign["yiaddr"].startswith("10.0.3.")
    assert foreign["file"] == ""
    assert ours["kind"] == OFFER
    assert ours["yiaddr"] == "0.0.0.0"
    assert (ours["siaddr"], ours["file"]) == (US, file)
    assert (ours["to"], ours["to_port"]) == ("255.255.255.255", 68)
    assert ours["options"] == {
        "53": "02",
        "54": socket.inet_aton(US).hex(),
        "60": b"PXEClient".hex(),
        "43": USE_THE_FILE,
        "97": "0033221100554477668899aabbccddeeff",
    }


def test_uefi_http_boot_is_told_a_url_and_gets_its_own_vendor_class_back(wire: Office, proxy: Running) -> None:
    (ours,) = wire.ours(asks("http"))
    url = f"{URL}/boot/loader/snponly.efi"
    assert told(ours) == (url, b"HTTPClient")
    assert bytes.fromhex(ours[0]["options"]["67"]).decode() == url
    assert "43" not in ours[0]["options"]


def test_port_4011_says_the_same_to_whoever_asks_there(wire: Office, proxy: Running) -> None:
    rom, ipxe, informed = wire.ours(at_4011("rom"), at_4011("ipxe"), at_4011("uefi") | {"message": 8})
    assert [told(each) for each in (rom, ipxe, informed)] == [
        ("undionly.kpxe", b"PXEClient"),
        (f"{URL}/boot/ipxe", b"PXEClient"),
        ("snponly.efi", b"PXEClient"),
    ]
    for (reply,) in (rom, ipxe, informed):
        assert reply["kind"] == ACK
        assert reply["yiaddr"] == "0.0.0.0"
        assert (reply["server"], reply["port"]) == (US, 4011)
        assert (reply["to"], reply["to_port"]) == (MACHINE, 68)


def test_a_rom_that_asks_for_a_boot_server_gets_its_item_back(wire: Office, proxy: Running) -> None:
    (ours,) = wire.ours(at_4011("rom", options={"43": "470400000000ff"}))
    assert ours[0]["options"]["43"] == "060108470400000000ff"


def test_t25_nobody_else_is_answered(wire: Office, proxy: Running) -> None:
    """Systems, other servers' customers, firmware without a loader, requests from elsewhere: all silent."""
    silent = [
        asks("os"),
        asks("arm64"),
        asks("rom", message=3),  # a REQUEST on port 67 is for the foreign server
        asks("rom", message=4),
        asks("rom", options={"54": "0a000302"}),
        asks("rom", options={"53": None}),
        asks("rom", source="192.0.2.7", target=US),
        asks("rom", ciaddr="192.0.2.7"),
        asks("rom", giaddr="192.0.2.7"),
        at_4011("rom") | {"ciaddr": "192.0.2.7"},
        at_4011("rom") | {"source": "192.0.2.7"},
        at_4011("rom", options={"54": "0a000302"}),
        at_4011("os"),
    ]
    assert wire.ours(*silent) == [[]] * len(silent)
    # From elsewhere, on both ports: dropped before they were parsed.
    assert poll(lambda: proxy.status.proxy.dropped) == 2


def test_a_relayed_request_is_answered_through_the_relay(wire: Office, proxy: Running) -> None:
    relay = asks("uefi", source=MACHINE, source_port=67, target=US, giaddr=MACHINE, options={"82": "0104deadbeef"})
    (ours,) = wire.ours(relay)
    assert (ours[0]["to"], ours[0]["to_port"]) == (MACHINE, 67)
    assert ours[0]["giaddr"] == MACHINE
    assert ours[0]["options"]["82"] == "0104deadbeef"


def test_the_subnets_own_urls_come_first(wire: Office, tmp_path: Path) -> None:
    named = replace(
        OFFICE, boot_url="http://boot.example:8080", boot_port=0, tftp_address="10.0.3.9", tftp_everywhere=False
    )
    with running(database_of(subnets=(named,)), tmp_path, wire.enter_server) as child:
        open_on(child, INTERFACE)
        ((ipxe,), (rom,)) = wire.ours(asks("ipxe"), asks("rom"))
        assert ipxe["file"] == "http://boot.example:8080/boot/ipxe"
        assert rom["siaddr"] == "10.0.3.9"


def test_p3_broken_datagrams_end_nothing(wire: Office, proxy: Running) -> None:
    """20,000 seeded ones at both ports: noise, and good messages with bytes changed, cut off or added."""
    dice = random.Random(20)
    good = [bytes.fromhex(one) for one in _good_messages()]
    for _ in range(10):
        junk = [_broken(dice, good) for _ in range(2000)]
        questions = [
            asks("raw", raw=each.hex(), port=dice.choice((67, 4011)), source=dice.choice(("0.0.0.0", MACHINE)))
            for each in junk
        ]
        replies = wire.ours(*questions, asks("rom", mac="52:54:00:00:00:0a"), servers=(US,))
        assert told(replies[-1]) == ("undionly.kpxe", b"PXEClient")
    assert proxy.status.proxy.error == ""
    assert poll(lambda: proxy.status.proxy.dropped > 10_000)


def _good_messages() -> list[str]:
    return [
        packet(kind, {"mac": BOX, "kind": name}, 7, []).hex() for kind in (1, 3) for name in ("rom", "ipxe", "uefi")
    ]


def _broken(dice: random.Random, good: list[bytes]) -> bytes:
    if dice.random() < 0.2:
        return dice.randbytes(dice.randrange(600))
    data = bytearray(dice.choice(good))
    for _ in range(dice.randrange(1, 20)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    if dice.random() < 0.5:
        data = data[: dice.randrange(len(data))]
    return bytes(data + dice.randbytes(dice.choice((0, 0, 40, 900))))


def test_p3_one_sender_gets_a_few_answers_a_second_and_others_theirs(wire: Office, proxy: Running) -> None:
    flood = [asks("rom", mac="52:54:00:ff:ff:ff") for _ in range(2000)]
    *flooded, other = wire.ours(*flood, asks("uefi"), servers=(US,))
    assert told(other) == ("snponly.efi", b"PXEClient")
    assert sum(map(len, flooded)) < 400
    assert poll(lambda: proxy.status.proxy.dropped > 1000)


def test_s64_what_a_machine_says_reaches_the_log_as_numbers_only(
    wire: Office, proxy: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = b"PXEClient:Arch:00011:\n\x1b[2J\x00\xff; rm -rf /"
    wire.ours(asks("arm64", options={"60": evil.hex(), "12": evil.hex()}))
    said = capsys.readouterr().out
    line = poll(lambda: next((line for line in said.splitlines() if "cannot boot" in line), None))
    assert BOX in line
    assert "11 (option 93)" in line
    assert "rm -rf" not in said


@pytest.mark.parametrize("also", [False, True])
def test_authoritative_and_proxy_on_two_interfaces_of_one_host(wire: Office, tmp_path: Path, also: bool) -> None:
    """dnsmasq has port 67 on the one, the proxy on the other; ``also``: with two of them it binds to neither."""
    far = replace(LAB, name="far", cidr="10.0.5.0/24", gateway=None, tftp_address="10.0.5.1")
    with (
        beside(wire, "lab0", "10.0.2.1/24") as ask_lab,
        beside(wire, "lab1", "10.0.5.1/24") as ask_far,
        running(
            database_of(WEB01, WEB02, subnets=(LAB, OFFICE, *([far] if also else []))), tmp_path, wire.enter_server
        ) as child,
    ):
        child.in_force(1)
        open_on(child, INTERFACE)
        assert child.status.interfaces == (("lab0", "lab1") if also else ("lab0",))
        (answer,) = ask_lab(machine())
        assert (answer["ip"], answer["file"]) == (WEB01.ip, "undionly.kpxe")
        (ours,) = wire.ours(asks("rom"))
        assert told(ours) == ("undionly.kpxe", b"PXEClient")
        assert ours[0]["yiaddr"] == "0.0.0.0"
        (answer,) = ask_lab(machine(kind="ipxe"))
        assert answer["ip"] == WEB01.ip
        if also:
            child.commit(machines=(WEB01, replace(WEB02, ip="10.0.5.12", subnet="far")))
            assert ask_far(machine(WEB02.mac))[0]["ip"] == "10.0.5.12"


def test_a_port_is_open_on_its_interface_alone(wire: Office) -> None:
    """A broadcast reaches every socket of that port, whatever address it is bound to."""
    with beside(wire, "lab0", "10.0.2.1/24") as ask_lab, ThreadPoolExecutor(1) as there:
        there.submit(wire.enter_server).result()
        responder = there.submit(Responder).result()
        link = Link(INTERFACE, there.submit(socket.if_nametoindex, INTERFACE).result(), (US,), (OFFICE,))
        assert there.submit(responder.follow, (link,)).result() == []
        ask_lab(machine(only="discover", wait=0))
        there.submit(responder.turn, 0.5).result()
        assert responder.answers == 0
        there.submit(responder.close).result()


def test_both_on_one_interface_is_refused_and_the_authoritative_one_goes_on(wire: Office, tmp_path: Path) -> None:
    """Whoever is asked there would be asked twice: the reservation wins, and the status says what to do."""
    with beside(wire, "lab0", "10.0.2.1/24") as ask_lab:
        netns.ip("-n", wire.server, "address", "add", "10.0.4.1/24", "dev", "lab0")
        second = replace(OFFICE, name="second", cidr="10.0.4.0/24")
        with running(database_of(WEB01, subnets=(LAB, second)), tmp_path, wire.enter_server) as child:
            child.in_force(1)
            complaint = poll(lambda: child.status.proxy if child.status.proxy.error else None)
            assert "lab0 is in lab (10.0.2.0/24)" in complaint.error
            assert "second (10.0.4.0/24)" in complaint.error
            assert "provisioner subnet edit second --dhcp off" in complaint.hint
            assert complaint.interfaces == ()
            assert child.status.error == ""
            assert ask_lab(machine())[0]["ip"] == WEB01.ip


def test_a_port_that_somebody_has_is_named_and_taken_when_it_is_free(wire: Office, tmp_path: Path) -> None:
    taken: list[socket.socket] = []

    def take() -> None:
        wire.enter_server()
        taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taken[0].bind(("", 4011))

    with running(database_of(subnets=(OFFICE,)), tmp_path, take) as child:
        complaint = poll(lambda: child.status.proxy if child.status.proxy.error else None)
        assert complaint.error == f"proxy DHCP cannot listen on UDP port 4011 of {INTERFACE}: another program has it"
        assert "ss -ulpn" in complaint.hint
        taken[0].close()
        open_on(child, INTERFACE)
        poll(lambda: child.status.proxy.error == "")


def test_without_the_right_to_port_67_the_child_says_so_and_goes_on(wire: Office, tmp_path: Path) -> None:
    """A process of its own, since capabilities are a thread's: no capability at all, and then with all."""
    child = (
        "import sys, threading; from pathlib import Path; sys.path.insert(0, '.');"
        "from tests.netboot.test_proxydhcp import OFFICE; from tests.netboot.test_dhcp_child import database_of;"
        "from provisioner.netboot.dhcp.child import run;"
        "run(database_of(subnets=(OFFICE,)), Path(sys.argv[1]), threading.Event())"
    )
    command = ["ip", "netns", "exec", wire.server, "setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", child, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        state = poll(lambda: s.proxy if (s := read_status(tmp_path)) and s.proxy.error else None)
        assert state.error == f"proxy DHCP cannot listen on UDP port 67 of {INTERFACE}: no right to"
        assert "CAP_NET_BIND_SERVICE" in state.hint
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_r28_it_answers_after_a_restart_while_the_database_is_down(wire: Office, tmp_path: Path) -> None:
    with running(database_of(subnets=(OFFICE,)), tmp_path, wire.enter_server) as child:
        open_on(child, INTERFACE)
        poll(Paths(tmp_path / "dhcp").proxy.exists)
    assert read_status(tmp_path).proxy.pid is None
    database = database_of(subnets=())
    database.down = True
    with running(database, tmp_path, wire.enter_server) as child:
        open_on(child, INTERFACE)
        (ours,) = wire.ours(asks("rom"))
        assert told(ours) == ("undionly.kpxe", b"PXEClient")
        database.down = False
        open_on(child)
        assert wire.ours(asks("rom"), servers=(FOREIGN,)) == [[]]


@pytest.mark.parametrize("left", ["", "{", "[]", '{"subnets": [{}]}', '{"subnets": [{"ranges": 1}]}', '{"subnets": 3}'])
def test_a_broken_file_of_the_last_run_is_no_plan(tmp_path: Path, left: str) -> None:
    paths = Paths(tmp_path / "dhcp")
    paths.directory.mkdir()
    paths.proxy.write_text(left)
    database = database_of(subnets=())
    database.down = True
    with running(database, tmp_path) as child:
        assert "down for the test" in child.complaint().error
        assert child.status.proxy.error == ""


def test_a_mode_that_is_changed_is_followed_at_once(wire: Office, proxy: Running) -> None:
    proxy.commit(subnets=(replace(OFFICE, mode="external"),))
    open_on(proxy)
    assert wire.ours(asks("rom"), servers=(FOREIGN,)) == [[]]
    proxy.commit(subnets=(OFFICE,))
    open_on(proxy, INTERFACE)
    (ours,) = wire.ours(asks("rom"))
    assert told(ours) == ("undionly.kpxe", b"PXEClient")


def test_an_interface_that_is_made_anew_is_found_again(wire: Office, proxy: Running) -> None:
    netns.ip("-n", wire.server, "link", "delete", INTERFACE)
    plug(wire.machines, wire.server, INTERFACE, f"{US}/24", bridge="br0")
    assert told(poll(lambda: wire.ours(asks("rom"))[0])) == ("undionly.kpxe", b"PXEClient")
    netns.ip("-n", wire.server, "link", "delete", INTERFACE)
    complaint = poll(lambda: proxy.status.proxy if proxy.status.proxy.error else None)
    assert "has an address in office (10.0.3.0/24)" in complaint.error
    plug(wire.machines, wire.server, INTERFACE, f"{US}/24", bridge="br0")
    open_on(proxy, INTERFACE)
    (ours,) = wire.ours(asks("rom"))
    assert told(ours) == ("undionly.kpxe", b"PXEClient")


@contextmanager
def beside(wire: Office, interface: str, cidr: str) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Another network at our server; what asks there for an address (see dhcp_client.py)."""
    namespace = f"pb{os.getpid()}{secrets.token_hex(3)}"
    netns.ip("netns", "add", namespace)
    try:
        near = plug(namespace, wire.server, interface, cidr)

        def ask(*questions: dict[str, Any]) -> list[dict[str, Any]]:
            script = Path(__file__).with_name("dhcp_client.py")
            command = ["ip", "netns", "exec", namespace, sys.executable, str(script), near]
            done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=True)
            return list(json.loads(done.stdout))

        yield ask
    finally:
        # The interface in our server's namespace goes with its peer.
        subprocess.run(["ip", "netns", "delete", namespace], check=False)
        poll(lambda: interface not in netns.ip("-n", wire.server, "link"))
