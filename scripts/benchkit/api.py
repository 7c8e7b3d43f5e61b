"""Plan and apply of thousands of machines with two interfaces each, while another process goes on writing.

What is timed are the service calls (`plans.plan`, `plans.apply`) that the API, the CLI and the inventories make. The
other process writes events, as machines that are being installed do; its longest wait is how long the write lock was
held against others.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

from benchkit import report
from provisioner.services import plans, records, subnets
from provisioner.services.setup import init
from provisioner.services.site import Actor, Site, open_site
from provisioner.settings import Settings
from provisioner.store.engine import write
from provisioner.store.models import Event

ACTOR = Actor(who="bench", origin="bench")
T = TypeVar("T")
PARTS = ("plan", "apply", "plan of what is there", "plan that changes all", "apply that changes all")


def body(count: int, description: str = "") -> list[dict[str, Any]]:
    """Machines as an inventory sends them."""
    return [
        {
            "name": f"node{number:05d}.r{number // 40:03d}.example.org",
            "profile": "rocky9",
            "description": description,
            "serial": f"SN{number:06d}XQ",
            "uuid": f"4c4c4544-0037-3310-8052-{number:012x}",
            "inventory": f"netbox/{number}",
            "tags": ["web", f"rack{number // 40}"],
            "parameters": {"rack": number // 40, "unit": number % 40},
            "interfaces": [
                {
                    "mac": f"52:54:0{k}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
                    "ip": ip,
                    "name": f"eth{k}",
                }
                for k, ip in enumerate(
                    (f"10.1.{number // 250}.{1 + number % 250}", f"10.2.{number // 250}.{1 + number % 250}")
                )
            ],
        }
        for number in range(count)
    ]


def _writes(state: Path, told: Connection) -> None:
    """Write an event after the other until something comes down the pipe; answer how many, and the longest wait."""
    site, longest, count = open_site(Settings(state_dir=state, lock_seconds=30)), 0.0, 0
    told.send("begun")
    while not told.poll(0.002):
        began = time.perf_counter()
        with write(site.engine) as session:
            session.add(Event(kind="bench", message="an installer's report"))
        longest, count = max(longest, time.perf_counter() - began), count + 1
    told.send((count, longest))


class Beside:
    """Another process that writes; ``longest`` is its longest wait in seconds, ``count`` how often it wrote."""

    def __init__(self, state: Path) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_writes, args=(state, theirs), daemon=True)
        self.count, self.longest = 0, 0.0

    def __enter__(self) -> Self:
        self._process.start()
        self._ours.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send("stop")
        self.count, self.longest = self._ours.recv()
        self._process.join()


def timed(call: Callable[[], T]) -> tuple[float, float, T]:
    """The seconds that the call took, those that its process computed, and what it answered."""
    began, computed = time.perf_counter(), time.process_time()
    answer = call()
    return time.perf_counter() - began, time.process_time() - computed, answer


def one_run(state: Path, count: int, *, beside: bool) -> dict[str, tuple[float, float]]:
    """The seconds of each part, and of them those computed; with ``beside`` the longest wait of the other process
    stands first for the applies.
    """
    site = init(Settings(state_dir=state, boot_url="http://127.0.0.1:8080", lock_seconds=30), ACTOR).site
    for k in (1, 2):
        subnets.add(site, ACTOR, f"net{k}", f"10.{k}.0.0/16", {})
    seconds = {}
    for parts, description in ((PARTS[:2], ""), (PARTS[2:3], ""), (PARTS[3:], "changed")):
        machines = body(count, description)
        wall, cpu, planned = timed(partial(plans.plan, site, ACTOR, machines))
        seconds[parts[0]] = wall, cpu
        if len(parts) == 2:
            seconds[parts[1]] = _apply(site, state, planned["id"], beside=beside)
    problems = records.verify(site)
    site.engine.dispose()
    if problems:
        raise SystemExit(f"the history is broken: {problems[:3]}")
    return seconds


def _apply(site: Site, state: Path, plan_id: str, *, beside: bool) -> tuple[float, float]:
    if not beside:
        return timed(partial(plans.apply, site, ACTOR, plan_id=plan_id))[:2]
    with Beside(state) as other:
        _, cpu, _ = timed(partial(plans.apply, site, ACTOR, plan_id=plan_id))
    report.say(f"  beside it {other.count} events were written, the longest wait was {other.longest:.2f} s")
    return other.longest, cpu


def run(count: int, runs: int) -> list[str]:
    """The table."""
    rows, waits = [], []
    for number in range(runs):
        for beside, found in ((False, rows), (True, waits)):
            with tempfile.TemporaryDirectory() as directory:
                found.append(one_run(Path(directory) / "state", count, beside=beside))
        report.say(f"run {number + 1} of {runs}: " + ", ".join(f"{part} {rows[-1][part][0]:.2f} s" for part in PARTS))
    lines = [
        f"{count} machines with two interfaces each, on SQLite, by the service calls behind API, CLI and inventories.",
        f"The median of {runs} runs. The wait is the longest of another process that writes events all the while, the",
        f"longest of {runs} runs: so long was the write lock held against others, and the host busy with other things.",
        "Computing is what a host that does nothing else would need at least.",
        "",
        "| | seconds | of them computing | longest wait of another writer |",
        "|---|---|---|---|",
    ]
    for part in PARTS:
        wall, cpu = (statistics.median(row[part][kind] for row in rows) for kind in (0, 1))
        wait = f"{max(each[part][0] for each in waits):.2f} s" if part.startswith("apply") else "(only reads)"
        lines.append(f"| {part} | {wall:.2f} | {cpu:.2f} | {wait} |")
    return lines
