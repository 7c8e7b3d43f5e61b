"""Debian's own installer, in a real machine with real firmware, on the preseed that we ship.

Its tokens and secrets are real too: what it leaves on the disk and on the console is searched for them.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from labkit.installer import prepare
from labkit.machine import Firmware, Hardware, Machine
from labkit.network import network
from labkit.processes import LabError
from labkit.run import SERIAL, Lab, Timeline, boot_again, explain, follow, save_logs
from labkit.server import Server
from labkit.wire import Capture, capture
from labkit.workspace import run_name, workspace

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]

CONTENT = Path(__file__).parent / "content"
PASSWORD = "canary-in-a-coal-mine-41"
PASSPHRASE = "another canary, for the disk 42"
CHUNK = 1 << 24


@dataclass
class Ran:
    """A machine after its build and one more boot, its disk and console, and what went over the wire."""

    room: Lab
    wire: Capture
    told: list[str]
    outcome: str

    def events(self) -> list[dict[str, str]]:
        build = self.room.server.cli_json("build", "show", self.room.machine.hardware.name)
        return list(build["events"])

    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events()]

    def on_disk(self, text: str) -> list[bytes]:
        """What stands around each occurrence of the text anywhere on the raw disk, freed blocks and all."""
        return occurrences(self.room.machine.disk, text.encode())


@pytest.fixture(scope="module", params=["uefi", pytest.param("bios", marks=pytest.mark.full)])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """One whole life; it takes minutes, so the tests share it."""
    firmware: Firmware = request.param
    with workspace() as directory, network(run_name(directory)) as wire:
        server = Server(wire, directory)
        machine = Machine(Hardware("lab01", "52:54:00:77:00:01", firmware, disk="8G"), wire, directory)
        room, told = Lab(server, machine, directory), list[str]()
        try:
            prepare(server, machine.hardware, CONTENT, {"root_password": PASSWORD, "disk_passphrase": PASSPHRASE})
            server.start()
            server.cli("build", "start", machine.hardware.name, *SERIAL)
            with capture(wire, directory / "boot.pcap") as recorded:
                machine.power_on()
                timeline = Timeline(told.append)
                timeline.add(f"power on: {firmware}")
                outcome = story(room, timeline)
                yield Ran(room, recorded, told, outcome)
        finally:
            machine.power_off()
            server.stop()
            (directory / "timeline.txt").write_text("\n".join(told) + "\n")
            save_logs(directory, tmp_path_factory.mktemp("installer"))


def story(room: Lab, timeline: Timeline) -> str:
    """The build and the power cycle after it; how it ended, with where to look if that was badly."""
    try:
        state = follow(room, timeline, 900)
        timeline.add(f"the build is {state}")
        if state == "configured":
            boot_again(room, timeline, 600)
    except LabError as error:
        state = f"FAILED: {error}"
    if state != "configured":
        explain(room, timeline.tell)
        timeline.tell(room.server.cli("build", "log", room.machine.hardware.name)[-8000:])
    return state


def occurrences(file: Path, wanted: bytes) -> list[bytes]:
    """Forty bytes on both sides of every occurrence in a sparse file; holes are not read."""
    found, descriptor = [], os.open(file, os.O_RDONLY)
    try:
        for start, end in _extents(descriptor):
            for at in range(start, end, CHUNK):
                begin = max(0, at - 40)
                # Each chunk overlaps with the next one by what a match and its surroundings need.
                data = os.pread(descriptor, CHUNK + 80 + len(wanted), begin)
                found += [
                    data[max(0, hit.start() - 40) : hit.end() + 40]
                    for hit in re.finditer(re.escape(wanted), data)
                    if at <= begin + hit.start() < min(at + CHUNK, end)
                ]
    finally:
        os.close(descriptor)
    return found


def _extents(descriptor: int) -> Iterator[tuple[int, int]]:
    size, at = os.fstat(descriptor).st_size, 0
    while at < size:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, at, os.SEEK_HOLE)
        yield at, end
        at = end


def one(found: set[str]) -> str:
    (value,) = found
    return value


def test_power_on_to_configured_to_local_boot_through_debians_installer(ran: Ran) -> None:
    assert ran.outcome == "configured", "\n".join(ran.told)
    assert any("login prompt" in line for line in ran.told), "\n".join(ran.told)
    wanted = ["script", "answer", "installer", "secret", "disk", "handoff", "built", "configured"]
    kinds = ran.kinds()
    places = [kinds.index(kind) for kind in wanted]
    assert places == sorted(places), kinds
    assert kinds.count("disk") == kinds.count("built") == 1
    assert "question" not in kinds, kinds
    (disk,) = [event["message"] for event in ran.events() if event["kind"] == "disk"]
    assert disk.startswith("installing to /dev/vda, the smallest fixed disk of at least ")


def test_r01_the_disk_is_reported_before_a_byte_of_it_is_written(ran: Ran) -> None:
    """In the order of the wire: what is written to it was not even asked for."""
    data = ran.wire.data()
    report = data.index(b"step=disk")
    image = data.index(b"GET /media/debian-12/stem-debian12.raw.gz")
    assert report < image < data.index(b"step=built")
    assert report < data.index(b"HTTP/1.1 200", report) < image


def test_s23_each_secret_is_unwrapped_once_with_a_nonce(ran: Ran) -> None:
    assert ran.kinds().count("secret") == 2
    for name in ("root_password", "disk_passphrase"):
        assert ran.wire.requests(f"POST /build/[^/]+/secret/{name}") == 1
    assert not any(event["flagged"] for event in ran.events())


def test_s23_the_hash_is_where_it_belongs_and_nowhere_else(ran: Ran) -> None:
    """On the disk in shadow files alone, never on the console, in a log or in debconf's database."""
    hash_ = one(ran.wire.crypt_hashes())
    places = ran.on_disk(hash_)
    assert places
    assert all(f"root:{hash_}:".encode() in place for place in places), places
    assert hash_ not in ran.room.machine.console_text()
    assert ran.on_disk(PASSWORD) == []
    assert PASSWORD not in ran.room.machine.console_text()
    assert PASSWORD.encode() not in ran.wire.data()


