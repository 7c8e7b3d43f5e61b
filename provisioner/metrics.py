"""Counters for Prometheus (https://prometheus.io/docs/concepts/metric_types/), shared by all processes of `serve`.

Each process writes into files of its own, which it holds in memory; whoever is asked for the metrics reads them all.
What died keeps its counts, and what is started in its place goes on counting in the same files. They begin at zero with
`serve`. Labels come from short lists that are written here or by the callers: nothing that a machine sent is ever one.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from provisioner import __version__

log = structlog.get_logger()
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SHM = Path("/dev/shm")  # noqa: S108 - a directory of our own there, whose owner is checked
_FILE_BYTES = 128 << 10
_KINDS = ("counter", "histogram", "gauge_livesum")
_TRANSFER_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_REQUEST_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
OUTCOMES = (
    "complete",
    "probe",
    "aborted",
    "timeout",
    "evicted",
    "not-found",
    "refused",
    "error",
    "stopped",
)
"""How a TFTP transfer ends."""
OTHER = "other"


class _Meters:
    """Every metric that processes count. Labels are given in the order of their names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"provisioner_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"provisioner_{name}", words, labels, registry=registry, buckets=tuple(buckets))

        self.transfers = counter("tftp_transfers", "TFTP requests by how they ended", "outcome", "file")
        self.sent = counter("tftp_sent_bytes", "content in TFTP's DATA packets, repeats included", "file")
        self.resends = counter("tftp_resent_datagrams", "TFTP datagrams that were sent again")
        self.transfer_seconds = histogram(
            "tftp_transfer_seconds", "how long TFTP transfers took, by outcome", _TRANSFER_SECONDS, "outcome"
        )
        self.server = counter("tftp_server_events", "what happened in the TFTP server", "event")
        self.sessions = Gauge(
            "provisioner_tftp_sessions", "transfers under way", registry=registry, multiprocess_mode="livesum"
        )
        self.requests = counter(
            "boot_requests", "requests to the boot plane by kind, decision and status", "kind", "decision", "status"
        )
        self.request_seconds = histogram(
            "boot_request_seconds", "how long the boot plane took to make an answer", _REQUEST_SECONDS, "kind"
        )
        self.spooled = counter("reports_spooled", "machines' reports kept on disk, the database being down")
        self.downloads = counter("media_downloads", "files sent by the media listener", "kind", "outcome")
        self.media_bytes = counter("media_sent_bytes", "bytes of files that the media listener sent", "kind")
        self.notes_dropped = counter("notes_dropped", "events of transfers that no build's timeline has", "why")
        self.restarts = counter("child_restarts", "children of serve that ended and were started again", "child")


_identity = ""
_directory: Path | None = None
_lock: Any = None
_meters = _Meters(CollectorRegistry())
_registry = CollectorRegistry()


def start(state_dir: Path) -> None:
    """Begin at zero, shared by the processes that are forked from this one, which each call `join`.

    The files are in memory (/dev/shm), as a disk that is full or slow must not hold up who counts; or in the state
    directory, where there is no such place. If neither can be had this process counts for itself alone.
    """
    global _meters, _registry, _directory  # noqa: PLW0603 - one set of metrics a process, as Prometheus has it
    try:
        _directory = _fresh(state_dir)
    except OSError as error:
        log.warning("metrics are not shared between the processes", error=str(error), hint="free space in /dev/shm")
        return
    os.environ[_VARIABLE] = str(_directory)
    values.ValueClass = values.MultiProcessValue(lambda: _identity)  # type: ignore[no-untyped-call]
    join("serve")
    _registry = CollectorRegistry()
    _meters = _Meters(_registry)


def join(name: str) -> None:
    """From now on this process counts in files of its own: the first of ``name``'s that no living process has."""
    global _identity, _lock  # noqa: PLW0603 - see start
    if _directory is None:
        return
    for number in range(1000):
        identity = f"{name}-{number}"
        try:
            held = (_directory / f"{identity}.lock").open("wb")
        except OSError as error:
            log.warning("metrics of this process are not shown", error=str(error))
            return
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            continue
        # What was inherited is the parent's lock: it stays held there.
        _lock, old = held, _lock
        if old is not None:
            old.close()
        _forget_gauges(identity)
        _allocate(identity)
        _identity = identity
        return


