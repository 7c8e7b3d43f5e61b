"""The DHCP child with a real dnsmasq in a network namespace, asked by a client that speaks as firmware does."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from provisioner.core.dhcp import DhcpPlan, DhcpRange, DhcpSubnet, Reservation
from provisioner.errors import DatabaseUnavailable
from provisioner.netboot.dhcp import child as child_module
from provisioner.netboot.dhcp.child import run
from provisioner.netboot.dhcp.dnsmasq import Paths
from provisioner.netboot.dhcp.leases import parse_leases
from provisioner.netboot.dhcp.status import Status, read_status
from tests.netboot import netns
from tests.netboot.netns import Cable, poll

needs_namespaces = pytest.mark.skipif(
    not netns.available() or shutil.which("dnsmasq") is None, reason="needs root, iproute2 and dnsmasq"
)
URL = "http://10.0.2.1:8080"
LAB = DhcpSubnet(
    "lab", "10.0.2.0/24", "10.0.2.254", ("10.0.2.53",), "lab.example", (), "authoritative", URL, "10.0.2.1"
)
POOLED = replace(LAB, ranges=(DhcpRange("10.0.2.100", "10.0.2.109"),))
WEB01 = Reservation("52:54:00:00:00:01", "10.0.2.11", "web01.lab.example", "lab")
WEB02 = Reservation("52:54:00:00:00:02", "10.0.2.12", "web02", "lab")


@dataclass
class Database:
    """A source that a test changes by hand."""

    content: DhcpPlan
    acknowledged: list[int] = field(default_factory=list)
    down: bool = False
    asked: int = 0

    def generation(self) -> int:
        self.asked += 1
        if self.down:
            raise DatabaseUnavailable("down for the test")
        return self.content.generation

    def plan(self) -> DhcpPlan:
        return self.content

    def acknowledge(self, generation: int) -> None:
        self.acknowledged.append(generation)

    def change(self, *, subnets: tuple[DhcpSubnet, ...] | None = None, machines: tuple[Reservation, ...] = ()) -> int:
        """Commit a new plan; its generation."""
        generation = self.content.generation + 1
        self.content = DhcpPlan(generation, self.content.subnets if subnets is None else subnets, machines)
        return generation


@dataclass
class Running:
    """A child in a thread of its own."""

    database: Database
    state: Path
    events: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        return read_status(self.state) or Status()

    def acknowledged(self, generation: int) -> bool:
        return generation in self.database.acknowledged

    def commit(self, **changes: Any) -> None:
        """Change the plan and wait until the child acknowledges it."""
        self.in_force(self.database.change(**changes))

    def in_force(self, generation: int) -> None:
        """Wait for the acknowledgement, and for the status file, which is written right after it."""
        poll(lambda: self.acknowledged(generation))
        poll(lambda: self.status.generation == generation)

    def complaint(self) -> Status:
        """Wait until the child complains."""
        return poll(lambda: self.status if self.status.error else None)


@contextmanager
def running(database: Database, state: Path, enter: Callable[[], None] = lambda: None) -> Iterator[Running]:
    stop = threading.Event()
    this = Running(database, state)

    def body() -> None:
        enter()
        run(database, state, stop, lambda mac, kind, ip: this.events.append((mac, kind, ip)))

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield this
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def lan() -> Iterator[Cable]:
    with netns.cable("10.0.2.1/24") as pair:
        yield pair


def database_of(*machines: Reservation, subnets: tuple[DhcpSubnet, ...] = (LAB,)) -> Database:
    return Database(DhcpPlan(1, subnets, machines))


@contextmanager
def serving(lan: Cable, state: Path, database: Database) -> Iterator[Running]:
    """A child that has acknowledged the database's first plan."""
    with running(database, state, lan.enter_server) as child:
        child.in_force(database.content.generation)
        yield child


def machine(mac: str = WEB01.mac, kind: str = "rom", **more: Any) -> dict[str, Any]:
    return {"mac": mac, "kind": kind, **more}


def stranger(number: int, **more: Any) -> dict[str, Any]:
    return machine(f"02:aa:00:00:{number >> 8:02x}:{number & 255:02x}", "os", **more)


def daemons(state: Path) -> list[int]:
    """The dnsmasq processes that run on this state directory."""
    wanted = f"--conf-file={Paths(state / 'dhcp').config}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in arguments and arguments[0].endswith(b"dnsmasq"):
            found.append(int(entry.parent.name))
    return found


