"""A real CFEngine hub in a root directory of its own, set up by the steps of docs/handoff.md."""

from dataclasses import dataclass
from pathlib import Path

from conftest import wait_for
from handoff.rootdir import Root, base
from handoff.setup_steps import steps

WORK = "/var/lib/cfengine3"
_POLICY = """
bundle agent mpf_main
{
  files:
      "/etc/by-cfengine"
        create => "true",
        edit_line => insert_lines("CFEngine looks after $(sys.uqhost)");
}
"""


def cfengine_base() -> Path:
    """A machine with Debian's cfengine3, and the python3 that its default policy wants."""
    return base("cfengine3", "python3")


@dataclass
class Hub:
    """A hub that runs."""

    root: Root

    @property
    def keys(self) -> Path:
        """Its directory of keys, seen from here."""
        return self.root.path / f"{WORK.lstrip('/')}/ppkeys"

    @property
    def key(self) -> str:
        """Its own public key."""
        return self.root.read(f"{WORK}/ppkeys/localhost.pub")

    def set_up(self) -> None:
        """By the documented steps, with a policy that writes a file."""
        self.policy()
        self.root.run(["sh", "-euc", steps("cfengine: on the hub")])
        wait_for(self._listens, what="cf-serverd")

    def policy(self, text: str = _POLICY) -> None:
        """Let this be what clients are sent."""
        self.root.write(f"{WORK}/masterfiles/services/main.cf", text, 0o600)

    def trusted(self) -> set[str]:
        """The keys that it trusts."""
        return {each.read_text() for each in self.keys.glob("root-*.pub")}

    def digest(self, key: str) -> str:
        """As cf-key writes it."""
        self.root.write("/tmp/one.pub", key)
        return self.root.run(["cf-key", "--print-digest", "/tmp/one.pub"]).stdout.strip()

    def _listens(self) -> bool:
        tables = (Path(f"/proc/{self.root.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
        return any(":14BC 0000" in table for table in tables)
