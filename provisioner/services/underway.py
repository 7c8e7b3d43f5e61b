"""How far something is that somebody waits for.

Who does it notes it in a small file; another process of this host, asked by the page that waits, reads it there. What
is lost with it is a number on a screen, so nothing is synced and no error of it stops the work.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.services.site import Site

Counting = Callable[[str, int, int], None]
"""Told what is done, how much of it, and in all; 0 in all is not known."""
_NAME = re.compile(r"[0-9a-f]{32}")
_REST_SECONDS = 0.5
_FORGOTTEN_SECONDS = 3600.0


@dataclass(frozen=True)
class Step:
    """What is done, how much of it, and in all; 0 in all is not known."""

    what: str
    done: int
    total: int


@contextmanager
def noting(site: Site, name: str) -> Iterator[Counting | None]:
    """For the work that the page calls ``name``, 32 hexadecimal digits; None for any other name, and nothing is noted.

    The note is gone at the end.
    """
    if not _NAME.fullmatch(name):
        yield None
        return
    path = _place(site, name)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _forget(path.parent)
    try:
        yield _Noter(path)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def step(site: Site, name: str) -> Step | None:
    """How far it is; None where nobody works on it, or has noted nothing yet."""
    if not _NAME.fullmatch(name):
        return None
    try:
        what, done, total = json.loads(_place(site, name).read_text(encoding="utf-8"))
        return Step(str(what), int(done), int(total))
    except (OSError, ValueError, TypeError):
        return None


@dataclass
class _Noter:
    path: Path
    at: float = 0.0
    what: str = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if what == self.what and time.monotonic() - self.at < _REST_SECONDS:
            return
        self.at, self.what = time.monotonic(), what
        with contextlib.suppress(OSError):
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps([what, done, total]), encoding="utf-8")
            new.replace(self.path)


def _place(site: Site, name: str) -> Path:
    return site.settings.state_dir / "underway" / name


def _forget(directory: Path) -> None:
    """Away with what a process left that was killed."""
    for each in directory.iterdir():
        if time.time() - each.stat().st_mtime > _FORGOTTEN_SECONDS:
            each.unlink(missing_ok=True)
