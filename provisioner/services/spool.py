"""Reports of machines that came while the database could not be asked: kept on disk, applied once, in their order.

Each attempt has a directory of its own below the spool, so that one report costs no look at all others. A report is
acknowledged to its machine when it is here: written, synced and renamed. This knows files alone; what a report does is
``services.reports``' to say.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from provisioner.errors import DatabaseUnavailable, ProvisionerError, StorageFull, Unavailable
from provisioner.services.files import replacing, sync_directory, translated
from provisioner.services.site import Site

log = structlog.get_logger()
_ATTEMPT = re.compile(r"^[A-Za-z0-9_-]{22}$")
_ASIDE = "aside"
_MOST_REPORTS = 200
"""For each attempt: who holds a token must not fill the disk."""


@dataclass(frozen=True)
class Report:
    """What a machine said. ``kind`` is ``event`` or ``handoff``; ``at`` is in seconds since the epoch."""

    kind: str
    uid: str
    at: float
    source: str
    step: str
    message: str
    log: str = ""


@dataclass(frozen=True)
class Waiting:
    """A report in the spool; ``name`` is unique for all time."""

    name: str
    report: Report


def put(site: Site, report: Report) -> None:
    """Keep a report; once this returns, it survives a power cut.

    Raises StorageFull when the disk is full or the attempt has said too much, Unavailable for other failures.
    """
    directory = site.spool_dir / report.uid
    content = json.dumps(asdict(report)).encode()
    # The clock orders the reports of one machine, which come one after the other; the rest makes the name unique. Each
    # try has the same: one that failed at its very end may have been applied already.
    path = directory / f"{time.time_ns():020d}-{secrets.token_hex(6)}.json"
    for _ in range(10):
        try:
            _write(site.spool_dir, path, content)
        except Unavailable as error:
            # The spool was emptied and the directory removed: before the write, or while it was found to be there.
            if not isinstance(error.__cause__, FileNotFoundError | FileExistsError):
                raise
            continue
        log.warning("report spooled: the database cannot be asked", kind=report.kind, step=report.step)
        return
    raise StorageFull(f"the report could not be kept in {directory}")


def pending(site: Site) -> bool:
    """Whether a report waits; one look at one directory, since every boot asks. Raises Unavailable: nobody knows."""
    try:
        with os.scandir(site.spool_dir) as entries:
            return any(_ATTEMPT.match(entry.name) for entry in entries)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(f"{site.spool_dir}: {error.strerror}", hint="check the directory and its owner") from error


def attempts(site: Site) -> list[str]:
    """The attempts of which reports wait."""
    try:
        return sorted(path.name for path in site.spool_dir.iterdir() if _ATTEMPT.match(path.name))
    except FileNotFoundError:
        return []


def aside(site: Site) -> list[Path]:
    """Reports that could not be applied, and wait for somebody to look at them."""
    try:
        return sorted((site.spool_dir / _ASIDE).iterdir())
    except FileNotFoundError:
        return []


def waiting(site: Site, uid: str) -> list[Waiting]:
    """The reports of an attempt, the oldest first. A file that is no report is set aside, and named in the log."""
    found = []
    for path in sorted((site.spool_dir / uid).glob("*.json")):
        try:
            found.append(Waiting(path.stem, Report(**json.loads(path.read_bytes()))))
        except (ValueError, TypeError) as error:
            log.error("unreadable report set aside", path=str(path), error=str(error))  # noqa: TRY400
            place = site.spool_dir / _ASIDE
            place.mkdir(mode=0o700, exist_ok=True)
            path.replace(place / path.name)
    return found


def done(site: Site, uid: str, reports: list[Waiting]) -> None:
    """Forget reports that are in the database."""
    directory = site.spool_dir / uid
    for each in reports:
        (directory / f"{each.name}.json").unlink(missing_ok=True)
    for left in directory.glob(".new-*"):
        # Of a process that was killed while it wrote, and never acknowledged; or of one that is writing just now.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > 60:
                left.unlink()
    with contextlib.suppress(OSError):  # another report may have come meanwhile
        directory.rmdir()


def set_aside(site: Site, uid: str) -> None:
    """Take what is left of an attempt out of the way, for somebody to look at."""
    place = site.spool_dir / _ASIDE
    place.mkdir(mode=0o700, exist_ok=True)
    (site.spool_dir / uid).rename(place / f"{uid}-{time.time_ns()}")


@contextmanager
def alone(site: Site) -> Iterator[None]:
    """While one applies the spool, others wait. Raises DatabaseUnavailable after ``lock_seconds``."""
    site.spool_dir.mkdir(mode=0o700, exist_ok=True)
    deadline = time.monotonic() + site.settings.lock_seconds
    with (site.spool_dir / "lock").open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable("reports of machines are still on their way to the database") from None
                time.sleep(0.02)
        yield


def _write(spool: Path, path: Path, content: bytes) -> None:
    directory = path.parent
    with translated(directory):
        spool.mkdir(mode=0o700, exist_ok=True)
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(spool)
        count = sum(1 for _ in directory.iterdir())
    if count >= _MOST_REPORTS:
        raise StorageFull(f"{_MOST_REPORTS} reports of this attempt wait already")
    try:
        with replacing(path) as file:
            file.write(content)
    except ProvisionerError:
        path.unlink(missing_ok=True)  # its machine repeats what was not acknowledged
        raise