@pytest.mark.parametrize("mode", ["off", "external"])
def test_without_an_authoritative_subnet_no_dnsmasq_runs_and_changes_are_acknowledged(
    tmp_path: Path, mode: Any
) -> None:
    with running(database_of(WEB01, subnets=(replace(LAB, mode=mode),)), tmp_path) as child:
        child.in_force(1)
        child.commit(machines=(WEB01, WEB02))
        assert daemons(tmp_path) == []
        assert child.status.running is False


def test_a_database_that_is_down_ends_nothing_and_is_followed_again(tmp_path: Path) -> None:
    database = database_of(subnets=())
    database.down = True
    with running(database, tmp_path) as child:
        assert "down for the test" in child.complaint().error
        database.down = False
        child.in_force(1)
        poll(lambda: not child.status.error)


@needs_namespaces
@pytest.mark.slow
def test_r13_one_address_whatever_client_identifier_and_the_loader_for_each_firmware(
    lan: Cable, tmp_path: Path
) -> None:
    """ROM, iPXE, installer and systemd-networkd each send another client identifier, or none."""
    identifiers = [None, "01" + WEB01.mac.replace(":", ""), "ff00000001000100012345678952540000ff", "00deadbeef"]
    kinds = {
        "rom": "undionly.kpxe",
        "uefi": "snponly.efi",
        "uefi9": "snponly.efi",
        "ipxe": f"{URL}/boot/ipxe",
        "ipxe-efi": f"{URL}/boot/ipxe",
        "arm64": "",
        "os": "",
    }
    with serving(lan, tmp_path, database_of(WEB01)):
        stages = lan.ask(*(machine(kind=kind, client_id=one) for one in identifiers for kind in kinds))
        assert {stage["ip"] for stage in stages} == {"10.0.2.11"}
        assert [stage["file"] for stage in stages] == list(kinds.values()) * len(identifiers)
        booted = [stage for stage in stages if stage["file"]]
        assert {stage["server"] for stage in booted} == {"10.0.2.1"}
        leases = parse_leases(Paths(tmp_path / "dhcp").leases.read_text())
        assert [lease.ip for lease in leases] == ["10.0.2.11"]


@needs_namespaces
@pytest.mark.slow
def test_the_options_are_the_subnets(lan: Cable, tmp_path: Path) -> None:
    bare = replace(LAB, gateway=None, dns=(), domain=None)
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        options = lan.ask(machine())[0]["options"]
        assert bytes.fromhex(options["1"]) == bytes([255, 255, 255, 0])
        assert bytes.fromhex(options["3"]) == bytes([10, 0, 2, 254])
        assert bytes.fromhex(options["6"]) == bytes([10, 0, 2, 53])
        assert bytes.fromhex(options["12"]) == b"web01"
        assert bytes.fromhex(options["15"]) == b"lab.example"
        child.commit(subnets=(bare,), machines=(WEB01,))
        options = lan.ask(machine())[0]["options"]
        assert "3" not in options, "dnsmasq names itself as the router unless told not to"
        assert bytes.fromhex(options["6"]) == bytes([10, 0, 2, 1]), "an installer without a DNS server asks for one"


