"""dnsmasq's own opinion of a configuration, before it is used."""

import os
import subprocess
import tempfile
from pathlib import Path

from provisioner.errors import ProgramFailed, ProgramMissing

_SECONDS = 120


def environment() -> dict[str, str]:
    """The environment for dnsmasq: its messages are read by this program, so they must not be translated."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin", "LC_ALL": "C", "LANGUAGE": ""}


def missing() -> ProgramMissing:
    """The error for a host without dnsmasq."""
    return ProgramMissing(
        "dnsmasq is not installed",
        hint="install it (Debian: apt install dnsmasq-base; Rocky: dnf install dnsmasq), or set the subnet's DHCP "
        "to external",
    )


def check_file(path: Path) -> None:
    """Have dnsmasq read the configuration file; raises ``ProgramFailed`` with what it objects to."""
    try:
        result = subprocess.run(
            ["dnsmasq", "--test", f"--conf-file={path}"],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            stdin=subprocess.DEVNULL,
            env=environment(),
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise missing() from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"dnsmasq --test did not end within {_SECONDS} s") from None
    if result.returncode:
        raise ProgramFailed(
            f"dnsmasq refuses the configuration: {result.stderr.strip().removeprefix('dnsmasq: ')}",
            hint="what ran before goes on running; mend the subnet or machine this names",
        )


def check(text: str) -> None:
    """Have dnsmasq read a configuration given as text; raises ``ProgramFailed`` or ``ProgramMissing``."""
    with tempfile.TemporaryDirectory(prefix="provisioner-dhcp-") as directory:
        path = Path(directory) / "dnsmasq.conf"
        path.write_text(text, encoding="utf-8")
        check_file(path)
