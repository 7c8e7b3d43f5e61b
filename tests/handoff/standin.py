"""Stand-ins for programs on a machine in a directory (see `onhost`): they note how they were called."""

from tests.handoff.onhost import OnHost


def stand_in(machine: OnHost, name: str, shell: str) -> None:
    """Add the program, which notes its arguments and then runs this shell; ``$0`` is its own path."""
    note = f"echo \"{name} $*\" >>'{machine.root}/calls'"
    machine.program(name, f"#!/bin/sh\n{note}\n{shell}\n")


def calls(machine: OnHost) -> list[str]:
    """How the stand-ins were called, in order."""
    path = machine.root / "calls"
    return path.read_text().splitlines() if path.exists() else []


def body_of(machine: OnHost) -> tuple[int, str]:
    """Run the tool's body alone: its exit status as the result file has it, and its log. The report goes nowhere."""
    script = machine.etc / "handoff.sh"  # a function, since busybox prefers its own sleep to any program
    script.write_text(script.read_text().replace("\n", "\nsleep() { :; }\n", 1))
    machine.boot()
    status, code = (machine.etc / "handoff.result").read_text().split()
    assert (status == "ok") == (code == "0")
    return int(code), machine.log()
