"""Simulated machines that ask DHCP first: on a wire of their own, beside a service with its real dnsmasq."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment
from hypothesis import given
from hypothesis import strategies as st
from netboot import netns

from provisioner.simulate import Plan
from provisioner.simulate.dhcp import frame, message, parse
from provisioner.simulate.plan import cast_parts

SERVER = "10.66.255.1"
needs_namespaces = pytest.mark.skipif(
    not netns.available() or shutil.which("dnsmasq") is None, reason="needs root, iproute2 and dnsmasq"
)


@pytest.fixture
def wire(_template: Path, tmp_path: Path) -> Iterator[tuple[netns.Cable, Served]]:
    """A service in one namespace; in the other a host to which the addresses of all machines belong."""
    shutil.copytree(_template, tmp_path / "state")
    served = Served(served_environment(tmp_path / "state"), tmp_path / "state", log=tmp_path / "serve.log")
    binds = {"BOOT_BIND": ":8080", "MEDIA_BIND": ":8081", "HTTP_BIND": ":8443", "TFTP_BIND": ":69"}
    served.environment |= {f"PROVISIONER_{name}": SERVER + port for name, port in binds.items()}
    served.environment |= {
        f"PROVISIONER_{name}_URL": f"http://{SERVER}:{port}" for name, port in (("BOOT", 8080), ("MEDIA", 8081))
    }
    with netns.cable(f"{SERVER}/16") as pair, (tmp_path / "serve.log").open("wb") as log:
        netns.ip("-n", pair.client, "route", "add", "local", "10.66.0.0/24", "dev", "lo")
        netns.ip("-n", pair.client, "route", "add", f"{SERVER}/32", "dev", netns.CLIENT_INTERFACE)
        command = ["ip", "netns", "exec", pair.server, sys.executable, "-m", "provisioner", "serve"]
        served.process = subprocess.Popen(command, env=os.environ | served.environment, stdout=log, stderr=log)
        yield pair, served
        served.stop()


def play(pair: netns.Cable, served: Served, *words: str) -> dict[str, Any]:
    command = ["ip", "netns", "exec", pair.client, sys.executable, "-m", "provisioner", "simulate"]
    command += [
        "--subnet",
        "10.66.0.0/16",
        "--dhcp",
        netns.CLIENT_INTERFACE,
        "--wait",
        "60",
        "--speed",
        "20",
        "-o",
        "json",
    ]
    done = subprocess.run(
        [*command, *words], env=os.environ | served.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + served.log.read_text()[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
@needs_namespaces
def test_r13_rom_and_ipxe_get_the_assigned_address_and_go_the_whole_way(wire: tuple[netns.Cable, Served]) -> None:
    """Discover, offer, request, acknowledgement, as the ROM and again as iPXE, at each of three network boots."""
    result = play(*wire, "20", "--power-cut", "dhcp:2", "--outage", "0.1")
    assert (result["ends"], result["wrong"]) == ({"configured": 20}, [])
    dhcp = next(row for row in result["steps"] if row["step"] == "dhcp")
    assert dhcp["count"] == 2 * 20 * 3 + 2
    assert result["power_cuts"] == 2


@given(st.integers(1, 5000), st.sampled_from(["rom", "ipxe"]), st.integers(0, 2**32 - 1))
def test_a_question_carries_the_machine_and_asks_for_broadcast(index: int, client: str, xid: int) -> None:
    part = cast_parts(Plan(index))[-1]
    question = message(part, client, 1, xid, {50: bytes([10, 66, 0, 1])})
    assert len(question) >= 300
    assert int.from_bytes(question[4:8]) == xid
    assert question[10] & 0x80
    assert question[28:34].hex(":") == part.mac
    options = parse(question).options
    assert options[50] == bytes([10, 66, 0, 1])
    assert options[93] == (b"\0\7" if part.platform == "efi" else b"\0\0")
    assert (options.get(77) == b"iPXE") == (client == "ipxe")
    whole = frame(part.mac, question)
    assert whole[6:12].hex(":") == part.mac
    assert sum(int.from_bytes(whole[at : at + 2]) for at in range(14, 34, 2)) % 0xFFFF == 0
    assert whole[42:] == question
