"""A run: the world is made, the machines are played at once, the result is held against the database."""

import asyncio
import contextlib
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from provisioner.errors import Unavailable
from provisioner.services import status
from provisioner.services.files import translated
from provisioner.services.site import Actor, Site
from provisioner.simulate import dhcp, http, oracle, tftp, world
from provisioner.simulate.journal import Figures, Journal, Record, percentile
from provisioner.simulate.machine import Machine
from provisioner.simulate.plan import STEPS, Plan, cast_parts
from provisioner.simulate.speaker import Stage

_TICK = 0.5
_DESCRIPTORS_EACH = 2
_ORDER = (*STEPS, "failed", "local-loader")


@dataclass
class Result:
    """How a run ended. ``ok``: every machine ended as its part says, and the database agrees."""

    machines: int
    ends: dict[str, int]
    wrong: list[str]
    """What must not be, in words, each with the machine's name."""
    steps: list[dict[str, Any]]
    """For each step: count, latencies p50, p95, p99 and max in milliseconds, bytes, retries, failures."""
    seconds: float
    """From the first power-on to the last machine's end; making the world does not count."""
    prepared_seconds: float
    machine_seconds: dict[str, float]
    """p50, p95, p99 and max of the time from power-on to the end, of machines that became configured."""
    power_cuts: int
    boots: int
    cpu_seconds: float
    """What the simulation itself used while the machines were played."""
    records: list[Record] = field(repr=False, default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def per_minute(self) -> float:
        """Machines that ended as they should, a minute."""
        return round(60 * self.machines / self.seconds, 1) if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As plain data, the journal left out."""
        plain = {key: value for key, value in vars(self).items() if key != "records"}
        return {"ok": self.ok, "per_minute": self.per_minute} | plain


Watch = Callable[[Counter[str], float], None]
"""Called about twice a second with how many machines are in which phase, and the seconds so far."""


def run(
    site: Site,
    plan: Plan,
    *,
    actor: Actor | None = None,
    journal: Path | None = None,
    progress: world.Progress | None = None,
    watch: Watch | None = None,
    on_power_cut: Callable[[str], None] | None = None,
) -> Result:
    """Play the plan against the `provisioner serve` that runs with this site's settings.

    The machines and what they need are made first, and stay; `clean` removes them. ``journal`` names a file for the
    records, one JSON object a line, written as they happen. ``on_power_cut`` is called with the name of each machine
    that has just gone dark.
    May run in any thread. Raises InvalidInput for a plan that cannot be played, Conflict where a name is taken by
    something real, Unavailable when the service is not ready.
    """
    parts = cast_parts(plan.checked())
    who = actor or Actor(who="simulate", origin="simulate", request="simulate")
    where = world.server(site, plan)
    with _file(journal) as file, _descriptors(plan.machines):
        _refuse_foreign_address(parts[0].ip, plan)
        asyncio.run(_until_ready(site, where, parts[0].ip, plan))
        began = time.monotonic()
        world.make(site, who, plan, parts, progress or _silent)
        prepared = time.monotonic() - began
        stage = Stage(plan, where.boot_url, where.tftp, Journal(file), Figures(), on_power_cut=on_power_cut)
        machines = [Machine(part, stage) for part in parts]
        began, cpu = time.monotonic(), time.process_time()
        asyncio.run(_play(machines, stage, watch))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    wrong = _unexpected(machines) + oracle.check_records(stage.journal.records)
    wrong += oracle.check_database(site, machines, stage.journal.records, seconds=plan.settle)
    times = sorted(machine.seconds for machine in machines if machine.end == "configured")
    return Result(
        machines=len(machines),
        ends=dict(Counter(str(machine.end) for machine in machines).most_common()),
        wrong=wrong,
        steps=stage.figures.rows(_ORDER),
        seconds=round(seconds, 2),
        prepared_seconds=round(prepared, 2),
        machine_seconds={f"p{point}": round(percentile(times, point) or 0.0, 2) for point in (50, 95, 99, 100)},
        power_cuts=sum(machine.cuts for machine in machines),
        boots=sum(machine.boots for machine in machines),
        cpu_seconds=round(cpu, 2),
        records=stage.journal.records,
    )


def clean(site: Site, actor: Actor | None = None, progress: world.Progress | None = None) -> int:
    """Remove the simulated machines and what was made for them; how many machines there were."""
    return world.clean(site, actor or Actor(who="simulate", origin="simulate", request="simulate"), progress or _silent)


async def _play(machines: list[Machine], stage: Stage, watch: Watch | None) -> None:
    with contextlib.ExitStack() as stack:
        if stage.plan.dhcp:
            stage.lease = stack.enter_context(dhcp.Wire(stage.plan.dhcp)).lease
        await _all(machines, stage, watch)


async def _all(machines: list[Machine], stage: Stage, watch: Watch | None) -> None:
    began = time.monotonic()
    tasks = [asyncio.create_task(machine.run()) for machine in machines]
    waiting = set(tasks)
    while waiting:
        _, waiting = await asyncio.wait(waiting, timeout=_TICK)
        if watch is not None:
            watch(+stage.phases, time.monotonic() - began)
    for task in tasks:
        task.result()


def _unexpected(machines: list[Machine]) -> list[str]:
    wrong = []
    for machine in machines:
        if not machine.as_expected and not machine.problems:
            part = machine.part
            scene = f"{part.fault.kind} at {part.fault.step}" if part.fault else "no fault"
            wrong.append(f"{part.name}: ended {machine.end} after {machine.boots} boots ({scene})")
    return wrong


def _refuse_foreign_address(address: str, plan: Plan) -> None:
    """Raise Unavailable unless this host lets the machines' addresses be used; all of loopback always may."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        hint = f"`ip route add local NETWORK dev lo` for the part of {plan.cidr} that the machines use makes them ours"
        raise Unavailable(f"{address} cannot be used here: {error.strerror}", hint=hint) from error


async def _until_ready(site: Site, where: world.Server, source: str, plan: Plan) -> None:
    deadline = time.monotonic() + plan.wait
    while True:
        try:
            return await _refuse_unready(site, where, source, dhcp_too=bool(plan.dhcp))
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_TICK)


