"""Two thousand simulated machines, the whole way; what the disk alone would have taken; and kill -9 in the middle.

`provisioner simulate` plays them against a `provisioner serve` and holds the database against what they were told. Its
own processor time comes off the same cores. The floor: a loop that commits as often, with as many bytes, to a SQLite
database in the same directory, also with synchronous=FULL, and does nothing else; how often and how much the service
wrote is counted in its calls of fsync, fdatasync and pwrite. Everything that the service confirms is synced before.
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from benchkit.api import ACTOR
from benchkit.private import SILENCE, Server, await_true, compiled, kill_at_once, running, scratch, serving
from benchkit.storm import Options, Row, median
from provisioner.services.setup import init
from provisioner.settings import Settings

MACHINES = 2000
KILLED = 300
_WANTED = 40.0
_REPORTED = ("installer", "secret", "disk", "packages", "built", "configured")
_SOURCE = Path(__file__).with_name("synccount.c")


def rows(options: Options) -> list[Row]:
    """The rows of `simulate`."""
    return [_storm(options, MACHINES), _killed(options, KILLED)]


def _fresh(name: str) -> Path:
    home = scratch() / name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    init(Settings(state_dir=home / "state", boot_url="http://127.0.0.1:8080"), ACTOR).site.engine.dispose()
    return home / "state"


def _storm(options: Options, machines: int) -> Row:
    rates, floors, alone, costs, problems = [], [], [], [], []
    for number in range(options.rounds):
        told, commits, written, cpu = _play(machines)
        problems += told["wrong"]
        rates.append(machines / told["seconds"])
        floors.append(machines / _commit(commits, written))
        acknowledged = sum(step["count"] for step in told["steps"] if step["step"] in _REPORTED)
        alone.append(machines / _commit(acknowledged, written))
        costs.append((cpu / machines * 1000, told["cpu_seconds"] / machines * 1000))
        options.say(
            f"    round {number + 1}: {rates[-1]:.1f} machines a second; {commits} syncs, {written / 1e6:.0f} MB; bare "
            f"{floors[-1]:.0f}, {acknowledged} commits one by one {alone[-1]:.0f} machines a second"
        )
    rate, cost, played = median(rates), median(each[0] for each in costs), median(each[1] for each in costs)
    ours = f"{rate:.1f} machines a second, {len(problems)} wrong; CPU of a machine: "
    ours += f"server {cost:.0f} ms, player {played:.0f} ms"
    floor = f"none does all of it; the same commits and bytes bare: {median(floors):.0f} a second"
    floor += f", every report alone: {median(alone):.0f}"
    shown = f"{rate / median(floors):.2f} of the floor"
    what = f"{machines:,} simulated machines, the whole sequence"
    reached = rate >= _WANTED and not problems
    return Row(
        what, floor, ours, shown, f"at least {_WANTED:.0f} a second, none wrong", reached, "; ".join(problems[:3])
    )


def _play(machines: int) -> tuple[dict[str, Any], int, int, float]:
    """What `simulate` told, how often the service synced, how many bytes it wrote, and its processor seconds."""
    state = _fresh("simulate")
    counted = state.parent / "counted"
    counted.write_bytes(bytes(16))
    with serving(state, more={"LD_PRELOAD": str(_counter()), "SYNCCOUNT": str(counted)}) as server:
        before = _numbers(counted)
        player = _player(server, machines)
        # making the machines is no part of the storm, and costs the service nothing that is worth a word
        text, problem = player.communicate()
        syncs, written = (now - then for now, then in zip(_numbers(counted), before, strict=True))
        cpu = server.group.used().total
    return _told(text, problem), syncs, written, cpu


def _numbers(counted: Path) -> tuple[int, int]:
    content = counted.read_bytes()
    return int.from_bytes(content[:8], "little"), int.from_bytes(content[8:], "little")


@cache
def _counter() -> Path:
    return compiled(_SOURCE, "synccount.so", "-shared", "-fPIC")


def _player(server: Server, machines: int, *more: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in server.environment.items() if name not in {"LD_PRELOAD", "SYNCCOUNT"}}
    command = [sys.executable, "-m", "provisioner", "simulate", str(machines), "--keep", "--output", "json", *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _told(text: str, problem: str) -> dict[str, Any]:
    if not text.strip():
        raise RuntimeError(f"provisioner simulate said nothing: {problem[-400:]}")
    told: dict[str, Any] = json.loads(text)
    return told


def _commit(commits: int, written: int) -> float:
    """The seconds of so many bare commits that write so many bytes, half of them to the log, half to the table."""
    path = scratch() / "floor.sqlite"
    for each in scratch().glob("floor.sqlite*"):
        each.unlink()
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, content BLOB)")
    content = bytes(max(100, written // 2 // commits))
    began = time.monotonic()
    for _ in range(commits):
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO row (content) VALUES (?)", (content,))
        database.execute("COMMIT")
    seconds = time.monotonic() - began
    database.close()
    return seconds


def _killed(options: Options, machines: int) -> Row:
    """The service is killed and started again while the machines are at it."""
    lost: list[str] = []
    acknowledged = 0
    for number in range(options.rounds):
        state = _fresh("killed")
        journal = state.parent / "journal"
        with serving(state) as server:
            player = _player(server, machines, "--journal", str(journal))
            await_true(
                lambda: player.poll() is not None or _acknowledged(journal) > machines * 4,  # noqa: B023
                lambda: "the machines do not get on",
                SILENCE * 5,
            )
            at, over = _acknowledged(journal), player.poll() is not None
            kill_at_once(server)
            with running(server.state, server.ports, server.environment):
                told = _told(*player.communicate())
        if over:
            raise RuntimeError("the machines were done before the service could be killed")
        acknowledged += _acknowledged(journal)
        lost += told["wrong"]
        options.say(
            f"    round {number + 1}: killed after {at} acknowledged reports; {len(told['wrong'])} wrong at the end"
        )
    what = f"kill -9 amid {machines} of them, {options.rounds} times"
    ours = f"{acknowledged:,} reports acknowledged, {len(lost)} lost or wrong"
    return Row(what, "-", ours, "-", "nothing lost", not lost, "; ".join(lost[:3]))


def _acknowledged(journal: Path) -> int:
    """How many reports and secrets the machines have an answer for."""
    if not journal.exists():
        return 0
    text = journal.read_text()
    return text.count('"what": "ack"') + text.count('"what": "secret"')