def test_s28_the_passphrase_of_the_disk_is_in_no_log_and_in_no_database(ran: Ran) -> None:
    """Debian's own way is through debconf, and its database goes to the disk; the template's way was taken instead."""
    assert PASSPHRASE.encode() in ran.wire.data()
    assert ran.on_disk(PASSPHRASE) == []
    assert PASSPHRASE not in ran.room.machine.console_text()


def test_partman_was_told_what_fits_this_machines_firmware(ran: Ran) -> None:
    """As the installer's own database, saved on the disk, has it."""
    uefi = ran.room.machine.hardware.firmware == "uefi"
    first = (
        "538 538 538 free $iflabel{ gpt } method{ efi }" if uefi else "1 1 1 free $iflabel{ gpt } method{ biosgrub }"
    )
    assert any(first.encode() in place for place in ran.on_disk(f"provisioner :: {first}"))


def test_r11_the_network_of_the_new_system_is_on_its_disk(ran: Ran) -> None:
    """The machine's card, found by its MAC, under the name that the kernel gave it."""
    places = ran.on_disk("iface lo inet loopback\n\nauto e")
    assert any(re.search(rb"auto (e\w+)\niface \1 inet dhcp", place) for place in places), places


def test_s28_no_token_of_the_installation_stays_on_the_disk_or_shows_on_the_console(ran: Ran) -> None:
    nonces = {found.decode() for found in re.findall(rb"nonce=([0-9a-f-]{36})", ran.wire.data())}
    assert len(nonces) == 2
    console = ran.room.machine.console_text()
    for name, secret in (
        ("answer token", one(ran.wire.tokens("answer"))),
        ("event token", one(ran.wire.tokens("event"))),
        *(("nonce", nonce) for nonce in nonces),
    ):
        assert ran.on_disk(secret) == [], name
        assert secret not in console, name
    # The handoff's token was in the script that reported with it; the script is gone, and the token dead.
    assert one(ran.wire.tokens("handoff")) not in console


def test_the_installers_own_logs_are_on_the_disk(ran: Ran) -> None:
    """So that the search above looked at something: they hold the URL, without its token."""
    assert any(b"/build/..." in place for place in ran.on_disk("successfully loaded preseed file"))


@pytest.mark.parametrize("path", ["answer", "handoff"])
def test_s26_the_tokens_are_dead_after_built(ran: Ran, path: str) -> None:
    answer = one(ran.wire.tokens("answer"))
    assert status(ran, "GET", f"/build/{answer}/{path}") == 404


def test_s24_a_dead_token_unwraps_and_reports_nothing(ran: Ran) -> None:
    before = ran.kinds()
    answer, event = one(ran.wire.tokens("answer")), one(ran.wire.tokens("event"))
    assert status(ran, "POST", f"/build/{answer}/secret/root_password", "nonce=x") == 403
    assert status(ran, "POST", f"/build/{event}/event", "step=disk&message=again") == 403
    assert [kind for kind in ran.kinds() if not kind.startswith("refused")] == before


def status(ran: Ran, method: str, path: str, body: str = "") -> int:
    """The HTTP status of a request made on the machine's own network."""
    server = ran.room.server
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, f"{server.boot_url}{path}"]
    if body:
        command += ["--data", body]
    return int(subprocess.run(server.network.inside(*command), capture_output=True, text=True, check=True).stdout)
