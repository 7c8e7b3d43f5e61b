"""kill -9 of each child of the service, once each, while a machine is built: the machine does not notice."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from conftest import wait_for
from labkit.run import SERIAL, Lab, Plan, Timeline, boot_again, follow, lab
from played import processes

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]

# Each when it is at work: what the timeline says, and whose end that is.
MOMENTS = (
    (r" dhcp ", "dhcp"),
    (r" script ", "tftp"),
    (r" answer ", "boot"),
    (r" disk ", "worker"),
    (r" image .*25 %", "media"),
    (r" image .*50 %", "boot"),
    (r" built ", "admin"),
)


class Killer:
    """Reads the timeline and kills the child whose moment it is."""

    def __init__(self, room: Lab) -> None:
        self.room = room
        self.left = list(MOMENTS)
        self.lines: list[str] = []
        self.killed: list[tuple[str, int]] = []

    def tell(self, line: str) -> None:
        """A line of the timeline, as it happens."""
        self.lines.append(line)
        for moment in [each for each in self.left if re.search(each[0], line)]:
            self.left.remove(moment)
            self.kill(moment[1])

    def kill(self, child: str) -> None:
        """SIGKILL to every process of the child."""
        pids = self.processes(child)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.killed.append((child, len(pids)))
        self.lines.append(f"           killed {child}")

    def processes(self, child: str) -> list[int]:
        """The child's processes; gunicorn's workers carry its name too."""
        running = processes(self.room.server.state_dir)
        return [pid for pid, name in running.items() if name == child]


def test_r20_r33_each_child_is_killed_while_a_machine_is_built(tmp_path: Path) -> None:
    plan = Plan(timeout=600, logs=tmp_path)
    with lab(plan) as room:
        name = room.machine.hardware.name
        room.server.cli("build", "start", name, *SERIAL)
        killer = Killer(room)
        room.machine.power_on()
        timeline = Timeline(killer.tell)
        assert follow(room, timeline, plan.timeout) == "configured", "\n".join(killer.lines)
        assert not killer.left, f"never came: {killer.left}\n" + "\n".join(killer.lines)
        assert all(count for _, count in killer.killed), killer.killed
        wait_for(lambda: all(killer.processes(child) for _, child in MOMENTS), 120, "all children again")
        shown = room.server.cli_json("build", "show", name)
        kinds = [event["kind"] for event in shown["events"]]
        assert shown["attempts"] == 1
        assert not any(event["flagged"] for event in shown["events"])
        for step in ("disk", "built", "configured"):
            assert step in kinds
        boot_again(room, timeline, plan.timeout)
        console = room.machine.console_text()
    assert console.count("provisioner: writing the image to /dev/vda, try 1") == 1, "one attempt wrote"