def stop() -> None:
    """Remove the files. For the process that called `start`, at its end."""
    if _directory is not None:
        shutil.rmtree(_directory, ignore_errors=True)


def exposed(accept: str, further: Iterable[Metric] = ()) -> tuple[bytes, str]:
    """All metrics, and ``further`` ones, in the format that the client prefers by its Accept header; its media type."""
    registry = CollectorRegistry()
    if _directory is None:
        for metric in _own():
            registry.register(_Fixed([metric]))
    else:
        _bury()
        MultiProcessCollector(registry, str(_directory))  # type: ignore[no-untyped-call]
    info = Metric("provisioner_build_info", "this program's version", "gauge")
    info.add_sample("provisioner_build_info", {"version": __version__}, 1)
    registry.register(_Fixed([info, *further]))
    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type


def tftp_ended(outcome: str, file: str, sent: int, seconds: float, resends: int) -> None:
    """Count a TFTP transfer; ``file`` is one of the caller's short list."""
    outcome = outcome if outcome in OUTCOMES else OTHER
    _meters.transfers.labels(outcome, file).inc()
    _meters.sent.labels(file).inc(sent)
    _meters.resends.inc(resends)
    _meters.transfer_seconds.labels(outcome).observe(seconds)


def tftp_server(events: Mapping[str, int], sessions: int) -> None:
    """Add what the server counted since it was last asked."""
    for event, count in events.items():
        _meters.server.labels(event).inc(count)
    _meters.sessions.set(sessions)


def boot_request(kind: str, decision: str, status: int, seconds: float) -> None:
    """Count a request to the boot plane; kind and decision are the program's own words."""
    _meters.requests.labels(kind, decision, str(status)).inc()
    _meters.request_seconds.labels(kind).observe(seconds)


def report_spooled() -> None:
    """Count a report that is kept on disk until the database answers."""
    _meters.spooled.inc()


def media_sent(kind: str, outcome: str, sent: int) -> None:
    """Count a file that was sent, or begun: ``complete`` or ``aborted``."""
    _meters.downloads.labels(kind, outcome).inc()
    _meters.media_bytes.labels(kind).inc(sent)


def note_dropped(why: str, count: int = 1) -> None:
    """Count events that could not be noted."""
    _meters.notes_dropped.labels(why).inc(count)


def child_restarted(name: str) -> None:
    """Count a child that ended and is started again."""
    _meters.restarts.labels(name).inc()


def begin(*, tftp: bool = False, children: Iterable[str] = ()) -> None:
    """Show from the start, at zero, what alarms are made of: Prometheus does not see the first step of a new one."""
    for outcome in OUTCOMES if tftp else ():
        _meters.transfer_seconds.labels(outcome)
    for name in children:
        _meters.restarts.labels(name)


class _Fixed:
    """A collector of what is known already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        """As Prometheus' client asks."""
        return self._metrics


def _own() -> list[Metric]:
    return [metric for meter in vars(_meters).values() for metric in meter.collect()]


def _fresh(state_dir: Path) -> Path:
    """An empty directory for the files. Raises OSError."""
    key = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]
    shared = _SHM / f"provisioner-{os.geteuid()}-{key}"
    if not os.access(_SHM, os.W_OK) or state_dir.stat().st_dev == _SHM.stat().st_dev:
        shared = state_dir / "metrics"
    for place in (shared, state_dir / "metrics"):
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        found = place.lstat()
        # Everybody may make directories there, of this name too.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            place.chmod(0o700)
            for each in place.iterdir():
                each.unlink()
            return place
    raise NotADirectoryError(f"{state_dir / 'metrics'} is not a directory of ours")


def _allocate(identity: str) -> None:
    """Give the files their space now: a process that writes into a mapped file on a full disk is killed (mmap(2))."""
    assert _directory is not None  # noqa: S101 - only called once there is one
    for kind in _KINDS:
        with (_directory / f"{kind}_{identity}.db").open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
            except OSError as error:
                log.warning("no room for metrics", error=str(error), path=str(_directory))


def _forget_gauges(identity: str) -> None:
    mark_process_dead(identity, str(_directory))  # type: ignore[no-untyped-call]


def _bury() -> None:
    """What a dead process had under way is not under way; its counts stay."""
    assert _directory is not None  # noqa: S101 - as above
    for path in _directory.glob("*.lock"):
        with path.open("rb") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _forget_gauges(path.stem)
