"""A real machine that nobody registered: it waits, is found, is added, and installs without a power cycle."""

import os
import shutil
from pathlib import Path

import pytest
from labkit.processes import wait_for
from labkit.run import SERIAL, Lab, Plan, Timeline, lab, register

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86"),
]


def test_r11_t27_an_unknown_machine_is_found_added_and_installed_without_a_power_cycle(tmp_path: Path) -> None:
    """Its first address is from the range for unknown machines; the build wants the one that it is given later."""
    plan = Plan(registered=False, logs=tmp_path)
    told: list[str] = []
    with lab(plan) as room:
        server, machine = room.server, room.machine
        mac = machine.hardware.mac
        machine.power_on()
        timeline = Timeline(told.append)
        row = wait_for(lambda: next(iter(server.cli_json("machine", "discovered")), None), 120, "the discovery")
        timeline.add(f"in quarantine: {row['mac']}, serial {row['serial']}")
        assert (row["mac"], row["serial"], row["vendor"]) == (mac, "LAB-lab01", "Lab")
        assert row["uuid"] == str(machine.hardware.uuid)
        assert row["address"] != server.network.host(11)
        machine.wait_for_console(f"{mac} waits to be added", 30)
        machine.wait_for_console(f"provisioner machine add NAME --mac {mac}", 5)
        machine.wait_for_console("asking again in 10 seconds", 60)
        is_away_while_it_asks(room)
        timeline.add("the server was away while it asked")

        register(server, plan, machine.hardware)
        assert server.cli_json("machine", "discovered") == []
        machine.wait_for_console("lab01 waits for a build", 90)
        timeline.add("told to wait for a build")
        server.cli("build", "start", "lab01", *SERIAL)
        timeline.add("build started")
        wait_for(lambda: server.cli_json("build", "show", "lab01")["state"] == "built", 300, "`built`", every=1)
        timeline.add("built")
        before = machine.console_text().partition("provisioner: writing the image")[0]
        assert before.count("Provisioner: asking http") == 1, "its firmware ran once"
        shown = server.cli_json("machine", "show", "lab01")
        assert (shown["serial"], shown["flag"]) == ("LAB-lab01", "")
        (tmp_path / "timeline.txt").write_text("\n".join(timeline.lines) + "\n")


def is_away_while_it_asks(room: Lab) -> None:
    """Neither DHCP nor HTTP answers once: iPXE closes its NIC then, and has to find it again."""
    room.server.stop()
    mark = room.machine.console_size()
    room.machine.wait_for_console("No configuration methods", 120, mark)
    room.server.start()
