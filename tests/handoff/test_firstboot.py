"""The first-boot script, run by real shells against a real HTTP server."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provisioner import handoff
from provisioner.core.markers import BUILD_URLS, fill
from tests.render.recorder import Asked, Recorder, recorder

SHELLS = {"bash": ["bash"], "dash": ["dash"], "busybox": ["busybox", "sh"]}
REAL = ("cat", "tr", "sed", "awk", "mkdir", "mv", "rm", "tail", "wc", "grep", "sync", "timeout", "sh", "id", "true")


@dataclass(frozen=True)
class Machine:
    """A freshly installed system in a directory, and how to boot it."""

    root: Path
    shell: str
    client: str

    @property
    def etc(self) -> Path:
        return self.root / "etc/provisioner"

    def install(self, server: Recorder, name: str = "script", **settings: Any) -> None:
        """What the installer leaves behind."""
        text = handoff.handoff_script(name, settings, BUILD_URLS)
        self.etc.mkdir(parents=True)
        script = self.etc / "handoff.sh"
        script.write_text(fill(text, {"boot_url": server.url, "handoff_token": "TOKEN"}))
        script.chmod(0o700)

    def boot(self, unit: str = "") -> int:
        """Run the script once; its exit status. Pauses take no time; only the wanted HTTP client exists."""
        tools = self.root / "bin"
        if not tools.exists():
            tools.mkdir()
            for name in (*REAL, *([self.client] if self.client != "python3" else [])):
                (tools / name).symlink_to(str(shutil.which(name)))
            if self.client == "python3":
                (tools / "python3").symlink_to("/usr/bin/python3")
        # Debian's static busybox prefers its applets to PATH: functions come before both.
        script = (self.etc / "handoff.sh").read_text()
        functions = f"sleep() {{ echo $1 >>{self.root}/sleeps; }}\ncommand() {{ [ -x {tools}/$2 ]; }}\n"
        if self.client == "wget":
            functions += f'wget() {{ {tools}/wget "$@"; }}\n'
        run = self.root / "run.sh"
        run.write_text(functions + script)
        environment = {"PATH": str(tools), "PROVISIONER_ROOT": str(self.root), "PROVISIONER_NETWORK_WAIT": "0"}
        if unit:
            environment["INVOCATION_ID"] = unit
        program = str(shutil.which(SHELLS[self.shell][0]))
        done = subprocess.run(
            [program, *SHELLS[self.shell][1:], str(run)], env=environment, capture_output=True, timeout=60, check=False
        )
        return done.returncode

    def log(self) -> str:
        return (self.root / "var/log/provisioner-handoff.log").read_text()


SYSTEMS = [("bash", "curl"), ("dash", "wget"), ("dash", "python3"), ("busybox", "curl"), ("busybox", "wget")]


@pytest.fixture(params=SYSTEMS, ids="-".join)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if request.param[1] == "python3" and not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3 here")
    return Machine(tmp_path, *request.param)


def fine(asked: Asked, before: int) -> tuple[int, bytes]:
    return 200, b"ok"


def refuses(asked: Asked, before: int) -> tuple[int, bytes]:
    return 403, b"no"


def test_a_good_run_is_reported_and_leaves_nothing(machine: Machine) -> None:
    """No script, no token, no state: only the log."""
    with recorder(fine) as server:
        machine.install(server, command="echo hello '& 100%'; id -u", timeout=60)
        assert machine.boot() == 0
    (report,) = server.asked
    assert (report.method, report.path) == ("POST", "/build/TOKEN/configured")
    assert report.form["status"] == "ok"
    assert report.form["exit_code"] == "0"
    assert report.form["log"] == f"hello & 100%\n{os.geteuid()}"
    assert list(machine.etc.iterdir()) == []
    assert "TOKEN" not in machine.log()


def test_a_failed_run_is_reported_with_its_status_and_the_end_of_its_log(machine: Machine) -> None:
    command = (
        "i=0; while [ $i -lt 9000 ]; do echo 0123456789; i=$((i + 1)); done; printf 'é\\033[31m=+%% the end'; exit 7"
    )
    with recorder(fine) as server:
        machine.install(server, command=command, timeout=60)
        assert machine.boot() == 3
    (report,) = server.asked
    assert (report.form["status"], report.form["exit_code"]) == ("failed", "7")
    assert "exit status 7" in report.form["message"]
    assert report.form["log"].endswith("0123456789\né[31m=+% the end")
    assert 50_000 < len(report.form["log"]) <= 61_440
    assert (machine.etc / "handoff.sh").exists()


def test_the_body_runs_once_until_its_result_is_reported(machine: Machine) -> None:
    """A server that does not answer at the first boot: the next boot reports, and runs nothing again."""
    with recorder(refuses) as server:
        machine.install(server, command=f"echo ran >>{machine.root}/runs", timeout=60)
        assert machine.boot("one") == 1
        assert len(server.asked) == 8
        sleeps = [int(line) for line in (machine.root / "sleeps").read_text().split()]
        assert sleeps[:6] == [2, 4, 8, 16, 32, 64]
        first = server.url
    with recorder(fine) as server:
        script = machine.etc / "handoff.sh"
        script.write_text(script.read_text().replace(first, server.url))
        assert machine.boot("two") == 0
    assert [each.form["status"] for each in server.asked] == ["ok"]
    assert (machine.root / "runs").read_text() == "ran\n"


def test_a_reported_failure_is_not_repeated_in_the_same_start_but_in_the_next(machine: Machine) -> None:
    """The unit's own loop must not run a failing script ten times; a reboot or a restart by somebody does run it."""
    with recorder(fine) as server:
        command = f"echo ran >>{machine.root}/runs; [ -e {machine.root}/mended ]"
        machine.install(server, command=command, timeout=60)
        assert [machine.boot("one"), machine.boot("one")] == [3, 3]
        assert len(server.asked) == 1
        (machine.root / "mended").touch()
        assert machine.boot("two") == 0
    assert [each.form["status"] for each in server.asked] == ["failed", "ok"]
    assert (machine.root / "runs").read_text() == "ran\nran\n"


