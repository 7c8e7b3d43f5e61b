"""The listening socket, and what transfers send from: a connected socket each, or the listening one for all.

Linux, IPv4 and IPv6.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from provisioner.errors import InvalidSettings, PortInUse
from provisioner.netboot.tftp.packets import MAX_REQUEST

# Linux constants that the socket module lacks.
IP_PKTINFO = 8
IP_MTU = 14
IPV6_MTU = 24
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103

_IN_PKTINFO = struct.Struct("=I4s4s")
_IN6_PKTINFO = struct.Struct("=16sI")
_SEGMENT = struct.Struct("=H")
_HEADERS = {socket.AF_INET: 20 + 8 + 4, socket.AF_INET6: 40 + 8 + 4}

Peer = tuple[str, int] | tuple[str, int, int, int]
Ancillary = tuple[int, int, bytes]

_MOST_SEGMENTS = 64
_MOST_AT_ONCE = 65000
"""What Linux takes in one segmented send: that many datagrams, and no more bytes than one IP packet has."""

_LONGEST_OACK = 128


@dataclass(frozen=True)
class Arrival:
    """A datagram at the listening port: who sent it, and to which of our addresses."""

    data: bytes
    client: str
    port: int
    local: str
    peer: Peer
    interface: int

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.client else socket.AF_INET


def parse_bind(bind: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[::]:port``; the host is an IP address. Raises InvalidSettings."""
    host, separator, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if separator and port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536:
        with suppress(ValueError):
            return str(ipaddress.ip_address(host)), int(port)
    raise InvalidSettings(
        f"not an address to listen on: {bind!r}",
        hint="write an IP address and a port, for example 0.0.0.0:69 or [::]:69",
        where="tftp_bind",
    )


def open_port(bind: str, receive_buffer: int, *, one_of_many: bool = False) -> socket.socket:
    """A socket that requests come to. Raises PortInUse or InvalidSettings.

    With ``one_of_many`` the port may be opened again so, by this user; the kernel deals out the clients' ports.
    """
    host, port = parse_bind(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        _prepare(sock, receive_buffer)
        if one_of_many:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(sock, host, port)
    except BaseException:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket, receive_buffer: int) -> None:
    sock.setblocking(False)
    # A rack that powers on asks within one second; what does not fit here is asked again seconds later.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    # Also for IPv6: its own information does not tell an IPv4 broadcast.
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


class Listener:
    """The socket that requests come to. It tells to which address each was sent, and answers from there."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        bound = sock.getsockname()
        self.address: tuple[str, int] = (bound[0], bound[1])
        self._family = sock.family

    def receive(self) -> Arrival | None:
        """The next datagram, or None for one that was broadcast (RFC 1123, 4.2.3.3) or cannot be answered.

        Raises BlockingIOError when nothing waits, OSError for an ICMP error.
        """
        data, ancillary, _, peer = self.socket.recvmsg(MAX_REQUEST + 1, 256)
        where = _asked(ancillary)
        if where is None or peer[1] == 0:
            return None
        local, interface = where
        return Arrival(data, _unmapped(peer[0]), peer[1], local, peer, interface)

    def answer(self, arrival: Arrival, datagram: bytes) -> None:
        """Send one datagram back, from the address that was asked. Raises OSError."""
        self.socket.sendmsg([datagram], [self._source(arrival)], 0, arrival.peer)

    def _source(self, arrival: Arrival) -> Ancillary:
        if self._family == socket.AF_INET:
            packed = _IN_PKTINFO.pack(0, socket.inet_aton(arrival.local), b"\0\0\0\0")
            return (socket.IPPROTO_IP, IP_PKTINFO, packed)
        local = arrival.local if ":" in arrival.local else f"::ffff:{arrival.local}"
        packed = _IN6_PKTINFO.pack(socket.inet_pton(socket.AF_INET6, local), _scope(arrival))
        return (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed)

    def answer_many(self, arrival: Arrival, datagrams: bytes, segment: int) -> None:
        """Likewise, as several datagrams of ``segment`` bytes, the last one shorter or not."""
        cut = (socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT.pack(segment))
        self.socket.sendmsg([datagrams], [cut, self._source(arrival)], 0, arrival.peer)

    def close(self) -> None:
        self.socket.close()


class Port(Protocol):
    """What a transfer sends from and reads, for its one client. With ``segments`` it may send a window in one call.

    ``send`` and ``recv`` are a socket's own where they can be: each is called once for each packet.
    """

    segments: bool

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class OwnPort:
    """A transfer's own connected socket, which it closes. A window is cut into datagrams of ``segment`` bytes."""

    __slots__ = ("recv", "segments", "send", "socket")

    def __init__(self, sock: socket.socket, segment: int, window: int) -> None:
        self.socket = sock
        self.segments = _segmentable(segment, window)
        if self.segments:
            try:
                sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
            except OSError:
                self.segments = False  # Linux before 4.18
        self.send: Callable[[bytes], int] = sock.send
        self.recv: Callable[[int], bytes] = sock.recv

    def close(self) -> None:
        self.socket.close()


