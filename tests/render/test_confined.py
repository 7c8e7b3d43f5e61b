"""The process around the templates: limits, isolation, and that one bad job does not harm the others."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from provisioner.errors import ContentError, ProgramFailed, RenderLimit
from provisioner.render import confined
from provisioner.render.confined import Job, Limits, render

QUICK = Limits(cpu_seconds=0.5, wall_seconds=20)

HUNGRY = {
    "script/loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "script/range": "{% for a in range(10**9) %}{% endfor %}",
    "script/repeat": "{{ 'a' * 10**10 }}",
    "script/repeat-list": "{{ [1] * 10**10 }}",
    "script/power": "{{ 2 ** (10 ** 9) }}",
    "script/digits": "{% set n = 10 ** 50 %}{{ n * n * n * n * n * n * n * n }}",
    "script/percent": "{{ '%9999999999d' % 1 }}",
    "script/width": "{{ '{:>9999999999}'.format(1) }}",
    "script/just": "{{ 'a'.ljust(10 ** 10) }}",
    "script/zfill": "{{ 'a'.zfill(10 ** 10) }}",
    "script/indent": "{{ 'a' | indent(10 ** 10, true) }}",
    "script/center": "{{ 'a'.center(10 ** 10) }}",
    "script/bytes": "{{ (1).to_bytes(10 ** 10, 'big') }}",
    "script/round": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "script/batch": "{{ [1] | batch(10 ** 9, 'x') | list | length }}",
    "script/slice": "{{ [1] | slice(10 ** 10) | list | length }}",
    "script/replace": "{% set s = 'a' * 60000 %}{{ s | replace('', s) | length }}",
    "script/double": "{% set s = 'aaaaaaaaaaaaaaaa' %}" + "{% set s = s ~ s %}" * 40 + "{{ s | length }}",
    "script/include": "{% include 'script/include' %}",
    "script/macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "script/output": "{% for a in range(99999) %}0123456789012345678901234567890123456789{% endfor %}",
    "script/nested": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "script/large": "{{ 1 }}\n" * 1_300_000,
}


@pytest.mark.parametrize("name", HUNGRY)
def test_s35_a_hungry_template_is_stopped_and_named(name: str) -> None:
    """It ends as an error that names it; a job after it in the same call is rendered all the same."""
    sources = {name: HUNGRY[name], "script/good": "fine"}
    limits = QUICK if name != "script/large" else Limits(cpu_seconds=1, wall_seconds=30)
    bad, good = render([Job(name, {}), Job("script/good", {})], sources, limits)
    assert isinstance(bad, ContentError)
    assert name in str(bad)
    assert good == "fine"


@pytest.mark.parametrize("name", ["script/loops", "script/power", "script/double", "script/include", "script/output"])
def test_s35_what_breaks_a_limit_is_a_render_limit(name: str) -> None:
    (answer,) = render([Job(name, {})], HUNGRY, QUICK)
    assert isinstance(answer, RenderLimit)


def test_a_job_in_the_middle_takes_nobody_with_it() -> None:
    sources = {"script/a": "{{ n }}", "script/bad": HUNGRY["script/loops"]}
    jobs = [Job("script/a", {"n": 1}), Job("script/bad", {}), Job("script/a", {"n": 2}), Job("script/bad", {})]
    answers = render([*jobs, Job("script/a", {"n": 3})], sources, QUICK)
    assert [str(answer) if isinstance(answer, str) else type(answer).__name__ for answer in answers] == [
        "1",
        "RenderLimit",
        "2",
        "RenderLimit",
        "3",
    ]


def test_each_job_has_its_own_processor_time() -> None:
    """Ten jobs of a tenth of the limit each are not one job over the limit."""
    busy = "{% for a in range(60000) %}{% endfor %}ok"
    assert render([Job("script/a", {})] * 10, {"script/a": busy}, Limits(cpu_seconds=0.5)) == ["ok"] * 10


def rendering() -> set[int]:
    """The processes of this one that render."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and confined._CHILD.encode() in (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found


