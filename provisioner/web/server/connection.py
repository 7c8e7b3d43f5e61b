"""One connection: its bytes, what is still to be sent, and until when it may stay as it is."""

import errno
import socket
import ssl
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from provisioner.web.server.gathering import Gathering, Stage
from provisioner.web.server.streams import Budget, Outlet

_READ = 64 << 10
_TLS_HANDSHAKE = b"\x16"
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class State(Enum):
    """Who has the connection, and what it waits for."""

    HANDSHAKE = "handshake"
    GATHER = "gather"
    WAITING = "waiting"
    """For a thread that reads large bodies."""
    RUNNING = "running"
    """A thread has it."""
    FLUSH = "flush"
    LINGER = "linger"
    """All is sent; what the client still sends is thrown away, since closing at once would take back the answer."""
    CLOSED = "closed"


class PlainText(OSError):
    """The client speaks HTTP where HTTPS is spoken."""


@dataclass(eq=False)
class Connection:
    """See the module. The loop calls everything here but what the thread does with ``outlet`` while it is RUNNING."""

    sock: socket.socket
    peer: Any
    server: Any
    gathering: Gathering
    memory: Budget
    """For what it sends us."""
    answers: Budget
    """For what it does not take yet."""
    state: State
    outlet: Outlet = field(init=False)
    since: float = field(default_factory=time.monotonic)
    deadline: float = 0.0
    keep: bool = False
    large: bool = False
    told_to_go_on: bool = False
    watched: int | None = None
    """The descriptor that the loop waits for."""
    _gathered: int = 0

    def __post_init__(self) -> None:
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.outlet = Outlet(self.sock, self.answers)

    def shake_hands(self, context: ssl.SSLContext) -> bool:
        """A step of TLS; whether it is done. Raises OSError, PlainText for a client that does not speak it."""
        try:
            if not isinstance(self.sock, ssl.SSLSocket):
                if self.sock.recv(1, socket.MSG_PEEK) not in {_TLS_HANDSHAKE, b""}:
                    raise PlainText
                self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
                self.outlet = Outlet(self.sock, self.answers)
            self.sock.do_handshake()
        except _NOT_NOW:
            return False
        return True

    def read(self) -> Stage:
        """Take what came, and say how far the request is. Raises OSError; ConnectionResetError at the end."""
        stage = self.gathering.look()
        while stage in {Stage.NOTHING, Stage.HEAD, Stage.BODY}:
            try:
                data = self.sock.recv(_READ)
            except _NOT_NOW:
                return stage
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the client went away")
            if stage is Stage.NOTHING:
                self.since = time.monotonic()
            stage = self.gathering.feed(data)
            # What TLS has decrypted already does not make the socket readable again.
            if not isinstance(self.sock, ssl.SSLSocket) or not self.sock.pending():
                break
        return stage

    def account(self) -> bool:
        """Take the memory of what was gathered from the budget, or give it back; whether there is enough."""
        more = len(self.gathering) - self._gathered
        if more > 0 and not self.memory.take(more):
            return False
        if more < 0:
            self.memory.give(-more)
        self._gathered += more
        return True

    def throw_away(self) -> bool:
        """Read what the client still sends; whether it is at its end. Raises OSError."""
        try:
            return not self.sock.recv(_READ)
        except _NOT_NOW:
            return False

    def close(self) -> None:
        """Give back everything."""
        self.state = State.CLOSED
        self.memory.give(self._gathered)
        self._gathered = 0
        self.outlet.close()
        self.sock.close()