async def _refuse_unready(site: Site, where: world.Server, source: str, *, dhcp_too: bool) -> None:
    """Raise Unavailable unless every listener that machines ask is there."""
    hint = "start it: `provisioner serve`, with the same settings; then simulate again"
    for what, url in (("boot plane", where.boot_url), ("media", where.media_url)):
        try:
            reply = await http.get(source, f"{url}/readyz", agent="provisioner-simulate", seconds=10)
        except http.HttpError as error:
            raise Unavailable(f"the {what} does not answer at {url}: {error}", hint=hint) from error
        if not reply.ok:
            why = status.not_ready(site) or f"HTTP status {reply.status}"
            raise Unavailable(f"the {what} at {url} is not ready: {why}", hint="see `provisioner check`")
    # TFTP answers nobody outside the configured subnets; with DHCP theirs is not there yet.
    for name in () if dhcp_too else ("undionly.kpxe", "snponly.efi"):
        try:
            await tftp.fetch(source, where.tftp, name, edk2=False, seconds=10)
        except tftp.TftpError as error:
            hint = "is `provisioner serve` running, and is Debian's package ipxe installed? see `provisioner check`"
            raise Unavailable(f"TFTP at {where.tftp[0]}:{where.tftp[1]}: {error}", hint=hint) from error


@contextlib.contextmanager
def _descriptors(machines: int) -> Iterator[None]:
    """As many descriptors as the machines need at once; the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = machines * _DESCRIPTORS_EACH + 256
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise Unavailable(
            f"{machines} machines need {needed} open files, and this process may have {hard}",
            hint="raise the limit (`ulimit -Hn`), or play fewer",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _file(path: Path | None) -> Iterator[IO[str] | None]:
    if path is None:
        yield None
        return
    with translated(path):
        file = path.open("w", encoding="utf-8")
    with file:
        yield file


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total
