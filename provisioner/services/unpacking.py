"""An ISO image read and unpacked by a confined process: we give it two descriptors, it tells us what it finds.

No root and no mount is needed, nothing of the image is executed. What the process may do is in ``unpackjail``.
"""

import errno
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.errors import InvalidInput, ProgramFailed, ProgramMissing, StorageFull, Unavailable

MOST_ENTRIES = 200_000
"""Files and directories of one image or tree; the largest DVDs have a quarter of that."""
_CHILD = str(Path(__file__).with_name("unpackchild.py"))
_LONGEST_LINE = 128 << 20
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many bytes of it, and of how many."""


@dataclass(frozen=True)
class Found:
    """What is in an image; ``files`` are sizes by path, ``stored`` their bytes with each hard link counted once."""

    sha256: str
    size: int
    label: str
    files: Mapping[str, int]
    texts: Mapping[str, str]
    stored: int


@dataclass(frozen=True)
class Written:
    """What was unpacked; ``left_out`` are links that lead out, devices and other things that no tree needs."""

    files: int
    size: int
    left_out: Sequence[str] = ()


class Unpacking:
    """The conversation with the process, in the order of the methods."""

    def __init__(self, process: subprocess.Popen[bytes], size: int, what: str, progress: Progress | None) -> None:
        self._process, self._size, self._what, self._progress = process, size, what, progress

    def hashed(self) -> str:
        """The SHA-256 of the whole image; all that is told and written later are bytes that it covers."""
        line = self._until("sha256", "hashed", f"reading {self._what}", self._size)
        self._size = int(line["size"])
        self._sha256 = str(line["sha256"])
        return self._sha256

    def found(self) -> Found:
        """What is in it. Raises InvalidInput if it is no image, or not one that anybody should unpack."""
        self.order({})
        line = self._until("files")
        keys = ("label", "files", "texts", "stored")
        return Found(self._sha256, self._size, **{key: line[key] for key in keys})

    def write(self, paths: Sequence[str] | None, size: int) -> Written:
        """Unpack these files, or all, which have so many bytes together. Raises StorageFull."""
        self.order({"take": None if paths is None else list(paths)})
        done = self._until("done", "written", f"unpacking {self._what}", size)["done"]
        more = done["left_out_count"] - len(done["left_out"])
        return Written(done["files"], done["bytes"], (*done["left_out"], *([f"{more} more"] if more else [])))

    def order(self, order: Mapping[str, Any]) -> None:
        """Send one line."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # the next line, which does not come, tells why
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def _until(self, wanted: str, counting: str = "", what: str = "", total: int = 0) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        while line := self._process.stdout.readline(_LONGEST_LINE):
            if not line.endswith(b"\n"):
                self._process.kill()  # longer than it may say, or cut short by its end
                break
            told: dict[str, Any] = json.loads(line)
            if "error" in told:
                raise self._translated(told)
            if wanted in told:
                if self._progress is not None and what:
                    self._progress(what, total, total)
                return told
            if counting in told and self._progress is not None:
                self._progress(what, told[counting], total)
        raise self._ended()

    def _translated(self, told: Mapping[str, Any]) -> Exception:
        if told["error"] == "refused":
            hint = "nothing was imported; get it again, and compare its SHA-256 with what its maker publishes"
            return InvalidInput(f"{self._what}: {told['message']}", hint=hint)
        if told["number"] in {errno.ENOSPC, errno.EDQUOT}:
            return StorageFull(f"no space was left while {self._what} was unpacked; nothing of it is kept")
        return Unavailable(f"{self._what}: {told['message']}", hint="see whether its disk can be read, then try again")

    def _ended(self) -> Exception:
        status = self._process.wait()
        if status in {-24, -9}:  # SIGXCPU; SIGKILL by the hard limit, or by us
            return InvalidInput(
                f"{self._what}: reading it takes more time or memory than any honest image of its size",
                hint="nothing was imported; compare its SHA-256 with what its maker publishes",
            )
        return ProgramFailed(
            f"the process that unpacks {self._what} ended (status {status})",
            hint="is the host out of memory, or the Python installation unreadable? see `provisioner check`",
        )


@contextmanager
def unpacking(image: int, directory: int, what: str, progress: Progress | None = None) -> Iterator[Unpacking]:
    """A process that has the image and the (empty) directory, both as descriptors; it ends with the context."""
    if importlib.util.find_spec("pycdlib") is None:
        raise ProgramMissing(
            "ISO images are read by pycdlib, which is not installed",
            hint="pip install 'provisioner[iso]'; or mount the ISO and import the directory",
        )
    if os.geteuid() == 0:
        os.fchown(directory, 65534, 65534)  # of nobody, who is all that the process is
    process = subprocess.Popen(
        [sys.executable, "-I", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        pass_fds=(image, directory),
        start_new_session=True,
    )
    talk = Unpacking(process, os.fstat(image).st_size, what, progress)
    order = {"image": image, "directory": directory, "parent": os.getpid(), "most_entries": MOST_ENTRIES}
    try:
        talk.order(order)
        yield talk
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        process.wait()
