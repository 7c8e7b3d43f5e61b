"""Commands in this process, through either implementation of the client protocol."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from click.testing import CliRunner
from conftest import Served
from world import ACTOR

from provisioner.cli.root import cli
from provisioner.services import tokens

TOKEN = "PROVISIONER_TOKEN"
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*\+00:00| *\b\d+\.\d(?=[\s,]) *")


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int

    def timeless(self) -> "Said":
        """The same without moments and durations, to compare two runs."""
        return Said(_TIMES.sub("TIME", self.out), _TIMES.sub("TIME", self.err), self.code)

    def json(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)


@dataclass
class Door:
    """One way to an installation: ``here`` calls the services, else the API is asked."""

    environment: Mapping[str, str]
    here: bool
    changed: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: str = "", code: int | None = 0, **changed: str) -> Said:
        """Run a command; ``changed`` are variables of its environment. The exit code must be ``code``, unless None."""
        inherited: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("PROVISIONER_"))
        environment = inherited | {**self.environment, **self.changed, **changed}
        done = CliRunner().invoke(cli, arguments, input=stdin, env=environment, prog_name="provisioner")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert code is None or done.exit_code == code, f"exit {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return Said(done.stdout, done.stderr, done.exit_code)


def local(served: Served) -> Door:
    """Commands on the server's own host."""
    return Door(served.environment, here=True)


def remote(served: Served, role: str = "admin", url: str = "", **more: str) -> Door:
    """Commands elsewhere, with a token of the administrator's, cut down to this role."""
    site = served.site
    name = f"door-{role}"
    if any(each["name"] == name for each in tokens.listing(site)):
        tokens.remove(site, ACTOR, name)
    made = tokens.add(site, ACTOR, None, name, {"role": role})["token"]
    site.engine.dispose()
    return Door({"PROVISIONER_URL": url or served.admin, TOKEN: made, **more}, here=False)
