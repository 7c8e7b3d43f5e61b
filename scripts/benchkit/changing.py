"""One machine changed: when its next boot decision is right, and when DHCP hands out its new address.

Ours keeps nothing for each machine that would have to be brought up to date, but for dnsmasq's reservations; Cobbler
has `sync`, which writes every system's files anew. The change is made by the API and is right when the boot plane, or
dnsmasq, says so; everything in between counts.
"""

import ctypes
import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from labkit.network import Network, network
from labkit.processes import run

from benchkit import cobbler
from benchkit.api import ACTOR, body
from benchkit.private import Server, await_true, scratch, serving
from benchkit.starting import MACHINES, large
from benchkit.storm import Options, Row, median, ratio
from provisioner.services import dhcp, plans, subnets, tokens
from provisioner.services.setup import init
from provisioner.services.site import open_site
from provisioner.settings import Settings

RESERVED = 20_000
SYSTEMS = 5_000
_BOOT_LIMIT, _DHCP_LIMIT = 0.1, 1.5
_TRIES = 10
_CLIENT = Path(__file__).resolve().parents[2] / "tests/netboot/dhcp_client.py"
_SECOND_DISK = b"0x81"
_CLONE_NEWNET = 0x40000000


def rows(options: Options) -> list[Row]:
    """The rows of `changes`."""
    peer, why_not = _cobbler(options)
    return [_decisions(options, peer, why_not), _reservations(options, peer, why_not)]


def _cobbler(options: Options) -> tuple[float, str]:
    """The median seconds of a sync, or 0 and why there is none."""
    try:
        with cobbler.installed(SYSTEMS) as peer:
            peer.begin()
            took = []
            for _ in range(options.rounds):
                took.append(peer.sync())
                options.say(f"    {cobbler.NAMED}: sync of {SYSTEMS:,} systems in {took[-1]:.1f} s")
            return median(took), ""
    except cobbler.NotToBeHad as problem:
        return 0.0, f"{cobbler.NAMED} is not to be had here: {problem}"


def _row(what: str, took: list[float], limit: float, peer: float, why_not: str) -> Row:
    told = f"{median(took) * 1000:.0f} ms, the longest of {len(took)} {max(took) * 1000:.0f} ms"
    theirs = f"{cobbler.NAMED}: sync at {SYSTEMS:,} systems {peer:.1f} s" if peer else "not to be had"
    shown = f"1/{ratio(peer, median(took)):.0f}" if peer else "-"
    return Row(what, theirs, told, shown, f"under {limit:g} s", median(took) < limit, why_not)


def _decisions(options: Options, peer: float, why_not: str) -> Row:
    state, token = large()
    with serving(state) as server:
        server.group.settle()
        numbers = range(options.rounds * _TRIES)
        took = [_one_decision(server, token, 1 + number * 997 % MACHINES) for number in numbers]
    options.say(f"    a boot decision at {MACHINES:,} machines: {median(took) * 1000:.0f} ms")
    return _row(f"one of {MACHINES:,} machines changed: its boot decision is right", took, _BOOT_LIMIT, peer, why_not)


def _one_decision(server: Server, token: str, machine: int) -> float:
    """Another way to its local disk, which its script must show."""
    name = f"node{machine:06}.r{machine // 40:04}.example.org"
    mac = ":".join(f"{octet:02x}" for octet in (0x52, 0x54, 0, *machine.to_bytes(3, "big")))
    before = server.get("boot", f"/boot/ipxe/{mac}?platform=pcbios")[1]
    if _SECOND_DISK in before:
        raise RuntimeError(f"{name} boots from its second disk already: {before!r}")
    began = time.perf_counter()
    change(server, token, name, {"local_boot": "second-disk"})
    after = server.get("boot", f"/boot/ipxe/{mac}?platform=pcbios")[1]
    seconds = time.perf_counter() - began
    if _SECOND_DISK not in after:
        raise RuntimeError(f"the script of {name} was not right at once: {after!r}")
    return seconds


def change(server: Server, token: str, name: str, fields: dict[str, Any]) -> None:
    """Change a machine by the API."""
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*"}
    status, text, _ = server.get("http", f"/api/v1/machines/{name}", "PATCH", fields, **headers)
    if status != 200:
        raise RuntimeError(f"HTTP {status}: {text[:300]!r}")


