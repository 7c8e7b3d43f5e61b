"""R19, R20, R21: each write and each sync of the store, the spool and the generated files fails once, for real."""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from world import ACTOR, World

from provisioner.services import arming
from provisioner.services.site import Site

STORY = Path(__file__).with_name("story.py")
MARK = 1000
CALLS = ("write", "pwrite64", "fsync", "fdatasync")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace"),
]


@pytest.fixture
def armed(site: Site, world: World) -> Path:
    """The state directory of an installation with one armed machine, closed."""
    world.ready()
    world.secret()
    arming.start(site, ACTOR, "web01")
    site.engine.dispose()
    return site.settings.state_dir


def run(state: Path, call: str, error: str, numbers: range, trace: Path, mark: int = MARK) -> list[dict[str, object]]:
    """The verdicts of the story with each of these numbers."""
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", f"trace={call}"]
    command += ["-e", f"inject={call}:error={error}:when={mark}"]
    wanted = (mark, numbers.start, numbers.stop - 1, numbers.step)
    command += [sys.executable, str(STORY), str(state), call, *(str(number) for number in wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def how_many(state: Path, call: str, trace: Path) -> int:
    """How often an undisturbed day makes this system call."""
    (verdict,) = run(state, call, "EIO", range(MARK * 10, MARK * 10 + 1), trace, MARK * 10)
    assert verdict["verdict"] == "ok ", verdict
    counts: dict[str, int] = {}
    for line in trace.read_text().splitlines():
        pid = re.match(r"\d+", line)
        assert pid is not None, line
        counts[pid.group()] = counts.get(pid.group(), 0) + 1
    return max(counts.values()) - MARK * 10  # the last burn


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.full)])
@pytest.mark.parametrize("call", CALLS)
def test_r19_r21_each_write_fails_once_and_nothing_is_lost_or_doubled(
    armed: Path, tmp_path: Path, call: str, step: int
) -> None:
    """Each of them in the full run, every fifth (from the first, the second, ... as chance has it) in the others."""
    trace = tmp_path / "trace"
    count = how_many(armed, call, trace)
    assert count > 5, f"the story makes no {call}"
    hurt = set()
    for error in ("ENOSPC", "EIO"):
        numbers = range(random.randint(1, step), count + 1, step)
        print(f"{error}: numbers from {numbers.start} in steps of {step}")
        verdicts = run(armed, call, error, numbers, trace)
        assert len(verdicts) == len(numbers)
        bad = [each for each in verdicts if each["status"] != 0 or not str(each["verdict"]).startswith("ok")]
        tried = f"{call} {error}: {len(bad)} of {len(numbers)}"
        assert not bad, f"{tried}, the first at number {bad[0]['number']}:\n{bad[0]['verdict']}"
        assert trace.read_text().count("(INJECTED)") == len(numbers)
        hurt |= {name for each in verdicts for name in str(each["verdict"]).split()[1:]}
    assert hurt or step > 1, "of all of them some operation notices one"
