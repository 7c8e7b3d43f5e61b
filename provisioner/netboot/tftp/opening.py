"""From a request and its content to a session: the port it sends from, the terms, and how many may run at once."""

import resource
import time

from provisioner.netboot.tftp.blocks import Blocks, Chunks
from provisioner.netboot.tftp.content import Reader
from provisioner.netboot.tftp.contract import Limits
from provisioner.netboot.tftp.options import negotiate
from provisioner.netboot.tftp.resolving import Pending
from provisioner.netboot.tftp.session import Session
from provisioner.netboot.tftp.sockets import Listener, OwnPort, Port, SharedPort, connect, largest_block

_KEPT_FREE = 128
"""Descriptors for all else that the process has open: the database, the logs, files being looked for."""

_LEAST_SESSIONS = 16


def sessions_that_fit(wanted: int) -> int:
    """How many sessions the process's limit on descriptors has room for, at two each; at most ``wanted``."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(_LEAST_SESSIONS, (soft - _KEPT_FREE) // 2))


def open_session(
    pending: Pending, reader: Reader, chunks: Chunks, limits: Limits, *, shared: Listener | None, allowed: int
) -> Session:
    """A session that may send ``allowed`` datagrams unacknowledged; its port is a connected socket.

    With ``shared`` it is that listener's port instead. The session owns the reader. Raises OSError when no socket can
    be had.
    """
    sock = connect(pending.arrival)
    try:
        blksize = min(limits.blksize, largest_block(sock))
    except BaseException:
        sock.close()
        raise
    terms = negotiate(pending.asked.options, reader.size, blksize=blksize, windowsize=limits.windowsize)
    blocks = Blocks(reader, terms.blksize, terms.windowsize, chunks)
    if shared is None:
        port: Port = OwnPort(sock, blocks.stride, blocks.window)
    else:
        sock.close()  # it only told the route's MTU
        port = SharedPort(shared, pending.arrival, blocks.stride, blocks.window)
    return Session(pending.asked, port, blocks, terms, limits, allowed=allowed, now=time.monotonic())
