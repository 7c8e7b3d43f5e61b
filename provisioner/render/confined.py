"""Templates rendered in a process of their own, with limits on time, memory and output.

The sandbox inside it is the first wall; this process, which has no files, no environment, no network and no rights,
is the second.
"""

import json
import os
import secrets
import selectors
import string
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.errors import (
    MalformedName,
    MissingParameter,
    ProgramFailed,
    ProvisionerError,
    RenderLimit,
    TemplateError,
)
from provisioner.render import places
from provisioner.render.sandbox import NAME

_CHILD = str(Path(__file__).with_name("child.py"))
_CHUNK = 65_536
_AT_ONCE = threading.BoundedSemaphore(max(2, len(os.sched_getaffinity(0))) + 1)
"""Processes that render for this one: more would only share the cores, and each may take its memory. One more than
`services.radius` keeps busy, so that who arms a machine meanwhile need not wait.
"""


@dataclass(frozen=True)
class Job:
    """One template to render; ``context`` is plain data (see ``check_plain``)."""

    template: str
    context: Mapping[str, Any] | None
    """None: it is not rendered, only looked at, see `outlines`."""


@dataclass(frozen=True)
class Limits:
    """What one job may use; ``wall_seconds`` covers a host so busy that CPU time does not pass.

    The process steps back for others, so on a busy host ``cpu_seconds`` take many times as long.
    """

    cpu_seconds: float = 2
    memory_bytes: int = 256 * 1024 * 1024
    output_bytes: int = 1024 * 1024
    wall_seconds: float = 60


@dataclass(frozen=True)
class Outline:
    """What a template names: the templates and snippets that it includes, imports or extends by a fixed name."""

    references: frozenset[str]
    any: bool
    """It also takes some whose name is only known when it is rendered."""


def render(
    jobs: Sequence[Job], sources: Mapping[str, str], limits: Limits | None = None, *, most_limits: int | None = None
) -> list[str | ProvisionerError]:
    """Render every job with templates from ``sources`` (name to text) only; one answer a job, in order.

    An answer is the text, or a TemplateError, MissingParameter or RenderLimit for that job alone. Names that no
    template may have raise MalformedName; data that is not plain raises TypeError: both are the caller's. ProgramFailed
    when the process cannot be started at all. Once ``most_limits`` jobs broke the limits, which takes seconds each, the
    rest is not rendered, and says so.
    """
    answers = _answers(jobs, sources, limits or Limits(), most_limits=most_limits)
    return [each if isinstance(each, ProvisionerError) else str(each["text"]) for each in answers]


