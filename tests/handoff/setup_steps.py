"""The set-up of a tool's server as docs/handoff.md has it: tests run these very steps."""

import re
import subprocess
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "handoff.md"


def steps(title: str) -> str:
    """The shell block that begins with the comment ``# title``."""
    found = re.findall(rf"(?ms)^```sh\n(# {re.escape(title)}\n.*?)^```$", DOCUMENT.read_text(encoding="utf-8"))
    assert len(found) == 1, f"{len(found)} blocks of {DOCUMENT.name} begin with `# {title}`"
    return str(found[0])


def linked(script: str, link: Path, there: Path) -> None:
    """Run steps that link a directory of this host into the credentials; then the link leads to the machine's own."""
    subprocess.run(
        ["sh", "-euc", script], env={"credentials_dir": str(link.parent), "PATH": "/usr/bin:/bin"}, check=True
    )
    assert str(there).endswith(str(link.readlink())), f"{link} leads to {link.readlink()}"
    link.unlink()
    link.symlink_to(there)
