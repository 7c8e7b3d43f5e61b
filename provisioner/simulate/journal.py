"""What the machines saw: every answer, acknowledgement, secret and wipe, as data; and the figures of the run."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

Record = dict[str, Any]


@dataclass
class Journal:
    """The records of a run, in the order in which they happened.

    Each has ``at`` (Unix time), ``machine``, ``boot`` (which power-on of the machine, from 1) and ``what``:

    ``answer``   an answer of the server: ``step``, ``status``, ``bytes``, ``tries``
    ``ack``      a report that the server acknowledged: ``step``, ``state`` (of the build, as it said), ``tries``
    ``lost``     a request without an answer, which may have reached the server: ``step``, ``why``, ``tries``
    ``told``     what a network boot got: ``kind`` (build, local, halt, ...), ``token``, ``expected``
    ``secret``   a secret that arrived: ``name``, ``token``, ``nonce``
    ``wipe``     the installer begins to write to the disk: ``token``
    ``power-cut``, ``off``, ``end``   with ``step`` or ``kind``
    ``problem``  something that must not happen: ``message``

    ``token`` tells attempts apart: a short digest, never the token itself.
    """

    file: IO[str] | None = None
    records: list[Record] = field(default_factory=list)

    def add(self, machine: str, boot: int, what: str, **more: Any) -> None:
        """Write a record; to the file at once, so that it is there whatever happens to us."""
        record = {"at": round(time.time(), 4), "machine": machine, "boot": boot, "what": what, **more}
        self.records.append(record)
        if self.file is not None:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()

    def of(self, *whats: str) -> list[Record]:
        """The records of these kinds."""
        return [record for record in self.records if record["what"] in whats]


def read_journal(lines: Iterable[str]) -> list[Record]:
    """The records of a journal file; a last line that was cut short is left out."""
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


@dataclass
class Figures:
    """Latencies by step (the try that worked, in seconds), and what was counted."""

    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    bytes: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def good(self, step: str, seconds: float, size: int, retries: int = 0) -> None:
        """A step that was answered."""
        self.latencies[step].append(seconds)
        self.bytes[step] += size
        self.retries[step] += retries

    def rows(self, order: Sequence[str]) -> list[dict[str, Any]]:
        """One row a step, in this order, then the others."""
        names = [step for step in order if step in self._all()]
        names += sorted(self._all() - set(order))
        return [self._row(step) for step in names]

    def _all(self) -> set[str]:
        return {*self.latencies, *self.retries, *self.failures}

    def _row(self, step: str) -> dict[str, Any]:
        times = sorted(self.latencies.get(step, []))
        points = {f"p{point}": _milliseconds(percentile(times, point)) for point in (50, 95, 99)}
        return {
            "step": step,
            "count": len(times),
            **points,
            "max": _milliseconds(times[-1] if times else None),
            "bytes": self.bytes[step],
            "retries": self.retries[step],
            "failures": self.failures[step],
        }


def percentile(times: Sequence[float], point: float) -> float | None:
    """The value that ``point`` percent of the sorted times do not exceed (nearest rank); None of nothing."""
    if not times:
        return None
    rank = max(1, -(-len(times) * point // 100))
    return times[int(rank) - 1]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
