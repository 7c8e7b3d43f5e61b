"""One whole boot, as ``scripts/lab boot`` tells it: power on, build, handoff, and once more from the local disk."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.assets import install_ramdisk, stem_cell
from labkit.foreign import foreign_dhcp
from labkit.machine import Firmware, Hardware, Machine
from labkit.network import Network, network
from labkit.processes import LabError, spawn, stop
from labkit.server import Server
from labkit.workspace import run_name, workspace

IMAGE = "stem-debian12"
STEM_CELL = "stem-cell"
HANDED_OVER = "provisioner: handed over"
LOCAL_BOOT = "Provisioner: booting the local disk"
# The console log is the serial port; a profile for hardware need not have it.
SERIAL = ("--kernel-option", "console=tty0", "--kernel-option", "console=ttyS0,115200")
_AGE = re.compile(r"^\s*([0-9.]+ s)?\s+")  # the watcher counts from when the build was armed


@dataclass(frozen=True)
class Plan:
    """What to try. ``setup`` holds further provisioner commands; ``apply`` a directory of profiles and templates."""

    profile: str = STEM_CELL
    machine: str = "lab01"
    firmware: Firmware = "bios"
    memory: int = 1024
    disk: str = "3G"
    dhcp: str = "authoritative"
    timeout: float = 300
    again: bool = True
    keep: bool = False
    logs: Path | None = None
    apply: Path | None = None
    setup: tuple[tuple[str, ...], ...] = ()
    registered: bool = True
    """Whether the machine is added before it is switched on."""


@dataclass
class Timeline:
    """What happened when, in seconds since the power came on."""

    tell: Callable[[str], None]
    began: float = field(default_factory=time.time)
    lines: list[str] = field(default_factory=list)

    def add(self, what: str, at: float | None = None) -> None:
        """Note and tell an event; ``at`` is in seconds since the epoch, now by default."""
        line = f"{(at or time.time()) - self.began:7.1f} s  {what}"
        self.lines.append(line)
        self.tell(line)


@dataclass
class Lab:
    """A server and one machine on a wire of their own."""

    server: Server
    machine: Machine
    directory: Path


@contextlib.contextmanager
def lab(plan: Plan) -> Iterator[Lab]:
    """A prepared lab: server running, machine registered, power off. All of it is gone at the end."""
    with workspace(keep=plan.keep) as directory, network(run_name(directory)) as wire, beside(plan, wire):
        server = Server(wire, directory)
        hardware = Hardware(plan.machine, "52:54:00:77:00:01", plan.firmware, plan.memory, plan.disk)
        machine = Machine(hardware, wire, directory)
        try:
            prepare(server, plan, hardware)
            server.start()
            yield Lab(server, machine, directory)
        finally:
            machine.power_off()
            server.stop()
            if plan.logs is not None:
                save_logs(directory, plan.logs)


def beside(plan: Plan, wire: Network) -> contextlib.AbstractContextManager[object]:
    """What else is on the wire: in proxy mode somebody else's DHCP server."""
    return foreign_dhcp(wire) if plan.dhcp == "proxy" else contextlib.nullcontext()


def prepare(server: Server, plan: Plan, hardware: Hardware) -> None:
    """What an administrator does before the first boot, by the same commands."""
    wire = server.network
    server.cli("init")
    install_ramdisk(server.state_dir)
    if plan.apply is not None:
        server.cli("apply", plan.apply)
    options = ["--cidr", str(wire.address.network), "--gateway", wire.server_ip, "--dns", wire.server_ip]
    for_unknown = [] if plan.registered else ["--range", f"{wire.host(100)}-{wire.host(199)}"]
    server.cli("subnet", "add", "lab", *options, "--dhcp", plan.dhcp, *for_unknown)
    if plan.profile == STEM_CELL:
        image = stem_cell(server.directory)
        server.cli("image", "add", IMAGE, *image.options())
        image.file.unlink()  # the server has its own copy, and this is memory
    for command in plan.setup:
        server.cli(*command)
    if plan.registered:
        register(server, plan, hardware)


