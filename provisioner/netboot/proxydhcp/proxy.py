"""The proxy beside dnsmasq in the DHCP child: a thread that answers in the subnets of mode ``proxy``.

The child tells it each plan; it keeps the subnets of the last one in a file, so that after a power cut it answers even
while the database does not. It looks at the host's interfaces every two seconds: cables and addresses come and go.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from provisioner.core.dhcp import DhcpPlan, DhcpRange, DhcpSubnet, links_of, validate_proxied
from provisioner.errors import Conflict, ProvisionerError, Unavailable
from provisioner.netboot.dhcp.files import write_whole
from provisioner.netboot.dhcp.host import interface_addresses
from provisioner.netboot.dhcp.status import ProxyState
from provisioner.netboot.proxydhcp.responder import OnTold, Responder
from provisioner.netboot.proxydhcp.sockets import Link

_log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
_TURN_SECONDS = 0.2


class Proxy:
    """The thread and what it is told. ``want``, ``as_left`` and ``state`` may be called from another one."""

    def __init__(self, file: Path, told: OnTold | None = None) -> None:
        self._file = file
        self._responder = Responder(told)
        self._plan: DhcpPlan | None = None
        self._state = ProxyState(pid=os.getpid())
        self._look_at = 0.0
        self._stop = threading.Event()
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxydhcp", daemon=True)
        self._thread.start()

    @property
    def state(self) -> ProxyState:
        """How it fares."""
        return self._state

    def want(self, plan: DhcpPlan) -> None:
        """From now on answer in this plan's subnets of mode ``proxy``."""
        self._plan = plan
        self._changed.set()
        try:
            _save(self._file, plan)
        except OSError as error:
            _log.warning("proxy DHCP: its subnets could not be kept for a restart", error=str(error))

    def as_left(self) -> None:
        """Nobody can say what is wanted: answer in the subnets that were wanted last."""
        if self._plan is None and (left := _load(self._file)) is not None:
            self._plan = left
            self._changed.set()

    def close(self) -> None:
        """Answer nobody any more."""
        self._stop.set()
        self._changed.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._changed.is_set() or time.monotonic() >= self._look_at:
                    self._changed.clear()
                    self._look_at = time.monotonic() + LOOK_SECONDS
                    self._look()
                if self._responder.interfaces:
                    self._responder.turn(_TURN_SECONDS)
                    self._note()
                else:
                    self._changed.wait(LOOK_SECONDS)
            except Exception:  # noqa: BLE001 -- the loop must survive
                _log.exception("proxy DHCP: unexpected error; it goes on")
                self._stop.wait(1)
        self._responder.close()
        self._note(pid=None, subnets=())

    def _look(self) -> None:
        """Open what is wanted on the interfaces that there are."""
        plan = self._plan
        ours = _proxied(plan) if plan is not None else ()
        if plan is None or not ours:
            self._responder.follow(())
            self._note(subnets=(), error="", hint="")
            return
        try:
            links, problems = _links(plan, ours, interface_addresses())
            problems += self._responder.follow(links)
        except ProvisionerError as error:
            problems = [error]
        said = "; ".join(problem.message for problem in problems)
        if said and said != self._state.error:
            _log.error("proxy DHCP is not as the database wants it", error=said)
        hint = problems[0].hint if problems else ""
        self._note(subnets=tuple(each.name for each in ours), error=said, hint=hint)

    def _note(self, **changes: Any) -> None:
        self._state = replace(
            self._state,
            interfaces=self._responder.interfaces,
            answers=self._responder.answers,
            dropped=self._responder.dropped,
            **changes,
        )


def _proxied(plan: DhcpPlan) -> tuple[DhcpSubnet, ...]:
    return tuple(subnet for subnet in plan.subnets if subnet.mode == "proxy")


def _links(
    plan: DhcpPlan, proxied: tuple[DhcpSubnet, ...], addresses: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Link, ...], list[ProvisionerError]]:
    """The interfaces to answer on, and what stands in the way of others."""
    problems: list[ProvisionerError] = []
    good = []
    for subnet in proxied:
        try:
            validate_proxied(subnet)
            good.append(subnet)
        except ProvisionerError as error:
            problems.append(error)
    asked = links_of(good, addresses)
    ours = links_of((each for each in plan.subnets if each.mode == "authoritative"), addresses)
    problems += [_both(name, ours[name], asked[name]) for name in sorted(set(asked) & set(ours))]
    seen = {subnet.name for subnets in asked.values() for subnet in subnets}
    problems += [_nowhere(subnet) for subnet in good if subnet.name not in seen]
    links = []
    for name in sorted(set(asked) - set(ours)):
        try:
            links.append(Link(name, socket.if_nametoindex(name), tuple(addresses[name]), asked[name]))
        except OSError:
            continue  # gone since it was listed; the next look knows
    return tuple(links), problems


def _both(interface: str, ours: tuple[DhcpSubnet, ...], proxied: tuple[DhcpSubnet, ...]) -> ProvisionerError:
    return Conflict(
        f"{interface} is in {_names(ours)}, where our own DHCP server answers, and in {_names(proxied)}, which is in "
        "proxy mode: one network cannot have both, so the proxy stays silent there",
        hint=f"provisioner subnet edit {proxied[0].name} --dhcp off, or move one of them to another interface",
    )


def _nowhere(subnet: DhcpSubnet) -> ProvisionerError:
    return Unavailable(
        f"no network interface of this host has an address in {subnet.name} ({subnet.cidr}), so the proxy answers "
        "nobody there",
        hint="give an interface an address in that network (`ip address`), or switch the subnet's DHCP off; "
        "this host is looked at again every two seconds",
    )


def _names(subnets: tuple[DhcpSubnet, ...]) -> str:
    return ", ".join(f"{subnet.name} ({subnet.cidr})" for subnet in subnets)


def _save(file: Path, plan: DhcpPlan) -> None:
    kept = [asdict(subnet) for subnet in plan.subnets if subnet.mode in {"authoritative", "proxy"}]
    write_whole(file, json.dumps({"subnets": kept}, indent=1) + "\n")


def _load(file: Path) -> DhcpPlan | None:
    """The plan that was kept, or None for a file that is missing or not ours."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        subnets = tuple(_subnet(each) for each in content["subnets"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return DhcpPlan(0, subnets, ())


def _subnet(values: dict[str, Any]) -> DhcpSubnet:
    ranges = tuple(DhcpRange(**each) for each in values.pop("ranges"))
    return DhcpSubnet(**{**values, "dns": tuple(values["dns"])}, ranges=ranges)
