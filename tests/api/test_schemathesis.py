"""The whole OpenAPI document, fuzzed by schemathesis with every check on, over real HTTP, on both engines."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzzing
import pytest
from world import OTHER_IP, World

from provisioner.services import arming, installables, people, tokens, webhooks

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(fuzzing.__file__)
NEVER_LET_IN = {
    "POST /api/v1/hooks/netbox",  # without NetBox's signature
    "POST /api/v1/me:password",  # a token has none
    "POST /api/v1/sessions",  # with a made-up password
}
"""What may be answered with 401 and 403 alone. If others are, the fuzzer lost its rights and has tested nothing."""


def populate(served: Any) -> None:
    """An object of each kind, by the names that `fuzzing` knows."""
    there = fuzzing.THERE
    opened = served.site
    world = World(opened, served.state)
    world.machine(there["machines"]["name"], there["machines"]["mac"])
    world.secret(name=there["machines"]["secret"])
    arming.start(opened, world.actor, there["machines"]["name"])
    image = installables.ImageInput(str(served.state.parent / "vmlinuz"), "debian", "12", kind="golden")
    installables.add_image(opened, world.actor, there["images"]["name"], image)
    people.add(opened, world.actor, there["users"]["name"], {"role": "operator", "password": "correct horse battery"})
    tokens.add(opened, world.actor, None, there["tokens"]["name"], {"role": "viewer"})
    webhooks.add(opened, world.actor, there["webhooks"]["name"], {"url": "https://hook.example.com/x"})
    opened.engine.dispose()
    served.http(f"/boot/ipxe/{there['discoveries']['mac']}?platform=pcbios", source=OTHER_IP)


def fuzz(served: Any, *options: str) -> None:
    """Run schemathesis against a served API; any failure of any check fails the test."""
    populate(served)
    token = served.cli_json("token", "add", fuzzing.MINE["tokens"], "--role", "admin")["token"]
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run"]
    command += [f"{served.admin}/api/v1/openapi.json", "--header", f"Authorization: Bearer {token}", *options]
    # Two threads that parse Python at once break each other before Python 3.12 ("AST constructor recursion depth").
    # A template that many profiles take is validated for up to 20 s before it is saved, and this host may be busy.
    command += ["--workers", "1", "--request-timeout", "120"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
        cwd=served.state.parent,
        env=os.environ | {"NO_COLOR": "1", "SCHEMATHESIS_HOOKS": str(HOOKS)},
    )
    if os.environ.get("KEEP"):
        Path(os.environ["KEEP"]).write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert refused(done.stdout) <= NEVER_LET_IN
    asked = served.http(f"{served.admin}/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert (asked.status, asked.json()["role"]) == (200, "admin")
    assert served.cli("history", "verify").returncode == 0
    log = served.log.read_text()
    at = log.find("Traceback")
    assert at < 0, log[max(0, at - 1000) : at + 6000]


def refused(report: str) -> set[str]:
    """The operations that were never answered with anything but 401 and 403."""
    section = report.partition("Authentication failed")[2].partition("\U0001f4a1")[0]
    return {line.removeprefix("  - ") for line in section.splitlines() if line.startswith("  - ")}


@pytest.mark.slow
def test_s37_every_operation_a_short_run(served: Any) -> None:
    fuzz(served, "--max-examples", "3", "--seed", "20261123")


@pytest.mark.slow
def test_s37_every_operation_on_postgresql(served_by_postgres: Any) -> None:
    fuzz(served_by_postgres, "--max-examples", "2", "--seed", "20261124", "--phases", "examples,fuzzing,stateful")


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ["served", "served_by_postgres"])
def test_s37_every_operation_a_long_run(engine: str, request: pytest.FixtureRequest) -> None:
    # Ten minutes: every example and every edge once, then fuzzing and sequences over and over until the time is spent.
    fuzz(request.getfixturevalue(engine), "--max-time", "600", "--max-examples", "30")
