"""The lab takes down what it put up, however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from labkit.machine import Hardware, Machine, size_in_bytes
from labkit.network import Network, namespaces, network
from labkit.processes import LabError, run, spawn, stop, wait_for
from labkit.workspace import clean, run_name, signals_end_the_run, workspace

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# A run that waits for its end, with a process inside its namespace; it prints directory and pid.
RUN = textwrap.dedent("""
    import sys, time
    from labkit.network import network
    from labkit.processes import spawn, stop
    from labkit.workspace import run_name, signals_end_the_run, workspace
    with signals_end_the_run(), workspace() as directory, network(run_name(directory)) as wire:
        child = spawn(wire.inside("sleep", "600"), directory / "log")
        print(directory, child.pid, flush=True)
        time.sleep(600)
""")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def other_run() -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """Another process with a run of its own: process, directory, pid of the process in its namespace."""
    command = [sys.executable, "-c", RUN]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        directory, pid = process.stdout.readline().split()
        yield process, Path(directory), int(pid)
        process.kill()
        process.wait()
        clean()


@needs_root
@pytest.mark.slow
def test_a_network_takes_its_processes_along() -> None:
    with workspace() as directory:
        with network(run_name(directory), machines=2) as wire:
            child = spawn(wire.inside("sh", "-c", "setsid sleep 600 & wait"), directory / "log")
            inside = ["ip", "netns", "pids", wire.namespace]
            wait_for(lambda: len(run(inside).split()) >= 2, 60, "both processes")
            pids = run(inside).split()
            assert "tap1" in run(["ip", "-n", wire.namespace, "link"])
        assert wire.namespace not in namespaces()
        wait_for(lambda: not any(alive(int(pid)) for pid in pids), 60, "the processes to end")
        stop(child)
    assert not directory.exists()


@needs_root
@pytest.mark.slow
def test_sigterm_takes_a_run_down(other_run: tuple[subprocess.Popen[str], Path, int]) -> None:
    process, directory, pid = other_run
    assert directory.name in namespaces()
    process.terminate()
    process.wait(120)
    assert not directory.exists()
    assert directory.name not in namespaces()
    assert not alive(pid)


@needs_root
@pytest.mark.slow
def test_clean_removes_what_a_killed_run_left_behind(other_run: tuple[subprocess.Popen[str], Path, int]) -> None:
    process, directory, pid = other_run
    process.send_signal(signal.SIGKILL)
    process.wait(120)
    wait_for(lambda: not alive(pid), 60, "the child to follow its parent")
    assert directory.exists()
    clean()
    assert not directory.exists()
    assert directory.name not in namespaces()


@needs_root
@pytest.mark.slow
def test_clean_leaves_living_runs_alone(other_run: tuple[subprocess.Popen[str], Path, int]) -> None:
    _, directory, pid = other_run
    clean()
    assert directory.exists()
    assert directory.name in namespaces()
    assert alive(pid)


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    child = spawn(["sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait"], tmp_path / "log")
    pid = int(wait_for(lambda: (tmp_path / "log").read_text().strip(), 60, "the grandchild"))
    stop(child, patience=0.2)
    wait_for(lambda: not alive(pid), 60, "the grandchild to end")
    assert child.returncode is not None


def test_a_kept_workspace_stays_and_is_no_leftover() -> None:
    with workspace(keep=True) as directory:
        (directory / "disk").write_text("x")
    try:
        clean_would_see = (directory / "owner").exists()
        assert (directory / "disk").exists()
        assert not clean_would_see
    finally:
        (directory / "disk").unlink()
        directory.rmdir()


def test_sighup_ends_a_run_like_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt), signals_end_the_run():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == before


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(LabError, match="waited 0 s in vain for a miracle"):
        wait_for(lambda: None, 0, "a miracle")


@pytest.mark.parametrize(("text", "size"), [("3G", 3 << 30), ("512M", 512 << 20)])
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "3", "0G", "3g", "-1G", "3GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="is not a size"):
        size_in_bytes(text)


def machine(tmp_path: Path, **facts: str) -> Machine:
    wire = Network("pvlab-none", IPv4Interface("10.77.0.1/24"))
    return Machine(Hardware("box", "52:54:00:77:00:01", **facts), wire, tmp_path)  # type: ignore[arg-type]


def test_bios_machines_talk_on_the_serial_port_with_qemu_s_ipxe(tmp_path: Path) -> None:
    command = " ".join(machine(tmp_path)._command())
    assert "q35,graphics=off" in command
    assert "romfile" not in command
    assert "-accel tcg" in command


@pytest.mark.skipif(not Path("/usr/share/OVMF/OVMF_VARS_4M.fd").exists(), reason="needs ovmf")
def test_uefi_machines_keep_their_own_network_stack_and_variables(tmp_path: Path) -> None:
    command = " ".join(machine(tmp_path, firmware="uefi")._command())
    assert ",romfile=" in command
    assert (tmp_path / "box.efivars").exists()


def test_the_console_is_read_without_escapes(tmp_path: Path) -> None:
    box = machine(tmp_path)
    box.console.write_bytes(b"\x1b[2J\x1b[1;1HiPXE\x1b[0m ok\r\n")
    mark = box.console_size()
    box.console.write_bytes(box.console.read_bytes() + b"login:")
    assert box.console_text() == "iPXE ok\nlogin:"
    assert box.console_text(mark) == "login:"
