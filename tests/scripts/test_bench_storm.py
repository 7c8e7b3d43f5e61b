"""`scripts/bench storm`: which rows are measured, and what is told of them."""

import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from benchkit import groups, storm
from benchkit.storm import Options, Row

BENCH = Path(__file__).parents[2] / "scripts/bench"
GOOD = Row("speed", "them 1.0: 5", "7", "1.4 x", "at least 1.0 x", reached=True)
BAD = Row("cost | size", "them 1.0: 5", "7", "1.4 x", "at most 1.0 x", reached=False, note="the kernel's")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BENCH, "storm", *words], capture_output=True, text=True, check=False)


def test_a_row_that_breaks_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_options: Options) -> list[Row]:
        raise RuntimeError("the server\n  did not start")

    module = types.ModuleType("benchrows")
    vars(module).update(good=lambda _options: [GOOD], bad=broken)
    monkeypatch.setitem(sys.modules, "benchrows", module)
    monkeypatch.setattr(storm, "ROWS", {"bad": ("benchrows:bad", "breaks"), "good": ("benchrows:good", "works")})
    told: list[str] = []
    rows = storm.run(["bad", "good"], Options(1, told.append))
    assert [row.reached for row in rows] == [False, True]
    assert rows[0].note == "not measured: RuntimeError: the server did not start"
    assert told[0] == "[1/2] bad: breaks"
    assert any("NOT reached" in line for line in told)


def test_the_table_has_every_row_and_the_reasons() -> None:
    lines = storm.table([GOOD, BAD])
    assert lines[2] == "| speed | them 1.0: 5 | 7 | 1.4 x | at least 1.0 x | yes |"
    assert lines[3] == "| cost \\| size | them 1.0: 5 | 7 | 1.4 x | at most 1.0 x | **no** |"
    assert lines[4:] == ["", "- cost | size: the kernel's"]


def test_rows_by_name_and_pattern() -> None:
    assert storm.chosen("") == list(storm.ROWS)
    assert storm.chosen("tftp-loss, tftp-100k") == ["tftp-100k", "tftp-loss"]
    assert storm.chosen("tftp-*") == [name for name in storm.ROWS if name.startswith("tftp-")]
    with pytest.raises(ValueError, match="nonsense"):
        storm.chosen("tftp-*,nonsense")


def test_every_row_names_a_function_that_is_there() -> None:
    for name, (where, what) in storm.ROWS.items():
        module, function = where.split(":")
        assert callable(getattr(storm.importlib.import_module(module), function)), name
        assert what


@pytest.mark.parametrize("words", [("--only", "nonsense"), ("--rounds", "0")])
def test_wrong_usage_says_what_is_wrong(words: tuple[str, str]) -> None:
    done = bench(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert words[0] in done.stderr
    assert "tftp-100k" in done.stderr or "at least 1" in done.stderr


def test_help_names_the_rows_and_an_example() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert "scripts/bench storm --only" in done.stdout
    assert all(name in done.stdout for name in storm.ROWS)


@pytest.mark.parametrize("grouped", [True, False])
def test_processor_time_of_a_server_and_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    if not grouped:
        monkeypatch.setattr(groups, "_folder", lambda: None)
    spin = (
        "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\nprint('done', flush=True)"
    )
    server = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {spin!r}])\ntime.sleep(600)"
    with groups.started([sys.executable, "-c", server], log=tmp_path / "log") as group:
        while "done" not in group.last_words():
            assert group.alive(), group.last_words()
            time.sleep(0.01)
        group.settle()
        assert 0.2 <= group.used().total < 5  # some kernels count by ticks
        pid = group.process.pid
    assert not Path("/proc", str(pid)).exists()
    assert group.folder is None or not group.folder.exists()