class SharedPort:
    """The listening port, as one transfer sees it. Nothing is read here: the listener hands the datagrams out."""

    __slots__ = ("_arrival", "_listener", "_segment", "segments")

    def __init__(self, listener: Listener, arrival: Arrival, segment: int, window: int) -> None:
        self._listener = listener
        self._arrival = arrival
        self._segment = segment
        self.segments = _segmentable(segment, window)

    def send(self, data: bytes, /) -> int:
        if self.segments and len(data) > self._segment:
            self._listener.answer_many(self._arrival, data, self._segment)
        else:
            self._listener.answer(self._arrival, data)
        return len(data)

    def recv(self, _size: int, /) -> bytes:
        raise BlockingIOError

    def close(self) -> None:
        """Nothing to give back."""


def _segmentable(segment: int, window: int) -> bool:
    """Whether the kernel can cut a window, and nothing else that a transfer sends is longer than a segment."""
    return 1 < window <= _MOST_SEGMENTS and window * segment < _MOST_AT_ONCE and segment >= _LONGEST_OACK


def _bind(sock: socket.socket, host: str, port: int) -> None:
    try:
        sock.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"UDP port {port} of {host} is taken by another program",
                hint=f"see which with `ss -ulpn 'sport = :{port}'` (dnsmasq and tftpd are the usual ones) and stop it",
                where="tftp_bind",
            ) from error
        if error.errno == errno.EACCES:
            raise PortInUse(
                f"no right to listen on UDP port {port}",
                hint="give the service CAP_NET_BIND_SERVICE (the systemd unit does), or set tftp_bind to a port"
                " above 1023; `ss -ulpn` shows what listens where",
                where="tftp_bind",
            ) from error
        raise InvalidSettings(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="`ip address` shows the addresses of this host",
            where="tftp_bind",
        ) from error


def _asked(ancillary: Iterable[Ancillary]) -> tuple[str, int] | None:
    told = {(level, kind): packed for level, kind, packed in ancillary}
    if (packed := told.get((socket.IPPROTO_IP, IP_PKTINFO))) is not None:
        interface, source, destination = _IN_PKTINFO.unpack(packed)
        # The two differ when it was sent to a broadcast or multicast address.
        return (socket.inet_ntoa(source), interface) if source == destination else None
    if (packed := told.get((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO))) is not None:
        address, interface = _IN6_PKTINFO.unpack(packed)
        if address[0] != 0xFF:
            return socket.inet_ntop(socket.AF_INET6, address), interface
    return None


def _unmapped(address: str) -> str:
    plain = address.split("%", 1)[0]
    return plain.removeprefix("::ffff:") if plain.startswith("::ffff:") and "." in plain else plain


def _scope(arrival: Arrival) -> int:
    return arrival.interface if arrival.local.lower().startswith("fe80:") else 0


def connect(arrival: Arrival) -> socket.socket:
    """A new socket from the address that was asked to the client's port: a transfer's own. Raises OSError.

    Once it is connected the kernel drops what strangers send to it, so what came before is thrown away.
    """
    sock = socket.socket(arrival.family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if arrival.family == socket.AF_INET6:
            sock.bind((arrival.local, 0, 0, _scope(arrival)))
            sock.connect(arrival.peer)
        else:
            sock.bind((arrival.local, 0))
            sock.connect((arrival.client, arrival.port))
        with suppress(BlockingIOError):
            while True:
                sock.recv(1)
    except BaseException:
        sock.close()
        raise
    return sock


def largest_block(sock: socket.socket) -> int:
    """The largest block that one unfragmented packet carries on this connected socket's route: MTU-32, IPv6 MTU-52."""
    if sock.family == socket.AF_INET6:
        mtu = sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
    else:
        mtu = sock.getsockopt(socket.IPPROTO_IP, IP_MTU)
    return mtu - _HEADERS[socket.AddressFamily(sock.family)]
