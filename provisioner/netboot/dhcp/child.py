"""The DHCP child of `serve`: makes dnsmasq be what the database says, and acknowledges when it is; a proxy beside it.

    generation changed -> plan -> nothing to serve      -> dnsmasq stops, acknowledged
                               -> only reservations new -> hosts file, SIGHUP, wait until it has read it
                               -> anything else new     -> candidate, dnsmasq --test, switch, restart
                               -> refused, or fails     -> what ran before goes on; logged, not acknowledged

A generation is acknowledged only when dnsmasq has said that it read the files of that generation: whoever waits for it
may power the machine on.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from provisioner.core.dhcp import DhcpPlan, Served, interfaces_for, served
from provisioner.core.dhcpservers.dnsmasq import host_lines
from provisioner.errors import ProvisionerError, Unavailable
from provisioner.netboot.dhcp.checker import check_file
from provisioner.netboot.dhcp.dnsmasq import Paths, main_config
from provisioner.netboot.dhcp.files import write_whole
from provisioner.netboot.dhcp.host import daemon_user, interface_addresses
from provisioner.netboot.dhcp.leases import drop_leases, stale_in
from provisioner.netboot.dhcp.logs import EventKind, event_of
from provisioner.netboot.dhcp.process import Dnsmasq, end_orphans
from provisioner.netboot.dhcp.status import Status, write_status
from provisioner.netboot.proxydhcp.proxy import Proxy
from provisioner.netboot.proxydhcp.responder import OnTold

_log = structlog.get_logger(__name__)

OnEvent = Callable[[str, EventKind, str | None], None]

POLL_SECONDS = 0.2
_INTERFACES_SECONDS = 2.0
_STATUS_SECONDS = 5.0
_RETRY_SECONDS = 60.0
_LONGEST_BACKOFF = 30.0
_STEADY_SECONDS = 60.0
# A flood of packets must not become a flood of memory: beyond this the oldest are forgotten.
_MOST_WAITING_PACKETS = 10_000
_NOTHING = Served((), (), ())


class Source(Protocol):
    """The database, as the child sees it."""

    def generation(self) -> int:
        """The newest generation of the DHCP plan; asked five times a second."""

    def plan(self) -> DhcpPlan:
        """The plan, with the generation it was read at."""

    def acknowledge(self, generation: int) -> None:
        """The DHCP server answers according to this generation."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What a dnsmasq runs on."""

    main: str
    hosts: tuple[str, ...]
    interfaces: tuple[str, ...]
    served: Served


def run(
    source: Source,
    state_dir: Path,
    stop: threading.Event,
    on_event: OnEvent | None = None,
    on_told: OnTold | None = None,
) -> None:
    """Keep DHCP as ``source`` says until ``stop`` is set; the body of the child process.

    ``on_event(mac, kind, ip)`` is told of every DHCP message that dnsmasq saw, in this thread; ``on_told(mac, what)``
    of the boot information that the proxy gave, in a thread of its own. Errors are logged and kept in the status file;
    none ends the loop.
    """
    paths = Paths(state_dir / "dhcp")
    paths.directory.mkdir(parents=True, exist_ok=True)
    # Nothing in it is secret, and dnsmasq's own user must be able to read its hosts file whatever our umask.
    paths.directory.chmod(0o755)
    child = Child(source, paths, Proxy(paths.proxy, on_told), on_event)
    try:
        while not stop.is_set():
            child.step()
            stop.wait(POLL_SECONDS)
    finally:
        child.close()


