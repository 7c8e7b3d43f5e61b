"""The server: one thread, one selector, one socket for each transfer, or a single one for all.

A request goes: receive -> admitted? -> parse -> repeat of a known one? -> allowed so much? -> resolve (in a worker
thread) -> negotiate -> session. Nothing that a datagram or the caller's functions do ends the loop; it is counted in
`TftpServer.counters`.
"""

import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from provisioner.netboot.tftp.allowance import Allowance
from provisioner.netboot.tftp.blocks import Chunks
from provisioner.netboot.tftp.content import Reader
from provisioner.netboot.tftp.contract import Limits, Request, Resolve, Transfer
from provisioner.netboot.tftp.names import plain_name
from provisioner.netboot.tftp.opening import open_session, sessions_that_fit
from provisioner.netboot.tftp.options import DEFAULT_BLKSIZE, lower_names
from provisioner.netboot.tftp.pace import Alarm, Timers
from provisioner.netboot.tftp.packets import ACK, BAD_NAME, ERROR, SERVER_ERROR, Refusal, encode_error, parse_request
from provisioner.netboot.tftp.pool import Pool
from provisioner.netboot.tftp.rationed import RationedLog
from provisioner.netboot.tftp.resolving import NO_ROOM, Failure, NoRoom, Pending, Resolver, discard
from provisioner.netboot.tftp.session import Asked, Session
from provisioner.netboot.tftp.sessions import Key, Sessions
from provisioner.netboot.tftp.sockets import Arrival, Listener, OwnPort, open_port

_REQUESTS_AT_ONCE = 64
"""Requests taken before running transfers have their turn again."""

_EVENTS_AT_ONCE = 512
_REPORTS_WAITING = 10_000


