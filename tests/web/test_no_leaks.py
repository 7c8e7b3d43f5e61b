"""Tokens and secrets are where they must be and nowhere else (S28, S80, S81)."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, served_environment
from played import Played
from world import ACTOR, OTHER_IP, World

from provisioner.services import arming

pytestmark = pytest.mark.slow

CANARY = "canary-Xq7-horse"


@pytest.fixture
def whole_run(_template: Path, tmp_path: Path) -> Any:
    """A service at its most talkative, through which a machine has been from its first boot to `configured`."""
    shutil.copytree(_template, tmp_path / "state")
    environment = served_environment(tmp_path / "state") | {"PROVISIONER_LOG_LEVEL": "debug"}
    served = Served(environment, tmp_path / "state", log=tmp_path / "log")
    opened = served.site
    world = World(opened, tmp_path)
    world.ready()
    served.start()
    served.cli("machine", "edit", "web01", "--secret", "challenge=-", stdin=f"{CANARY}\n")
    machine = Played(served, opened, "web01", "52:54:00:12:34:56", "127.0.2.11")
    yield machine, tmp_path
    served.stop()
    opened.engine.dispose()


def full_build(machine: Played) -> dict[str, str]:
    """One build, with mistakes of every kind on the way; returns its tokens."""
    arming.start(machine.site, ACTOR, machine.name)
    tokens = machine.tokens()
    http = machine.served.http
    secret = f"/build/{tokens['answer']}/secret/challenge"
    assert http(secret, source=machine.ip, method="POST", form={"nonce": "n"}).text == CANARY
    for source in (machine.ip, OTHER_IP):
        for purpose in tokens.values():
            for route in ("answer", "handoff", "nothing", "seed/user-data", "seed/x"):
                http(f"/build/{purpose}/{route}", source=source)
            http(f"/build/{purpose}/event", source=source, method="POST", form={"nonsense": "x"})
            http(f"/build/{purpose}/event", source=source, method="PUT")
    http("/boot/ipxe", headers={"Referer": f"{machine.served.boot}/build/{tokens['answer']}/answer"})
    assert machine.event(tokens["event"], "built").status == 200
    report = f"/build/{tokens['handoff']}/configured"
    assert http(report, source=machine.ip, method="POST", form={"status": "ok"}).json()["state"] == "configured"
    return tokens


def test_s28_s81_no_token_and_no_secret_in_logs_lists_files_or_output(whole_run: Any) -> None:
    machine, base = whole_run
    tokens = full_build(machine)
    served = machine.served
    processes = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)).decode(
        errors="replace"
    )
    commands = [["machine", "show", "web01"], ["build", "show", "web01"], ["build", "log", "web01", "--sealed"]]
    commands += [["history"], ["build", "list"], ["profile", "explain", "web01"], ["check"], ["render", "web01"]]
    output = {" ".join(command): all_output(served, command) for command in commands}
    assert "unwrapped" in output["build log web01 --sealed"]
    served.stop()
    texts = output | {"log": served.log.read_text(), "processes": processes}
    texts |= {str(path): path.read_bytes().decode("latin-1") for path in base.rglob("*") if path.is_file()}
    assert len(texts) > 20
    for what, text in texts.items():
        for name, token in (*tokens.items(), ("canary", CANARY)):
            assert token not in text, f"the {name} is in {what}"


def readable(path: Path) -> bool:
    """Whether the process is still there."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def all_output(served: Served, command: list[str]) -> str:
    """Both streams of a command."""
    done = served.cli(*command, code=None)
    assert done.returncode in {0, 1}
    return done.stdout + done.stderr


def test_s81_a_secret_is_not_taken_from_the_command_line(whole_run: Any) -> None:
    machine, _ = whole_run
    refused = machine.served.cli("machine", "edit", "web01", "--secret", "challenge", code=1)
    assert "process list" in refused.stderr
    assert "--secret challenge=-" in refused.stderr


def test_s61_hostile_words_in_requests_leave_no_line_of_their_own_in_the_log(whole_run: Any) -> None:
    machine, _ = whole_run
    hostile = "evil\x1b[31m%0d%0aforged: line"
    machine.served.http("/boot/ipxe/52:54:00:00:00:01?serial=a%0d%0ab", headers={"User-Agent": hostile})
    machine.served.http(f"/boot/{'A' * 3000}")
    machine.served.stop()
    text = machine.served.log.read_text()
    assert "\x1b" not in text
    assert "\nforged" not in text
