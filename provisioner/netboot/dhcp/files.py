"""Files that are whole or absent, whatever happens meanwhile."""

import contextlib
import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, readable by all: write, fsync, rename, fsync of the directory.

    A file that holds the text already is left alone, so a full disk does not keep a daemon from restarting.
    """
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