@needs_namespaces
@pytest.mark.slow
def test_r29_a_machine_added_while_running_has_its_address_when_it_is_acknowledged(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        before = child.status.pid
        for number in range(20, 26):
            new = Reservation(f"52:54:00:00:00:{number}", f"10.0.2.{number}", None, "lab")
            child.commit(machines=(*child.database.content.reservations, new))
            assert lan.ask(machine(new.mac, wait=3))[0]["ip"] == new.ip
        assert child.status.pid == before, "a new reservation needs no restart"
        assert daemons(tmp_path) == [before]


@needs_namespaces
@pytest.mark.slow
def test_dnsmasq_gives_up_root_where_its_own_user_can_read_the_reservations(lan: Cable, tmp_path: Path) -> None:
    state = Path("/run") / f"pt-{os.getpid()}-{tmp_path.name}"
    state.mkdir(mode=0o755)
    try:
        with serving(lan, state, database_of(WEB01)) as child:
            owner = Path(f"/proc/{child.status.pid}").stat().st_uid
            assert owner != 0
            child.commit(machines=(WEB01, WEB02))
            assert lan.ask(machine(WEB02.mac))[0]["ip"] == WEB02.ip
    finally:
        shutil.rmtree(state)


@needs_namespaces
@pytest.mark.slow
def test_only_known_machines_are_answered_unless_there_is_a_range(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        assert lan.ask(stranger(1, wait=1.5))[0]["offered"] is None
        child.commit(subnets=(POOLED,), machines=(WEB01,))
        assert lan.ask(stranger(1))[0]["ip"].startswith("10.0.2.10")
        assert lan.ask(machine())[0]["ip"] == WEB01.ip


@needs_namespaces
@pytest.mark.slow
def test_r30_strangers_do_not_starve_reservations(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01, WEB02, subnets=(POOLED,))) as child:
        answers = lan.ask(*(stranger(number, wait=1) for number in range(10)))
        assert len({answer["ip"] for answer in answers} - {None}) == 10, "the range is full"
        flood = [stranger(number, wait=0) for number in range(100, 700)]
        known = lan.ask(*flood, machine(), *flood, machine(WEB02.mac, "uefi"))
        assert known[600]["ip"] == WEB01.ip
        assert known[-1]["ip"] == WEB02.ip
        poll(lambda: child.status.unanswered > 0)


@needs_namespaces
@pytest.mark.slow
def test_r33_a_killed_dnsmasq_is_started_again_and_keeps_its_leases(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01, subnets=(POOLED,))) as child:
        first = lan.ask(stranger(1))[0]["ip"]
        for count in (1, 2):
            (pid,) = daemons(tmp_path)
            os.kill(pid, signal.SIGKILL)
            poll(lambda count=count: child.status.restarts == count and child.status.running)
        others = lan.ask(*(stranger(number) for number in range(2, 5)))
        assert lan.ask(stranger(1, init_reboot=first))[0]["ip"] == first
        assert first not in {answer["ip"] for answer in others}
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        assert len(daemons(tmp_path)) == 1


