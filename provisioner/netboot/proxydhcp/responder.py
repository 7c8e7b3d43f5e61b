"""Answers what comes in on the open interfaces: receive, parse, decide, send."""

import selectors
import time
from collections.abc import Callable
from contextlib import suppress

from provisioner.core.proxydhcp import Arrival, Reply, Request, Silence, admitted, decide
from provisioner.errors import ProvisionerError
from provisioner.netboot.proxydhcp.flood import Cap, Once
from provisioner.netboot.proxydhcp.packets import build, giaddr_of, parse
from provisioner.netboot.proxydhcp.sockets import Door, Link, doors
from provisioner.netboot.tftp.rationed import RationedLog

OnTold = Callable[[str, str], None]
"""``told(mac, what)``: this machine was given this boot information."""

# So that one interface under a flood does not keep the others waiting.
_AT_ONCE = 64
_TELL_AGAIN_SECONDS = 20.0


class Responder:
    """Open interfaces and what they answer with. Not thread-safe: one thread calls everything."""

    def __init__(self, told: OnTold | None = None) -> None:
        self._told = told
        self._log = RationedLog(__name__)
        self._selector = selectors.DefaultSelector()
        self._links: dict[str, Link] = {}
        self._doors: dict[str, tuple[Door, Door]] = {}
        self._cap = Cap()
        self._events = Cap(per_source=5, together=50)
        self._told_lately = Once(_TELL_AGAIN_SECONDS)
        self.answers = 0
        self.dropped = 0

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The interfaces that are open."""
        return tuple(sorted(self._doors))

    def follow(self, links: tuple[Link, ...]) -> list[ProvisionerError]:
        """Be open on these interfaces and no others; what could not be opened, and why."""
        wanted = {link.name: link for link in links}
        for name, link in list(self._links.items()):
            if name not in wanted or wanted[name].index != link.index:
                self._close(name)
        refusals = []
        for name, link in wanted.items():
            try:
                if name not in self._doors:
                    self._open(name)
                self._links[name] = link
            except ProvisionerError as error:
                refusals.append(error)
        return refusals

    def turn(self, timeout: float) -> None:
        """Wait for datagrams at most ``timeout`` seconds and answer them. Never raises."""
        for key, _ in self._selector.select(timeout):
            name, door = key.data
            try:
                self._drain(self._links[name], door)
            except OSError as error:
                # A cable pulled or an interface removed; without a pause a dead one would be asked without end.
                self._log.warning("proxy DHCP: an interface does not answer", interface=name, error=str(error))
                time.sleep(0.05)
            except Exception:  # noqa: BLE001 -- the loop must survive
                self.dropped += 1
                self._log.warning("proxy DHCP: unexpected error", with_traceback=True, interface=name)

    def close(self) -> None:
        """Close every interface."""
        for name in list(self._doors):
            self._close(name)
        self._selector.close()

    def _open(self, name: str) -> None:
        self._doors[name] = doors(name)
        for door in self._doors[name]:
            self._selector.register(door.socket, selectors.EVENT_READ, (name, door))

    def _close(self, name: str) -> None:
        self._links.pop(name, None)
        for door in self._doors.pop(name):
            self._selector.unregister(door.socket)
            door.close()

    def _drain(self, link: Link, door: Door) -> None:
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                self._one(link, door, *door.receive(link.addresses))

    def _one(self, link: Link, door: Door, data: bytes, arrival: Arrival) -> None:
        if not admitted(arrival.source, giaddr_of(data), link.subnets):
            self.dropped += 1
            return
        request = parse(data)
        if request is None:
            self.dropped += 1
            return
        answer = decide(request, arrival, link.subnets)
        if isinstance(answer, Silence):
            if answer.notable:
                self._log.warning("proxy DHCP: a machine cannot boot", mac=request.mac, reason=answer.reason)
            return
        if not self._cap.admits(_sender(request, arrival), time.monotonic()):
            self.dropped += 1
            return
        door.send(build(answer), answer.server, answer.destination)
        self.answers += 1
        self._tell(answer)

    def _tell(self, reply: Reply) -> None:
        mac, now = reply.request.mac, time.monotonic()
        if mac is None or self._told is None or not self._told_lately.admits((mac, reply.what), now):
            return
        if self._events.admits(mac, now):
            self._told(mac, reply.what)


def _sender(request: Request, arrival: Arrival) -> tuple[str, bytes]:
    """Whom a cap counts: firmware without an address has only its hardware address."""
    return arrival.source, request.chaddr
