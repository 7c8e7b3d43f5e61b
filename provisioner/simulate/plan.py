"""What is to be played: how many machines, how fast, and what goes wrong with which of them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Literal

from provisioner.errors import InvalidInput

Firmware = Literal["bios", "uefi", "mixed"]
Kind = Literal["fail", "power-cut", "never"]

STEPS = (
    "dhcp",
    "loader",
    "first-script",
    "script",
    "kernel",
    "initrd",
    "answer",
    "installer",
    "secret",
    "disk",
    "packages",
    "handoff",
    "built",
    "configured",
)
"""A machine's way, in order. A fault at a step happens right after it: the server has taken it."""
FAILING = ("answer", "installer", "secret", "disk", "packages", "handoff", "configured")
"""Where an installer, or at ``configured`` the handoff, can report a failure."""

SAME_POWER_ON_SECONDS = 60
"""Who asks for its script again within this time is still in the same attempt (core.bootplan)."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong after ``step``: for ``count`` machines, for ``share`` of them, or for all.

    ``fail``: the installer (or the handoff) reports that it failed. ``power-cut``: the machine stops dead, and powers
    on again. ``never``: it stops dead for good.
    """

    kind: Kind
    step: str
    share: float | None = None
    count: int | None = None

    def of(self, machines: int) -> int:
        """How many of so many machines."""
        if self.count is not None:
            return self.count
        return machines if self.share is None else round(self.share * machines)


def fault(kind: Kind, text: str) -> Fault:
    """A fault as people write it: ``STEP``, ``STEP:5%`` or ``STEP:3`` (machines). Raises InvalidInput."""
    step, colon, share = text.partition(":")
    steps = FAILING if kind == "fail" else STEPS
    if step not in steps:
        raise InvalidInput(f"{step!r} is not a step", where=f"--{kind}", hint=f"choose one of {', '.join(steps)}")
    if not colon:
        return Fault(kind, step)
    number = share.removesuffix("%")
    try:
        if share.endswith("%") and 0 <= float(number) <= 100:
            return Fault(kind, step, share=float(number) / 100)
        if not share.endswith("%"):
            return Fault(kind, step, count=max(0, int(number)))
    except ValueError:
        pass
    raise InvalidInput(
        f"{share!r} is neither a share nor a number of machines", where=f"--{kind}", hint=f"{step}:5% or {step}:3"
    )


@dataclass(frozen=True)
class Plan:
    """One run. All times are in seconds."""

    machines: int
    firmware: Firmware = "mixed"
    faults: Sequence[Fault] = ()
    seed: int = 1
    arrival: float = 0.0
    """The machines are powered on at random within this time."""
    think: float = 0.0
    """How long a machine takes between two steps, about; installing packages takes six times that."""
    speed: float = 1.0
    """Divides the pauses that firmware and installers make before they try again, and thinking. Their patience stays:
    they give up after as long as real ones."""
    patience: float = 1.0
    """Multiplies how long firmware and installers try before they give up."""
    cuts: int = 1
    """How often the power of a machine with a power cut fails."""
    outage: float = SAME_POWER_ON_SECONDS + 2.0
    """How long it stays away; real seconds, since the server takes a boot within a minute for the same power-on."""
    limit: float = 1800.0
    """A machine that is not done by then is given up."""
    cidr: str = "127.64.0.0/16"
    """The machines' network; each asks from an address of its own, which loopback has without configuration."""
    kernel_bytes: int = 64 << 10
    initrd_bytes: int = 256 << 10
    wait: float = 0.0
    """How long the service may take until it is ready."""
    settle: float = 10.0
    """How long its database may take, at the end, to show all that was acknowledged."""
    dhcp: str = ""
    """An interface on which the machines ask DHCP first, in broadcast; empty: they know their addresses."""

    def checked(self) -> "Plan":
        """The plan itself. Raises InvalidInput for one that cannot be played."""
        network = ip_network(self.cidr, strict=False)
        if not isinstance(network, IPv4Network) or (not self.dhcp and not network.is_loopback):
            raise InvalidInput(
                f"{self.cidr} is not in loopback",
                where="subnet",
                hint="a network in 127.0.0.0/8, such as 127.64.0.0/16",
            )
        room = network.num_addresses - 3
        if not 1 <= self.machines <= room:
            raise InvalidInput(f"{self.machines} machines: {self.cidr} has room for 1 to {room}", where="machines")
        for name in ("arrival", "think", "outage"):
            if getattr(self, name) < 0:
                raise InvalidInput(f"{name} is a time, not {getattr(self, name)}", where=name)
        for name in ("speed", "patience", "limit"):
            if getattr(self, name) <= 0:
                raise InvalidInput(f"{name} must be more than 0, not {getattr(self, name)}", where=name)
        if min(self.kernel_bytes, self.initrd_bytes) < len(MARK):
            raise InvalidInput(f"kernel and initrd need at least {len(MARK)} bytes", where="kernel-size")
        self._check_faults()
        return self

    def _check_faults(self) -> None:
        if not self.dhcp and any(each.step == "dhcp" for each in self.faults):
            raise InvalidInput("without DHCP there is no step dhcp", where="faults", hint="name an interface: --dhcp")
        faulty = sum(each.of(self.machines) for each in self.faults)
        if faulty > self.machines:
            raise InvalidInput(
                f"{faulty} machines are to have a fault, of {self.machines}",
                where="faults",
                hint="one fault a machine: give a share or a number, as in disk:5% or disk:3",
            )


MARK = b"simulated by provisioner simulate\n"
"""What made-up files begin with."""


@dataclass(frozen=True)
class Part:
    """The part of one machine."""

    index: int
    name: str
    mac: str
    ip: str
    uuid: str
    platform: str
    arrival: float
    fault: Fault | None
    seed: int


def cast_parts(plan: Plan) -> list[Part]:
    """The machines of a plan, the same for the same seed: names, addresses, arrivals, who has which fault."""
    chance = random.Random(plan.seed)  # noqa: S311 - a play that can be repeated, no secret
    network = ip_network(plan.cidr, strict=False)
    unlucky = _unlucky(plan, chance)
    parts = []
    for index in range(1, plan.machines + 1):
        platform = {"bios": "pcbios", "uefi": "efi"}.get(plan.firmware) or ("efi" if index % 2 else "pcbios")
        parts.append(
            Part(
                index=index,
                name=machine_name(index),
                mac=machine_mac(index),
                ip=str(network[index]),
                uuid=f"5a1d0000-0000-4000-8000-{index:012x}",
                platform=platform,
                arrival=chance.uniform(0, plan.arrival),
                fault=unlucky.get(index),
                seed=chance.getrandbits(32),
            )
        )
    return parts


def _unlucky(plan: Plan, chance: random.Random) -> dict[int, Fault]:
    order = list(range(1, plan.machines + 1))
    chance.shuffle(order)
    found: dict[int, Fault] = {}
    for each in plan.faults:
        for _ in range(each.of(plan.machines)):
            found[order.pop()] = each
    return found


def machine_name(index: int) -> str:
    """The name of the machine of this number."""
    return f"sim-{index:04d}"


def machine_mac(index: int) -> str:
    """Its MAC address, from a locally administered range that no vendor has (5a:1d:...)."""
    return ":".join(["5a", "1d", *(f"{index:08x}"[at : at + 2] for at in (0, 2, 4, 6))])