@needs_namespaces
@pytest.mark.slow
def test_r27_a_plan_that_is_refused_leaves_the_old_one_serving(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        before = child.status.pid
        refused = child.database.change(subnets=(LAB, replace(LAB, name="twin")), machines=(WEB01,))
        assert "overlap" in child.complaint().error
        assert child.status.pid == before
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        assert not child.acknowledged(refused)
        child.commit(subnets=(LAB,), machines=(WEB01, WEB02))
        assert child.status.error == ""


@needs_namespaces
@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("no-such-option=1", "dnsmasq refuses", id="its checker refuses it"),
        pytest.param("group=nobody-of-that-name", "did not read", id="its checker accepts it, and it does not start"),
    ],
)
def test_r27_a_config_that_dnsmasq_refuses_leaves_the_old_one_serving(
    lan: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    good = child_module.main_config
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        monkeypatch.setattr(child_module, "main_config", lambda plan, **rest: f"{good(plan, **rest)}{line}\n")
        refused = child.database.change(subnets=(POOLED,), machines=(WEB01, WEB02))
        assert said in child.complaint().error
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        assert lan.ask(machine(WEB02.mac, wait=1.5))[0]["offered"] is None
        assert not child.acknowledged(refused)
        monkeypatch.undo()
        child.commit(subnets=(POOLED,), machines=(WEB01, WEB02))
        assert lan.ask(machine(WEB02.mac))[0]["ip"] == WEB02.ip


@needs_namespaces
@pytest.mark.slow
def test_r27_a_hosts_file_that_dnsmasq_refuses_leaves_the_old_one_serving(
    lan: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dnsmasq --test` does not read the hosts file; the child must neither."""
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        before = child.status.pid
        monkeypatch.setattr(child_module, "host_lines", lambda _: [f"{WEB02.mac},id:*,10.0.2.12,bad name,1h"])
        refused = child.database.change(machines=(WEB01, WEB02))
        assert "bad DHCP host name" in child.complaint().error
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        assert child.status.pid == before, "what is refused beforehand interrupts nothing"
        assert not child.acknowledged(refused)


@needs_namespaces
@pytest.mark.slow
def test_r27_two_cards_with_one_mac_get_the_address_of_their_subnet(tmp_path: Path) -> None:
    other = replace(LAB, name="vlan3", cidr="10.0.3.0/24", gateway=None, dns=(), tftp_address="10.0.3.1")
    twin = Reservation(WEB01.mac, "10.0.3.11", "web01", "vlan3")
    double = replace(WEB01, ip="10.0.2.99")
    for server, expected in (("10.0.2.1/24", "10.0.2.11"), ("10.0.3.1/24", "10.0.3.11")):
        state = tmp_path / expected
        database = database_of(double, twin, WEB01, subnets=(LAB, other))
        with netns.cable(server) as lan, serving(lan, state, database) as child:
            assert lan.ask(machine())[0]["ip"] == expected
            assert child.status.left_out == (f"{WEB01.mac}: this MAC already has 10.0.2.11 in this subnet",)


@needs_namespaces
@pytest.mark.slow
def test_a_replaced_card_gets_the_address_that_the_old_one_still_holds(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        child.commit(machines=(replace(WEB01, mac=WEB02.mac),))
        assert lan.ask(machine(WEB02.mac))[0]["ip"] == WEB01.ip


@needs_namespaces
@pytest.mark.slow
def test_a_discovered_machine_that_is_registered_moves_to_its_address(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(subnets=(POOLED,))) as child:
        dynamic = lan.ask(machine())[0]["ip"]
        assert dynamic.startswith("10.0.2.10")
        child.commit(machines=(WEB01,))
        assert lan.ask(machine(init_reboot=dynamic))[0]["nak"] is True
        assert lan.ask(machine())[0]["ip"] == WEB01.ip


@needs_namespaces
@pytest.mark.slow
def test_an_interface_that_comes_up_later_is_served(tmp_path: Path) -> None:
    with netns.cable() as lan, running(database_of(WEB01), tmp_path, lan.enter_server) as child:
        complaint = child.complaint()
        assert "no network interface" in complaint.error
        assert "ip address" in complaint.hint
        assert child.database.acknowledged == []
        lan.address("10.0.2.1/24")
        child.in_force(1)
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        assert child.status.error == ""


@needs_namespaces
@pytest.mark.slow
def test_switching_dhcp_off_ends_dnsmasq(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        assert len(daemons(tmp_path)) == 1
        child.commit(subnets=(replace(LAB, mode="off"),), machines=(WEB01,))
        assert daemons(tmp_path) == []
        assert child.status.running is False
    database = child.database
    database.down = True
    with running(database, tmp_path, lan.enter_server) as later:
        later.complaint()
        turns = database.asked + 3
        poll(lambda: database.asked >= turns)
        assert daemons(tmp_path) == [], "what was switched off does not come back while the database is down"


@needs_namespaces
@pytest.mark.slow
def test_r28_after_a_power_cut_dhcp_answers_before_the_database_does(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)):
        pass
    assert daemons(tmp_path) == []
    database = database_of(WEB01, WEB02)
    database.down = True
    with running(database, tmp_path, lan.enter_server) as child:
        poll(lambda: child.status.running)
        assert lan.ask(machine())[0]["ip"] == WEB01.ip
        database.down = False
        child.in_force(1)
        assert lan.ask(machine(WEB02.mac))[0]["ip"] == WEB02.ip


@needs_namespaces
@pytest.mark.slow
def test_a_dnsmasq_left_behind_by_a_killed_child_is_replaced(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)):
        pass
    config = Paths(tmp_path / "dhcp").config
    command = ["ip", "netns", "exec", lan.server, "dnsmasq", "--keep-in-foreground", f"--conf-file={config}"]
    orphan = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        poll(lambda: daemons(tmp_path))
        with serving(lan, tmp_path, database_of(WEB02)) as child:
            assert orphan.wait(10) is not None
            assert lan.ask(machine(WEB02.mac))[0]["ip"] == WEB02.ip
            assert daemons(tmp_path) == [child.status.pid]
    finally:
        orphan.kill()
        orphan.wait()


@needs_namespaces
@pytest.mark.slow
def test_dhcp_messages_become_events(lan: Cable, tmp_path: Path) -> None:
    with serving(lan, tmp_path, database_of(WEB01)) as child:
        lan.ask(machine())
        expected = [("discover", None), ("offer", WEB01.ip), ("request", WEB01.ip), ("ack", WEB01.ip)]
        poll(lambda: len(child.events) >= len(expected))
        assert child.events == [(WEB01.mac, kind, ip) for kind, ip in expected]
