"""The sessions of a server, found by client and by age, at a cost that does not grow with their number."""

from collections import Counter, OrderedDict

from provisioner.netboot.tftp.session import Session

Key = tuple[str, int]
"""A client's address and port."""


class Sessions:
    """All sessions; the newest of each client's port; and those that never were acknowledged, oldest first."""

    def __init__(self) -> None:
        self._newest: dict[Key, Session] = {}
        self._all: dict[Session, None] = {}
        self._half_open: OrderedDict[Session, None] = OrderedDict()
        self._half_open_of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, session: Session) -> bool:
        return session in self._all

    def newest(self, key: Key) -> Session | None:
        """The session that this client's port began last, if it lives."""
        return self._newest.get(key)

    def oldest_half_open(self) -> Session | None:
        """The session that has waited longest for its first acknowledgement."""
        return next(iter(self._half_open), None)

    def half_open_of(self, client: str) -> int:
        """How many sessions of this address were never acknowledged."""
        return self._half_open_of[client]

    def any(self) -> Session | None:
        """Some session, while there is one."""
        return next(iter(self._all), None)

    def add(self, session: Session) -> None:
        self._newest[_key(session)] = session
        self._all[session] = None
        self._half_open[session] = None
        self._half_open_of[session.asked.request.client] += 1

    def acknowledged(self, session: Session) -> None:
        """The session has proved that its client exists; may be told more than once."""
        if session not in self._half_open:
            return
        del self._half_open[session]
        client = session.asked.request.client
        self._half_open_of[client] -= 1
        if not self._half_open_of[client]:
            del self._half_open_of[client]

    def remove(self, session: Session) -> None:
        self.acknowledged(session)
        del self._all[session]
        if self._newest.get(_key(session)) is session:
            del self._newest[_key(session)]


def _key(session: Session) -> Key:
    return (session.asked.request.client, session.asked.request.port)
