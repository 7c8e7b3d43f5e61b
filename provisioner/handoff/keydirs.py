"""Directories of public keys that belong to another program: a Salt master's or a CFEngine hub's.

A profile names one as it names a credential: a directory, or a symbolic link to one, in ``credentials_dir``. So it is
the administrator of this host who says where handoffs may write, never a profile.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from provisioner.errors import CredentialMissing, HandoffRefused
from provisioner.handoff.protocol import Host

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def directory(host: Host, name: str, what: str) -> Path:
    """The directory of this name. Raises CredentialMissing; ``what`` says whose it is."""
    path = host.credentials / name
    if not _NAME.fullmatch(name) or not path.is_dir():
        raise CredentialMissing(
            f"there is no directory {name[:80]!r}",
            where=str(host.credentials),
            hint=f"make a symbolic link of that name to {what}",
        )
    return path


def put(path: Path, key: str) -> None:
    """Write a public key, whole or not at all, readable by everybody. Raises HandoffRefused."""
    with (
        _refusing(path.parent),
        # A name with a dot in front: the other program takes none of those for a key.
        tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".provisioner-", delete=False) as file,
    ):
        try:
            file.write(f"{key.strip()}\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).rename(path)
        except OSError:
            Path(file.name).unlink()
            raise


def take(path: Path, only: Callable[[str], bool] = lambda _: True) -> bool:
    """Remove a key if it is there and ``only`` says so of its text. Raises HandoffRefused."""
    with _refusing(path.parent):
        try:
            held = path.read_text(encoding="utf-8", errors="replace")
            if only(held):
                path.unlink()
                return True
        except FileNotFoundError:
            pass
        return False


def same(one: str, other: str) -> bool:
    """Whether two PEM texts are the same but for line endings and white space."""
    return one.split() == other.split()


@contextlib.contextmanager
def _refusing(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HandoffRefused(
            f"{where} cannot be written: {error.strerror}",
            where=str(where),
            hint=f"the service's user ({os.getuid()}) must be allowed to make and remove files there",
        ) from error