class TftpServer:
    """Serves what ``resolve`` finds, to whom ``admitted`` lets in, on the address ``bind``.

    ``bind`` is ``host:port``, or a socket from `open_port`; ``[::]:69`` takes IPv4 too. With ``single_port`` everything
    is sent from that port, for clients behind address translation that lets no other answer in. ``resolve`` and
    ``on_end`` are called from other threads, ``admitted`` (address as text) from the server's own for each request: it
    must be quick. Raises `PortInUse` when the port is taken or needs a capability, `InvalidSettings` when it is no
    address of this host.
    """

    def __init__(
        self,
        bind: str | socket.socket,
        resolve: Resolve,
        *,
        admitted: Callable[[str], bool] | None = None,
        on_end: Callable[[Transfer], None] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        single_port: bool = False,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._listener = Listener(open_port(bind, limits.receive_buffer) if isinstance(bind, str) else bind)
        self._admitted = admitted
        self._on_end = on_end
        self._limits = limits
        self._most = sessions_that_fit(limits.sessions)
        self._shared = self._listener if single_port else None
        self._allowance = Allowance(limits, time.monotonic())
        self._log = RationedLog(__name__)
        self._stopping = False
        self._woken = False
        self._awake, self._alarm_clock = socket.socketpair()
        self._awake.setblocking(False)
        self._alarm_clock.setblocking(False)
        self._resolver = Resolver(resolve, limits, self._wake, self._log)
        self._reports = Pool("tftp-report", threads=1, waiting=_REPORTS_WAITING)
        self._chunks = Chunks(limits.cache_bytes)
        # Not the `selectors` module: for each event it makes an object and asks for three, as long as an ACK takes.
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, Session] = {}
        self._timers = Timers()
        self._sessions = Sessions(limits.crowd)
        self._pending: dict[Key, Pending] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the server listens on; the port is the real one if ``bind`` said 0."""
        return self._listener.address

    def __len__(self) -> int:
        """The number of sessions."""
        return len(self._sessions)

    def stop(self) -> None:
        """Make `serve` return soon. May be called from any thread and from a signal handler, at any time."""
        self._stopping = True
        self._wake()

    def serve(self) -> None:
        """Serve until `stop` is called; once."""
        self._epoll.register(self._listener.socket, select.EPOLLIN)
        self._epoll.register(self._awake, select.EPOLLIN)
        self._resolver.start()
        self._reports.start()
        now = time.monotonic()
        try:
            while not self._stopping:
                now = self._turn(now)
        finally:
            self._close()

    def _turn(self, before: float) -> float:
        """Wait for datagrams and alarms, and act on them. It tells when that was, once for all of them:

        nobody's round trip is measured to the millisecond, and asking for the time takes a twentieth of an ACK.
        """
        now = before
        try:
            events = self._epoll.poll(self._timers.pause(before), _EVENTS_AT_ONCE)
            now = time.monotonic()
            for descriptor, _ in events:
                session = self._by_descriptor.get(descriptor)
                if session is None:
                    self._take_others(descriptor)
                else:
                    try:
                        eventful = session.receive(now)
                    except Exception:  # noqa: BLE001 - it concerns this transfer alone
                        self._failed(session)
                        eventful = True
                    if eventful:
                        self._follow(session)
            for alarm in self._timers.expired(now):
                self._ring(alarm)
        except Exception:  # noqa: BLE001 - the loop outlives everything
            self._count("loop_errors")
            self._log.warning("tftp loop error", with_traceback=True)
        return now

    def _take_others(self, descriptor: int) -> None:
        if descriptor == self._listener.socket.fileno():
            self._take_requests()
        elif descriptor == self._awake.fileno():
            self._take_answers()

    def _wake(self) -> None:
        if self._woken:
            return  # and it has not looked yet
        self._woken = True
        with suppress(OSError):  # full: it will wake anyway; closed: nobody is left to wake
            self._alarm_clock.send(b"\0")

    def _count(self, what: str) -> None:
        self.counters[what] += 1

    # Requests

    def _take_requests(self) -> None:
        for _ in range(_REQUESTS_AT_ONCE):
            try:
                arrival = self._listener.receive()
            except BlockingIOError:
                return
            except OSError:
                self._count("receive_errors")  # an ICMP error for an answer of ours
                continue
            if arrival is not None:
                self._take(arrival)

    def _take(self, arrival: Arrival) -> None:
        try:
            if self._shared is not None and arrival.data[:2] in {ACK, ERROR}:
                self._hand_out(arrival)
            elif self._admitted is not None and not self._admitted(arrival.client):
                self._count("not_admitted")
            else:
                self._request(arrival)
        except Exception:  # noqa: BLE001 - one datagram must not keep the next from being read
            self._count("request_errors")
            self._log.warning("tftp request error", with_traceback=True, client=arrival.client)

    def _hand_out(self, arrival: Arrival) -> None:
        """A datagram that came to the single port, but belongs to a transfer; a stranger's belongs to none."""
        session = self._sessions.newest((arrival.client, arrival.port))
        if session is None:
            self._count("ignored")
        else:
            self._drive(session, lambda now: session.take(arrival.data, now))

    def _request(self, arrival: Arrival) -> None:
        parsed = parse_request(arrival.data)
        if parsed is None:
            self._count("ignored")
            return
        if isinstance(parsed, Refusal):
            self._refuse(arrival, parsed)
            return
        name = plain_name(parsed.name)
        if name is None:
            # The name is logged as bytes: inert on a terminal, and enough to see what somebody tried.
            self._log.warning("tftp name refused", name=repr(parsed.name[:128]), client=arrival.client)
            self._refuse(arrival, BAD_NAME)
            return
        request = Request(name, arrival.client, arrival.port, arrival.local, lower_names(parsed.options))
        self._count("requests")
        self._begin(Asked(request, parsed.options), arrival)

    def _refuse(self, arrival: Arrival, refusal: Refusal) -> None:
        self._count("refused")
        if not self._allowed(arrival, 1):
            return
        with suppress(OSError):
            self._listener.answer(arrival, encode_error(refusal))

    def _allowed(self, arrival: Arrival, wanted: int) -> int:
        """How many datagrams may be sent to this source before it acknowledges one."""
        granted = self._allowance.take(arrival.client, wanted, time.monotonic())
        if not granted:
            self._count("dropped_rate")
            self._log.warning("tftp requests dropped: too many that nobody acknowledges", client=arrival.client)
        return granted

    def _give_back(self, pending: Pending) -> None:
        self._allowance.give_back(pending.arrival.client, pending.allowed)
        pending.allowed = 0

    def _begin(self, asked: Asked, arrival: Arrival) -> None:
        key = (arrival.client, arrival.port)
        if self._repeats(asked, key):
            return
        allowed = self._allowed(arrival, self._limits.unacknowledged)
        if not allowed:
            return
        pending = Pending(asked, arrival, time.monotonic(), allowed)
        if not self._resolver.submit(pending):
            self._give_back(pending)
            self._count("dropped_busy")  # the client asks again
            return
        self._pending[key] = pending
        self._timers.arm(pending)

    def _repeats(self, asked: Asked, key: Key) -> bool:
        """Whether the request is a repeat, which it then deals with; a different one ends what its port had before.

        Some firmware always uses the same port. When it asks anew for a file that it was already receiving, either
        it was reset, or the network held a copy back: a second session beside the first is right for both.
        """
        pending = self._pending.get(key)
        if pending is not None:
            if pending.asked == asked:
                return True
            self._forget(pending)
        session = self._sessions.newest(key)
        if session is not None:
            self._drive(session, session.receive)  # what the client sent before: an ERROR ends the session
            session = self._sessions.newest(key)
        if session is None:
            return False
        if session.asked != asked:
            self._end(session, "aborted")
            return False
        if session.answered or session.lingering:
            return self._shared is not None and not self._starts_over(session)
        self._drive(session, session.again)
        return True

    def _starts_over(self, session: Session) -> bool:
        """Single port, where two sessions of a client's port cannot be told apart: one must go.

        A machine that was reset needs seconds until it asks again; what comes sooner is a copy that was held back.
        """
        if session.quiet(time.monotonic()) < self._limits.first_resend:
            return False
        self._end(session, "aborted")
        return True

    # Content

    def _take_answers(self) -> None:
        with suppress(BlockingIOError):
            self._awake.recv(4096)
        self._woken = False  # before looking: what is finished from here on wakes again
        for pending, answer in self._resolver.finished():
            wanted = not pending.cancelled
            self._timers.cancel(pending)
            self._forget(pending)
            if not wanted:
                discard(answer)
                self._count("abandoned")
            elif isinstance(answer, Failure):
                self._fail(pending, answer)
            elif isinstance(answer, NoRoom):
                self._no_room()
            elif answer is not None:
                self._serve_content(pending, answer)
            self._give_back(pending)

    def _forget(self, pending: Pending) -> None:
        """Nobody waits for this any more. Its alarm runs on: a thread that hangs must be noticed all the same."""
        pending.cancelled = True
        key = (pending.arrival.client, pending.arrival.port)
        if self._pending.get(key) is pending:
            del self._pending[key]

    def _no_room(self) -> None:
        """The client hears nothing, and asks again: an ERROR would end its boot. By then there may be room."""
        self._count("no_room")
        self._log.warning("tftp has no descriptors or memory left", hint="raise the service's limit of open files")
        self._evict()

    def _fail(self, pending: Pending, failure: Failure) -> None:
        self._give_back(pending)
        self._refuse(pending.arrival, failure.refusal)
        request = pending.asked.request
        seconds = time.monotonic() - pending.asked_at
        self._report(Transfer(request.name, request.client, 0, 0, DEFAULT_BLKSIZE, 1, seconds, 0, failure.outcome))

    def _serve_content(self, pending: Pending, reader: Reader) -> None:
        session = None
        try:
            session = self._open(pending, reader)
        except OSError:
            self._count("no_socket")
        finally:
            if session is None:
                reader.close()
        if session is not None:
            self._drive(session, session.start)

    def _open(self, pending: Pending, reader: Reader) -> Session | None:
        """A session for this content, or None when there is no room. Raises OSError when no socket can be had."""
        if len(self._sessions) >= self._most and not self._evict():
            self._count("dropped_full")
            return None
        # A source that acknowledges nothing may be the victim of a forger: it hears ever less from us.
        crowded = self._sessions.half_open_of(pending.arrival.client) >= self._limits.half_open_per_client
        allowed = min(pending.allowed, 1) if crowded else pending.allowed
        try:
            session = self._session(pending, reader, allowed)
        except OSError as error:
            if error.errno not in NO_ROOM or not self._evict():
                raise
            session = self._session(pending, reader, allowed)
        if isinstance(session.port, OwnPort):
            try:
                self._epoll.register(session.port.socket, select.EPOLLIN)
            except BaseException:
                session.port.close()
                raise
            self._by_descriptor[session.port.socket.fileno()] = session
        pending.allowed -= allowed
        self._sessions.add(session)
        return session

    def _session(self, pending: Pending, reader: Reader, allowed: int) -> Session:
        return open_session(pending, reader, self._chunks, self._limits, shared=self._shared, allowed=allowed)

    def _evict(self) -> bool:
        """Make room: the oldest session that was never acknowledged goes, else one of the address with very many."""
        session = self._sessions.oldest_half_open() or self._sessions.oldest_of_largest_crowd()
        if session is None:
            return False
        self._end(session, "evicted")
        return True

    # Transfers

    def _drive(self, session: Session, step: Callable[[float], object]) -> None:
        """Let the session take a step, and do what follows from it."""
        if session not in self._sessions:
            return  # ended by an event before this one, in the same turn
        try:
            step(time.monotonic())
        except Exception:  # noqa: BLE001 - it concerns this transfer alone
            self._failed(session)
        self._follow(session)

    def _failed(self, session: Session) -> None:
        self._count("transfer_errors")
        name, client = session.asked.request.name, session.asked.request.client
        self._log.warning("tftp transfer failed", with_traceback=True, name=name, client=client)
        session.fail()

    def _follow(self, session: Session) -> None:
        if session.answered and self._sessions.acknowledged(session):
            self._allowance.acknowledged(session.asked.request.client, session.allowed, time.monotonic())
        if session.outcome is not None:
            self._end(session, session.outcome)
            return
        if session.due < session.armed:
            self._timers.arm(session)

    def _ring(self, alarm: Alarm) -> None:
        if isinstance(alarm, Session):
            self._drive(alarm, alarm.expire)
        elif isinstance(alarm, Pending):
            if not self._resolver.overdue(alarm, time.monotonic()):
                self._timers.arm(alarm)
            elif not alarm.started:
                self._count("dropped_busy")
                self._give_back(alarm)
                self._forget(alarm)
            elif not alarm.cancelled:
                alarm.cancelled = True  # but kept as pending: a repeat must not hang a second thread
                self._fail(alarm, Failure(SERVER_ERROR, "error"))

    def _end(self, session: Session, outcome: str) -> None:
        self._sessions.remove(session)
        self._timers.cancel(session)
        if isinstance(session.port, OwnPort):
            del self._by_descriptor[session.port.socket.fileno()]
            self._epoll.unregister(session.port.socket)
        transfer = session.report(outcome, time.monotonic())
        session.close()
        self._count(f"ended_{outcome}")
        self._report(transfer)

    def _report(self, transfer: Transfer) -> None:
        on_end = self._on_end
        if on_end is not None and not self._reports.offer(lambda: on_end(transfer)):
            self._count("reports_lost")

    def _close(self) -> None:
        while (session := self._sessions.any()) is not None:
            self._end(session, "stopped")
        self._resolver.close()
        self._reports.close(finish=True, seconds=2.0)
        self._epoll.close()
        self._listener.close()
        self._awake.close()
        self._alarm_clock.close()
