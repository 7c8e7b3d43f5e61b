"""The sockets of one interface: ports 67 and 4011, bound to it alone, so that dnsmasq may have the others."""

import errno
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from provisioner.core.dhcp import DhcpSubnet
from provisioner.core.proxydhcp import DHCP_PORT, PXE_PORT, Arrival
from provisioner.errors import PortInUse, Unavailable
from provisioner.netboot.proxydhcp.packets import LONGEST

# Linux' values, which Python's socket module lacks.
SO_RCVBUFFORCE = 33
IP_PKTINFO = 8
_IN_PKTINFO = struct.Struct("=I4s4s")
# A rack that powers on asks within one second.
_RECEIVE_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Link:
    """An interface to answer on: its number (another one after it was made anew), our addresses, the subnets there."""

    name: str
    index: int
    addresses: tuple[str, ...]
    subnets: tuple[DhcpSubnet, ...]


class Door:
    """One port on one interface."""

    def __init__(self, interface: str, port: int) -> None:
        self.port = port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._prepare(interface)
        except OSError as error:
            self.socket.close()
            raise _refusal(error, interface, port) from error

    def _prepare(self, interface: str) -> None:
        self.socket.setblocking(False)
        # dnsmasq has port 67 on its own interfaces, with this option too.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with suppress(OSError):  # root's privilege
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self.socket.bind(("", self.port))

    def receive(self, addresses: tuple[str, ...]) -> tuple[bytes, Arrival]:
        """The next datagram. Raises BlockingIOError when none waits, OSError when the interface is down or gone."""
        data, ancillary, _, (host, port) = self.socket.recvmsg(LONGEST + 1, 256)
        return data, Arrival(host, port, self.port, addresses, _sent_to(ancillary, addresses))

    def send(self, data: bytes, server: str, destination: tuple[str, int]) -> None:
        """Send one datagram from the address ``server``. Raises OSError."""
        source = _IN_PKTINFO.pack(0, socket.inet_aton(server), bytes(4))
        self.socket.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, destination)

    def close(self) -> None:
        self.socket.close()


def doors(interface: str) -> tuple[Door, Door]:
    """Both ports on one interface. Raises PortInUse or Unavailable."""
    first = Door(interface, DHCP_PORT)
    try:
        return first, Door(interface, PXE_PORT)
    except BaseException:
        first.close()
        raise


def _sent_to(ancillary: Iterable[tuple[int, int, bytes]], addresses: tuple[str, ...]) -> str | None:
    for level, kind, packed in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and len(packed) == _IN_PKTINFO.size:
            address = socket.inet_ntoa(_IN_PKTINFO.unpack(packed)[2])
            return address if address in addresses else None
    return None


def _refusal(error: OSError, interface: str, port: int) -> PortInUse | Unavailable:
    what = f"proxy DHCP cannot listen on UDP port {port} of {interface}"
    if error.errno == errno.EADDRINUSE:
        hint = (
            f"see which program has it with `ss -ulpn 'sport = :{port}'` and stop it, or set the subnet's DHCP to off"
        )
        return PortInUse(f"{what}: another program has it", hint=hint)
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PortInUse(
            f"{what}: no right to",
            hint="run the service as root, or give it CAP_NET_BIND_SERVICE and CAP_NET_RAW (the systemd unit's "
            "AmbientCapabilities)",
        )
    hint = "`ip address` shows the interfaces; this host is looked at again every two seconds"
    return Unavailable(f"{what}: {error.strerror}", hint=hint)
