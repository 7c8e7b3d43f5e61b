"""The loop: accepts, waits for requests and for clients that read slowly, and hands whole requests to threads."""

import contextlib
import errno
import os
import queue
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from gunicorn import sock as gunicorn_sock
from gunicorn.workers import base
from werkzeug.exceptions import HTTPException

from provisioner.web.server import answering
from provisioner.web.server.admission import LITTLE, Places
from provisioner.web.server.connection import Connection, PlainText, State
from provisioner.web.server.gathering import Gathered, Gathering, Stage
from provisioner.web.server.sources import Sources
from provisioner.web.server.streams import SEND_SECONDS, Budget

log = structlog.get_logger()
HEAD_SECONDS = 20.0
"""From a connection's beginning to its first byte, and from a request's first byte to the last of its head."""
BODY_SECONDS = 20.0
BODY_RATE = 1000
"""Bytes a second; a body may take as long as at this rate, and `BODY_SECONDS`."""
WAITING_SECONDS = 60.0
LINGER_SECONDS = 5.0
STOP_SECONDS = 1.0
MOST_LARGE = 4
"""Large bodies that are read at a time, each into memory."""
MEMORY = 64 << 20
"""Bytes of requests that are on their way to one process; as many again of answers that are on their way from it."""
_AT_ONCE = 8
"""Connections that are taken before anything else is looked at: other processes should get their share of a burst."""
_NO_MORE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class LoopWorker(base.Worker):  # type: ignore[misc]
    """See the package. ``longest_body`` of the gunicorn application is up to where a body is waited for,
    ``most_per_address`` how many connections one address may have here, those of ``trusted_proxies`` excepted, and
    ``most_downloads`` how many downloads go at full speed at a time (see `admission`), 0 for any number.
    """

    def init_process(self) -> None:
        """Called by gunicorn in the new process; ends by calling `run`."""
        self._pool = ThreadPoolExecutor(self.cfg.threads, "request")
        self._poller = selectors.DefaultSelector()
        self._memory, self._answers = Budget(MEMORY), Budget(MEMORY)
        self._connections: dict[Connection, None] = {}
        self._sources = Sources(self.app.most_per_address, self.app.trusted_proxies)
        self._places: Places[Connection] = Places(self.app.most_downloads, self._sources.of, self._go_on_sending)
        self._queued: deque[Connection] = deque()
        self._large = 0
        self._done: queue.SimpleQueue[tuple[Connection, bool | None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._accepting = False
        self._context: tuple[Any, ssl.SSLContext] | None = None
        self._failures = 0
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop."""
        self._poller.register(self._wake, selectors.EVENT_READ, self._collect)
        self._accept_more(True)
        swept = time.monotonic()
        while self.alive:
            self.notify()
            self._turn(1.0)
            if self.ppid != os.getppid():
                break
            if time.monotonic() - swept >= 1.0:
                swept = time.monotonic()
                self._sweep()
                self._accept_more(True)
        self._finish()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """Begin to stop: what is being answered is finished first."""
        self.alive = False
        os.eventfd_write(self._wake, 1)

    def _finish(self) -> None:
        self._accept_more(False)
        for listener in self.sockets:
            listener.close()
        now = time.monotonic()
        for conn in self._connections:
            if conn.state in {State.HANDSHAKE, State.GATHER, State.LINGER}:
                # A request may be on its way: it is answered with `Connection: close`.
                conn.deadline = min(conn.deadline, now + STOP_SECONDS)
        while self._connections and time.monotonic() < now + self.cfg.graceful_timeout:
            self.notify()
            self._turn(0.2)
            self._sweep()
            if time.monotonic() > now + STOP_SECONDS:
                self._end_streams()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _end_streams(self) -> None:
        """What has no end of its own would keep the process from ending; who listens comes back."""
        for conn in self._connections:
            if conn.state is State.RUNNING and not conn.outlet.keeps:
                with contextlib.suppress(OSError):
                    # Not TLS's own: its thread may be writing.
                    socket.socket.shutdown(conn.sock, socket.SHUT_RDWR)

    # The loop

    def _turn(self, seconds: float) -> None:
        for key, _ in self._poller.select(seconds):
            key.data()

    def _on(self, conn: Connection, event: int, step: Callable[[Connection], None]) -> None:
        """From now on wait for that event alone."""
        action = partial(self._guarded, conn, step)
        if conn.watched is None:
            conn.watched = conn.sock.fileno()
            self._poller.register(conn.watched, event, action)
        else:
            self._poller.modify(conn.watched, event, action)

    def _off(self, conn: Connection) -> None:
        if conn.watched is not None:
            self._poller.unregister(conn.watched)
            conn.watched = None

    def _guarded(self, conn: Connection, step: Callable[[Connection], None]) -> None:
        """One connection's trouble is not another's."""
        if conn.state is State.CLOSED:
            return
        try:
            step(conn)
        except PlainText:
            self._refuse(conn, HTTPStatus.BAD_REQUEST, "this port speaks HTTPS", "write https:// before the address")
        except OSError:
            self._drop(conn)
        except Exception:  # the loop must survive
            self._failures += 1
            log.exception("a connection failed", failures=self._failures)
            self._drop(conn)

    def _sweep(self) -> None:
        """End what has had its time, and see to the downloads that wait."""
        for conn in self._places.turn():
            self._off(conn)
        for conn in self._places.waiting():
            self._guarded(conn, self._send_little)
        now = time.monotonic()
        for conn in [each for each in self._connections if 0 < each.deadline < now]:
            if conn.state is State.WAITING:
                self._guarded(conn, partial(self._refuse, status=HTTPStatus.SERVICE_UNAVAILABLE, detail="too busy"))
            elif conn.state is State.GATHER and len(conn.gathering):
                self._guarded(
                    conn, partial(self._refuse, status=HTTPStatus.REQUEST_TIMEOUT, detail="the request came too slowly")
                )
            else:
                self._drop(conn)
        if self._answers.free < MEMORY // 4:
            flushing = [each for each in self._connections if each.state is State.FLUSH and each.outlet.kept]
            for conn in sorted(flushing, key=lambda each: each.since)[: len(flushing) // 2 + 1]:
                self._drop(conn)

    def _drop(self, conn: Connection) -> None:
        if conn.state is State.CLOSED:
            return
        self._off(conn)
        self._connections.pop(conn, None)
        self._places.leave(conn)
        self._sources.remove(conn)
        conn.close()

    # New connections

    def _accept_more(self, wanted: bool) -> None:
        if wanted == self._accepting:
            return
        self._accepting = wanted
        for listener in self.sockets:
            if wanted:
                listener.setblocking(False)
                self._poller.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            else:
                self._poller.unregister(listener)

    def _accept(self, listener: Any) -> None:
        for _ in range(_AT_ONCE):
            if len(self._connections) >= self.cfg.worker_connections and not self._make_room():
                self._accept_more(False)
                return
            try:
                sock, peer = listener.accept()
            except OSError as error:
                if error.errno in _NO_MORE and not self._make_room():
                    log.warning("no connection can be taken", error=error.strerror)
                    self._accept_more(False)
                return
            crowd = self._sources.full(peer)
            if crowd is not None and not self._make_room(crowd):
                self._sources.refuse(peer)
                sock.close()
                continue
            self._greet(sock, peer, listener.getsockname())

    def _greet(self, sock: socket.socket, peer: Any, server: Any) -> None:
        state = State.HANDSHAKE if self.cfg.is_ssl else State.GATHER
        try:
            conn = Connection(sock, peer, server, Gathering(self.app.longest_body), self._memory, self._answers, state)
        except OSError:  # it is gone already
            sock.close()
            return
        conn.deadline = conn.since + HEAD_SECONDS
        self._connections[conn] = None
        self._sources.add(conn)
        self._on(conn, selectors.EVENT_READ, self._handshake if self.cfg.is_ssl else self._read)

    def _make_room(self, among: Collection[Connection] | None = None) -> bool:
        """Drop some of those that have been waited for the longest: an honest request comes at once."""
        among = self._connections if among is None else among
        waited = [each for each in among if each.state in {State.HANDSHAKE, State.GATHER, State.LINGER}]
        waited.sort(key=lambda each: each.since)
        for conn in waited[: max(1, len(among) // 16)]:
            self._drop(conn)
        return bool(waited)

    def _handshake(self, conn: Connection) -> None:
        if conn.shake_hands(self._tls()):
            conn.state = State.GATHER
            self._read(conn)

    def _tls(self) -> ssl.SSLContext:
        """The context of the certificate as it is on disk."""
        stamp = [Path(each).stat().st_mtime_ns for each in (self.cfg.certfile, self.cfg.keyfile)]
        if self._context is None or self._context[0] != stamp:
            self._context = stamp, gunicorn_sock.ssl_context(self.cfg)
        return self._context[1]

    # Requests

    def _read(self, conn: Connection) -> None:
        stage = conn.read()
        while not conn.account():
            if not self._make_memory(conn):
                self._refuse(conn, HTTPStatus.SERVICE_UNAVAILABLE, "there is no memory for this request")
                return
        self._go_on(conn, stage)

    def _make_memory(self, asking: Connection) -> bool:
        """Drop what holds the most and is not whole yet."""
        holders = [each for each in self._connections if each.state is State.GATHER and each is not asking]
        largest = max(holders, key=lambda each: len(each.gathering), default=None)
        if largest is None or not len(largest.gathering):
            return False
        self._drop(largest)
        return True

    def _go_on(self, conn: Connection, stage: Stage) -> None:
        if stage is Stage.WHOLE:
            self._start(conn)
        elif stage is Stage.LARGE:
            self._off(conn)
            if self._large < MOST_LARGE:
                self._start(conn)
            else:
                conn.state, conn.deadline = State.WAITING, time.monotonic() + WAITING_SECONDS
                self._queued.append(conn)
        elif stage is Stage.TOO_LONG:
            self._refuse(conn, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the header lines are too long")
        else:
            self._wait(conn, stage)

    def _wait(self, conn: Connection, stage: Stage) -> None:
        if stage is Stage.HEAD:
            conn.deadline = conn.since + HEAD_SECONDS
        elif stage is Stage.BODY:
            conn.deadline = conn.since + HEAD_SECONDS + BODY_SECONDS + len(conn.gathering) / BODY_RATE
            if conn.gathering.expects_continue and not conn.told_to_go_on:
                conn.told_to_go_on = True
                conn.outlet.offer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._on(conn, selectors.EVENT_READ, self._read)

    def _start(self, conn: Connection) -> None:
        self._off(conn)
        gathered = conn.gathering.take()
        conn.account()
        conn.state, conn.deadline, conn.large = State.RUNNING, 0.0, not gathered.whole
        self._large += conn.large
        self._pool.submit(self._answer, conn, gathered)

    def _answer(self, conn: Connection, gathered: Gathered) -> None:
        """In a thread. None is a connection that is broken."""
        keep: bool | None = None
        try:
            keep = answering.answer(self, conn, gathered)
        except (OSError, HTTPException) as error:
            log.debug("a client went away", error=str(error))
        except Exception:  # what an application does not catch is its own, and not the thread's
            log.exception("an answer failed")
        finally:
            self._done.put((conn, keep))
            os.eventfd_write(self._wake, 1)

    def _collect(self) -> None:
        """What the threads have done."""
        os.eventfd_read(self._wake)
        for conn, keep in self._finished():
            self._large -= conn.large
            conn.large = conn.told_to_go_on = False
            if keep is None:
                self._drop(conn)
            else:
                conn.keep = keep
                self._guarded(conn, self._flush)
        while self._large < MOST_LARGE and self._queued:
            waiting = self._queued.popleft()
            if waiting.state is State.WAITING:
                self._guarded(waiting, self._start)

    def _finished(self) -> Iterable[tuple[Connection, bool | None]]:
        while True:
            try:
                yield self._done.get_nowait()
            except queue.Empty:
                return

    # Answers

    def _flush(self, conn: Connection) -> None:
        if conn.outlet.flush():
            self._places.leave(conn)
            self._sent(conn)
            return
        conn.deadline = time.monotonic() + SEND_SECONDS
        if conn.state is not State.FLUSH:
            conn.state = State.FLUSH
            if self._places.enter(conn, conn.outlet.left):
                self._go_on_sending(conn)
            else:
                self._off(conn)

    def _go_on_sending(self, conn: Connection) -> None:
        self._on(conn, selectors.EVENT_WRITE, self._flush)

    def _send_little(self, conn: Connection) -> None:
        """To one that waits for its turn, so that its machine sees the server alive; a machine that is gone is seen."""
        before = conn.outlet.left
        if conn.outlet.flush(LITTLE):
            self._places.leave(conn)
            self._sent(conn)
        elif conn.outlet.left < before:
            conn.deadline = time.monotonic() + SEND_SECONDS

    def _sent(self, conn: Connection) -> None:
        if conn.keep:
            conn.state, conn.since = State.GATHER, time.monotonic()
            conn.deadline = conn.since + self.cfg.keepalive
            self._on(conn, selectors.EVENT_READ, self._read)
            self._read(conn)  # what came while it was answered
            return
        self._off(conn)
        conn.sock.shutdown(socket.SHUT_WR)
        conn.state, conn.deadline = State.LINGER, time.monotonic() + LINGER_SECONDS
        self._on(conn, selectors.EVENT_READ, self._linger)

    def _linger(self, conn: Connection) -> None:
        if conn.throw_away():
            self._drop(conn)

    def _refuse(self, conn: Connection, status: HTTPStatus, detail: str, hint: str = "") -> None:
        self._off(conn)
        conn.keep = False
        try:
            conn.outlet.offer(answering.refusal(status, detail, hint))
            self._flush(conn)
        except OSError:
            self._drop(conn)
