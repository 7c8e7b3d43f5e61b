"""A real Salt master in a root directory of its own, set up by the steps of docs/handoff.md."""

import contextlib
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import wait_for
from handoff.rootdir import Root, base
from handoff.setup_steps import steps

LOCK = Path(__file__).resolve().parents[2] / "scripts" / "requirements-salt.lock"
_PROGRAMS = {"salt-call": "salt_call", "salt-master": "salt_master", "salt-api": "salt_api"}
_PROGRAMS |= {"salt-key": "salt_key", "salt-run": "salt_run", "salt-minion": "salt_minion"}
_HOOK = """\
set -e
pip={python}; lock={lock} # {digest}
site=$("$1/usr/bin/python3" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
"$pip" -m pip install -q --require-hashes -r "$lock" --target "$1/usr/local/lib/$site/dist-packages"
for pair in {programs}; do
    printf '#!/usr/bin/python3\\nfrom salt.scripts import %s as run\\n\\nrun()\\n' "${{pair#*=}}" \\
        >"$1/usr/local/bin/${{pair%=*}}"
    chmod 755 "$1/usr/local/bin/${{pair%=*}}"
done
"""

# What starts services on a machine that has no systemd.
_SYSTEMCTL = """#!/bin/sh
[ "$1" = restart ] || exit 1
shift
for unit in "$@"; do "$unit" -d; done
"""


def salt_base() -> Path:
    """Debian's Python with the locked Salt from PyPI."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    programs = " ".join(f"{name}={function}" for name, function in _PROGRAMS.items())
    hook = _HOOK.format(python=sys.executable, lock=LOCK, digest=digest, programs=programs)
    return base("python3", "openssl", hooks=[hook])


@dataclass
class Master:
    """A master that runs."""

    root: Root

    @property
    def keys(self) -> Path:
        """Its pki_dir, seen from here."""
        return self.root.path / "etc/salt/pki/master"

    def set_up(self) -> None:
        """By the documented steps."""
        self.root.write("/usr/local/bin/systemctl", _SYSTEMCTL, 0o755)
        self.root.write("/etc/salt/master", "worker_threads: 3\nlog_level_logfile: debug\n")
        self.root.run(["sh", "-euc", steps("salt: on the master")])
        wait_for(lambda: self.listens(8000) and self.listens(4506), what="the master and its API")

    def listens(self, port: int) -> bool:
        """Whether somebody listens there."""
        return f":{port:04X} 00000000:0000 0A" in Path(f"/proc/{self.root.pid}/net/tcp").read_text()

    def finger(self) -> str:
        """As the administrator reads it."""
        return self.root.run(["sh", "-euc", steps("salt: the master's fingerprint")]).stdout.split()[0]

    def accepted(self) -> set[str]:
        """The minions whose keys are accepted."""
        return {each.name for each in (self.keys / "minions").iterdir()}

    def key_of(self, minion: str) -> str:
        """The minion's accepted key, or nothing."""
        with contextlib.suppress(FileNotFoundError):
            return (self.keys / "minions" / minion).read_text()
        return ""

    def state(self, name: str, text: str) -> None:
        """Write a state file."""
        self.root.write(f"/srv/salt/{name}", text)

    def credentials(self, directory: Path) -> None:
        """What the administrator copies to Provisioner."""
        for there, here in (("api.crt", "salt-api.pem"), ("password", "salt-api-password")):
            (directory / here).write_text(self.root.read(f"/etc/salt/pki/api/{there}"))
            (directory / here).chmod(0o600)
