"""The whole OpenAPI document, fuzzed by schemathesis with every check on, over real HTTP, on both engines."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONFIG = Path(__file__).with_name("schemathesis.toml")


def fuzz(served: Any, *options: str) -> None:
    """Run schemathesis against a served API; any failure of any check fails the test."""
    token = served.cli_json("token", "add", "schemathesis", "--role", "admin")["token"]
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run"]
    command += [f"{served.admin}/api/v1/openapi.json", "--header", f"Authorization: Bearer {token}", *options]
    # Two threads that parse Python at once break each other before Python 3.12 ("AST constructor recursion depth").
    command += ["--workers", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=3000, env=os.environ | {"NO_COLOR": "1"}
    )
    if os.environ.get("KEEP"):
        Path(os.environ["KEEP"]).write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_s37_every_operation_a_short_run(served: Any) -> None:
    fuzz(served, "--max-examples", "5", "--seed", "20261123")


@pytest.mark.slow
def test_s37_every_operation_on_postgresql(served_by_postgres: Any) -> None:
    fuzz(served_by_postgres, "--max-examples", "2", "--seed", "20261124", "--phases", "examples,fuzzing,stateful")


@pytest.mark.full
def test_s37_every_operation_a_long_run(served: Any) -> None:
    fuzz(served, "--max-examples", "200")