def test_s35_the_process_steps_back_for_others_and_meets_its_limits() -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(render, [Job("script/loops", {})], HUNGRY, Limits(cpu_seconds=1))
        niceness: set[int] = set()
        groups: set[str] = set()
        while not asked.done():
            for pid in rendering():
                with suppress(OSError):
                    niceness.add(os.getpriority(os.PRIO_PROCESS, pid) - os.getpriority(os.PRIO_PROCESS, 0))
                    groups.add(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
    (answer,) = asked.result()
    assert isinstance(answer, RenderLimit)
    assert "more than 1 s of processor time" in answer.message
    assert 10 in niceness
    assert "10" in groups or not Path("/proc/self/autogroup").exists()


@pytest.mark.slow
def test_s35_only_so_many_render_at_once_and_the_rest_have_their_turn() -> None:
    most = confined._AT_ONCE._initial_value
    with ThreadPoolExecutor(3 * most) as pool:
        asked = [pool.submit(render, [Job("script/loops", {})], HUNGRY, QUICK) for _ in range(3 * most)]
        seen = 0
        while not all(each.done() for each in asked):
            seen = max(seen, len(rendering()))
    assert seen <= most
    for each in asked:
        (answer,) = each.result()
        assert isinstance(answer, RenderLimit)
        assert "processor time" in answer.message


def test_output_up_to_the_limit_comes_whole() -> None:
    text = "é" * 200_000
    assert render([Job("script/a", {"t": text})], {"script/a": "{{ t }}\n"}) == [text + "\n"]


def test_no_jobs_no_answers() -> None:
    assert render([], {"script/a": "x"}) == []


def test_the_result_is_the_same_twice() -> None:
    job = Job("script/a", {"d": {"b": 1, "a": 2}})
    source = {"script/a": "{{ d | dictsort | list | json }} {{ d | json }}"}
    assert render([job], source) == render([job], source)


def test_a_silent_child_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host so busy that no processor time passes: the wall clock ends it."""
    child = tmp_path / "child.py"
    child.write_text("import time\nprint('{}', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(confined, "_CHILD", str(child))
    (answer,) = render([Job("script/a", {})], {"script/a": "x"}, Limits(wall_seconds=0.5))
    assert isinstance(answer, RenderLimit)
    assert "0.5 s" in answer.message


def test_a_child_that_floods_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys\nprint('{}', flush=True)\nwhile True: sys.stdout.write('x' * 65536)\n")
    monkeypatch.setattr(confined, "_CHILD", str(child))
    (answer,) = render([Job("script/a", {})], {"script/a": "x"}, Limits(output_bytes=1000))
    assert isinstance(answer, RenderLimit)
    assert "1000 bytes" in answer.message


def test_a_child_that_cannot_start_is_not_the_templates_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "_CHILD", str(tmp_path / "missing.py"))
    with pytest.raises(ProgramFailed):
        render([Job("script/a", {})], {"script/a": "x"})


PROBE = """
import importlib.util, json, os, socket, sys
spec = importlib.util.spec_from_file_location("child", sys.argv[1])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
child._confine({"cpu_seconds": 2, "memory_bytes": 256 << 20, "jobs": 1})
found = {"uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "environment": dict(os.environ)}
def attempt(name, call):
    try:
        call()
        found[name] = "done"
    except (OSError, MemoryError) as error:
        found[name] = type(error).__name__
attempt("open", lambda: open("/etc/passwd"))
attempt("socket", socket.socket)
attempt("fork", os.fork)
attempt("memory", lambda: bytearray(512 << 20))
found["no_new_privs"] = None
os.write(1, json.dumps(found).encode())
"""


def test_s31_s41_the_process_has_no_rights() -> None:
    """No file, no socket, no process, no root, no environment: even code that runs there gets nowhere."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, confined._CHILD], env={}, capture_output=True, timeout=60, check=True
    )
    found = json.loads(done.stdout)
    assert found["environment"] in ({}, {"LC_CTYPE": "C.UTF-8"})
    assert (found["open"], found["socket"], found["memory"]) == ("OSError", "OSError", "MemoryError")
    if os.geteuid() == 0:
        assert (found["uid"], found["gid"], found["groups"]) == (65534, 65534, [])
        assert found["fork"] == "BlockingIOError"