def test_a_command_that_hangs_is_ended(machine: Machine) -> None:
    with recorder(fine) as server:
        machine.install(server, command="/bin/sleep 600", timeout=1)
        assert machine.boot() == 3
    expected = {"124", "143"}  # busybox's timeout passes on the signal
    assert server.asked[0].form["exit_code"] in expected


def test_the_report_waits_for_the_server(machine: Machine) -> None:
    with recorder(lambda asked, before: (503 if before < 3 else 204, b"")) as server:
        machine.install(server, command="true", timeout=60)
        assert machine.boot() == 0
    assert len(server.asked) == 4
    assert len({each.body for each in server.asked}) == 1


def test_no_tool_reports_that_the_machine_is_up(machine: Machine) -> None:
    with recorder(fine) as server:
        machine.install(server, "none")
        text = (machine.etc / "handoff.sh").read_text()
        assert machine.boot() == 0
    assert "# Tells Provisioner that this machine runs from its own disk." in text
    assert "to none" not in text and "@" not in text.replace('"$@"', "").replace('"@$1"', "")
    assert server.asked[0].form["status"] == "ok"


@pytest.mark.parametrize(
    "command", ["echo 'it''s'; echo \"$HOME\"", "cat <<X\n@url@ @body@\n}\nX\n", "exit 0 # )", "set -e\n:"]
)
def test_s34_any_command_stays_one_command(tmp_path: Path, command: str) -> None:
    """Quotes, newlines, here-documents and our own placeholders."""
    text = handoff.handoff_script("script", {"command": command, "timeout": 60}, BUILD_URLS)
    for shell in SHELLS.values():
        subprocess.run([*shell, "-n"], input=text.encode(), check=True)
    machine = Machine(tmp_path, "dash", "curl")
    with recorder(fine) as server:
        machine.install(server, command=command, timeout=60)
        assert machine.boot() == 0
    expected = subprocess.run(["/bin/sh", "-c", command], env={}, capture_output=True, check=True).stdout.decode()
    assert server.asked[0].form["log"] == expected.removesuffix("\n")


def test_the_script_holds_markers_and_no_secret() -> None:
    text = handoff.handoff_script("script", {"command": "true"}, BUILD_URLS)
    assert f"url={BUILD_URLS['configured']}\n" in text or f"url='{BUILD_URLS['configured']}'\n" in text
    assert text.startswith("#!/bin/sh\n# Hands this machine to script and tells Provisioner how that went.")
    assert 'say "the handoff to script: $status' in text