def where(jobs: Sequence[Job], sources: Mapping[str, str], texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The place (``TEMPLATE:LINE``, of a snippet too) of each line of the jobs' ``texts``, which `render` made.

    A place is empty where it cannot be told for certain: see `places.read`. It costs as much as rendering again.
    """
    marks = "z" + "".join(secrets.choice(string.ascii_lowercase[:25]) for _ in range(10))
    roomy = Limits(output_bytes=Limits.output_bytes * 8)
    told = []
    for answer, text in zip(_answers(jobs, sources, roomy, marks), texts, strict=True):
        if isinstance(answer, ProvisionerError):
            told.append(("",) * (text.count("\n") + 1))
        else:
            told.append(places.read(answer["text"], answer["places"], marks, text))
    return told


def outlines(sources: Mapping[str, str]) -> dict[str, Outline | ProvisionerError]:
    """What each template names, or the TemplateError with its line if it does not parse."""
    answers = _answers([Job(name, None) for name in sources], sources, Limits())
    return {name: _outline(answer) for name, answer in zip(sources, answers, strict=True)}


def _outline(answer: dict[str, Any] | ProvisionerError) -> Outline | ProvisionerError:
    if isinstance(answer, ProvisionerError):
        return answer
    names = answer["references"]
    return Outline(frozenset(name for name in names if name is not None), None in names)


def _answers(
    jobs: Sequence[Job], sources: Mapping[str, str], limits: Limits, marks: str = "", *, most_limits: int | None = None
) -> list[dict[str, Any] | ProvisionerError]:
    for name in [*sources, *(job.template for job in jobs)]:
        check_name(name)
    for job in jobs:
        check_plain(None if job.context is None else dict(job.context))
    answers: list[dict[str, Any] | ProvisionerError] = []
    broken = 0
    while len(answers) < len(jobs):
        todo = jobs[len(answers) :]
        if broken == most_limits:
            answers += [RenderLimit(f"{job.template}: not rendered, {broken} before it broke limits") for job in todo]
            break
        lines, reason = _run(todo, sources, limits, marks)
        answers += [_answer(job, line) for job, line in zip(todo, lines, strict=False)]
        if len(lines) < len(todo):
            culprit = todo[len(lines)]
            answers.append(RenderLimit(f"{culprit.template} {reason}"))
            broken += 1
    return answers


def check_name(name: str) -> None:
    """Raise MalformedName unless this can be the name of a template."""
    if not NAME.fullmatch(name):
        raise MalformedName(
            f"{name[:80]!r} cannot be the name of a template",
            hint="use two or more parts of a-z, 0-9, dot, underscore and hyphen, such as kickstart/web.ks.j2",
        )


def check_plain(value: object, where: str = "context") -> None:
    """Raise TypeError unless the value is made of dict, list, tuple, str, int, float, bool and None, exactly."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"{where}: the key {key!r} is not text")
            check_plain(item, f"{where}.{key}")
    elif type(value) in {list, tuple}:
        for index, item in enumerate(value):  # type: ignore[arg-type]
            check_plain(item, f"{where}[{index}]")
    elif value is not None and type(value) not in {str, int, float, bool}:
        raise TypeError(f"{where}: {type(value).__name__} is not plain data")


def _answer(job: Job, line: bytes) -> dict[str, Any] | ProvisionerError:
    result: dict[str, Any] = json.loads(line)
    if "error" not in result:
        return result
    where = result.get("where") or job.template
    match result["error"]:
        case "missing":
            return _missing(result["name"], where)
        case "limit":
            return RenderLimit(f"{job.template} {result['message']}", where=result.get("where", ""))
        case _:
            return TemplateError(result["message"], where=where)


def _missing(name: str, where: str) -> MissingParameter:
    scope, _, key = name.rpartition(".")
    hint = "correct the name in the template, or guard it with `is defined`"
    if scope == "parameters":
        hint = f"set it: `provisioner machine edit NAME --param {key}=VALUE`, or in the profile's parameters"
    return MissingParameter(f"no value for {name}", where=where, hint=hint, variable=name)


def _run(jobs: Sequence[Job], sources: Mapping[str, str], limits: Limits, marks: str) -> tuple[list[bytes], str]:
    """The complete answer lines of one child, and why it gave no more."""
    wanted = [{"template": job.template, "context": job.context and dict(job.context)} for job in jobs]
    order = {"sources": dict(sources), "marks": marks, "jobs": wanted}
    taken = {
        "cpu_seconds": limits.cpu_seconds,
        "memory_bytes": limits.memory_bytes,
        "output_bytes": limits.output_bytes,
        "jobs": len(jobs),
    }
    request = json.dumps(taken).encode() + b"\n" + json.dumps(order, allow_nan=False).encode() + b"\n"
    with _AT_ONCE, _child() as process:
        lines, reason = _converse(process, request, len(jobs) + 1, limits)
    if not lines:
        raise ProgramFailed(
            f"the process that renders templates did not start: {reason}",
            hint="run `provisioner check`; the Python installation may be unreadable or the host out of memory",
        )
    return lines[1:], reason  # the first says only that it is ready


@contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-I", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        close_fds=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()


def _converse(
    process: subprocess.Popen[bytes], request: bytes, expected: int, limits: Limits
) -> tuple[list[bytes], str]:
    """Write the request and read lines, never more than the cap and never past the deadline of the job at work."""
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 - both are pipes
    cap = limits.output_bytes * 6 + _CHUNK  # JSON writes one character as up to six
    received, deadline = bytearray(), time.monotonic() + limits.wall_seconds
    unsent = memoryview(request)
    lines: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        for stream, event in ((process.stdin, selectors.EVENT_WRITE), (process.stdout, selectors.EVENT_READ)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, event)
        while len(lines) < expected:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return lines, f"got too little of the processor to be done within {limits.wall_seconds:g} s"
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    unsent = _send(process.stdin.fileno(), unsent)
                    if not unsent:
                        selector.unregister(process.stdin)
                    continue
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    return lines, _why_dead(process, limits)
                received += chunk
                *complete, rest = bytes(received).split(b"\n")
                received = bytearray(rest)
                lines += complete
                if complete:
                    deadline = time.monotonic() + limits.wall_seconds
                if len(received) > cap:
                    return lines, f"made more than {limits.output_bytes} bytes of output"
    return lines, ""


def _send(descriptor: int, unsent: memoryview) -> memoryview:
    try:
        return unsent[os.write(descriptor, unsent[:_CHUNK]) :]
    except BlockingIOError:
        return unsent
    except BrokenPipeError:  # the child is gone; its end of file on the other pipe tells the rest
        return unsent[len(unsent) :]


def _why_dead(process: subprocess.Popen[bytes], limits: Limits) -> str:
    status = process.wait()
    if status in {-24, -27, -9}:  # SIGXCPU, SIGPROF, SIGKILL by the hard limit
        return f"used more than {limits.cpu_seconds:g} s of processor time"
    return f"ended its process (status {status}), as when {limits.memory_bytes // 1024**2} MiB do not suffice"
