"""What the TFTP server and its caller exchange: plain data, no behaviour."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Request:
    """A read request, after its name was found harmless.

    ``name`` has no leading slash, no empty, ``.`` or ``..`` component and no backslash. ``client`` and ``local`` are
    IP addresses as text (IPv4 clients of a dual-stack socket appear as IPv4); ``local`` is the address that the client
    asked. ``options`` has lower-case names and the values as they were sent.
    """

    name: str
    client: str
    port: int
    local: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class OpenFile:
    """A regular file, open for reading, of which the first ``size`` bytes are served.

    The server owns the descriptor from the moment it is returned, and closes it.
    """

    fd: int
    size: int


Content = bytes | OpenFile
Resolve = Callable[[Request], Content | None]
"""Runs in a worker thread, and may be slow. ``None`` or `errors.NotFound`: ERROR 1; `errors.Refused`: ERROR 2; any
other exception: ERROR 0, logged and counted."""


@dataclass(frozen=True)
class Transfer:
    """How one request ended.

    ``outcome`` is one of ``complete``; ``probe`` (the client asked for the size and then sent an ERROR, as EDK2 does);
    ``aborted`` (the client's ERROR, a closed port, or a new request from the same port); ``timeout``; ``evicted`` (its
    place was needed: it was never acknowledged, or its address had very many); ``not-found``; ``refused``; ``error``
    (on our side); ``stopped``. ``sent_bytes`` counts the content in DATA packets, repeats included; ``resends`` counts
    repeated datagrams.
    """

    name: str
    client: str
    size: int
    sent_bytes: int
    blksize: int
    windowsize: int
    seconds: float
    resends: int
    outcome: str


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients can make the server hold or send. Times are in seconds.

    Who never acknowledges hears ``unacknowledged`` datagrams and then nothing; for ``linger`` more an ACK would still
    be taken. From an address with more than ``half_open_per_client`` such sessions the others hear one. Who stops
    acknowledging in the middle is given up after ``patience``.

    ``source_rate`` and ``source_burst`` cap the datagrams (a second, and at once) that go to one address which
    acknowledges nothing, ``rate`` and ``burst`` those to all such addresses. To an address that acknowledged something
    in the last minutes ten times as many may go. Requests beyond the caps are dropped, and asked again.

    A session needs one descriptor, and one more when its content is an `OpenFile`: there are never more than fit into
    the process's limit when the server is made. Of an address with more than ``crowd`` sessions the oldest has to go
    when there is no room for another's. Of the files that are asked for, ``cache_bytes`` are kept ready for sending.
    """

    sessions: int = 2000
    resolvers: int = 8
    waiting: int = 1000
    resolve_seconds: float = 10.0
    blksize: int = 65464
    windowsize: int = 16
    first_resend: float = 1.0
    least_resend: float = 0.1
    resend_cap: float = 5.0
    patience: float = 30.0
    linger: float = 10.0
    unacknowledged: int = 3
    half_open_per_client: int = 256
    crowd: int = 64
    source_rate: float = 1000.0
    source_burst: float = 3000.0
    rate: float = 10_000.0
    burst: float = 20_000.0
    receive_buffer: int = 4 << 20
    cache_bytes: int = 64 << 20

    def divided(self, processes: int) -> Self:
        """The share of one of so many processes: together they hold and send no more than these limits say."""
        if processes == 1:
            return self
        return replace(
            self,
            resolvers=max(_LEAST_RESOLVERS, self.resolvers // processes),
            **{name: max(1, getattr(self, name) // processes) for name in _COUNTED},
            **{name: getattr(self, name) / processes for name in _RATED},
        )


_LEAST_RESOLVERS = 4  # two are any slow client's, see `resolving`
_COUNTED = ("sessions", "waiting", "half_open_per_client", "crowd", "cache_bytes")
_RATED = ("source_rate", "source_burst", "rate", "burst")
