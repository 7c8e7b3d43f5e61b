"""What `init` leaves on disk."""

import os
import stat
from pathlib import Path

from world import ACTOR

from provisioner.services.setup import init
from provisioner.settings import Settings


def test_s82_nobody_else_reads_what_init_makes(tmp_path: Path) -> None:
    """Whatever the umask: keys, certificate key and database are ours alone, and the process's umask stays."""
    before = os.umask(0)
    try:
        init(Settings(state_dir=tmp_path / "state"), ACTOR).site.engine.dispose()
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    files = {path: mode for path, mode in modes.items() if (tmp_path / path).is_file()}
    assert files
    assert {path: oct(mode) for path, mode in files.items() if mode & 0o077} == {}
    assert oct(modes[Path("state")]) == oct(0o711)
    assert oct(modes[Path("state/keys")]) == oct(0o700)