@cache
def _reserved() -> tuple[Path, str]:
    """A state directory with 20,000 machines in a subnet whose DHCP is ours, and a token for its API."""
    state = scratch() / "reserved" / "state"
    state.parent.mkdir()
    site = init(Settings(state_dir=state, boot_url="http://10.77.0.1:8080", lock_seconds=30), ACTOR).site
    subnets.add(site, ACTOR, "wire", "10.77.0.0/16", {"dhcp": "authoritative", "gateway": "10.77.0.1"})
    machines = body(RESERVED)
    for number, each in enumerate(machines):
        each["interfaces"] = [{"mac": _mac(number), "ip": _ip(number), "name": "eth0"}]
    for begin in range(0, RESERVED, 10_000):
        plans.apply(site, ACTOR, plan_id=plans.plan(site, ACTOR, machines[begin : begin + 10_000])["id"])
    token = tokens.add(site, ACTOR, None, "bench", {"role": "admin"})["token"]
    site.engine.dispose()
    return state, token


def _mac(number: int) -> str:
    return f"52:54:08:00:{number >> 8:02x}:{number & 255:02x}"


def _ip(number: int) -> str:
    return f"10.77.{1 + number // 250}.{1 + number % 250}"


def _reservations(options: Options, peer: float, why_not: str) -> Row:
    what = f"one of {RESERVED:,} machines changed: DHCP hands out its address"
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("dnsmasq")):
        wanted = f"under {_DHCP_LIMIT:g} s"
        return Row(what, "-", "-", "-", wanted, False, "not measured: it needs root, iproute2 and dnsmasq-base")
    state, token = _reserved()
    options.say(f"    {RESERVED:,} machines with reservations made")
    took: list[float] = []
    with network(f"bench{threading.get_native_id()}", machines=0, address="10.77.0.1/16") as wire:
        _plug(wire)
        _inside(wire, lambda: took.extend(_each_reservation(options, state, token)))
    return _row(what, took, _DHCP_LIMIT, peer, why_not)


def _plug(wire: Network) -> None:
    """A cable for a client."""
    ip = ["ip", "-n", wire.namespace, "link"]
    run([*ip, "add", "client0", "type", "veth", "peer", "name", "plug0"])
    run([*ip, "set", "plug0", "master", "br0", "up"])
    run([*ip, "set", "client0", "up"])


def _inside(wire: Network, call: Callable[[], None]) -> None:
    """Do it in a thread that is in the namespace, with all that it starts. What it raises is raised here."""
    problems: list[Exception] = []

    def within() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{wire.namespace}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                problems.append(OSError(ctypes.get_errno(), "setns"))
                return
        try:
            call()
        except Exception as problem:  # noqa: BLE001 - raised again where somebody waits for it
            problems.append(problem)

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    for problem in problems:
        raise problem


def _each_reservation(options: Options, state: Path, token: str) -> list[float]:
    took = []
    site = open_site(Settings(state_dir=state))
    with serving(state, "10.77.0.1", {"PROVISIONER_TFTP_BIND": "10.77.0.1:69"}) as server:
        await_true(lambda: dhcp.acknowledged(site) and _offered(0) == _ip(0), server.group.last_words)
        server.group.settle()
        for number in range(options.rounds * _TRIES // 2):
            took.append(_one_reservation(server, token, 1 + number * 997 % RESERVED, number))
            options.say(f"    a reservation at {RESERVED:,} machines: {took[-1]:.2f} s")
    site.engine.dispose()
    return took


def _one_reservation(server: Server, token: str, machine: int, number: int) -> float:
    name, mac, wanted = named(machine), _mac(machine), f"10.77.200.{1 + number}"
    began = time.perf_counter()
    change(server, token, name, {"interfaces": [{"mac": mac, "ip": wanted, "name": "eth0"}]})
    await_true(lambda: _offered(machine) == wanted, lambda: f"{name} is not offered {wanted}")
    return time.perf_counter() - began


def named(number: int) -> str:
    """What api.body calls the machine of this number."""
    return f"node{number:05d}.r{number // 40:03d}.example.org"


@cache
def _client() -> Any:
    """The DHCP client of the tests, on the wire that this thread is in."""
    found = importlib.util.spec_from_file_location(_CLIENT.stem, _CLIENT)
    if found is None or found.loader is None:
        raise RuntimeError(f"{_CLIENT} cannot be read")
    module = importlib.util.module_from_spec(found)
    sys.modules[_CLIENT.stem] = module  # its dataclasses look for it there
    found.loader.exec_module(module)
    return module.Client("client0")


def _offered(machine: int) -> str | None:
    """The address that this machine is offered just now."""
    time.sleep(0.03)  # firmware does not insist either; each question is work for the server
    question = {"mac": _mac(machine), "kind": "ipxe", "only": "discover", "wait": 1}
    offered = _client().answer(question)["offered"]
    return str(offered) if offered else None