class Child:
    """The state of the loop: one daemon, what it runs on, and what is wanted."""

    def __init__(self, source: Source, paths: Paths, proxy: Proxy, on_event: OnEvent | None = None) -> None:
        self._source = source
        self._proxy = proxy
        self._paths = paths
        self._on_event = on_event
        self._packets: deque[str] = deque(maxlen=_MOST_WAITING_PACKETS)
        self._daemon: Dnsmasq | None = None
        self._content: _Content | None = None
        self._plan: DhcpPlan | None = None
        self._in_force: int | None = None
        self._look_again = 0.0
        self._restart_at = 0.0
        self._backoff = POLL_SECONDS
        self._started_at = 0.0
        self._status = Status()
        self._status_due = 0.0
        end_orphans(paths.config)

    def step(self) -> None:
        """One turn of the loop; never raises."""
        try:
            self._follow()
        except ProvisionerError as error:
            self._complain(error.message, error.hint)
        except Exception as exc:  # noqa: BLE001 -- the loop must survive
            _log.exception("DHCP: unexpected error; what runs goes on")
            self._complain(f"{type(exc).__name__}: {exc}", "see the log")
        self._tell_events()
        self._note_proxy()
        self._write_status()

    def close(self) -> None:
        """End dnsmasq and the proxy."""
        self._proxy.close()
        self._note_proxy()
        self._stop_daemon()
        self._write_status(now=True)

    @property
    def status(self) -> Status:
        """How it fares."""
        return self._status

    # -- what is wanted -------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        self._watch()
        generation = self._source.generation()
        if self._plan is None or generation != self._plan.generation:
            self._plan = self._source.plan()
            self._look_again = 0.0
            self._proxy.want(self._plan)
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + _INTERFACES_SECONDS
            if self._in_force != self._plan.generation or self._interfaces_moved():
                self._bring_into_force(self._plan)
        if self._in_force == self._plan.generation and self._status.running == (self._content is not None):
            self._acknowledge(self._plan.generation)

    def _interfaces_moved(self) -> bool:
        # None at all is a cable pulled: dnsmasq (bind-dynamic) finds the interface again when it is back.
        if self._content is None:
            return False
        found = interfaces_for(self._content.served.subnets, interface_addresses())
        return bool(found) and found != self._content.interfaces

    def _wanted(self, plan: DhcpPlan) -> _Content | None:
        ours = served(plan)
        if not ours.subnets:
            return None
        interfaces = interfaces_for(ours.subnets, interface_addresses())
        if not interfaces and self._content is not None and self._content.served.subnets == ours.subnets:
            interfaces = self._content.interfaces
        user = daemon_user(self._paths.directory)
        # Its text does not depend on the reservations, which were checked above.
        main = main_config(replace(plan, reservations=()), state=self._paths, interfaces=interfaces, user=user)
        return _Content(main, tuple(host_lines(ours.reservations)), interfaces, ours)

    def _bring_into_force(self, plan: DhcpPlan) -> None:
        wanted = self._wanted(plan)
        if wanted is None or not wanted.interfaces:
            # Without an interface nobody is served by the old content either: its subnets may have been switched off.
            self._stop_daemon()
            self._content = None
            self._paths.config.unlink(missing_ok=True)
        if wanted is not None:
            if not wanted.interfaces:
                raise _no_interface(wanted.served)
            try:
                self._switch(wanted)
            except ProvisionerError:
                # Every try interrupts what runs: not again soon, unless something changes.
                self._look_again = time.monotonic() + _RETRY_SECONDS
                raise
        self._in_force = plan.generation

    def _acknowledge(self, generation: int) -> None:
        if self._status.generation != generation:
            self._source.acknowledge(generation)
        content = self._content
        ours = content.served if content else _NOTHING
        self._set_status(
            generation=generation,
            interfaces=content.interfaces if content else (),
            reservations=len(ours.reservations),
            left_out=tuple(f"{one.reservation.mac}: {one.reason}" for one in ours.left_out),
            error="",
            hint="",
        )

    # -- from what runs to what is wanted -------------------------------------------------------------------------

    def _switch(self, wanted: _Content) -> None:
        current = self._content
        running = self._daemon is not None and self._daemon.alive()
        if current is not None and running and current.main == wanted.main:
            if current.hosts != wanted.hosts:
                self._check("", set(wanted.hosts) - set(current.hosts))
                self._or_back(wanted, self._reload)
        else:
            self._check(wanted.main, wanted.hosts)
            self._or_back(wanted, self._restart)
        self._content = wanted

    def _check(self, main: str, hosts: tuple[str, ...] | set[str]) -> None:
        # `dnsmasq --test` does not look into the hosts file, so the reservations stand in the candidate itself.
        write_whole(self._paths.candidate, main + "".join(f"dhcp-host={line}\n" for line in sorted(hosts)))
        check_file(self._paths.candidate)

    def _or_back(self, wanted: _Content, how: Callable[[_Content], None]) -> None:
        """Carry out the change; if dnsmasq does not take it, end it: the watch starts it on what ran before."""
        try:
            how(wanted)
        except ProvisionerError:
            self._stop_daemon()
            self._restart_at = 0.0
            raise

    def _reload(self, wanted: _Content) -> None:
        if self._daemon is None or stale_in(self._paths.leases, wanted.served.reservations):
            self._restart(wanted)
            return
        write_whole(self._paths.hosts, _hosts_text(wanted))
        self._daemon.reload()

    def _restart(self, content: _Content) -> None:
        write_whole(self._paths.hosts, _hosts_text(content))
        write_whole(self._paths.config, content.main)
        self._stop_daemon()
        drop_leases(self._paths.leases, stale_in(self._paths.leases, content.served.reservations))
        self._daemon = Dnsmasq(self._paths, self._packets.append)
        try:
            self._daemon.wait_started()
        except ProvisionerError:
            self._stop_daemon()
            raise
        self._started_at = time.monotonic()
        self._set_status(running=True, pid=self._daemon.pid)

    def _stop_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()
        self._daemon = None
        self._set_status(running=False, pid=None)

    def _watch(self) -> None:
        """Restart a dnsmasq that ended by itself, ever more slowly while it keeps ending."""
        if self._content is None or (self._daemon is not None and self._daemon.alive()):
            return
        now = time.monotonic()
        if self._daemon is not None:
            said = self._daemon.last_words()
            self._stop_daemon()
            self._backoff = POLL_SECONDS if now - self._started_at > _STEADY_SECONDS else self._backoff
            self._restart_at = now + self._backoff
            self._set_status(restarts=self._status.restarts + 1)
            _log.error(
                "dnsmasq ended and is started again", restarts=self._status.restarts, after=self._backoff, said=said
            )
        if now < self._restart_at:
            return
        self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF)
        self._restart_at = now + self._backoff
        self._restart(self._content)

    # -- telling --------------------------------------------------------------------------------------------------

    def _tell_events(self) -> None:
        unanswered = 0
        for _ in range(len(self._packets)):
            event = event_of(self._packets.popleft())
            if event is None:
                continue
            unanswered += event.kind == "no-address"
            if self._on_event is not None:
                self._tell(event.mac, event.kind, event.ip)
        if unanswered:
            self._status = replace(self._status, unanswered=self._status.unanswered + unanswered)

    def _tell(self, mac: str, kind: EventKind, ip: str | None) -> None:
        try:
            if self._on_event is not None:
                self._on_event(mac, kind, ip)
        except Exception:  # noqa: BLE001 -- an event is not worth an outage
            _log.exception("DHCP: an event could not be recorded", mac=mac, kind=kind)

    def _complain(self, error: str, hint: str) -> None:
        if error != self._status.error:
            _log.error("DHCP is not as the database wants it", error=error, hint=hint)
        if self._plan is None and self._content is None:
            self._content = _left_by_last_run(self._paths)
        if self._plan is None:
            self._proxy.as_left()
        self._set_status(error=error, hint=hint)

    def _note_proxy(self) -> None:
        before, state = self._status.proxy, self._proxy.state
        self._status = replace(self._status, proxy=state)
        if (before.subnets, before.interfaces, before.error) != (state.subnets, state.interfaces, state.error):
            self._status_due = 0.0

    def _set_status(self, **changes: object) -> None:
        status = replace(self._status, **changes)  # type: ignore[arg-type]
        if status != self._status:
            self._status = status
            self._status_due = 0.0

    def _write_status(self, *, now: bool = False) -> None:
        if now or time.monotonic() >= self._status_due:
            self._status_due = time.monotonic() + _STATUS_SECONDS
            try:
                write_status(self._paths, self._status)
            except OSError as exc:
                _log.warning("DHCP: the status file cannot be written", error=str(exc))


def _left_by_last_run(paths: Paths) -> _Content | None:
    """What ran before we were started: after a power cut DHCP answers even while the database does not."""
    try:
        main = paths.config.read_text(encoding="utf-8")
        hosts = paths.hosts.read_text(encoding="utf-8")
    except OSError:
        return None
    interfaces = tuple(line.removeprefix("interface=") for line in main.splitlines() if line.startswith("interface="))
    return _Content(main, tuple(hosts.splitlines()), interfaces, _NOTHING)


def _hosts_text(content: _Content) -> str:
    return "".join(f"{line}\n" for line in content.hosts)


def _no_interface(ours: Served) -> Unavailable:
    networks = ", ".join(f"{subnet.name} ({subnet.cidr})" for subnet in ours.subnets)
    return Unavailable(
        f"no network interface of this host has an address in {networks}, so DHCP answers nobody there",
        hint="give an interface an address in that network (`ip address`), or switch the subnet's DHCP off; "
        "this host is looked at again every two seconds",
    )
