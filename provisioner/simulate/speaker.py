"""What every part of a machine's life needs: asking until there is an answer, and noting what came of it."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from provisioner.simulate import http
from provisioner.simulate.expect import End, Seen
from provisioner.simulate.journal import Figures, Journal
from provisioner.simulate.plan import Part, Plan

_LEAST_PAUSE = 0.05
_GET_SECONDS = 60.0
_REPORT_SECONDS = 30.0
_CURL = "curl/7.76.1"
_ASKED_ANEW = frozenset({"dhcp", "loader", "first-script", "script", "kernel", "initrd", "local-loader"})

_THINK = {"power-on": 1.0, "kernel": 2.0, "secret": 0.3, "disk": 0.5, "packages": 6.0, "reboot": 2.0, "configured": 1.5}
"""How long a machine is busy with itself, as multiples of the plan's ``think``."""


class PowerCut(Exception):
    """The machine stops dead."""


class InstallerFailed(Exception):
    """The installer reports a failure and stops."""


@dataclass
class Stage:
    """What all machines share."""

    plan: Plan
    boot_url: str
    tftp: tuple[str, int]
    journal: Journal
    figures: Figures
    loaders: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Size and SHA-256 of each loader as the first machine got it."""
    phases: Counter[str] = field(default_factory=Counter)
    on_power_cut: Callable[[str], None] | None = None
    """Called with the name of a machine that has just gone dark."""
    lease: Callable[[Part, str], Awaitable[str]] | None = None
    """DHCP for a machine as this client (``rom``, ``ipxe``): its address; None: machines know their addresses."""


class Speaker:
    """A machine's memory and its manners; `Machine` is the life that it leads."""

    def __init__(self, part: Part, stage: Stage) -> None:
        self.part, self._stage, self._plan = part, stage, stage.plan
        self._chance = random.Random(part.seed)  # noqa: S311 - a play that can be repeated, no secret
        self.seen = Seen()
        self.end: End | None = None
        self.problems: list[str] = []
        self.boots = self.cuts = 0
        self._phase = ""

    async def pause(self, seconds: float) -> None:
        """Wait as firmware or an installer does before it tries again."""
        await asyncio.sleep(max(_LEAST_PAUSE, seconds / self._plan.speed))

    def _getting(self, url: str) -> Callable[[], Awaitable[http.Reply]]:
        return lambda: http.get(self.part.ip, url, agent=_CURL, seconds=_GET_SECONDS)

    def _posting(self, url: str, form: dict[str, str]) -> Callable[[], Awaitable[http.Reply]]:
        return lambda: http.post(self.part.ip, url, form, agent=_CURL, seconds=_REPORT_SECONDS)

    async def _persist(
        self, step: str, ask: Callable[[], Awaitable[http.Reply]], pauses: Sequence[float]
    ) -> http.Reply | None:
        """Ask until there is an answer that trying again would not change; None when the patience is over.

        With ``speed`` the tries come faster, but the patience lasts as long as the real pauses together.
        """
        patience, began, tries = sum(pauses) * self._plan.patience, time.monotonic(), 0
        while True:
            asked = time.perf_counter()
            reply = None
            try:
                reply = await ask()
            except http.HttpError as error:
                self.seen.note(step, "maybe")
                self._lost(step, str(error), tries=tries + 1)
            else:
                self._answered(step, reply, tries=tries + 1)
                if reply.status < 500 and reply.status != 429:
                    self._heard(step, reply, time.perf_counter() - asked, tries)
                    return reply
                self.seen.note(step, "maybe")
            if tries >= len(pauses) and time.monotonic() - began >= patience:
                self._stage.figures.failures[step] += 1
                return None
            await self.pause(pauses[min(tries, len(pauses) - 1)])
            tries += 1

    def _heard(self, step: str, reply: http.Reply, seconds: float, tries: int) -> None:
        if not reply.ok:
            self._stage.figures.failures[step] += 1
            return
        self._stage.figures.good(step, seconds, reply.size, tries)
        self.seen.note(step, "yes")
        if reply.body.startswith(b'{"'):
            self._note("ack", step=step, state=_state_in(reply.text), tries=tries + 1)

    def _cross(self, step: str, *, installer: bool = False) -> None:
        """The step is done; here is where this machine's fault happens. Raises PowerCut or InstallerFailed."""
        fault = self.part.fault
        if fault is None or fault.step != step:
            return
        if fault.kind == "never":
            self._note("off", step=step)
            self._finish("off")
            raise PowerCut
        if fault.kind == "power-cut" and self.cuts < self._plan.cuts:
            self.cuts += 1
            self._note("power-cut", step=step)
            raise PowerCut
        if fault.kind == "fail" and installer:
            raise InstallerFailed(f"simulated failure after {step}")

    async def _think(self, what: str) -> None:
        if self._plan.think:
            await asyncio.sleep(self._plan.think * _THINK[what] * self._chance.uniform(0.5, 1.5) / self._plan.speed)

    def _be(self, phase: str) -> None:
        self._stage.phases[self._phase] -= 1
        self._stage.phases[phase] += 1
        self._phase = phase

    def _finish(self, end: End) -> None:
        self.end = end
        self._be(f"ended: {end}")
        self._note("end", kind=end)

    def _note(self, what: str, **more: object) -> None:
        self._stage.journal.add(self.part.name, self.boots, what, **more)

    def _answered(self, step: str, reply: http.Reply, tries: int = 1) -> None:
        self._note("answer", step=step, status=reply.status, bytes=reply.size, tries=tries)

    def _lost(self, step: str, why: str, tries: int = 1) -> None:
        self._stage.figures.retries[step] += step in _ASKED_ANEW
        self._note("lost", step=step, why=why, tries=tries)

    def _problem(self, message: str) -> None:
        self.problems.append(message)
        self._note("problem", message=message)


def _state_in(text: str) -> str:
    return text.partition('"state":')[2].partition('"')[2].partition('"')[0]