def register(server: Server, plan: Plan, hardware: Hardware) -> None:
    """Add the machine with an address of its own."""
    where = ["--mac", hardware.mac, "--ip", server.network.host(11)]
    server.cli("machine", "add", hardware.name, *where, "--profile", plan.profile)


def boot(plan: Plan, tell: Callable[[str], None]) -> bool:
    """The whole story; whether it ended as it should. ``tell`` gets each line of the timeline as it happens."""
    tell("preparing the network, the server and the image")
    with lab(plan) as room:
        return boot_in(room, plan, tell)


def boot_in(room: Lab, plan: Plan, tell: Callable[[str], None]) -> bool:
    """The same in a lab that is prepared."""
    server, machine = room.server, room.machine
    server.cli("build", "start", machine.hardware.name, *SERIAL)
    machine.power_on()
    timeline = Timeline(tell)
    timeline.add(f"power on: {plan.machine}, {plan.firmware}, {plan.memory} MiB, disk {plan.disk}")
    try:
        state = follow(room, timeline, plan.timeout)
        timeline.add(f"the build is {state}")
        good = state == "configured"
        if good and plan.again:
            boot_again(room, timeline, plan.timeout)
    except LabError as error:
        timeline.add(f"FAILED: {error}")
        good = False
    if not good:
        explain(room, tell)
    (room.directory / "timeline.txt").write_text("\n".join(timeline.lines) + "\n")
    if plan.keep:
        tell(f"kept: {room.directory}")
    return good


def follow(room: Lab, timeline: Timeline, timeout: float) -> str:
    """Tell what ``provisioner build show --watch`` says until it ends; the build's last state.

    LabError when the machine or the server stops before, and after ``timeout`` seconds.
    """
    name = room.machine.hardware.name
    watched = room.directory / "watch.log"
    watcher = spawn(room.server.command("build", "show", name, "--watch"), watched, env=room.server.environment())
    told = 0
    deadline = time.monotonic() + timeout
    try:
        while True:
            ended = watcher.poll() is not None
            lines = watched.read_text().splitlines()
            for line in lines[told:]:
                timeline.add(_AGE.sub("", line.rstrip()))
            told = len(lines)
            if ended:
                return str(room.server.cli_json("build", "show", name)["state"])
            room.server.check()
            if not room.machine.running:
                raise LabError(f"{name} is switched off before its build has ended")
            if time.monotonic() > deadline:
                raise LabError(f"the build has not ended within {timeout:.0f} s")
            time.sleep(0.3)
    finally:
        stop(watcher)


def boot_again(room: Lab, timeline: Timeline, timeout: float) -> None:
    """Switch the finished machine off and on: it has to go to its local disk by itself."""
    machine = room.machine
    with contextlib.suppress(LabError):  # an image without this console may have none
        # The report comes before the clean-up; a machine cut off in between reports again at its next boot.
        machine.wait_for_console(HANDED_OVER, 20)
    machine.power_off()
    mark = machine.console_size()
    machine.power_on()
    timeline.add("power off and on again")
    machine.wait_for_console(LOCAL_BOOT, timeout, mark)
    timeline.add("the firmware goes to the local disk")
    machine.wait_for_console(f"{machine.hardware.name} login:", timeout, mark)
    timeline.add("login prompt")


def explain(room: Lab, tell: Callable[[str], None]) -> None:
    """Where to look after a failure: the ends of the console and of the server's log."""
    log = room.server.log.read_text(errors="replace") if room.server.log.exists() else ""
    for title, text in (("console", room.machine.console_text()), ("serve", log)):
        tell(f"--- the last lines of {title}")
        for line in [line for line in text.splitlines() if line.strip()][-15:]:
            tell(f"    {line}")


def save_logs(directory: Path, logs: Path) -> None:
    """Copy the timeline, consoles and logs of a run to a directory that stays."""
    logs.mkdir(parents=True, exist_ok=True)
    for pattern in ("*.console", "*.log", "timeline.txt"):
        for file in directory.glob(pattern):
            shutil.copy(file, logs / file.name)
