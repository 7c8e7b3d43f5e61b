"""Several processes that count into the same files, some of which die."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# In a program of its own: how metrics are kept is settled once for a process.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from prometheus_client.parser import text_string_to_metric_families
from provisioner import metrics

state = Path(sys.argv[1])

def seen():
    text = metrics.exposed("")[0].decode()
    found = {one.name: one.value for each in text_string_to_metric_families(text) for one in each.samples}
    return [found.get("provisioner_tftp_sessions"), found.get("provisioner_reports_spooled_total")]

def child(sessions):
    told, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        metrics.join("tftp")
        metrics.tftp_server({}, sessions)
        metrics.report_spooled()
        os.write(tells, b"x")
        signal.pause()
    os.read(told, 1)
    return pid

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

metrics.start(state)
steps = []
first, second = child(3), child(4)
steps.append(seen())
end(second)
steps.append(seen())
third = child(5)
steps.append(seen())
end(first)
end(third)
steps.append(seen())
place = metrics._directory
files = len(list(place.glob("counter_*.db")))
mode = oct(place.stat().st_mode & 0o777)
metrics.start(state)
steps.append(seen())
metrics.stop()
print(json.dumps({"steps": steps, "files": files, "mode": mode, "left": place.exists()}))
"""


def test_counts_stay_gauges_go_and_files_are_taken_over(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(done.stdout)
    # [transfers under way, reports spooled]
    assert told["steps"] == [[7, 2], [3, 2], [8, 3], [0, 3], [0, 0]]
    assert told["files"] == 3  # of three processes: the third child took over from the second
    assert (told["mode"], told["left"]) == ("0o700", False)


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner import metrics

    monkeypatch.setattr(metrics, "_SHM", tmp_path / "shm")
    state = tmp_path / "state"
    for path in (tmp_path / "shm", state, tmp_path / "elsewhere"):
        path.mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    monkeypatch.setattr(metrics.os, "access", lambda *_: False)
    (state / "metrics").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError):
        metrics._fresh(state)
    assert (tmp_path / "elsewhere" / "precious").read_text() == "x"
