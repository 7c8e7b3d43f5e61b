"""The process that renders: started fresh by ``confined``, gives up its rights, then reads its jobs.

Speaks JSON: one object on standard input, one line a job on standard output. Never imported by the server.
"""

import ctypes
import json
import linecache  # noqa: F401 - loaded now: once the limits hold, no file can be opened
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_NICE = 10
"""A ninth of a core's time beside others who want all of it: they notice little, and a machine is still armed soon."""


def step_back() -> None:
    """Let the server's answers come before templates, of which somebody's may run into its limits (S35).

    Never called by an importer: it would be slowed down for good, and its whole session with it.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    with suppress(OSError):
        # A session is a group of its own to the scheduler (sched(7), autogroup): within it niceness means nothing.
        # Unprivileged, the kernel takes one such change in a tenth of a second, of all processes together.
        Path("/proc/self/autogroup").write_text(str(_NICE), encoding="ascii")


# ruff: noqa: E402 - loading what follows takes longer than most templates, and it steps back for that too
if __name__ == "__main__":
    step_back()
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # -I starts without the place of our own package

import jinja2
import jinja2.debug
import jinja2.meta
import jinja2.runtime

from provisioner.render.sandbox import LimitReached, MissingVariable, Sandbox, freeze, path_of

_PR_SET_NO_NEW_PRIVS = 38
_NOBODY = 65534
# What a template can raise at render time besides Jinja's own errors. Anything else ends this process, and the
# parent then names the template.
_TEMPLATE_FAULTS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


# Each way to fail, once, so that whatever Python and Jinja load on the first error is loaded while files can be opened.
_WARM_UP = {
    "warm/up": "{% include 'warm/' ~ what %}",
    "warm/undefined": "{{ data.none }}",
    "warm/zero": "{{ 1 / 0 }}",
    "warm/syntax": "{% if %}",
    "warm/unsafe": "{{ what.__class__ }}",
}


def main() -> None:
    """Read the limits line, take them, render every job, write each result as one line."""
    limits = json.loads(sys.stdin.buffer.readline())
    for name in _WARM_UP:
        render(Sandbox(_WARM_UP), "warm/up", {"what": name.removeprefix("warm/"), "data": {}}, 1000)
    step_back()  # once more: perhaps it was not taken at the start
    _confine(limits)
    _say({"ready": True})
    order = json.loads(sys.stdin.buffer.readline())
    environment = Sandbox(order["sources"], order["marks"])
    for job in order["jobs"]:
        signal.setitimer(signal.ITIMER_PROF, limits["cpu_seconds"])  # SIGPROF, left at its default, ends us
        if job["context"] is None:
            _say(outline(environment, order["sources"], job["template"]))
        else:
            marked = {"places": environment.places} if order["marks"] else {}
            _say(render(environment, job["template"], job["context"], limits["output_bytes"]) | marked)


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    sys.stdout.buffer.flush()


def render(environment: Sandbox, template: str, context: Mapping[str, Any], output_bytes: int) -> dict[str, Any]:
    """``{"text": ...}`` or ``{"error": kind, "message": ..., ...}``."""
    data = {key: freeze(value) for key, value in context.items()}
    return _told(environment, data, lambda: {"text": _bounded(environment, template, data, output_bytes)})


def outline(environment: Sandbox, sources: Mapping[str, str], template: str) -> dict[str, Any]:
    """Whether a template parses: ``{"references": [...]}``, the names it includes, imports and extends, or an error.

    A name that is only known when it is rendered is null.
    """

    def look() -> dict[str, Any]:
        environment.get_template(template)  # compiled, since filters and tests are looked up only then
        tree = environment.parse(sources[template], template)
        return {"references": list(jinja2.meta.find_referenced_templates(tree))}

    return _told(environment, {}, look)


def _told(environment: Sandbox, data: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the work answers, or the error of the template that it ended with, as plain data."""
    try:
        return work()
    except (RecursionError, MemoryError) as error:
        what = "memory" if isinstance(error, MemoryError) else "nesting (does a template include itself?)"
        return {"error": "limit", "message": f"used more {what} than it may"}
    except LimitReached as error:
        return {"error": "limit", "message": str(error), "where": _where(error, environment)}
    except MissingVariable as error:
        path = path_of(data, error.obj)
        name = f"{path}.{error.name}" if path else error.name
        return {"error": "missing", "name": name, "message": str(error), "where": _where(error, environment)}
    except jinja2.TemplateSyntaxError as error:
        return {"error": "template", "message": error.message or "syntax error", "where": _at(error.name, error.lineno)}
    except jinja2.TemplateNotFound as error:
        message = f"there is no template or snippet {error.name!r}"
        return {"error": "template", "message": message, "where": _where(error, environment)}
    except (jinja2.TemplateError, *_TEMPLATE_FAULTS) as error:
        message = str(error) or type(error).__name__
        return {"error": "template", "message": message[:1000], "where": _where(error, environment)}


def _bounded(environment: Sandbox, template: str, data: Mapping[str, Any], output_bytes: int) -> str:
    pieces: list[str] = []
    size = 0
    for piece in environment.get_template(template).generate(data):
        size += len(piece.encode())
        if size > output_bytes:
            raise LimitReached(f"made more than {output_bytes} bytes of output")
        pieces.append(piece)
    return "".join(pieces)


def _where(error: BaseException, environment: Sandbox) -> str:
    """Template and line of the innermost template frame in the error's traceback."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        compiled = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(compiled, jinja2.Template):
            place = _at(compiled.name, compiled.get_corresponding_lineno(trace.tb_lineno))
        elif environment.loader is not None and name in environment.loader.list_templates():
            place = _at(name, trace.tb_lineno)
        trace = trace.tb_next
    return place


def _at(name: str | None, lineno: int) -> str:
    return f"{name or '?'}:{lineno}"


def _confine(limits: Mapping[str, Any]) -> None:
    """Memory, files, processes and privileges go; what is already loaded stays usable."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    cpu = int(limits["cpu_seconds"] * limits["jobs"]) + 1  # the hard stop behind the timer of each job
    for what, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(what, (value, value))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


if __name__ == "__main__":
    main()
