"""The sessions of a server, found by client and by age, at a cost that hardly grows with their number."""

from collections import Counter, OrderedDict

from provisioner.netboot.tftp.session import Session

Key = tuple[str, int]
"""A client's address and port."""


class Sessions:
    """All sessions; the newest of each client's port; and those that never were acknowledged, oldest first.

    An address with more than ``crowd`` sessions is a crowd.
    """

    def __init__(self, crowd: int) -> None:
        self._crowd = crowd
        self._newest: dict[Key, Session] = {}
        self._all: dict[Session, None] = {}
        self._half_open: OrderedDict[Session, None] = OrderedDict()
        self._half_open_of: Counter[str] = Counter()
        self._of: dict[str, dict[Session, None]] = {}
        self._crowds: dict[str, None] = {}

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

    def oldest_of_largest_crowd(self) -> Session | None:
        """A session of the address that has the most; None while no address has more than a crowd."""
        largest = max(self._crowds, key=lambda client: len(self._of[client]), default=None)
        return None if largest is None else next(iter(self._of[largest]))

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
        client = session.asked.request.client
        self._half_open_of[client] += 1
        same = self._of.setdefault(client, {})
        same[session] = None
        if len(same) > self._crowd:
            self._crowds[client] = None

    def acknowledged(self, session: Session) -> bool:
        """The session has proved that its client exists; true when that was not known."""
        if session not in self._half_open:
            return False
        del self._half_open[session]
        client = session.asked.request.client
        self._half_open_of[client] -= 1
        if not self._half_open_of[client]:
            del self._half_open_of[client]
        return True

    def remove(self, session: Session) -> None:
        self.acknowledged(session)
        del self._all[session]
        client = session.asked.request.client
        same = self._of[client]
        del same[session]
        if len(same) <= self._crowd:
            self._crowds.pop(client, None)
        if not same:
            del self._of[client]
        if self._newest.get(_key(session)) is session:
            del self._newest[_key(session)]


def _key(session: Session) -> Key:
    return (session.asked.request.client, session.asked.request.port)
